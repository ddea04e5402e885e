"""Help: what the glyphs mean, every key, and the words of iSCSI, those of the selected row first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from initiator.model import DiskState, PathState
from tui import glossary
from tui.actions import FIXED_KEYS, Action, key_name
from tui.glossary import Term
from tui.layout import paragraph
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, mark
from tui.world import Kind

KEY_WIDTH = 20


class HelpScreen(Dialog[None]):
    """Scrolls; any of `?`, `q`, Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,q,f1", "close", "Close", show=False)]

    def __init__(self, kind: Kind | None, glyphs: Glyphs, actions: Sequence[Action]) -> None:
        super().__init__()
        self._kind = kind
        self._glyphs = glyphs
        self._actions = actions

    def compose(self) -> ComposeResult:
        """One pane."""
        with Vertical(id="box") as box:
            box.border_title = "Help"
            box.border_subtitle = "Esc closes"
            yield Pane(self._glyphs, id="help")

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        pane = self.query_one("#help", Pane)
        pane.show(help_lines(self._kind, self._actions, pane.content_width, self._glyphs))


def help_lines(kind: Kind | None, actions: Sequence[Action], width: int, glyphs: Glyphs) -> list[Line]:
    """Everything the help says."""
    first, rest = glossary.for_kind(kind)
    lines: list[Line] = [_heading("Keys", width, glyphs)]
    for action in actions:
        lines += _entry(key_name(action), action.text, width)
    for keys, text in FIXED_KEYS:
        lines += _entry(keys, text, width)
    lines += [(), _heading("States", width, glyphs), *_states(width, glyphs)]
    if first and kind is not None:
        lines += [(), _heading(f"Words for the selected {kind.value}", width, glyphs), *_terms(first, width)]
    return [*lines, (), _heading("Other words" if first else "Words", width, glyphs), *_terms(rest, width)]


def _heading(text: str, width: int, glyphs: Glyphs) -> Line:
    return (Piece(f"{text} ", "heading"), Piece(glyphs.rule * max(0, width - len(text) - 1), "rule"))


def _entry(name: str, text: str, width: int) -> list[Line]:
    first, *more = paragraph(text, width - KEY_WIDTH)
    lines: list[Line] = [(Piece(name.ljust(KEY_WIDTH), "key"), *first)]
    return [*lines, *((Piece(" " * KEY_WIDTH), *line) for line in more)]


def _terms(terms: tuple[Term, ...], width: int) -> list[Line]:
    lines: list[Line] = []
    for term in terms:
        lines += [(Piece(term.name, "strong"),), *paragraph(term.text, width, indent=2)]
    return lines


def _states(width: int, glyphs: Glyphs) -> list[Line]:
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
        lines.append((Piece(sign.text.ljust(KEY_WIDTH), sign.role), Piece(text)))
    return lines
