"""Everything a person can do, in one table: keys, footer, help and palette are made from it. No Textual here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from initiator.model import Disk, DiskState, Link, Path, Session, Snapshot, Source, Volume, holds_data
from safety import scope
from safety.scope import Reach, Scope
from tui.beside import NOTHING_PROBES, why_no_portal, why_no_probes
from tui.policy import Policy
from tui.words import say
from tui.world import Item, Row, Target, World, works

if TYPE_CHECKING:
    from tui.backends import Switch


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
    menu: bool = False
    """Whether it is something that is done with the selected thing, and so stands in its menu."""
    changes: bool = False
    """True if it changes something on this host: not in read-only mode, not on stale data."""


ACTIONS: tuple[Action, ...] = (
    Action(
        "remove",
        ("r",),
        "remove",
        "Take the selected disk, path, session or target away safely, after showing each step",
        2,
        menu=True,
        changes=True,
    ),
    Action(
        "unmount",
        ("U",),
        "unmount",
        "Unmount the selected volume, after showing each step; its disk stays",
        menu=True,
        changes=True,
    ),
    Action(
        "look",
        ("v",),
        "look into",
        "Mount what is on the selected disk read-only, to look into it; nothing is written to the disk",
        menu=True,
        changes=True,
    ),
    Action(
        "menu", ("space",), "actions", "Everything that can be done with the selected thing; the right button too", 3
    ),
    Action("filter", ("slash",), "filter", "Show only rows with some words; field:value and !not work too", 4),
    Action("next_trouble", ("n",), "next problem", "Go to what is wrong, worst first", 5),
    Action("detail", ("d",), "detail", "Show or hide the details of the selected row", 7, menu=True),
    Action(
        "wiring",
        ("w",),
        "wiring",
        "Draw how the selected disk is wired: volumes, map, paths, sessions, links",
        6,
        menu=True,
    ),
    Action("pause", ("p",), "pause", "Hold the screen still, or let it go on", 8),
    Action("unfinished", ("u",), "unfinished", "Removals that wait to be resumed or undone", 1),
    Action("sort", ("z",), "sort", "Sort by the next column; a click on its title does it too"),
    Action("sort_back", ("Z",), "sort backwards", "Turn the order of the rows round"),
    Action("back", ("backspace",), "back", "Back to where the last jump came from"),
    Action("copy", ("y",), "copy", "Copy what identifies the selected thing to the clipboard (OSC 52)", menu=True),
    Action(
        "discover",
        ("D",),
        "discover",
        "Ask an array for its targets and log in, with CHAP where it is wanted",
        changes=True,
    ),
    Action(
        "attach", ("a",), "attach", "Make the selected disk of the engine a block device here", menu=True, changes=True
    ),
    Action("login", ("i",), "log in", "Log in to a target that open-iscsi has a node record of", changes=True),
    Action(
        "logout",
        ("o",),
        "log out",
        "End the selected session, if it carries no disk",
        menu=True,
        changes=True,
    ),
    Action(
        "rescan", ("R",), "rescan", "Look for new LUNs and sizes behind a session or target", menu=True, changes=True
    ),
    Action(
        "startup",
        ("s",),
        "start-up",
        "Set whether the selected session is logged in to at boot",
        menu=True,
        changes=True,
    ),
    Action(
        "path_out",
        ("m",),
        "path out",
        "Take the selected path out of its map for maintenance; the disk goes on over its other paths",
        menu=True,
        changes=True,
    ),
    Action("path_back", ("M",), "path back", "Bring a path back that was taken out for maintenance", changes=True),
    Action("probe", ("P",), "probes", "Switch the probes beside the kernel's sessions on or off", changes=True),
    Action(
        "probe_one",
        ("b",),
        "probe this",
        "Probe the portal of the selected session, path or link by itself, or stop that",
        menu=True,
        changes=True,
    ),
    Action("export", ("e",), "export", "Save the rows of this view, as they are filtered and sorted, as CSV or JSON"),
    Action("open_all", ("asterisk",), "open all", "Open every branch"),
    Action("close_all", ("minus",), "close all", "Close every branch below the disks"),
    Action("tour", ("T",), "tour", "Six lessons on the practice range: begin them, or end them"),
    Action("lesson_next", ("greater_than_sign",), "next lesson", "Go on with the tour"),
    Action("lesson_back", ("less_than_sign",), "lesson before", "Go back in the tour"),
    Action("theme", ("t",), "theme", "Switch between dark, light and the terminal's own colours"),
    Action("screenshot", ("S",), "screenshot", "Save the screen as an SVG picture in the current folder"),
    Action("help", ("question_mark",), "help", "What the cursor is on, in plain words, and every other word", 8),
    Action("keys", ("f1",), "all keys", "Every key, and then every word"),
    Action("quit", ("q",), "quit", "Leave; removals and attached disks go on without the dashboard", 9),
)

BY_ID = {action.id: action for action in ACTIONS}

FIXED_KEYS: tuple[tuple[str, str], ...] = (
    ("Up Down, j k", "Move the cursor"),
    ("1 to 9, 0", "The views: overview, tree, sessions, disks, paths, links, volumes, checks, events, removals"),
    ("Enter", "Open a branch or the details; on a name in the details or on an event: go there"),
    ("Left Right, h l", "Close or open a branch of the tree; elsewhere move the columns sideways"),
    ("Shift+Left, H L", "Move the columns sideways, so that what is cut off is seen"),
    ("PgUp PgDn Home End", "Move by pages, to the first or the last row"),
    ("Tab, Shift+Tab", "Next or previous pane"),
    ("Ctrl+P", "All commands by name"),
    ("Esc", "Leave the filter, the details or a dialog; then back the way you came"),
)
"""Keys of the panes themselves, for the help."""

NAMES = {
    "slash": "/",
    "question_mark": "?",
    "asterisk": "*",
    "minus": "-",
    "enter": "Enter",
    "f1": "F1",
    "backspace": "Bksp",
    "space": "Space",
    "greater_than_sign": ">",
    "less_than_sign": "<",
    "comma": ",",
}


_FROM_NAME = {**{name: key for key, name in NAMES.items()}, " ": "space"}


def key_name(action: Action) -> str:
    """The keys of an action as they are printed on a keyboard; empty where the settings left it none."""
    return " ".join(NAMES.get(key, key) for key in action.keys)


def first_key(action: Action) -> str:
    """The one that is shown where there is room for one."""
    return key_name(action).partition(" ")[0]


def with_keys(keys: Mapping[str, tuple[str, ...]]) -> tuple[Action, ...]:
    """All actions, some of them with other keys than their own.

    Args:
        keys: By the id of an action, its keys as a person writes them in the settings: `f8`, `ctrl+r`, `/`; none
            takes them away.
    """
    return tuple(
        dataclasses.replace(action, keys=tuple(_FROM_NAME.get(key, key) for key in keys[action.id]))
        if action.id in keys
        else action
        for action in ACTIONS
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What decides whether an action can be done now."""

    row: Row | None
    read_only: str
    """Why nothing may be changed; empty when it may."""
    stale: bool
    paused: bool
    age_s: float | None
    carried: tuple[str, ...] = ()
    """Names of the disks that the selected session carries."""
    policy: Policy = dataclasses.field(default_factory=Policy)
    mates: int | None = None
    """How many other paths of the same disk work, where a path of the kernel is selected."""
    mounted: str = ""
    """Where the selected disk's own file system is mounted."""
    under: tuple[str, ...] = ()
    """Names of the disks that the selected volume is on."""
    probed: int | None = 0
    """How many sessions a probe can stand beside; None where there is nothing that probes."""
    no_portal: str = NOTHING_PROBES
    """Why the portal of the selected row cannot be probed by itself; empty when it can."""


