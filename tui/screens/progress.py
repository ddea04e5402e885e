"""A removal as it goes on, and the removals that wait. Both only read journals: closing them stops nothing."""

from __future__ import annotations

import math
import pathlib
import threading
import time
from collections.abc import Callable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Input

from initiator.errors import MooringError
from initiator.host.run import waiting_children
from safety.journal import Reader, Record, Unfinished, runner_alive
from tui import background
from tui.layout import paragraph
from tui.progress import Progress
from tui.removalwords import verb
from tui.reporting import save_report
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, clock, say

POLL_S = 0.1
SECRETS_NEEDED = {"secret-needed": 1, "secrets-needed": 2}
"""What the runner says when it cannot log in again without CHAP secrets, and how many; the second is the target's."""
PATIENCE_S = 10.0
"""How long the first record of a runner that has begun may take to be read."""


class News(Message):
    """New records of the journal, or what became of its runner."""

    def __init__(self, records: Sequence[Record], failure: str = "", lost: bool = False, waits: str = "") -> None:
        super().__init__()
        self.waits = waits
        self.records = records
        self.failure = failure
        self.lost = lost


class Follower(threading.Thread):
    """Reads a journal until it is told to stop. A thread of its own: a slow disk must not freeze the screen."""

    def __init__(self, path: pathlib.Path, screen: ProgressScreen) -> None:
        super().__init__(name="journal", daemon=True)
        self._reader = Reader(path)
        self._screen = screen
        self._stopped = threading.Event()
        self._run: Record | None = None
        self._ended = False
        self._patient_until = time.monotonic() + PATIENCE_S

    def stop(self) -> None:
        """Ask it to end."""
        self._stopped.set()

    def expect_runner(self) -> None:
        """A runner is being started: until its first word, or until `give_up`, it is not called lost."""
        self._ended = False
        self._patient_until = math.inf

    def give_up(self) -> None:
        """It could not be started."""
        self._patient_until = 0.0

    def run(self) -> None:
        """The thread's work."""
        lost, told = False, ""
        while not self._stopped.is_set():
            alive = self._run is not None and runner_alive(self._run)
            try:
                records = self._reader.poll()
            except MooringError as error:
                background.post(self._screen, News((), failure=str(error)))
                return
            self._note(records)
            waits = waiting_children(int(self._run.data.get("pid", 0))) if alive and self._run is not None else ""
            gone = not alive and not records and not self._ended and time.monotonic() > self._patient_until
            if records or gone is not lost or waits != told:
                lost, told = gone, waits
                background.post(self._screen, News(records, lost=lost, waits=waits))
            self._stopped.wait(POLL_S)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.kind == "run":
                self._run = record
                # From here on the process itself tells whether it lives.
                self._patient_until = 0.0
            self._ended = record.kind == "end"


