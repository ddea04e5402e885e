"""Everything a person can do, in one table: keys, footer, help and palette are made from it. No Textual here."""

from __future__ import annotations

import dataclasses

from initiator.model import Disk, DiskState
from tui.tree import Item, Kind, Row


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """One thing to do."""

    id: str
    """Name of the method `action_<id>` of the main screen."""
    keys: tuple[str, ...]
    label: str
    """One word or two for the footer."""
    text: str
    """One sentence for help and palette."""
    footer: int = 0
    """Place in the footer, the smaller the more important; 0 leaves it out."""
    changes: bool = False
    """True if it changes something on this host: not in read-only mode, not on stale data."""


ACTIONS: tuple[Action, ...] = (
    Action("remove", ("r",), "remove", "Take the selected disk away safely, after showing each step", 2, changes=True),
    Action("filter", ("slash",), "filter", "Show only rows with some words; field:value and !not work too", 3),
    Action("next_trouble", ("n",), "next problem", "Go to what is wrong, worst first", 4),
    Action("detail", ("d",), "detail", "Show or hide the details of the selected row", 5),
    Action("pause", ("p",), "pause", "Hold the screen still, or let it go on", 6),
    Action("removals", ("u",), "unfinished", "Removals that wait to be resumed or undone", 7),
    Action("open_all", ("asterisk",), "open all", "Open every branch"),
    Action("close_all", ("minus",), "close all", "Close every branch below the disks"),
    Action("pane_tree", ("1",), "tree", "Keys go to the tree"),
    Action("pane_detail", ("2",), "details", "Keys go to the details"),
    Action("pane_events", ("3",), "events", "Keys go to the events"),
    Action("theme", ("t",), "light/dark", "Switch between the light and the dark theme"),
    Action("screenshot", ("S",), "screenshot", "Save the screen as an SVG picture in the current folder"),
    Action("help", ("question_mark", "f1"), "help", "Keys, and the words of iSCSI in plain sentences", 8),
    Action("quit", ("q",), "quit", "Leave; removals and attached disks go on without the dashboard", 9),
)

BY_ID = {action.id: action for action in ACTIONS}

FIXED_KEYS: tuple[tuple[str, str], ...] = (
    ("Up Down, j k", "Move the cursor"),
    ("Left Right, h l", "Close or open a branch"),
    ("Enter", "Open or close a branch"),
    ("PgUp PgDn Home End", "Move by pages, to the first or the last row"),
    ("Tab, Shift+Tab", "Next or previous pane"),
    ("Ctrl+P", "All commands by name"),
    ("Esc", "Leave the filter or close a dialog"),
)
"""Keys of the panes themselves, for the help."""

NAMES = {"slash": "/", "question_mark": "?", "asterisk": "*", "minus": "-", "enter": "Enter", "f1": "F1"}


def key_name(action: Action) -> str:
    """The keys of an action as they are printed on a keyboard."""
    return " ".join(NAMES.get(key, key) for key in action.keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What decides whether an action can be done now."""

    row: Row | None
    read_only: str
    """Why nothing may be changed; empty when it may."""
    stale: bool
    paused: bool
    age_s: float | None


def disk_of(row: Row | None) -> str | None:
    """The id of the disk that a row belongs to, where that is exactly one."""
    item: Item | None = row.item if row else None
    if isinstance(item, Disk):
        return item.id
    if row is not None and row.kind is Kind.VOLUME:
        return row.key.rpartition("/")[0] if "/" in row.key else None
    return getattr(item, "disk", None)


def why_not(action: Action, context: Context) -> str:
    """Why an action cannot be done now, as a sentence; an empty string when it can."""
    if not action.changes:
        return ""
    if context.read_only:
        return context.read_only
    if context.paused:
        return "The screen is paused: what it shows may be out of date. Press p first."
    if context.stale:
        age = "not there yet" if context.age_s is None else f"{context.age_s:.0f} s old"
        return f"The data is {age}: nothing is changed on what may not be true any more."
    return _why_no_removal(context.row) if action.id == "remove" else ""


def _why_no_removal(row: Row | None) -> str:
    if row is None:
        return "There is no disk to remove."
    if disk_of(row) is None:
        return "Move the cursor to a disk, one of its paths or its volume: a removal takes one disk at a time."
    if isinstance(row.item, Disk) and row.item.state is DiskState.AVAILABLE:
        return "This disk is not attached: there is nothing to remove."
    return ""
