"""The dashboard itself: the tree, the details of what is selected, and what happened."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Input, Static

from initiator.model import Event, Session, holds_data
from tui import actions, detail, orders, rowtext, verdict
from tui.actions import Context, kernel_sessions, scope_of, why_not
from tui.keytable import Column, KeyTable
from tui.store import EVENTS, Store
from tui.tree import Kind, Row
from tui.welcome import welcome
from tui.widgets.bars import Bar, KeyBar, Status, title
from tui.widgets.filter import FilterInput
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, Piece, clock, count, mark, say

if TYPE_CHECKING:
    from tui.app import MooringApp

COLUMNS = (
    Column("Target, disk, path", 14, share=1),
    Column("State", 12),
    Column("Size, time", 10, right=True),
    Column("Where", 16),
    Column("Latency", rowtext.TREND_WIDTH, from_width=84),
)
NARROW = 110
"""Below this width the details do not stand beside the tree but take its place."""
SMALLEST = (60, 16)


class MainScreen(Screen[None]):
    """One screen with everything."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(",".join(action.keys), f"do('{action.id}')", action.label, show=False) for action in actions.ACTIONS),
        Binding("escape", "leave", "Leave", show=False),
    ]

    def __init__(self, store: Store, glyphs: Glyphs) -> None:
        super().__init__()
        self.store = store
        self.glyphs = glyphs
        self.failure = ""
        self._detail_wanted: bool | None = None
        self._event_lines: deque[Line] = deque(maxlen=EVENTS)
        self._events_told = 0
        self._found = ""

    @property
    def mooring(self) -> MooringApp:
        """The app, by its own class."""
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """Title, tree beside details, events, filter, keys."""
        yield Bar(self.glyphs, id="title")
        with Horizontal(id="body"):
            yield KeyTable[Row](COLUMNS, self._cells, self.glyphs, id="tree")
            yield Pane(self.glyphs, id="detail")
            yield Pane(self.glyphs, id="welcome")
        yield Pane(self.glyphs, id="events")
        with Horizontal(id="filterbar"):
            yield Static(" / ", markup=False)
            yield FilterInput(self._leave_filter, "words, field:value, !not", "filter")
            yield Static("", id="found", markup=False)
        yield KeyBar(self.glyphs, id="keys")
        yield Static("", id="tiny", markup=False)

    def on_screen_resume(self) -> None:
        """A dialog has closed: what waited behind it comes."""
        self.store.freeze(False)
        self.show_data()

    def on_mount(self) -> None:
        """Keys go to the tree; the age of the data is told twice a second."""
        self.table.focus()
        self.set_interval(0.5, self.tell_age)
        self.show_data()

    @property
    def table(self) -> KeyTable[Row]:
        """The left pane."""
        return self.query_one("#tree", KeyTable)

    @property
    def is_up(self) -> bool:
        """Whether its widgets are there: not before it was composed, nor while the program ends."""
        return self.is_mounted and bool(self.query("#keys"))

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.store.row(self.table.cursor)

    # --- data ---------------------------------------------------------------------------------------------------

    def show_data(self) -> None:
        """There is a new snapshot in the store."""
        if self.store.world is None or not self.is_up:
            return
        self.store.fit_to(self.table.visible_rows)
        empty = not self.store.world.targets
        if self.has_class("-empty") is not empty:
            self.set_class(empty, "-empty")
            self.call_after_refresh(self._fill)
            if empty:
                self.query_one("#welcome", Pane).focus()
            elif self.focused is None or self.focused.id == "welcome":
                self.table.focus()
        self._fill()

    def _fill(self) -> None:
        if self.has_class("-empty"):
            pane = self.query_one("#welcome", Pane)
            pane.show(welcome(pane.content_width, self.mooring.root, self.glyphs))
        self.table.update(self.store.rows)
        self.fill_detail()
        self.fill_events()
        self._tell_found()
        self.tell_age()

    def _cells(self, row: Row, widths: Sequence[int]) -> Sequence[Line]:
        if self.store.world is None:
            return ()
        return rowtext.cells(row, self.store.world, self.store.samples, self.glyphs, widths[0])

    def fill_detail(self) -> None:
        """Show what is selected; costs nothing while the pane is hidden."""
        pane = self.query_one("#detail", Pane)
        row, world = self.selected, self.store.world
        if not pane.display or row is None or world is None:
            pane.show(())
            return
        page = detail.Page(world, self.store.samples, self.glyphs, pane.content_width, self.mooring.wall())
        pane.show(detail.lines(row, page))

    def fill_events(self) -> None:
        """Show what happened, newest first."""
        pane = self.query_one("#events", Pane)
        width = pane.content_width
        rule = self.glyphs.rule * max(0, width - 7)
        heading: Line = (Piece("Events ", "heading"), Piece(rule, "rule"))
        # Only the new ones are put into words: there may be a thousand, and there is a reading each second.
        fresh = min(self.store.told - self._events_told, len(self.store.events))
        newest = itertools.islice(reversed(self.store.events), fresh)
        self._event_lines.extendleft(reversed([_event_line(event, self.glyphs) for event in newest]))
        self._events_told = self.store.told
        pane.show([heading, *(self._event_lines or [(Piece("nothing has happened yet", "dim"),)])])

    def tell_age(self) -> None:
        """The title, with the age of the data, and the keys that can be used now."""
        if not self.is_up:
            return
        bar = self.query_one("#title", Bar)
        app = self.mooring
        replay = clock(app.wall()) if app.options.replay else ""
        status = Status(app.wall(), app.tick(), bool(app.read_only), app.is_practice, self.failure, replay)
        bar.show(title(self.store, status, bar.size.width, self.glyphs))
        context = self.context()
        shown = sorted((action for action in actions.ACTIONS if action.footer), key=lambda action: action.footer)
        entries = [
            (action, not why_not(action, context)) for action in shown if action.id != "removals" or app.unfinished
        ]
        self.query_one("#keys", KeyBar).show_actions(entries)

    def context(self) -> Context:
        """What decides whether an action can be done."""
        app, tick = self.mooring, self.mooring.tick()
        stale, paused, age = self.store.stale(tick), self.store.paused, self.store.age(tick)
        return Context(self.selected, app.read_only, stale, paused, age, self._carried())

    def _carried(self) -> tuple[str, ...]:
        row, world = self.selected, self.store.world
        if world is None or row is None or not isinstance(row.item, Session):
            return ()
        return tuple(disk.name for disk in world.carried_by(row.item) if holds_data(disk.kind))

    # --- size ---------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Fit what is shown to the window."""
        width, height = event.size
        tiny = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(tiny, "-tiny")
        self.set_class(width < NARROW, "-narrow")
        self._place_detail()
        if tiny:
            need = f"Mooring needs {SMALLEST[0]}x{SMALLEST[1]}; this window is {width}x{height}."
            self.query_one("#tiny", Static).update(f"{need}\n\nMake it larger, or press q to leave.")
        self.call_after_refresh(self._fill)

    def _place_detail(self) -> None:
        narrow = self.has_class("-narrow")
        wanted = self._detail_wanted if self._detail_wanted is not None else not narrow
        self.set_class(wanted, "-detail")
        if not wanted and self.focused is not None and self.focused.id == "detail":
            self.table.focus()
        if wanted and narrow:
            self.query_one("#detail", Pane).focus()

    # --- messages -----------------------------------------------------------------------------------------------

    @on(KeyTable.Moved)
    def _moved(self) -> None:
        self.query_one("#detail", Pane).scroll_home(animate=False)
        self.fill_detail()
        self.tell_age()

    @on(KeyTable.Chosen)
    def _chosen(self, message: KeyTable.Chosen) -> None:
        row = self.store.row(message.key)
        if row is not None and row.opened is None:
            self.action_do("detail")
            return
        self.store.toggle(message.key)
        self.table.update(self.store.rows)

    @on(KeyTable.Folded)
    def _folded(self, message: KeyTable.Folded) -> None:
        row = self.store.row(message.key)
        if row is None:
            return
        if not message.opened and row.opened is not True:
            self.table.cursor = self.store.parent(message.key) or message.key
            return
        self.store.toggle(message.key, message.opened)
        self.table.update(self.store.rows)

    @on(KeyBar.Pressed)
    def _pressed(self, message: KeyBar.Pressed) -> None:
        self.action_do(message.action)

    @on(Input.Changed, "#filter")
    def _filtered(self, message: Input.Changed) -> None:
        self.store.filter(message.value)
        self.table.update(self.store.rows)
        self._tell_found()

    def _leave_filter(self) -> None:
        field = self.query_one("#filter", Input)
        self.query_one("#filterbar").set_class(bool(field.value), "-open")
        self.set_focus(self.table)

    def _tell_found(self) -> None:
        shown = len(self.store.rows)
        text = (f"{count(shown, 'row')} " if shown else "nothing fits ") if self.store.query else ""
        if text != self._found:  # an update costs a new layout, even of the same text
            self._found = text
            self.query_one("#found", Static).update(text)

    # --- actions ------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """Escape: out of the filter first, then back to the tree."""
        field = self.query_one("#filter", Input)
        if field.value or field.has_focus:
            field.value = ""
            self._leave_filter()
        elif self.has_class("-narrow") and self.has_class("-detail"):
            self.action_do("detail")
        else:
            self.table.focus()

    def action_do(self, name: str) -> None:
        """Do one of `tui.actions.ACTIONS`, or say why that cannot be done now."""
        action = actions.BY_ID[name]
        reason = why_not(action, self.context())
        if reason:
            self.notify(reason, title=f"Cannot {action.label} now", severity="warning", markup=False)
            return
        getattr(self, f"do_{name}")()

    def do_remove(self) -> None:
        """Begin the removal of what is selected: nothing is changed before its plan was read and its name typed."""
        world = self.store.world
        scope = scope_of(self.selected, world.snapshot) if world is not None else None
        if scope is None:
            self.notify("Nothing of the kernel or the engine hangs on it: there is nothing to remove.")
        else:
            self.mooring.begin_removal(scope)

    def do_removals(self) -> None:
        """The removals that wait."""
        self.mooring.show_unfinished()

    def do_login(self) -> None:
        """Choose a node record to log in with."""
        self.mooring.choose_login()

    def do_logout(self) -> None:
        """Ask before logging out of the selected session."""
        for session in kernel_sessions(self.selected):
            self.mooring.give(orders.logout(session, self.mooring.backends.kernel))

    def do_rescan(self) -> None:
        """Ask before rescanning the selected session, or those of the selected target."""
        self.mooring.give(orders.rescan(kernel_sessions(self.selected), self.mooring.backends.kernel))

    def do_startup(self) -> None:
        """Choose the start-up of the selected session."""
        for session in kernel_sessions(self.selected):
            self.mooring.give(orders.startup(session, self.mooring.backends.kernel))

    def do_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#filter", Input)
        self.query_one("#filterbar").add_class("-open")
        self.set_focus(field)  # at once: `focus()` comes later, and the next key would be a command

    def do_next_trouble(self) -> None:
        """To the next thing that is wrong after the one under the cursor."""
        world = self.store.world
        keys = [key for _, _, key in verdict.troubles(world, self.mooring.wall()) if key] if world else []
        if not keys:
            self.notify("Nothing is wrong.")
            return
        selected = self.selected
        here = selected.item.id if selected else ""
        wanted = keys[(keys.index(here) + 1) % len(keys)] if here in keys else keys[0]
        found = self.store.reveal(wanted)
        self.table.update(self.store.rows)
        if found is not None:
            self.table.cursor = found
            self.table.focus()

    def do_detail(self) -> None:
        """Show or hide the details."""
        self._detail_wanted = not self.has_class("-detail")
        self._place_detail()
        self.call_after_refresh(self._fill)

    def do_pause(self) -> None:
        """Hold the screen still, or go on."""
        self.store.pause(not self.store.paused)
        self._fill()

    def do_open_all(self) -> None:
        """Open everything."""
        self.store.open_all(True)
        self.table.update(self.store.rows)

    def do_close_all(self) -> None:
        """Close everything below the disks."""
        self.store.open_all(False)
        self.table.update(self.store.rows)

    def do_pane_tree(self) -> None:
        """Keys to the tree."""
        self.table.focus()

    def do_pane_detail(self) -> None:
        """Keys to the details, which are shown if they were not."""
        if not self.has_class("-detail"):
            self.do_detail()
        self.query_one("#detail", Pane).focus()

    def do_pane_events(self) -> None:
        """Keys to the events."""
        self.query_one("#events", Pane).focus()

    def do_theme(self) -> None:
        """Light or dark."""
        self.mooring.switch_theme()

    def do_screenshot(self) -> None:
        """Save a picture of the screen."""
        self.mooring.save_picture()

    def do_help(self) -> None:
        """Keys and words."""
        selected = self.selected
        self.mooring.show_help(selected.kind if selected else None)

    def do_quit(self) -> None:
        """Leave at once: nothing that matters runs in here."""
        self.mooring.exit(0)


def _event_line(event: Event, glyphs: Glyphs) -> Line:
    shape = mark(event.severity)
    sign = Piece(f"{getattr(glyphs, shape.shape)} ", shape.role)
    role = shape.role if shape.role in ("bad", "warn") else ""
    return (Piece(f"{clock(event.at)}  ", "dim"), sign, Piece(say(event.text), role))


__all__ = ["COLUMNS", "Kind", "MainScreen"]
