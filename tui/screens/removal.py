"""The way to a removal: first its plan, then the disk's name typed by hand."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input

from initiator.errors import MooringError
from safety.findings import Level
from safety.guard_dead import EXPECTED
from safety.identity import Identity
from safety.plan import Plan
from safety.scope import Reach, Scope
from tui import background
from tui.explain import plan_topics
from tui.layout import paragraph
from tui.plantext import plan_lines
from tui.removalwords import verb
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane
from tui.words import Glyphs, Line, say, size

_WHAT = {
    Reach.DISKS: "disk",
    Reach.PATH: "path",
    Reach.SESSION: "session",
    Reach.TARGET: "target",
    Reach.LINK: "link",
    Reach.VOLUME: "volume: where it is mounted",
}


def can_be_given_up(plan: Plan) -> bool:
    """Whether nothing forbids a removal but that no path works any more."""
    codes = {finding.code for finding in plan.findings if finding.level is Level.BLOCK}
    apart = plan.scope.reach is Reach.VOLUME  # a file system is given up with its disk
    return bool(codes) and codes <= EXPECTED and not plan.options.abandon and not apart


def only_users(plan: Plan) -> bool:
    """Whether nothing forbids a removal but processes that use it."""
    codes = {finding.code for finding in plan.findings if finding.level is Level.BLOCK}
    return codes == {"open"} and not plan.options.end_users


class PlanScreen(Dialog[Plan]):
    """Shows what would be done. Gives back the plan when the person wants to go on; a blocked plan offers no way on.

    The plan is made in the background: reading who uses the disk can take a while.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "explain", "Explain", show=False)]

    def __init__(self, scope: Scope, glyphs: Glyphs, plan: Plan | None = None, note: str = "") -> None:
        """`plan` is one that was just made, to be read (again) because of `note`."""
        super().__init__()
        self.scope = scope
        self.plan: Plan | None = plan
        self._name = scope.name
        self._glyphs = glyphs
        self._note = note
        self._failure: MooringError | None = None
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        """The plan, and what can be done with it."""
        with Vertical(id="box") as box:
            box.border_title = Content(f"{verb(self.scope.reach).do.capitalize()} {say(self._name)}")
            yield Pane(self._glyphs, id="plan")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("End processes", id="end-users")
                yield Button("Give it up", id="give-up")
                yield Button("Look again", id="again")
                yield Button("Go on", id="go-on", classes="-act")

    def action_explain(self) -> None:
        """Why each finding matters, and every word."""
        if self.plan is not None:
            found = plan_topics(self.plan)
            self.mooring.show_help(found, found[0].key)

    def on_mount(self) -> None:
        """Make the plan, with Cancel under the Enter key."""
        super().on_mount()
        self.query_one("#plan", Pane).can_focus = False
        self.query_one("#cancel", Button).focus()
        self.set_interval(0.25, self._tell_wait)
        if self.plan is None:
            self._make()
        else:
            self._show()

    def _make(self, *, abandon: bool = False, end_users: bool = False) -> None:
        self.plan, self._failure, self._note = None, None, ""
        self._asked_at = self.mooring.tick()
        remover = self.mooring.backends.remover
        background.run(self.app, lambda: remover.plan(self.scope, abandon=abandon, end_users=end_users), self._made)
        self._show()

    def _made(self, result: Plan | MooringError) -> None:
        if not self.is_attached:
            return
        if isinstance(result, MooringError):
            self._failure = result
        else:
            self.plan = result
            self.mooring.plan_read(result)
        self.deafen()
        self._show()

    def _show(self) -> None:
        ready = self.plan is not None and not self.plan.blocked
        self.set_class(self.plan is not None and self.plan.blocked, "-bad")
        self.set_class(ready, "-danger")
        self.query_one("#go-on", Button).display = ready
        self.query_one("#end-users", Button).display = self.plan is not None and only_users(self.plan)
        self.query_one("#give-up", Button).display = self.plan is not None and can_be_given_up(self.plan)
        self.query_one("#again", Button).display = not ready and (self.plan is not None or self._failure is not None)
        self.query_one("#cancel", Button).label = "Cancel" if ready or self.plan is None else "Close"
        self.query_one("#cancel", Button).focus()
        self.fill()

    def fill(self) -> None:
        """Put the plan, or why there is none yet, into the pane."""
        pane = self.query_one("#plan", Pane)
        pane.show(self._lines(pane.content_width))

    def _lines(self, width: int) -> list[Line]:
        if self._failure is not None:
            fix = paragraph(f"{self._glyphs.arrow} {say(self._failure.fix)}", width) if self._failure.fix else []
            return [*paragraph(f"No plan could be made: {say(str(self._failure))}", width, "bad"), *fix]
        if self.plan is None:
            waited = self.mooring.tick() - self._asked_at
            text = f"Looking for everything that uses {say(self._name)}: mounts, processes, holders {waited:5.1f} s"
            return paragraph(text, width, "dim")
        note = [*paragraph(say(self._note), width, "warn"), ()] if self._note else []
        return [*note, *plan_lines(self.plan, width, self._glyphs)]

    def _tell_wait(self) -> None:
        if self.plan is None and self._failure is None:
            self.fill()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self.fill)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#again")
    def _again(self) -> None:
        self._make()

    @on(Button.Pressed, "#end-users")
    def _end_users(self) -> None:
        self._make(end_users=True)

    @on(Button.Pressed, "#give-up")
    def _give_up(self) -> None:
        self._make(abandon=True)

    @on(Button.Pressed, "#go-on")
    def _go_on(self) -> None:
        if self.plan is not None and not self.plan.blocked:
            self.dismiss(self.plan)


