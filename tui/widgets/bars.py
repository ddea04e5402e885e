"""The lines at the top and at the bottom: what there is, what is wrong first, and which keys do what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual import events
from textual.message import Message

from initiator.model import Severity
from tui import verdict
from tui.actions import Action, first_key
from tui.layout import fit, width_of
from tui.store import STALE_AFTER, Store
from tui.views.catalogue import VIEWS
from tui.views.view import View
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, mark, say, span


class Bar(Pane, can_focus=False):
    """Fixed lines that do not scroll; what leads somewhere can be clicked."""


class Status(NamedTuple):
    """What the title needs beyond the store."""

    now: float
    """Unix time."""
    tick: float
    """Monotonic time."""
    read_only: bool
    practice: bool
    failure: str
    replay: str = ""
    """The time that it is in a replay; empty for the host as it is."""
    label: str = ""
    """What this host is marked with."""
    colour: str = ""


def tabs(shown: View, width: int) -> Line:
    """The views with their keys, the one that is shown standing out; the fewer words, the narrower the screen."""
    for titles in (_long, _short, _only):
        line = tuple(piece for view in VIEWS for piece in _tab(view, *titles(view, view is shown), view is shown))
        if width_of(line) <= width:
            break
    return line


def _tab(view: View, before: str, behind: str, shown: bool) -> Line:
    to = f"view:{view.id}"
    return (Piece(f"{before}{view.key}", "tab" if shown else "key", to), Piece(behind, "tab" if shown else "", to))


def _long(view: View, shown: bool) -> tuple[str, str]:
    return " ", f" {view.title} "


def _short(view: View, shown: bool) -> tuple[str, str]:
    return "", f" {view.short} "


def _only(view: View, shown: bool) -> tuple[str, str]:
    return " ", f" {view.short} " if shown else " "


def counts(store: Store, status: Status, width: int, glyphs: Glyphs) -> Line:
    """The first line, `width` cells wide: this host, how much there is, and how old that is."""
    host = say(store.world.snapshot.host) if store.world else ""
    marked = f"host-{status.colour}" if status.colour else "title"
    name = f" {host} {say(status.label)} " if status.label else f" {host} "
    left: Line = (Piece(" Mooring ", "brand"), Piece(name, marked))
    right = _badges(store, status, glyphs)
    room = width - width_of(right)
    for number, text in enumerate(verdict.counts(store.world) if store.world else ()):
        part: Line = (Piece(f" {glyphs.dot} " if number else "  ", "dim"), Piece(text))
        if width_of(left) + width_of(part) > room - 1:
            break
        left += part
    return (*fit(left, max(0, room), glyphs.more), *right)


def _badges(store: Store, status: Status, glyphs: Glyphs) -> Line:
    badges: Line = ()
    if status.practice:
        badges += (Piece(" PRACTICE ", "practice"), Piece(" "))
    if status.replay:
        badges += (Piece(f" REPLAY {status.replay} ", "practice"), Piece(" "))
    elif status.read_only:
        badges += (Piece(" READ-ONLY ", "badge"), Piece(" "))
    if store.paused:
        badges += (Piece(" PAUSED ", "badge"), Piece(" "))
    age = store.age(status.tick)
    if age is None:
        return (*badges, Piece("reading ", "dim"))
    if status.replay and not store.paused:
        return badges
    if age <= STALE_AFTER and not store.paused:
        return (*badges, Piece(f"{glyphs.good} live ", "good"))
    return (*badges, Piece(f"{span(age)} old ", "warn" if age < 3 * STALE_AFTER else "bad"))


def verdict_line(store: Store, status: Status, width: int, glyphs: Glyphs) -> Line:
    """What is wrong first, or that all is well."""
    more = 0
    if store.world is None:
        text = status.failure or "reading what this host knows of iSCSI"
        severity = Severity.BAD if status.failure else Severity.NOTE
    elif status.failure:
        severity, text = Severity.BAD, f"no new data: {say(status.failure)}"
    elif store.stale(status.tick) and not store.paused:
        severity, text = Severity.BAD, "no new data: the reader of this host does not answer"
    else:
        severity, text, more = verdict.verdict(store.world, status.now, store.judged)
    shape = mark(severity)
    calm = severity is Severity.NOTE
    sign = glyphs.good if calm and store.world else getattr(glyphs, shape.shape)
    role = "good" if calm and store.world else shape.role
    line: Line = (Piece(f" {sign} ", role), Piece(text, role))
    if not more:
        return fit(line, width, glyphs.more)
    rest = Piece(f"  {more} more: n ", role)
    room = width - width_of((rest,))
    return (*fit(line, min(room, width_of(line)), glyphs.more), rest)


class KeyBar(Bar):
    """The keys that matter now; each can be clicked."""

    class Pressed(Message):
        """A key was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, glyphs: Glyphs, *, id: str | None = None) -> None:
        super().__init__(glyphs, id=id)
        self._spans: list[tuple[int, int, str]] = []

    def show_actions(self, entries: Sequence[tuple[Action, bool]]) -> None:
        """Show these actions in order of importance as far as there is room, help and quit always; `False` dims."""
        chosen: list[tuple[Action, bool]] = []
        last = [entry for entry in entries if entry[0].id in ("help", "quit")]
        room = self.size.width - sum(_entry_width(action) for action, _ in last)
        for action, possible in entries:
            if action.id in ("help", "quit"):
                continue
            room -= _entry_width(action)
            if room < 0:
                break
            chosen.append((action, possible))
        line: Line = ()
        self._spans = []
        at = 0
        for action, possible in (*chosen, *last):
            end = at + _entry_width(action)
            self._spans.append((at, end, action.id))
            at = end
            role = "key" if possible else "dim"
            line += (
                Piece(f" {first_key(action)}", role),
                Piece(f" {action.label} ", "" if possible else "dim"),
            )
        self.show([line])

    def on_click(self, event: events.Click) -> None:
        """A click is the key."""
        for start, end, action in self._spans:
            if start <= event.x < end:
                self.post_message(self.Pressed(action))


def _entry_width(action: Action) -> int:
    return cell_len(f" {first_key(action)} {action.label} ")
