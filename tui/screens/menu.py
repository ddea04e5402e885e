"""Everything that can be done with the selected thing, in one list: what cannot says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from tui.actions import Action, first_key
from tui.keytable import Column, KeyTable
from tui.screens.dialog import Dialog
from tui.words import Glyphs, Line, Piece, say

COLUMNS = (Column("Key", 5), Column("Action", 16), Column("What it does, or why it cannot be done now", 20, share=1))


class ActionRow(NamedTuple):
    """One action in the list."""

    key: str
    action: Action
    reason: str


class MenuScreen(Dialog[str]):
    """Gives back the id of the action that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space,q", "close", "Close", show=False)]

    def __init__(self, title: str, entries: Sequence[tuple[Action, str]], glyphs: Glyphs) -> None:
        super().__init__()
        self.add_class("-menu")
        self._title = title
        self._glyphs = glyphs
        self._rows = [ActionRow(action.id, action, reason) for action, reason in entries]

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(id="box") as box:
            box.border_title = Content(say(self._title))
            box.border_subtitle = "Enter does it, Esc closes"
            yield KeyTable[ActionRow](COLUMNS, self._cells, self._glyphs, id="actions")

    def on_mount(self) -> None:
        """The list has the keys."""
        super().on_mount()
        table = self.query_one("#actions", KeyTable)
        table.styles.height = len(self._rows) + 1
        table.update(self._rows)
        table.focus()

    def _cells(self, row: ActionRow, widths: Sequence[int]) -> Sequence[Line]:
        role = "dim" if row.reason else ""
        texts = (first_key(row.action), row.action.label, row.reason or row.action.text)
        return [
            (Piece(text, role or ("key" if not number else "strong" if number == 1 else "")),)
            for number, text in enumerate(texts)
        ]

    @on(KeyTable.Chosen)
    def _chosen(self, message: KeyTable.Chosen) -> None:
        self.dismiss(message.key)