def disks_of(row: Row | None) -> tuple[str, ...]:
    """The ids of the disks that a row belongs to: several for a volume that stands on several, in a list of volumes."""
    item: Item | None = row.item if row else None
    if row is not None and isinstance(item, Volume):
        above = row.key.removesuffix(f"/{item.id}")  # in the tree, the disk that it hangs below
        return item.disks if above == row.key else (above,)
    disk = item.id if isinstance(item, Disk) else getattr(item, "disk", None)
    return (disk,) if disk else ()


def disk_of(row: Row | None) -> str | None:
    """The id of the disk that a row belongs to, where that is exactly one."""
    found = disks_of(row)
    return found[0] if len(found) == 1 else None


def scope_of(row: Row | None, snapshot: Snapshot) -> Scope | None:
    """What a removal of a row takes away; None where there is nothing to take away."""
    item: Item | None = row.item if row else None
    if isinstance(item, Target):
        return scope.target(item.name) if item.sessions else None
    if isinstance(item, Session):
        return scope.session(item)
    if isinstance(item, Link):
        used = any(session.link == item.id for session in snapshot.sessions)
        return Scope(Reach.LINK, (item.id,), item.name) if used else None
    disk = next((each for each in snapshot.disks if each.id == disk_of(row)), None)
    if disk is None:
        return None
    if isinstance(item, Path) and disk.source is Source.KERNEL and len(disk.paths) > 1:
        return scope.path(snapshot, item)
    return scope.disks(disk)


