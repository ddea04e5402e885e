"""The dashboard itself: the views, the details of what is selected, and what happened."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from initiator.model import Event
from tui import actions, detail
from tui.actions import Context, around, disks_of, why_not
from tui.guarded import Guard
from tui.keytable import KeyTable
from tui.screens.travelling import Travelling, columns_of
from tui.store import EVENTS, Store
from tui.views.catalogue import VIEWS
from tui.views.overview import BOXED_FROM, FLAT, OVERVIEW, TALL, summary
from tui.views.tree import TREE
from tui.views.view import Draw
from tui.welcome import welcome
from tui.widgets.bars import Bar, KeyBar, Status, counts, tabs, verdict_line
from tui.widgets.filter import FilterInput
from tui.widgets.pane import Pane
from tui.wiring import wiring
from tui.words import Glyphs, Line, Piece, clock, count, mark, say
from tui.world import Happened, Row

NARROW = 110
"""Below this width the details do not stand beside the list but take its place."""
SMALLEST = (60, 16)


class MainScreen(Travelling):
    """One screen: the list of the view, details beside it, events below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(",".join(action.keys), f"do('{action.id}')", action.label, show=False, id=action.id)
            for action in actions.ACTIONS
        ),
        *(Binding(view.key, f"show('{view.id}')", view.title, show=False) for view in VIEWS),
        Binding("escape", "leave", "Leave", show=False),
        Binding("colon", "app.command_palette", show=False),
    ]

    def __init__(self, store: Store, glyphs: Glyphs) -> None:
        super().__init__(store, glyphs)
        self.failure = ""
        self.guard = Guard()
        self._event_lines: deque[Line] = deque(maxlen=EVENTS)
        self._events_told = 0
        self._found = ""

    def compose(self) -> ComposeResult:
        """Title, views, verdict; the list beside details; events, filter, keys."""
        self.update_classes(self.arrangement(), update=False)  # there are no widgets yet whose styles would change
        yield Bar(self.glyphs, id="title")
        yield Bar(self.glyphs, id="views")
        yield Bar(self.glyphs, id="verdict")
        yield Bar(self.glyphs, id="summary")
        with Horizontal(id="body"):
            yield KeyTable[Row](columns_of(self.store.view), self.cells, self.glyphs, id="tree")
            yield Pane(self.glyphs, id="detail")
            yield Pane(self.glyphs, id="welcome")
        yield Pane(self.glyphs, id="events")
        yield Bar(self.glyphs, id="lesson")
        with Horizontal(id="filterbar"):
            yield Static(" / ", markup=False)
            yield FilterInput(self._leave_filter, "words, field:value, !not, ~nearly", "filter")
            yield Static("", id="found", markup=False)
        yield KeyBar(self.glyphs, id="keys")
        yield Static("", id="tiny", markup=False)

    def on_screen_resume(self) -> None:
        """A dialog has closed: what waited behind it comes."""
        self.store.freeze(False)
        self.show_data()

    def on_mount(self) -> None:
        """Keys go to the list; the age of the data is told twice a second."""
        self.set_focus(self.table)
        self.set_interval(0.5, self.tell_age)
        self.dress()
        self.show_data()

    @property
    def is_up(self) -> bool:
        """Whether its widgets are there: not before it was composed, nor while the program ends."""
        return self.is_mounted and bool(self.query("#keys"))

    # --- data -----------------------------------------------------------------------------------------------------

    def show_data(self) -> None:
        """There is a new snapshot in the store."""
        if self.store.world is None or not self.is_up:
            return
        self.store.fit_to(self.table.visible_rows)
        empty = not self.store.world.targets and self.store.view in (TREE, OVERVIEW)
        if self.has_class("-empty") is not empty:
            self.set_class(empty, "-empty")
            if empty:
                self.set_focus(self.query_one("#welcome", Pane))
            elif self.focused is None or self.focused.id == "welcome":
                self.set_focus(self.table)
        self._fill()

    def _fill(self) -> None:
        if self.has_class("-empty"):
            pane = self.query_one("#welcome", Pane)
            pane.show(welcome(pane.content_width, self.mooring.root, self.glyphs))
        self.table.nothing = "" if self.store.query else self._nothing()
        self.table.update(self.store.rows)
        self._fill_summary()
        self.fill_detail()
        self.fill_events()
        self.fill_lesson()
        self._tell_found()
        self.tell_age()

    def _nothing(self) -> str:
        """What is said where the list is empty; what it waits for, where it waits."""
        app = self.mooring
        if self.store.view.id == "checks" and app.checking is not None:
            return (
                f"Asking the rules: reading settings, records, routes and switches {app.tick() - app.checking:5.1f} s"
            )
        return self.store.view.nothing

    def draw(self) -> Draw | None:
        """What cells are made with; None before there is data."""
        store = self.store
        if store.sight is None:
            return None
        return Draw(store.sight, store.samples, self.glyphs, self.mooring.wall(), store.before)

    def cells(self, row: Row, widths: Sequence[int]) -> Sequence[Line]:
        """What a row says."""
        draw, view = self.draw(), self.store.view
        if draw is None:
            return ()
        return self.guard.attempt(view.title, lambda: view.cells(row, draw, widths), lambda told: (told,))

    def _fill_summary(self) -> None:
        bar, world = self.query_one("#summary", Bar), self.store.world
        if self.store.view is not OVERVIEW or world is None:
            return
        size = (self.size.width, self.size.height)
        flow, judged, glyphs = self.store.flow, self.store.judged, self.glyphs
        told = self.guard.attempt("overview", lambda: summary(world, flow, size, glyphs, judged), lambda told: [told])
        bar.show(told)

    def fill_detail(self) -> None:
        """Show what is selected; costs nothing while the pane is hidden."""
        pane = self.query_one("#detail", Pane)
        row, world = self.selected, self.store.world
        if not pane.display or row is None or world is None:
            pane.show(())
            return
        width, glyphs = pane.content_width, self.glyphs

        def lines() -> list[Line]:
            disks = disks_of(row) if self.has_class("-wired") else ()
            pictures = [wiring(disk, world, width, glyphs) for disk in map(world.disk, disks) if disk]
            return [line for picture in pictures for line in (*picture, ())][:-1] or self.page(width)

        pane.show(self.guard.attempt("details", lines, lambda told: [told]))
        if self.has_class("-below"):
            self._grow_detail(pane)

    def page(self, width: int) -> list[Line]:
        """The details of the selected row in so many columns, whether they are on the screen or not."""
        row, world, store = self.selected, self.store.world, self.store
        if row is None or world is None:
            return []
        about = detail.Page(world, store.samples, self.glyphs, width, self.mooring.wall(), store.judged)
        return detail.lines(row, about)

    def fill_lesson(self) -> None:
        """Show the lesson of the tour, while there is one."""
        touring = self.mooring.touring
        self.set_class(touring is not None, "-touring")
        if touring is None:
            return
        if self.selected is not None:
            touring.row(self.selected, moved=False)
        pane = self.query_one("#lesson", Bar)
        lines = touring.lines(self.size.width - 2, self.glyphs)
        pane.styles.height = len(lines)
        pane.show(lines)

    def _grow_detail(self, pane: Pane) -> None:
        """Below the list, the picture takes what it needs, up to half of the room."""
        most = self.query_one("#body").size.height // 2
        wanted = max(6, min(len(pane.lines) + 1, most))
        if pane.styles.height is None or pane.styles.height.value != wanted:
            pane.styles.height = wanted

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
        app, width = self.mooring, self.size.width
        replay = clock(app.wall()) if app.options.replay else ""
        host, read_only = app.options.config.host, bool(app.read_only)
        now, tick = app.wall(), app.tick()
        status = Status(now, tick, read_only, app.is_practice, self.failure, replay, host.label, host.colour)
        self.query_one("#title", Bar).show([counts(self.store, status, width, self.glyphs)])
        self.query_one("#views", Bar).show([tabs(self.store.view, width)])
        self.query_one("#verdict", Bar).show([verdict_line(self.store, status, width, self.glyphs)])
        context = self.context()
        keyed = (action for action in app.actions if action.footer and action.keys)
        shown = sorted(keyed, key=lambda action: action.footer)
        asked = [action for action in shown if action.id != "unfinished" or app.removals.unfinished]
        entries = [(action, not why_not(action, context)) for action in asked]
        self.query_one("#keys", KeyBar).show_actions(entries)

    def context(self) -> Context:
        """What decides whether an action can be done."""
        app, tick = self.mooring, self.mooring.tick()
        stale, paused, age = self.store.stale(tick), self.store.paused, self.store.age(tick)
        base = Context(self.selected, app.read_only, stale, paused, age, policy=app.options.policy)
        return around(base, self.store.world, app.backends.probes)

    # --- size -----------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Fit what is shown to the window."""
        width, height = event.size
        self.query_one("#summary").styles.height = TALL if height >= BOXED_FROM else FLAT
        self.place_detail()
        if self.has_class("-tiny"):
            need = f"Mooring needs {SMALLEST[0]}x{SMALLEST[1]}; this window is {width}x{height}."
            self.query_one("#tiny", Static).update(f"{need}\n\nMake it larger, or press q to leave.")
        self.call_after_refresh(self._fill)

    def arrangement(self) -> dict[str, bool]:
        """What stands around the list of this view in a window of this size, as classes for the style sheet."""
        width, height = self.size
        view, narrow = self.store.view, width < NARROW
        below = view is OVERVIEW and height >= BOXED_FROM
        return {
            "-tiny": width < SMALLEST[0] or height < SMALLEST[1],
            "-narrow": narrow,
            "-overview": view is OVERVIEW,
            "-eventless": view.id in ("events", "removals"),
            "-detail": self.detail_wanted.get(view.id, below or (view.detail and not narrow)),
            "-below": below,
            "-wired": self.wired.get(view.id, False),
        }

    def place_detail(self) -> None:
        """Show or hide the details as it is wanted, and what else changes with the view."""
        # All at once: with each change Textual works out the styles of every widget anew.
        self.update_classes(self.arrangement())
        wanted, below = self.has_class("-detail"), self.has_class("-below")
        if not below:
            self.query_one("#detail", Pane).styles.height = None
        if not wanted and self.in_detail:
            self.set_focus(self.table)
        if wanted and not below and (self.has_class("-narrow") or self.has_class("-wired")):
            self.set_focus(self.query_one("#detail", Pane))

    # --- messages -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a binding holds: not that of a key which the settings took away. The menu and the palette go on."""
        return not (action == "do" and parameters[0] in self.mooring.keyless)

    @on(KeyTable.Moved)
    def _moved(self) -> None:
        self.query_one("#detail", Pane).first_link()
        if self.mooring.touring is not None and self.selected is not None:
            self.mooring.touring.row(self.selected, moved=True)
            self.fill_lesson()
        self.fill_detail()
        self.tell_age()

    @on(KeyTable.Chosen)
    def _chosen(self, message: KeyTable.Chosen) -> None:
        row = self.store.row(message.key)
        if row is None:
            return
        if isinstance(row.item, Happened):
            self.jump(row.item.event.subject)
        elif row.opened is None:
            self.focus_details()
        else:
            self.store.toggle(message.key)
            self.table.update(self.store.rows)

    @on(KeyTable.Folded)
    def _folded(self, message: KeyTable.Folded) -> None:
        row = self.store.row(message.key)
        if row is None or self.store.view is not TREE:
            self.table.action_aside(1 if message.opened else -1)
            return
        if not message.opened and row.opened is not True:
            self.table.cursor = self.store.parent(message.key) or message.key
            return
        self.store.toggle(message.key, message.opened)
        self.table.update(self.store.rows)

    @on(KeyTable.HeaderPressed)
    def _header(self, message: KeyTable.HeaderPressed) -> None:
        self.sort_by(message.title)

    @on(KeyTable.MenuWanted)
    def _menu_wanted(self) -> None:
        self.action_do("menu")

    @on(Pane.Resized)
    def _resized(self) -> None:
        self.show_data()

    @on(Pane.Followed)
    def _followed(self, message: Pane.Followed) -> None:
        self.jump(message.to)

    @on(Pane.Asked)
    def _asked(self, message: Pane.Asked) -> None:
        self.explain(message.label)

    @on(KeyBar.Pressed)
    def _pressed(self, message: KeyBar.Pressed) -> None:
        self.action_do(message.action)

    @on(Input.Changed, "#filter")
    def _filtered(self, message: Input.Changed) -> None:
        self._filter(message.value)

    def _filter(self, text: str) -> None:
        if text != self.store.place.text:
            self.store.filter(text)
            self.table.update(self.store.rows)
            self._tell_found()

    def _leave_filter(self) -> None:
        field = self.query_one("#filter", Input)
        # Now, not when its message comes: a key typed right behind Enter must find the rows that were asked for.
        self._filter(field.value)
        self.query_one("#filterbar").set_class(bool(field.value), "-open")
        self.set_focus(self.table)

    def _tell_found(self) -> None:
        shown = len(self.store.rows)
        nearly = "nearly " if self.store.loosely else ""
        text = (f"{nearly}{count(shown, 'row')} " if shown else "nothing fits ") if self.store.query else ""
        if text != self._found:  # an update costs a new layout, even of the same text
            self._found = text
            self.query_one("#found", Static).update(text)

    def action_leave(self) -> None:
        """Escape: out of the filter first, then out of the details, then back the way that one came."""
        field = self.query_one("#filter", Input)
        if field.value or field.has_focus:
            field.value = ""
            self._leave_filter()
        elif self.has_class("-detail") and not self.has_class("-below") and self.has_class("-wired"):
            self.action_do("wiring")
        elif self.has_class("-narrow") and self.has_class("-detail") and not self.has_class("-below"):
            self.action_do("detail")
        elif self.focused is not self.table:
            self.set_focus(self.table)
        else:
            self.do_back()


def _event_line(event: Event, glyphs: Glyphs) -> Line:
    shape = mark(event.severity)
    sign = Piece(f"{getattr(glyphs, shape.shape)} ", shape.role)
    role = shape.role if shape.role in ("bad", "warn") else ""
    return (Piece(f"{clock(event.at)}  ", "dim"), sign, Piece(say(event.text), role, event.subject))
