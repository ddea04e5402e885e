"""Dialogs for orders to the kernel's initiator: read what would be done, do it, and see what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button

from initiator.errors import MooringError
from tui import background
from tui.keytable import Column, KeyTable
from tui.layout import paragraph
from tui.orders import Order
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, say, short_target

if TYPE_CHECKING:
    from initiator.host.nodes import NodeRecord


class OrderScreen(Dialog[None]):
    """Says what an order does; does it when told so; stays to say what came of it.

    Closing it while the order is under way stops nothing: the answer then comes as a notice.
    """

    def __init__(self, order: Order, glyphs: Glyphs) -> None:
        super().__init__()
        self.add_class("-small")
        self._order = order
        self._glyphs = glyphs
        self._asked_at: float | None = None
        self.outcome: str | MooringError | None = None

    def compose(self) -> ComposeResult:
        """The text, and what can be chosen."""
        with Vertical(id="box") as box:
            box.border_title = Content(say(self._order.title))
            yield Pane(self._glyphs, id="about")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                for number, choice in enumerate(self._order.choices):
                    yield Button(Content(choice.label), id=f"choice-{number}", classes="-act")

    def on_mount(self) -> None:
        """Cancel is under the Enter key."""
        super().on_mount()
        self.query_one("#about", Pane).can_focus = False
        self.query_one("#cancel", Button).focus()
        self.set_interval(0.25, self._tell_wait)

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        pane = self.query_one("#about", Pane)
        lines = self._lines(pane.content_width)
        pane.styles.height = len(lines)
        pane.show(lines)

    def _lines(self, width: int) -> list[Line]:
        if isinstance(self.outcome, MooringError):
            way_out = f"{self._glyphs.arrow} {say(self.outcome.fix)}"
            fix = [(), *paragraph(way_out, width)] if self.outcome.fix else []
            return [*paragraph(say(str(self.outcome)), width, "bad"), *fix]
        if self.outcome is not None:
            return paragraph(say(self.outcome), width)
        if self._asked_at is not None:
            waited = self.mooring.tick() - self._asked_at
            return paragraph(
                f"Waiting for {self._order.waits_for} {waited:5.1f} s. Closing this does not stop it.", width, "dim"
            )
        lines: list[Line] = []
        for number, text in enumerate(self._order.about):
            lines += [*([()] if number == 1 else []), *paragraph(say(text), width)]
        return lines

    def _tell_wait(self) -> None:
        if self._asked_at is not None and self.outcome is None:
            self._fill()

    @on(Button.Pressed, ".-act")
    def _chosen(self, message: Button.Pressed) -> None:
        if self._asked_at is not None:
            return
        choice = self._order.choices[int((message.button.id or "choice-0").removeprefix("choice-"))]
        self._asked_at = self.mooring.tick()
        for button in self.query(Button).filter(".-act"):
            button.display = False
        self.query_one("#cancel", Button).label = "Close"
        self.query_one("#cancel", Button).focus()
        background.run(self.app, choice.run, self._done)
        self._fill()

    def _done(self, outcome: str | MooringError) -> None:
        self.outcome = outcome
        failed = isinstance(outcome, MooringError)
        app = self.mooring
        app.look_again()
        if not self.is_attached:
            app.tell_outcome(say(self._order.title), outcome)
            return
        self.set_class(failed, "-bad")
        self.set_class(not failed, "-good")
        self.deafen()
        self._fill()

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


class RecordRow(NamedTuple):
    """One node record in the list."""

    key: str
    record: NodeRecord


COLUMNS = (
    Column("Target", 20, share=1),
    Column("Portal", 21),
    Column("Interface", 10, from_width=70),
    Column("Start-up", 9),
)


class RecordsScreen(Dialog["NodeRecord"]):
    """The node records that no session belongs to. Gives back the one that was chosen."""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._told: Sequence[NodeRecord] | MooringError | None = None

    def compose(self) -> ComposeResult:
        """What this is, the records, and Cancel."""
        with Vertical(id="box") as box:
            box.border_title = "Log in: targets that open-iscsi knows"
            yield Pane(self._glyphs, id="about")
            yield KeyTable[RecordRow](COLUMNS, self._cells, self._glyphs, id="records")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        """Read the records; that may take a moment."""
        super().on_mount()
        self.query_one("#about", Pane).can_focus = False
        self.query_one("#cancel", Button).focus()
        background.run(self.app, self.mooring.backends.kernel.idle, self._read)

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _read(self, told: Sequence[NodeRecord] | MooringError) -> None:
        if not self.is_attached:
            return
        self._told = told
        if not isinstance(told, MooringError) and told:
            table = self.query_one("#records", KeyTable)
            table.update([RecordRow(record.path, record) for record in told])
            table.focus()
            self.deafen()
        self._fill()

    def _fill(self) -> None:
        pane = self.query_one("#about", Pane)
        width = pane.content_width
        if isinstance(self._told, MooringError):
            text, role = f"{self._told} {self._told.fix}", "bad"
        elif self._told is None:
            text, role = "Reading open-iscsi's node records", "dim"
        elif not self._told:
            text, role = "There is no node record without a session. To make some: mooring discover PORTAL", ""
        else:
            text, role = "Node records without a session. Enter: look at what a login would do.", "dim"
        lines = [*paragraph(say(text), width, role), ()]
        pane.styles.height = len(lines)
        pane.show(lines)

    def _cells(self, row: RecordRow, widths: Sequence[int]) -> Sequence[Line]:
        record = row.record
        texts = (short_target(record.target), str(record.portal), record.interface, record.startup or "unknown")
        return [(Piece(say(text)),) for text in texts]

    @on(KeyTable.Chosen)
    def _chosen(self, message: KeyTable.Chosen) -> None:
        if self._told is not None and not isinstance(self._told, MooringError):
            self.dismiss(next(record for record in self._told if record.path == message.key))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
