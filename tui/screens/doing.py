"""What the actions of `tui.actions` do on the main screen, one method each."""

from __future__ import annotations

import pathlib
import time
from typing import TYPE_CHECKING

from textual.screen import Screen
from textual.widgets import Input

from initiator.model import Disk, Path, Session, Volume
from safety import scope
from tui import actions, orders, verdict
from tui.actions import Context, kernel_sessions, scope_of, why_not
from tui.beside import probeable
from tui.exporting import sheet
from tui.identity import identity_of
from tui.keytable import UNROLLED, KeyTable
from tui.store import Store
from tui.views.overview import OVERVIEW
from tui.views.tree import TREE
from tui.views.view import Draw
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, say
from tui.world import Row

if TYPE_CHECKING:
    from tui.app import MooringApp


class Doing(Screen[None]):
    """The half of the main screen that acts; `MainScreen` is the half that shows."""

    def __init__(self, store: Store, glyphs: Glyphs) -> None:
        super().__init__()
        self.store = store
        self.glyphs = glyphs
        self.detail_wanted: dict[str, bool] = {}
        """Whether details are to stand beside a view, where a person said so."""
        self.wired: dict[str, bool] = {OVERVIEW.id: True}
        """Whether the details of a view are the picture of how the disk is wired."""

    @property
    def mooring(self) -> MooringApp:
        """The app, by its own class."""
        return self.app  # type: ignore[return-value]

    @property
    def table(self) -> KeyTable[Row]:
        """The list."""
        return self.query_one("#tree", KeyTable)

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.table.at_cursor

    def context(self) -> Context:
        """What decides whether an action can be done."""
        raise NotImplementedError

    def jump(self, to: str) -> None:
        """Go to a thing or a view."""
        raise NotImplementedError

    def show_data(self) -> None:
        """Show what the store has."""
        raise NotImplementedError

    def place_detail(self) -> None:
        """Show or hide the details as it is wanted."""
        raise NotImplementedError

    def draw(self) -> Draw | None:
        """What cells are made with; None before there is data."""
        raise NotImplementedError

    def page(self, width: int) -> list[Line]:
        """The details of the selected row in so many columns, whether they are on the screen or not."""
        raise NotImplementedError

    def why_not(self, name: str) -> str:
        """Why an action cannot be done now, as a sentence; empty when it can."""
        return why_not(actions.BY_ID[name], self.context())

    def action_do(self, name: str) -> None:
        """Do one of `tui.actions.ACTIONS`, or say why that cannot be done now."""
        action = actions.BY_ID[name]
        reason = why_not(action, self.context())
        if reason:
            self.notify(reason, title=f"Cannot {action.label} now", severity="warning", markup=False)
            return
        getattr(self, f"do_{name}")()

    # --- what changes something -----------------------------------------------------------------------------------

    def do_remove(self) -> None:
        """Begin the removal of what is selected: nothing is changed before its plan was read and its name typed."""
        world = self.store.world
        wanted = scope_of(self.selected, world.snapshot) if world is not None else None
        if wanted is None:
            self.notify("Nothing of the kernel or the engine hangs on it: there is nothing to remove.")
        else:
            self.mooring.removals.begin(wanted)

    def do_unmount(self) -> None:
        """Begin to dismount the selected volume: a plan that ends where its disk would be claimed."""
        item = self.selected.item if self.selected else None
        if isinstance(item, Volume):
            self.mooring.removals.begin(scope.volume(item))

    def do_look(self) -> None:
        """Ask before the selected disk's volume is mounted to look into it."""
        item, world = self.selected.item if self.selected else None, self.store.world
        if isinstance(item, Disk) and world is not None:
            self.mooring.give(orders.look(item, world.snapshot, self.mooring.backends.looker))

    def do_unfinished(self) -> None:
        """The removals that wait."""
        self.mooring.removals.show_unfinished()

    def do_login(self) -> None:
        """Choose a node record to log in with."""
        self.mooring.choose_login()

    def do_logout(self) -> None:
        """Ask before logging out of the selected session."""
        item, backends = self.selected.item if self.selected else None, self.mooring.backends
        if isinstance(item, Session):
            self.mooring.give(orders.logout(item, backends.kernel, backends.connector))

    def do_path_out(self) -> None:
        """Begin to take the selected path out of its map: the removal of one path."""
        item, world = self.selected.item if self.selected else None, self.store.world
        if isinstance(item, Path) and world is not None:
            self.mooring.removals.begin(scope.path(world.snapshot, item))

    def do_path_back(self) -> None:
        """Choose among the paths that are out."""
        self.mooring.removals.choose_path_back()

    def do_probe(self) -> None:
        """Ask before probes are switched."""
        switch, context = self.mooring.backends.probes, self.context()
        if switch is not None and context.probed:
            self.mooring.give(orders.probe(switch, context.probed))

    def do_probe_one(self) -> None:
        """Ask before the portal of the selected session, path or link is probed, or is not any more."""
        switch, world = self.mooring.backends.probes, self.store.world
        if switch is not None and world is not None and self.selected is not None:
            self.mooring.give(orders.probe_some(probeable(self.selected.item, world), switch))

    def do_export(self) -> None:
        """Ask in which form the rows are to be saved."""
        store, draw = self.store, self.draw()
        if draw is None:
            return
        found = sheet(store.view, store.rows, draw)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.mooring.wall()))
        self.mooring.give(orders.export(store.view.title, found, pathlib.Path.cwd(), stamp))

    def do_discover(self) -> None:
        """Ask an array for its targets."""
        from tui.screens.connect import ConnectScreen

        self.mooring.push_screen(ConnectScreen(self.glyphs))

    def do_attach(self) -> None:
        """Ask before attaching the selected disk."""
        item = self.selected.item if self.selected else None
        if isinstance(item, Disk) and item.target is not None and item.lun is not None:
            self.mooring.give(orders.attach(item.name, item.target, item.lun, self.mooring.backends.connector))

    def do_rescan(self) -> None:
        """Ask before rescanning the selected session, or those of the selected target."""
        self.mooring.give(orders.rescan(kernel_sessions(self.selected), self.mooring.backends.kernel))

    def do_startup(self) -> None:
        """Choose the start-up of the selected session."""
        for session in kernel_sessions(self.selected):
            self.mooring.give(orders.startup(session, self.mooring.backends.kernel))

    # --- where to look --------------------------------------------------------------------------------------------

    def do_menu(self) -> None:
        """Everything that can be done with what is selected."""
        from tui.screens.menu import MenuScreen

        row = self.selected
        if row is None:
            return
        context = self.context()
        entries = [(action, why_not(action, context)) for action in self.mooring.actions if action.menu]
        entries.sort(key=lambda entry: bool(entry[1]))

        def chosen(name: str | None) -> None:
            if name is not None:
                self.action_do(name)

        title = f"{row.kind.value} {row.item.name}" if row.item.name else row.kind.value
        self.mooring.push_screen(MenuScreen(title, entries, self.glyphs), chosen)

    def do_copy(self) -> None:
        """Give the terminal what identifies the selected thing; show it too, for terminals that do not take it."""
        world, row = self.store.world, self.selected
        text = say(identity_of(row.item, world)) if row is not None and world is not None else ""
        if not text:
            self.notify("There is nothing to copy.", severity="warning")
            return
        self.mooring.copy_to_clipboard(text)
        self.notify(text, title="Copied, if your terminal allows it (OSC 52)", markup=False)

    def do_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#filter", Input)
        self.query_one("#filterbar").add_class("-open")
        self.set_focus(field)  # at once: `focus()` comes later, and the next key would be a command

    def do_next_trouble(self) -> None:
        """To the next thing that is wrong after the one under the cursor."""
        world = self.store.world
        now, judged = self.mooring.wall(), self.store.judged
        keys = [key for _, _, key in verdict.troubles(world, now, judged) if key] if world else []
        if not keys:
            self.notify("Nothing is wrong.")
            return
        selected = self.selected
        here = selected.item.id if selected else ""
        wanted = keys[(keys.index(here) + 1) % len(keys)] if here in keys else keys[0]
        found = self.store.reveal(wanted)
        if found is None:
            self.jump(wanted)
            return
        self.table.update(self.store.rows)
        self.table.cursor = found
        self.set_focus(self.table)

    def do_sort(self) -> None:
        """Sort by the next column."""
        self._sort(1)

    def do_sort_back(self) -> None:
        """The other way round."""
        title = self.store.place.sort
        if title:
            self.sort_by(title)

    def _sort(self, by: int) -> None:
        if self.store.view is TREE:
            self.notify("The tree has an order of its own. The other views sort: press 4 for the disks.")
            return
        self.store.sort(by=by)
        self.sorted_anew()

    def sort_by(self, title: str) -> None:
        """Sort by a column; backwards if it does already."""
        self.store.sort(title)
        self.sorted_anew()

    def sorted_anew(self) -> None:
        """Show the new order, and remember it."""
        place = self.store.place
        self.table.sorted = (place.sort, place.backwards)
        self.table.update(self.store.rows)
        self.table.refresh()
        self.mooring.memory.keep(self.store.places)

    def do_detail(self) -> None:
        """Show or hide the details."""
        view = self.store.view
        self.detail_wanted[view.id] = not self.has_class("-detail")
        if view is not OVERVIEW:
            self.wired[view.id] = False
        self.place_detail()
        self.call_after_refresh(self.show_data)

    def do_wiring(self) -> None:
        """The picture of the selected disk, in place of the list; or the list again."""
        view = self.store.view.id
        shown = self.has_class("-detail") and self.has_class("-wired")
        self.wired[view] = not shown or view == OVERVIEW.id
        self.detail_wanted[view] = not shown if view == OVERVIEW.id or not shown else self.store.view.detail
        if shown and self.has_class("-narrow"):
            self.detail_wanted[view] = False
        self.place_detail()
        self.call_after_refresh(self.show_data)

    def do_pause(self) -> None:
        """Hold the screen still, or go on."""
        self.store.pause(not self.store.paused)
        self.show_data()

    def do_open_all(self) -> None:
        """Open everything."""
        self.store.open_all(True)
        self.table.update(self.store.rows)

    def do_close_all(self) -> None:
        """Close everything below the disks."""
        self.store.open_all(False)
        self.table.update(self.store.rows)

    def do_view(self, view: str) -> None:
        """Show a view."""
        self.jump(f"view:{view}")

    def do_back(self) -> None:
        """Back to where the last jump came from."""
        raise NotImplementedError

    # --- the tour -------------------------------------------------------------------------------------------------

    def do_tour(self) -> None:
        """Begin the tour, or end it."""
        self.mooring.begin_or_end_tour()

    def do_lesson_next(self) -> None:
        """The next lesson."""
        self.mooring.change_lesson(1)

    def do_lesson_back(self) -> None:
        """The lesson before."""
        self.mooring.change_lesson(-1)

    # --- the rest -------------------------------------------------------------------------------------------------

    def do_theme(self) -> None:
        """Dark, light, or the terminal's own colours."""
        self.mooring.switch_theme()

    def do_screenshot(self) -> None:
        """Save a picture of the screen."""
        self.mooring.save_picture()

    def do_help(self) -> None:
        """What the cursor is on, in plain words; every other word and key is listed beside it."""
        pane = self.query_one("#detail", Pane)
        self.explain(pane.label if pane.has_focus else "")

    def do_keys(self) -> None:
        """Every key."""
        self.explain(None)

    def explain(self, label: str | None) -> None:
        """Help that begins with a label of the details, with the selected thing (empty), or with the keys (None)."""
        from tui.explain import stem, topics

        row, health = self.selected, self.store.judged.health
        judgement = health.judgements.get(row.item.id) if row is not None and health is not None else None
        found = topics(row, self.page(UNROLLED), self.store.view, judgement.verdict if judgement else None)
        wanted = f"field:{stem(label.rstrip('='))}" if label else ""
        own = wanted if any(topic.key == wanted for topic in found) else found[0].key if row is not None else ""
        self.mooring.show_help(found, "" if label is None else own)

    def do_quit(self) -> None:
        """Leave at once: nothing that matters runs in here."""
        self.mooring.exit(0)

    def focus_details(self) -> None:
        """Keys to the details, which are shown if they were not."""
        if self.store.view is OVERVIEW and self.selected is not None:
            self.jump(self.selected.item.id)
            return
        if not self.has_class("-detail"):
            self.do_detail()
        self.set_focus(self.query_one("#detail", Pane))
