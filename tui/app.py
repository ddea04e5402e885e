"""The dashboard as a program: what it is started with, how it ends, and what belongs to no single screen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.message import Message
from textual.widgets import Input

from initiator import places
from initiator.errors import MooringError
from initiator.model import Severity
from tui import background, orders
from tui.actions import with_keys
from tui.backends import Backends, real
from tui.config import Config, Mistake
from tui.feed import Feed, Mailbox
from tui.memory import Memory
from tui.palette import MooringProvider
from tui.policy import Policy
from tui.removing import Removing
from tui.screens.dialog import Dialog
from tui.screens.main import MainScreen
from tui.store import Store
from tui.terminal import check_terminal, ends_with_terminal
from tui.themes import DARK, LIGHT, THEMES
from tui.widgets.filter import FilterInput
from tui.words import ASCII, UNICODE, say

if TYPE_CHECKING:
    from initiator.alerts import Alert
    from initiator.host.nodes import NodeRecord
    from initiator.practice.disaster import Loss
    from safety.advice.catalogue import Advice
    from safety.plan import Plan
    from tui.explain import Topic
    from tui.orders import Order
    from tui.touring import Touring
    from tui.tricks import Trick

TOAST_LINES = 3
"""So many alerts fit into one toast."""


@dataclasses.dataclass(frozen=True, slots=True)
class AppOptions:
    """What the command line tells the dashboard."""

    read_only: bool = False
    practice: bool = False
    """The practice range was started for this dashboard: its faults are in the palette."""
    interval: float = 1.0
    """Seconds from one reading of the host to the next."""
    ascii: bool = False
    screenshot: pathlib.Path | None = None
    """Save the first full screen here as SVG, and leave."""
    size: tuple[int, int] = (120, 36)
    """Columns and rows of that picture."""
    replay: str = ""
    """What is replayed instead of this host, in a few words; empty for the host itself."""
    view: str = "overview"
    """The view that is shown first."""
    config: Config = dataclasses.field(default_factory=Config)
    mistakes: tuple[Mistake, ...] = ()
    """What in the files of settings was not understood."""
    policy: Policy = dataclasses.field(default_factory=Policy)
    tour: bool = False
    """Begin the tour at once."""


PICTURE_AFTER_S = 3.0
"""Seconds from the first reading to the picture: some latencies were measured, and the rules have answered."""


class Arrived(Message):
    """There is something in the mailbox."""

    def can_replace(self, message: Message) -> bool:
        """One is enough."""
        return isinstance(message, Arrived)


class MooringApp(App[int]):
    """The dashboard."""

    CSS_PATH = "style.tcss"
    COMMANDS: ClassVar = {MooringProvider}
    TITLE = "Mooring"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority: nobody expects a field of a dialog to keep this key from the shell.
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True)
    ]

    def __init__(
        self,
        options: AppOptions,
        backends: Backends,
        *,
        wall: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
        root: bool | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        # Before the style sheet is read, so that it is not read a second time for another theme.
        self.set_reactive(App.theme, THEMES[options.config.dashboard.theme])
        self.stylesheet.set_variables(self.get_css_variables())
        self.options = options
        self.backends = backends
        self.wall = wall
        self.tick = tick
        self.root = os.geteuid() == 0 if root is None else root
        self.actions = with_keys(options.config.keys)
        # One without keys is not in it: Textual would leave it the keys it had. See `MainScreen.check_action`.
        remapped = [action for action in self.actions if action.keys and action.id in options.config.keys]
        self.set_keymap({action.id: ",".join(action.keys) for action in remapped})
        self.keyless = frozenset(action.id for action in self.actions if not action.keys)
        """Actions that the settings left no key."""
        self.memory = memory or Memory()
        self.store = Store()
        self.memory.recall(self.store.places)
        self.store.look_at(options.view)
        self.main = MainScreen(self.store, ASCII if options.ascii else UNICODE)
        self.removals = Removing(self)
        self.checking: float | None = None
        """Monotonic time at which the rules were asked; None while nobody asks them."""
        self.touring: Touring | None = None
        self._press_unheard = False
        """Whether the mouse was pressed while a dialog was deaf: its release is no click either."""
        self._mailbox = Mailbox(lambda: background.post(self, Arrived()))
        self._feed = Feed(backends.source, self._mailbox, backends.differ, interval=options.interval, clock=tick)

    @property
    def read_only(self) -> str:
        """Why nothing may be changed; empty when it may."""
        if self.options.replay:
            return f"Replay: this is {self.options.replay}, not this host as it is. Nothing can be changed in it."
        if not self.root:
            return "Read-only: you are not root. Start Mooring with sudo to change anything."
        if self.options.config.dashboard.read_only:
            return "Read-only: the settings say so (read_only in config.toml)."
        return "Read-only: Mooring was started with --read-only." if self.options.read_only else ""

    @property
    def is_practice(self) -> bool:
        """Whether this is the practice range."""
        world = self.store.world
        return self.options.practice or (world is not None and world.snapshot.practice)

    @property
    def can_practice(self) -> bool:
        """Whether faults can be given."""
        return self.options.practice and self.backends.fault is not None and not self.options.read_only

    def on_mount(self) -> None:
        """Show the first screen at once; the data comes when it comes."""
        self.set_class(self.options.ascii, "-ascii")
        self.push_screen(self.main)
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, functools.partial(self.exit, 128 + number))
        # The first screen goes before the first reading, which imports much.
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        # What was loaded stays: the collector need not look at it again at each reading with its thousands of objects.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        gc.enable()
        self._feed.start()
        background.run(self, self.backends.remover.unfinished, self.removals.offer_unfinished)
        if self.options.mistakes:
            text = "\n".join([*(say(str(each)) for each in self.options.mistakes[:3]), "mooring config check"])
            self.notify(text, title="Settings that were not understood", severity="warning", timeout=15, markup=False)

    def on_unmount(self) -> None:
        """Nobody waits for the reader."""
        self._feed.stop()

    async def on_event(self, event: events.Event) -> None:
        """Throw away keys, pastes and clicks that a dialog has not been shown long enough to be meant by."""
        if isinstance(event, events.InputEvent | events.Paste) and not event.is_forwarded and self.screen_stack:
            if self._unheard(event):
                return
            if isinstance(event, events.Key | events.Paste) and await self._do_at_once(event):
                return
        await super().on_event(event)

    def _unheard(self, event: events.InputEvent | events.Paste) -> bool:
        """Whether nothing is to come of an event, because the dialog on the screen is too new to be meant by it."""
        deaf = isinstance(self.screen, Dialog) and self.screen.deaf
        if isinstance(event, events.MouseDown):
            self._press_unheard = deaf
        if isinstance(event, events.MouseUp):
            deaf = deaf or self._press_unheard
            if deaf:  # whoever holds the mouse has to let it go, but Textual is to make no click of it
                self.screen._forward_event(event)
            return deaf
        return deaf and isinstance(event, events.Key | events.Paste | events.MouseDown)

    async def _do_at_once(self, event: events.Key | events.Paste) -> bool:
        """Do what a key is bound to before the next one is looked at; whether there was something to do.

        Textual sends a key on its way up from what has the focus, and looks for its binding when it arrives here. Keys
        that follow closely (one packet of a slow SSH, a busy host) would be sent to what has the focus until then, not
        to what the key before them opened. Lines of dialogs keep that way: what is typed into them is in order.
        """
        field = self.focused
        if isinstance(field, FilterInput):
            if field.take(event):
                return True
        elif isinstance(field, Input):
            return False
        if not isinstance(event, events.Key):
            return False
        return await self._check_bindings(event.key, priority=True) or await self._check_bindings(event.key)

    # --- data ---------------------------------------------------------------------------------------------------

    @on(Arrived)
    def _arrived(self) -> None:
        if not self.screen_stack:
            return  # the reader goes on until the very end
        delivery = self._mailbox.take()
        self.main.failure = delivery.failure
        self._tell(delivery.judged.alerts)
        self.store.freeze(isinstance(self.screen, Dialog))
        if delivery.snapshot is None:
            self.main.tell_age()
            return
        first = self.store.world is None
        if self.touring is not None:
            self.touring.world(delivery.snapshot)
        elif first and self.options.tour:
            self.call_after_refresh(self.begin_or_end_tour)
        if self.store.apply(delivery.snapshot, delivery.events, delivery.read_at, delivery.judged):
            self.main.show_data()
        else:
            self.main.tell_age()
        if first:
            self.main.entered()
        if self.store.view.id == "removals" and any(past.running for past in self.store.removals):
            self.removals.read()
        if first and self.options.screenshot is not None:
            self.set_timer(PICTURE_AFTER_S, self._take_picture_and_leave)

    def _tell(self, alerts: Sequence[Alert]) -> None:
        """A toast for what somebody should know, and the bell if it is bad."""
        if not alerts or self.options.screenshot is not None:
            return
        if self.options.config.alerts.toast:
            shown = [say(alert.text) for alert in alerts[:TOAST_LINES]]
            more = [f"and {len(alerts) - TOAST_LINES} more: see the events"] if len(alerts) > TOAST_LINES else []
            bad = any(alert.severity is not Severity.NOTE for alert in alerts)
            text, title = "\n".join([*shown, *more]), "Alert" if bad else "Well again"
            self.notify(text, title=title, severity="error" if bad else "information", timeout=20, markup=False)
        if self.options.config.alerts.bell and any(alert.severity is Severity.BAD for alert in alerts):
            self.bell()

    @on(background.Ready)
    def _work_done(self, message: background.Ready) -> None:
        message.deliver()

    def plan_read(self, plan: Plan) -> None:
        """A plan is on the screen."""
        if self.touring is not None:
            self.touring.plan(plan)

    # --- rules and orders ---------------------------------------------------------------------------------------

    def ask_rules(self) -> None:
        """Ask the rules of best practice about this host as it is now."""
        world = self.store.world
        if world is not None and self.checking is None:
            self.checking = self.tick()
            background.run(self, functools.partial(self.backends.check, world.snapshot), self._rules_answered)

    def _rules_answered(self, found: Advice | MooringError) -> None:
        from tui.views.checks import checked

        self.checking = None
        if isinstance(found, MooringError):
            self.notify(say(str(found)), title="The rules could not be asked", severity="error", markup=False)
            return
        self.store.checks = checked(found)
        self.store.refresh()
        self.main.show_data()

    def give(self, order: Order) -> None:
        """Say what an order does, and do it if that is wanted."""
        from tui.screens.order import OrderScreen

        self.push_screen(OrderScreen(order, self.main.glyphs))

    def choose_login(self) -> None:
        """The node records without a session, to log in with one of them."""
        from tui.screens.order import RecordsScreen

        def chosen(record: NodeRecord | None) -> None:
            if record is not None:
                self.give(orders.login(record, self.backends.kernel))

        self.push_screen(RecordsScreen(self.main.glyphs), chosen)

    def tell_outcome(self, title: str, outcome: str | MooringError) -> None:
        """Say what came of an order whose dialog was closed meanwhile."""
        failed = isinstance(outcome, MooringError)
        fix = say(outcome.fix) if isinstance(outcome, MooringError) else ""
        text = " ".join(filter(None, (say(str(outcome)), fix)))
        self.notify(text, title=title, severity="error" if failed else "information", timeout=20, markup=False)

    def look_again(self) -> None:
        """Something was changed: read the host now, not a second later."""
        self._feed.hurry()

    # --- the rest -----------------------------------------------------------------------------------------------

    def play(self, trick: Trick) -> None:
        """Give the practice range a fault."""
        fault = self.backends.fault
        if fault is not None:
            background.run(self, lambda: fault(trick.fault, trick.args), self._played)

    def _played(self, result: str | Loss | MooringError) -> None:
        failed = isinstance(result, MooringError)
        if self.touring is not None and not isinstance(result, str | MooringError):
            self.touring.loss(result.written, result.arrived)
            self.main.fill_lesson()
        self.notify(say(str(result)), title="Practice", severity="error" if failed else "information", markup=False)
        self._feed.hurry()

    def show_help(self, topics: Sequence[Topic], start: str) -> None:
        """What there is to ask about, one of it first."""
        from tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(topics, start, self.main.glyphs, self.actions))
        if self.touring is not None:
            self.touring.help()

    # --- the tour -----------------------------------------------------------------------------------------------

    def begin_or_end_tour(self) -> None:
        """The tour is for the practice range: it pulls cables."""
        from tui.touring import Touring

        if self.touring is None and not self.can_practice:
            self.notify("The tour needs a practice range of its own. Leave, and type: mooring tour", timeout=8)
            return
        self.touring = Touring(self.wall()) if self.touring is None else None
        self.change_lesson(0)

    def change_lesson(self, by: int) -> None:
        """To another lesson of the tour."""
        if self.touring is None:
            self.notify("There is no tour. T begins one.")
        else:
            world = self.store.world
            self.touring.move(by, self.wall(), world.snapshot if world else None)
        self.main.fill_lesson()

    def switch_theme(self) -> None:
        """The next of dark, light and the terminal's own colours."""
        names = list(THEMES.values())
        self.theme = names[(names.index(self.theme) + 1) % len(names)]

    def save_picture(self) -> None:
        """An SVG picture of the screen, in the current folder."""
        name = time.strftime("mooring-%Y%m%d-%H%M%S.svg", time.localtime(self.wall()))
        try:
            self.save_screenshot(name)
        except OSError as error:
            self.notify(f"{name}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"Saved {name}", markup=False)

    def _take_picture_and_leave(self) -> None:
        path = self.options.screenshot
        try:
            self.save_screenshot(path.name, str(path.parent)) if path else None
        except OSError as error:
            self.exit(1, message=f"mooring: {path}: {error.strerror}")
        else:
            self.exit(0)

    def action_command_palette(self) -> None:
        """All commands by name."""
        if not any(isinstance(screen, CommandPalette) for screen in self.screen_stack):
            self.push_screen(CommandPalette(placeholder="Type a part of what you want to do"))

    async def action_quit(self) -> None:
        """Leave at once."""
        self.exit(0)


def run(options: AppOptions, backends: Backends | None = None, wall: Callable[[], float] = time.time) -> int:
    """Show the dashboard until the person leaves; the return value is the exit code.

    Args:
        options: What the command line tells.
        backends: What it stands on; this host when None.
        wall: Unix time, for ages.

    Raises:
        MooringError: there is no terminal that could show it.
    """
    picture = options.screenshot is not None
    if not picture:
        check_terminal()
        encoding = (getattr(sys.__stderr__, "encoding", None) or "").lower().replace("-", "")
        if encoding != "utf8":
            options = dataclasses.replace(options, ascii=True)
    logging.basicConfig(filename=places.state_dir() / "dashboard.log", level=logging.WARNING)
    threading.excepthook = background.log_failures
    kept = Memory(places.state_dir)
    backends = backends or real(practice=options.practice, no_probes=options.policy.why_not("probe"))
    app = MooringApp(options, backends, wall=wall, memory=kept)
    with contextlib.nullcontext() if picture else ends_with_terminal():
        mouse = options.config.dashboard.mouse
        code = app.run(headless=picture, size=options.size if picture else None, mouse=mouse)
    return app.return_code or 0 if code is None else code