def around(context: Context, world: World | None, probes: Switch | None) -> Context:
    """The same, with what the world around the selected row decides: what it carries, its mates, its probes."""
    item = context.row.item if context.row else None
    carried: tuple[str, ...] = ()
    mates: int | None = None
    if world is not None and isinstance(item, Session):
        held = (disk for disk in world.carried_by(item) if disk.state is not DiskState.AVAILABLE)
        carried = tuple(disk.name for disk in held if holds_data(disk.kind))
    if world is not None and isinstance(item, Path):
        disk = world.disk(item.disk)
        if disk is not None and disk.source is Source.KERNEL:
            mates = sum(works(path) for path in world.paths_of(disk) if path.id != item.id)
    mounted = ""
    if world is not None and isinstance(item, Disk) and item.dev is not None:
        mounted = next((each.mountpoint for each in world.snapshot.volumes if each.dev == item.dev), "")
    under: tuple[str, ...] = ()
    if world is not None and isinstance(item, Volume):
        under = tuple(disk.name for disk in map(world.disk, item.disks) if disk)
    sessions = world.snapshot.sessions if world is not None else ()
    probed = sum(session.source is Source.KERNEL for session in sessions) if probes is not None else None
    return dataclasses.replace(
        context,
        carried=carried,
        mates=mates,
        mounted=mounted,
        under=under,
        probed=probed,
        no_portal=why_no_portal(context.row, world, probes),
    )


def why_not(action: Action, context: Context) -> str:
    """Why an action cannot be done now, as a sentence; an empty string when it can."""
    if not action.changes:
        return ""
    if context.read_only:
        return context.read_only
    if reason := context.policy.why_not(action.id):
        return reason
    if context.paused:
        return "The screen is paused: what it shows may be out of date. Press p first."
    if context.stale:
        age = "not there yet" if context.age_s is None else f"{context.age_s:.0f} s old"
        return f"The data is {age}: nothing is changed on what may not be true any more."
    special = _WHY_NOT.get(action.id)
    return special(context) if special else ""


def kernel_sessions(row: Row | None) -> tuple[Session, ...]:
    """The kernel's sessions that a row stands for: itself, or those of its target."""
    item: Item | None = row.item if row else None
    every = item.sessions if isinstance(item, Target) else (item,) if isinstance(item, Session) else ()
    return tuple(session for session in every if session.source is Source.KERNEL)


_NO_DISK = "It is not on an iSCSI disk."
_NO_VOLUME = "Move the cursor to a volume: view 7 lists them."


def _why_no_unmount(context: Context) -> str:
    item = context.row.item if context.row else None
    if not isinstance(item, Volume):
        return _NO_VOLUME
    if item.namespace is not None:
        return "It is mounted by another mount namespace (a container, a service): whoever made that unmounts it."
    return "" if item.disks else _NO_DISK


