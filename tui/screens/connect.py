"""From the address of an array to a session: ask a portal for its targets, and choose one to log in to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Label

from initiator.errors import MooringError
from tui import background, orders
from tui.connecting import Chap, Offer, Offers, by_target
from tui.keytable import Column, KeyTable
from tui.layout import paragraph
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, count, say, short_target

FIELDS = (
    ("portal", "Portal", "192.0.2.10 or [2001:db8::10]:3260"),
    ("user", "CHAP name", "only if the array asks for one"),
    ("secret", "CHAP secret", "12 to 16 characters; shown to nobody, kept nowhere"),
    ("target-user", "Target's name", "only for mutual CHAP: what the target proves itself with"),
    ("target-secret", "Target's secret", "not the same as yours"),
)
SECRETS = ("secret", "target-secret")
COLUMNS = (Column("Target", 20, share=1), Column("Name in full", 24, share=2, from_width=80), Column("Portal", 22))


class OfferRow(NamedTuple):
    """One target at one portal in the list."""

    key: str
    offer: Offer


class ConnectScreen(Dialog[None]):
    """First a form, then the targets that were found. Enter on one of these asks before anything is logged in to."""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._chap = Chap()
        self._asked_at: float | None = None
        self._asked = ""
        self.failure: MooringError | None = None
        self.offers: Offers | None = None

    def compose(self) -> ComposeResult:
        """The form, the list, what is to be said, and what can be done."""
        with Vertical(id="box") as box:
            box.border_title = "Discover targets and log in"
            yield Pane(self._glyphs, id="about")
            with Vertical(id="form"):
                for name, label, hint in FIELDS:
                    with Horizontal(classes="field"):
                        yield Label(label, markup=False)
                        yield Input(id=name, compact=True, placeholder=hint, password=name in SECRETS)
            yield KeyTable[OfferRow](COLUMNS, self._cells, self._glyphs, id="offers")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Discover", id="discover", classes="-act")

    def on_mount(self) -> None:
        """The address has the keys."""
        super().on_mount()
        self.query_one("#about", Pane).can_focus = False
        self.query_one("#offers").display = False
        self.query_one("#portal", Input).focus()
        self.set_interval(0.25, self._tell_wait)

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    # --- what is said ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        pane = self.query_one("#about", Pane)
        lines = [*self._lines(pane.content_width), ()]
        pane.styles.height = len(lines)
        pane.show(lines)

    def _lines(self, width: int) -> list[Line]:
        if self._asked_at is not None:
            waited = self.mooring.tick() - self._asked_at
            text = f"Asking {say(self._asked)} for its targets {waited:5.1f} s. Closing this does not stop it."
            return paragraph(text, width, "dim")
        if self.failure is not None:
            fix = paragraph(f"{self._glyphs.arrow} {say(self.failure.fix)}", width) if self.failure.fix else []
            return [*paragraph(say(str(self.failure)), width, "bad"), *fix]
        if self.offers is not None:
            kept = paragraph(say(self.offers.kept()), width, "warn" if self.offers.at_boot else "dim")
            return [*paragraph(say(_offered(self.offers)), width), *kept]
        return paragraph(
            "Asks an array which targets it offers; nothing is logged in to. Where open-iscsi asks, it makes a node"
            " record of each new target, and a boot logs in with those whose start-up is automatic (iscsid.conf).",
            width,
            "dim",
        )

    def _tell_wait(self) -> None:
        if self._asked_at is not None:
            self._fill()

    def _cells(self, row: OfferRow, widths: Sequence[int]) -> Sequence[Line]:
        offer = row.offer
        names = (short_target(offer.target), offer.target, str(offer.portal))
        return [(Piece(say(text), "strong" if not number else ""),) for number, text in enumerate(names)]

    # --- discovery ------------------------------------------------------------------------------------------------

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value

    @on(Input.Submitted)
    def _next(self, message: Input.Submitted) -> None:
        """Enter goes to the next field; in the last one, and where only the address is wanted, it asks."""
        if message.input.id == FIELDS[-1][0] or (message.input.id == "portal" and message.value.strip()):
            self._discover()
        else:
            self.focus_next()

    @on(Button.Pressed, "#discover")
    def _discover(self) -> None:
        if self._asked_at is not None:
            return
        chap = Chap(*(self._value(name) for name in ("user", "secret", "target-user", "target-secret")))
        where, connector = self._value("portal"), self.mooring.backends.connector
        self._chap = chap
        self._asked_at, self._asked, self.failure = self.mooring.tick(), where, None
        self._fill()
        background.run(self.app, lambda: connector.discover(where, chap), self._discovered)

    def _discovered(self, found: Offers | MooringError) -> None:
        if not self.is_attached:
            if not isinstance(found, MooringError) and found.new_records:
                self.mooring.tell_outcome(f"Discovery at {say(str(found.portal))}", found.kept())
            return
        self._asked_at = None
        if isinstance(found, MooringError):
            self.failure = found
            self._fill()
            return
        self.offers, self.failure = found, None
        for name in SECRETS:  # what was typed is not needed on the screen any more
            self.query_one(f"#{name}", Input).value = ""
        self.query_one("#form").display = False
        self.query_one("#discover", Button).display = False
        self.query_one("#cancel", Button).label = "Close"
        table = self.query_one("#offers", KeyTable)
        table.display = True
        rows = [OfferRow(f"{offer.target} {offer.portal}", offer) for offer in by_target(found.found)]
        table.update(rows)
        table.focus()
        self.deafen()
        self._fill()

    # --- login ----------------------------------------------------------------------------------------------------

    @on(KeyTable.Chosen)
    def _chosen(self, message: KeyTable.Chosen) -> None:
        row = self.query_one("#offers", KeyTable).at_cursor
        if self.offers is None or row is None or row.key != message.key:
            return
        offer: Offer = row.offer
        reason = self.mooring.main.why_not("login")
        if reason:
            self.notify(reason, severity="warning", markup=False)
            return
        connector = self.mooring.backends.connector
        self.mooring.give(orders.connect(offer, self.offers, self._chap, connector))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


def _offered(offers: Offers) -> str:
    """How many targets there are, and what to do next."""
    if not offers.found:
        return f"{offers.portal} answers and offers no target to this initiator: the array's access list decides."
    number = count(len({offer.target for offer in offers.found}), "target")
    return f"{offers.portal} offers {number} ({offers.via}). Enter looks at what a login would do."