class ProgressScreen(Dialog[None]):
    """The steps of one removal with what proves each, until it is over; then what to do next."""

    def __init__(self, journal: pathlib.Path, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self.journal = journal
        self.progress = Progress()
        self._name = name
        self._glyphs = glyphs
        self._failure = ""
        self._told_over = False
        self._followed = 0
        self._follower: Follower | None = None

    def compose(self) -> ComposeResult:
        """The story, and what can be done."""
        with Vertical(id="box"):
            yield Pane(self._glyphs, id="steps")
            with Horizontal(id="buttons"):
                yield Button("Close", id="close")
                yield Button("Save report", id="report")
                yield Button("Undo", id="undo", classes="-act")
                yield Button("Resume", id="resume", classes="-act")

    def on_mount(self) -> None:
        """Begin to read."""
        super().on_mount()
        self.query_one("#steps", Pane).can_focus = False
        self._follower = Follower(self.journal, self)
        self._follower.start()
        self.set_interval(0.25, self._fill)
        self._show()
        self.query_one("#close", Button).focus()

    def on_unmount(self) -> None:
        """Stop reading; the runner goes on."""
        if self._follower is not None:
            self._follower.stop()

    @on(News)
    def _news(self, news: News) -> None:
        was_over = self.progress.over
        try:
            self.progress.take(news.records)
        except MooringError as error:
            self._failure = str(error)
        self.progress.runner_lost, self.progress.waits = news.lost, news.waits
        self._failure = news.failure or self._failure
        if self.progress.over is not was_over:
            self.deafen()
        self._show()

    def _show(self) -> None:
        progress = self.progress
        noun = verb(progress.reach).noun.capitalize()
        self.query_one("#box", Vertical).border_title = Content(f"{noun} of {say(self._name)}")
        self.set_class(progress.over and progress.headline()[1] == "good", "-good")
        self.set_class(progress.over and progress.headline()[1] == "bad", "-bad")
        self.set_class(not progress.over, "-danger")
        for key in ("#undo", "#resume"):
            wanted = progress.can_go_on or (key == "#undo" and progress.can_come_back)
            self.query_one(key, Button).display = wanted and not self.mooring.read_only
        self.query_one("#report", Button).display = progress.over
        self.query_one("#close", Button).label = "Close" if progress.over else "Hide"
        self._fill()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        pane = self.query_one("#steps", Pane)
        width = pane.content_width
        lines: list[Line] = paragraph(say(self._failure), width, "bad") if self._failure else []
        pane.show([*lines, *self.progress.lines(width, self._glyphs, self.mooring.wall())])
        if self.progress.over is not self._told_over:
            self._told_over = self.progress.over
            pane.scroll_home(animate=False)
        elif not self.progress.over:
            self._show_current(pane)

    def _show_current(self, pane: Pane) -> None:
        """Keep the step that is under way in sight."""
        here = self._glyphs.here
        at = next((n for n, line in enumerate(pane.lines) if line and line[0].text.startswith(f"{here} ")), None)
        if at is not None and at != self._followed:
            self._followed = at
            pane.scroll_to(y=max(0, at - pane.size.height + 3), animate=False)

    @on(Button.Pressed, "#report")
    def _report(self) -> None:
        background.run(self.app, lambda: save_report(self.journal, pathlib.Path.cwd()), self._saved)

    def _saved(self, result: Sequence[pathlib.Path] | MooringError) -> None:
        if isinstance(result, MooringError):
            self.notify(say(str(result)), title="The report was not saved", severity="error", markup=False)
        else:
            self.notify(f"Saved: {', '.join(say(str(path)) for path in result)}", markup=False)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.dismiss(None)

    def _forbidden(self, action: str) -> bool:
        """Whether the host's policy forbids it; then it is said why."""
        reason = self.mooring.options.policy.why_not(action)
        if reason:
            self.notify(reason, title=f"Cannot {action} here", severity="warning", markup=False)
        return bool(reason)

    @on(Button.Pressed, "#resume")
    def _resume(self) -> None:
        if self._forbidden("resume"):
            return
        resume = self.mooring.backends.remover.resume
        self._again(lambda: resume(self.journal))

    @on(Button.Pressed, "#undo")
    def _undo(self) -> None:
        if self._forbidden("undo"):
            return
        undo = self.mooring.backends.remover.undo
        wanted = SECRETS_NEEDED.get(self.progress.code or "", 0)
        if not wanted:
            self._again(lambda: undo(self.journal))
            return

        def go_on(secrets: Sequence[str] | None) -> None:
            if secrets:
                self._again(lambda: undo(self.journal, *secrets))

        self.app.push_screen(SecretScreen(self.progress.name, mutual=wanted > 1), go_on)

    def _again(self, work: Callable[[], None]) -> None:
        if self._follower is not None:
            self._follower.expect_runner()
        self.progress.outcome, self.progress.runner_lost = None, False
        self._show()
        self.query_one("#close", Button).focus()
        background.run(self.app, work, self._started)

    def _started(self, result: MooringError | None) -> None:
        if self.is_attached and isinstance(result, MooringError):
            if self._follower is not None:
                self._follower.give_up()
            self._failure = " ".join(filter(None, (str(result), result.fix)))
            self.progress.runner_lost = True
            self._show()


class SecretScreen(Dialog[Sequence[str]]):
    """Asks for the CHAP secrets that logging in again needs; they are shown to nobody and kept nowhere.

    Args:
        name: What was removed.
        mutual: Whether the target has to prove who it is, too.
    """

    def __init__(self, name: str, *, mutual: bool = False) -> None:
        super().__init__()
        self.add_class("-small")
        self._name = name
        self._mutual = mutual

    def compose(self) -> ComposeResult:
        """One masked field, or two."""
        with Vertical(id="box") as box:
            box.border_title = Content(f"CHAP secret for {say(self._name)}")
            hint = "Enter goes on, Esc goes back"
            if self._mutual:
                yield Input(id="secret", password=True, compact=True, placeholder=f"this host's secret; {hint}")
                yield Input(id="target-secret", password=True, compact=True, placeholder=f"the target's; {hint}")
            else:
                yield Input(id="secret", password=True, compact=True, placeholder=hint)

    def on_mount(self) -> None:
        """The field has the keys."""
        super().on_mount()
        self.query_one("#secret", Input).focus()

    @on(Input.Submitted)
    def _given(self) -> None:
        """Enter in an empty field changes nothing; in the last one it goes on, as far as all are filled."""
        fields = list(self.query(Input))
        empty = next((field for field in fields if not field.value), None)
        if empty is None:
            self.dismiss([field.value for field in fields])
        else:
            empty.focus()


class UnfinishedScreen(Dialog[Unfinished]):
    """Removals that were begun and not ended. Gives back the one to look at."""

    def __init__(self, entries: Sequence[Unfinished], glyphs: Glyphs, title: str = "Unfinished removals") -> None:
        super().__init__()
        self.add_class("-danger", "-small")
        self._title = title
        self._entries = tuple(entries)
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """One button for each removal, and Later under the Enter key."""
        with Vertical(id="box") as box:
            box.border_title = self._title
            yield Pane(self._glyphs, id="about")
            with Vertical(id="buttons"):
                yield Button("Later", id="later")
                for number, entry in enumerate(self._entries):
                    label = f"Look at {say(entry.disk) or entry.path.name}"
                    yield Button(Content(label), id=f"entry-{number}", classes="-entry")

    def on_mount(self) -> None:
        """Later has the keys."""
        super().on_mount()
        self.query_one("#about", Pane).can_focus = False
        self.query_one("#later", Button).focus()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        pane = self.query_one("#about", Pane)
        width = pane.content_width
        lines: list[Line] = []
        for entry in self._entries:
            state = self._state(entry)
            lines += paragraph(f"{say(entry.disk) or '?'} {state}, begun {clock(entry.since)}", width, "strong")
            lines += paragraph(say(entry.reason), width, "dim", indent=2)
        pane.styles.height = len(lines)
        pane.show(lines)

    def _state(self, entry: Unfinished) -> str:
        done = self._title != "Unfinished removals"
        return "is out" if done else "is under way" if entry.running else "stopped part-way"

    @on(Button.Pressed, "#later")
    def _later(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, ".-entry")
    def _chosen(self, message: Button.Pressed) -> None:
        number = int((message.button.id or "entry-0").removeprefix("entry-"))
        self.dismiss(self._entries[number])