_NO_LOOK = {
    DiskState.AVAILABLE: "This disk is not attached yet.",
    DiskState.NO_PATH: "No path of it works: whoever looks into it would hang.",
    DiskState.OFFLINE: "It is being removed.",
    DiskState.DEAD: "Nothing serves it any more.",
    DiskState.UNKNOWN: "Whether anything serves it is not known.",
}


def _why_no_look(context: Context) -> str:
    item = context.row.item if context.row else None
    if isinstance(item, Volume):
        return f"It is mounted already: look into {say(item.mountpoint)}."
    if not isinstance(item, Disk):
        return "Move the cursor to a disk: view 4 lists them."
    if item.kind != "disk":
        return f"It is no disk but a {say(item.kind)}."
    return _NO_LOOK.get(item.state, "") or (
        f"It is mounted already: look into {say(context.mounted)}." if context.mounted else ""
    )


_NO_SESSION = "Move the cursor to a session: they are listed below the disks of their target."


def _why_no_removal(context: Context) -> str:
    row = context.row
    if row is None:
        return "There is no disk to remove."
    if isinstance(row.item, Volume) and not disks_of(row):
        return _NO_DISK
    if isinstance(row.item, Volume) and disk_of(row) is None:
        names = ", ".join(map(say, context.under))
        return f"It is on several disks: {names}. Move the cursor to one of them: view 4 lists them."
    if disk_of(row) is None and not isinstance(row.item, Target | Session | Link):
        return "Move the cursor to a disk, a path, a volume, a session, a target or a link."
    if isinstance(row.item, Disk) and row.item.state is DiskState.AVAILABLE:
        return "This disk is not attached: there is nothing to remove."
    return ""


def _why_no_rescan(context: Context) -> str:
    if kernel_sessions(context.row):
        return ""
    return "Move the cursor to a session of the kernel, or to a target that has one."


def _why_not_one(context: Context) -> str:
    row = context.row
    if row is None or not isinstance(row.item, Session):
        return _NO_SESSION
    if row.item.source is not Source.KERNEL:
        return "This session belongs to Mooring's own engine, not to the kernel."
    return ""


def _why_no_startup(context: Context) -> str:
    reason = _why_not_one(context)
    if not reason and not any("record" in session.details for session in kernel_sessions(context.row)):
        return "There is no node record of this session, so there is nothing to set: firmware or a person made it."
    return reason


def _why_no_logout(context: Context) -> str:
    row = context.row
    if row is None or not isinstance(row.item, Session):
        return _NO_SESSION
    if context.carried:
        names = ", ".join(map(say, context.carried))
        return f"It carries {names}: to log out is to pull its cable. Remove the disk instead: r on its row."
    return ""


def _why_no_path_out(context: Context) -> str:
    item = context.row.item if context.row else None
    if not isinstance(item, Path):
        return "Move the cursor to a path: view 5 lists them."
    if context.mates is None:
        return "This path belongs to Mooring's own engine, which takes no single path out. Remove the disk instead: r."
    return "" if context.mates else "No other path of its disk works: without this one the disk is gone."


def _why_no_attach(context: Context) -> str:
    item = context.row.item if context.row else None
    if not isinstance(item, Disk) or item.state is not DiskState.AVAILABLE:
        return "Move the cursor to a disk that a session of the engine sees and that is not attached yet."
    return "" if item.target and item.lun is not None else "Nobody knows which target serves it."


_WHY_NOT: Mapping[str, Callable[[Context], str]] = {
    "remove": _why_no_removal,
    "unmount": _why_no_unmount,
    "look": _why_no_look,
    "attach": _why_no_attach,
    "rescan": _why_no_rescan,
    "startup": _why_no_startup,
    "logout": _why_no_logout,
    "path_out": _why_no_path_out,
    "probe": lambda context: why_no_probes(context.probed),
    "probe_one": lambda context: context.no_portal,
}
"""What an action needs of the row under the cursor."""