class TypedInput(Input):
    """An input that has to be typed into: what confirms a removal must not come from the clipboard."""

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.action_paste()

    def action_paste(self) -> None:
        """Say why nothing happens."""
        self.notify("Type the name: pasting is switched off here.", severity="warning")


def _disk_line(disk: Identity) -> str:
    return say(f"{disk.name}: {disk.wwid or 'no WWID'}, {size(disk.size_bytes)}")


class ConfirmScreen(Dialog[bool]):
    """Asks for the name of what is removed. Gives back True only for the very name."""

    def __init__(self, plan: Plan, glyphs: Glyphs) -> None:
        super().__init__()
        self.add_class("-danger", "-small")
        self._plan = plan
        self._glyphs = glyphs
        first = plan.members[0].identity.wwid if plan.members else None
        self.wanted = say(plan.words).strip() or say(first or "")
        self._label = verb(plan.scope.reach).do.capitalize()

    def compose(self) -> ComposeResult:
        """What will happen, and the field."""
        with Vertical(id="box") as box:
            box.border_title = Content(f"{self._label} {self.wanted}")
            yield Pane(self._glyphs, id="about")
            yield TypedInput(id="name", compact=True, placeholder=f"the name of the {_WHAT[self._plan.scope.reach]}")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(self._label, id="remove", classes="-act", disabled=True)

    def on_mount(self) -> None:
        """The field has the keys."""
        super().on_mount()
        self.query_one("#about", Pane).can_focus = False
        self.query_one("#name", Input).focus()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        pane = self.query_one("#about", Pane)
        width = pane.content_width
        disks = [member.identity for member in self._plan.members]
        about = (
            f"This does the {len(self._plan.steps)} steps that you have read. Each is proven before the next begins;"
            " when one is not, everything stops there. The data stays on the target."
        )
        if self._plan.scope.reach is Reach.VOLUME:
            about += " The disk stays attached: its cable is not safe to pull by this."
        if self._plan.lossy:
            about += " What was not written yet is LOST: no path can carry it."
        what = "these words" if self._plan.lossy else "its name"
        lines = [
            *paragraph(about, width),
            *(line for disk in disks for line in paragraph(_disk_line(disk), width, "dim")),
            (),
            *paragraph(f"To go on, type {what}: {self.wanted}", width, "strong"),
        ]
        pane.styles.height = len(lines)
        pane.show(lines)

    @property
    def matches(self) -> bool:
        """Whether the very name was typed."""
        return self.query_one("#name", Input).value == self.wanted

    @on(Input.Changed)
    def _typed(self) -> None:
        self.query_one("#remove", Button).disabled = not self.matches

    @on(Input.Submitted)
    @on(Button.Pressed, "#remove")
    def _remove(self) -> None:
        if self.matches:
            self.dismiss(True)
        else:
            self.notify(f"That is not its name. It is called {self.wanted}.", severity="warning", markup=False)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(False)
