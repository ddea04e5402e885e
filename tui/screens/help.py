"""Help: what is under the cursor in plain words, then every other word on the screen, every key, and the glossary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from initiator.model import DiskState, PathState
from tui.actions import FIXED_KEYS, Action, key_name
from tui.explain import Topic
from tui.keytable import Column, KeyTable
from tui.layout import labelled, paragraph
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, mark

KEY_WIDTH = 20
KEYS, SIGNS = "Keys", "Signs"
COLUMNS = (Column("Word", 10, share=1), Column("Is a", 7))


class Entry(NamedTuple):
    """One line of the list."""

    key: str
    name: str
    where: str
    topic: Topic | None = None


class HelpScreen(Dialog[None]):
    """A list of all that can be asked about, and beside it what is to be said of it. `?`, `q` and Escape close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q", "close", "Close", show=False),
        Binding("f1", "keys", "Keys", show=False),
        Binding("tab", "app.focus_next", show=False),
    ]

    def __init__(self, topics: Sequence[Topic], start: str, glyphs: Glyphs, actions: Sequence[Action]) -> None:
        """`start` is the key of the topic that is shown first; empty for the keys."""
        super().__init__()
        self._entries = (
            Entry(KEYS, "All keys", ""),
            Entry(SIGNS, "All signs", ""),
            *(Entry(topic.key, topic.name, topic.where, topic) for topic in topics),
        )
        known = {entry.key for entry in self._entries}
        self._start = start if start in known else KEYS
        self._glyphs = glyphs
        self._actions = actions

    def compose(self) -> ComposeResult:
        """The list beside the text."""
        with Vertical(id="box") as box:
            box.border_title = "Help"
            box.border_subtitle = "Up and Down choose, F1 all keys, Esc closes"
            with Horizontal():
                yield KeyTable[Entry](COLUMNS, self._cells, self._glyphs, id="topics")
                yield Pane(self._glyphs, id="help")

    def on_mount(self) -> None:
        """The list has the keys."""
        super().on_mount()
        table = self.query_one("#topics", KeyTable)
        table.update(self._entries)
        table.cursor = self._start
        table.focus()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def action_keys(self) -> None:
        """All keys."""
        self.query_one("#topics", KeyTable).cursor = KEYS

    @on(KeyTable.Moved)
    def _moved(self) -> None:
        self.query_one("#help", Pane).first_link()
        self._fill()

    @on(KeyTable.Chosen)
    def _chosen(self) -> None:
        self.query_one("#help", Pane).focus()

    def _cells(self, entry: Entry, widths: Sequence[int]) -> Sequence[Line]:
        role = "strong" if entry.where in ("", "finding", "state", "kind") else ""
        return [(Piece(entry.name, role),), (Piece(entry.where, "dim"),)]

    def _fill(self) -> None:
        pane = self.query_one("#help", Pane)
        entry = self.query_one("#topics", KeyTable).at_cursor
        if entry is None:
            return
        width = pane.content_width
        if entry.topic is not None:
            pane.show(topic_lines(entry.topic, width))
        else:
            keys = entry.key == KEYS
            pane.show(key_lines(self._actions, width) if keys else sign_lines(width, self._glyphs))


def topic_lines(topic: Topic, width: int) -> list[Line]:
    """What is to be said of one topic."""
    now = (
        labelled([("Now", topic.value)], width) if topic.where in ("field", "column") else paragraph(topic.value, width)
    )
    lines: list[Line] = [(Piece(topic.name, "title"),)]
    if topic.word:
        lines.append((Piece("it is about: ", "dim"), Piece(topic.word, "strong")))
    lines += now if topic.value else []
    for text in topic.text:
        lines += [(), *paragraph(text, width)]
    return lines


def key_lines(actions: Sequence[Action], width: int) -> list[Line]:
    """Every key."""
    lines: list[Line] = []
    for action in actions:
        if action.keys:
            lines += _entry(key_name(action), action.text, width)
    for keys, text in FIXED_KEYS:
        lines += _entry(keys, text, width)
    return lines


def _entry(name: str, text: str, width: int) -> list[Line]:
    room = min(KEY_WIDTH, max(12, width // 3))
    first, *more = paragraph(text, width - room)
    lines: list[Line] = [(Piece(name.ljust(room - 1) + " ", "key"), *first)]
    return [*lines, *((Piece(" " * room), *line) for line in more)]


def sign_lines(width: int, glyphs: Glyphs) -> list[Line]:
    """What the signs of states mean."""
    told = (
        (PathState.ACTIVE, "works and carries I/O"),
        (PathState.STANDBY, "works, but another path is better or in use"),
        (PathState.FAILED, "does not answer, or lost its connection"),
        (DiskState.AVAILABLE, "a session sees it; it is not a block device here"),
        (DiskState.DEGRADED, "works, and at least one of its paths does not"),
        (DiskState.OFFLINE, "closed for new commands, as in a removal"),
    )
    lines: list[Line] = []
    for state, text in told:
        (sign,) = mark(state).pieces(glyphs)
        lines += [(sign,), *paragraph(text, width, indent=2)]
    return lines
