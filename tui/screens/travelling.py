"""Going from view to view: by their keys, along names that lead somewhere, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual.widgets import Input

from initiator.model import Map
from tui.keytable import Column
from tui.screens.doing import Doing
from tui.store import Store
from tui.views.catalogue import BY_ID, home_of, why_not_listed
from tui.views.tree import TREE
from tui.views.view import View
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line
from tui.world import Row

TRAIL = 50
"""How many jumps can be taken back."""


class Stand(NamedTuple):
    """Where somebody was before a jump."""

    view: str
    cursor: str | None
    in_detail: bool


class Travelling(Doing):
    """The part of the main screen that goes to things."""

    def __init__(self, store: Store, glyphs: Glyphs) -> None:
        super().__init__(store, glyphs)
        self.trail: list[Stand] = []

    def cells(self, row: Row, widths: Sequence[int]) -> Sequence[Line]:
        """What a row says."""
        raise NotImplementedError

    def action_show(self, view: str) -> None:
        """Show a view, as it was left."""
        self.jump(f"view:{view}")

    def jump(self, to: str) -> None:
        """Go to a thing, in the view where it is at home, or to a view; `do_back` comes back.

        Where the thing has no row there, the cursor stays where it is: the next key would act on another thing.
        """
        view, key = self._where(to)
        if view is None or (key is not None and not self.store.lists(view, key)):
            thing = self.store.world.index.get(to) if self.store.world else None
            self.notify(why_not_listed(thing), severity="warning", markup=False)
            return
        here = Stand(self.store.view.id, self.table.cursor, self.in_detail)
        if (view.id, key) != (here.view, here.cursor) and not (key is None and view.id == here.view):
            self.trail = [*self.trail[-TRAIL:], here]
        self._go(view, key)

    def _where(self, to: str) -> tuple[View | None, str | None]:
        """The view of what this leads to, and the id to look for in it."""
        if to.startswith("view:"):
            return BY_ID.get(to.removeprefix("view:")), None
        if to.startswith("target:"):
            return TREE, to
        thing = self.store.world.index.get(to) if self.store.world else None
        if isinstance(thing, Map):
            return BY_ID["disks"], thing.disk
        return (home_of(thing), to) if thing is not None else (None, None)

    def _go(self, view: View, key: str | None, *, in_detail: bool = False) -> None:
        """Show a view with the cursor on a thing, past a filter that hides it."""
        table, store = self.table, self.store
        store.place.cursor, store.place.top = table.cursor, table.scroll_offset.y
        store.look_at(view.id)
        place = store.place
        found = store.reveal(key) if key is not None else place.cursor
        if found is None and key is not None and place.query:
            store.filter("")
            found = store.reveal(key)
        table.change(columns_of(view), self.cells)
        table.sorted = (place.sort, place.backwards)
        table.place(store.rows, found, place.top)
        field = self.query_one("#filter", Input)
        with self.prevent(Input.Changed):
            field.value = place.text
        self.query_one("#filterbar").set_class(bool(place.text), "-open")
        self.dress()
        # At once, never by `focus()`, which comes later: it would take the keys from what the next key opens.
        self.set_focus(self.query_one("#detail", Pane) if in_detail and self.has_class("-detail") else table)
        self.show_data()
        self.entered()

    def entered(self) -> None:
        """Read what the view shows and no snapshot holds."""
        view = self.store.view
        if view.id == "removals":
            self.mooring.removals.read()
        elif view.id == "checks":
            self.mooring.ask_rules()

    def dress(self) -> None:
        """What stands around the list of this view."""
        view = self.store.view
        self.table.nothing = view.nothing
        self.table.sorted = (self.store.place.sort, self.store.place.backwards)
        self.place_detail()

    @property
    def in_detail(self) -> bool:
        """Whether the keys go to the details."""
        return self.focused is not None and self.focused.id == "detail"

    def do_back(self) -> None:
        """Back to where the last jump came from."""
        if self.trail:
            stand = self.trail.pop()
            self._go(BY_ID[stand.view], stand.cursor, in_detail=stand.in_detail)
            if stand.cursor is not None and self.table.cursor != stand.cursor:
                self.notify("What the jump came from is not there any more.", severity="warning")


def columns_of(view: View) -> list[Column]:
    """The columns of a view as a table wants them."""
    return [Column(field.title, field.width, field.share, field.from_width, field.right) for field in view.columns]
