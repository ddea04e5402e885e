"""Removals as the dashboard makes them: plan, confirm, follow, find again what waits, bring back what was taken out."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from initiator.errors import MooringError
from tui import background
from tui.screens.dialog import Dialog
from tui.words import say

if TYPE_CHECKING:
    from safety.journal import Unfinished
    from safety.past import Past
    from safety.plan import Plan
    from safety.scope import Scope
    from tui.app import MooringApp

PATHS_OUT = "Paths out for maintenance"


def paths_out(removals: Sequence[Past]) -> tuple[Unfinished, ...]:
    """The removals of single paths that were done and hold still; each can be undone. Both are newest first."""
    from safety.journal import Outcome, Unfinished
    from safety.scope import Reach
    from safety.undoable import overtaken

    found = []
    for number, past in enumerate(removals):
        plan = past.records[0].data.get("plan", {}) if past.records else {}
        out = past.outcome is Outcome.DONE and plan.get("scope", {}).get("reach") == Reach.PATH
        if out and not overtaken(past, removals[:number]):
            found.append(Unfinished(past.path, past.name, (), past.began, past.running, past.said))
    return tuple(found)


class Removing:
    """Walks through the dialogs of removals, on the screens of an app."""

    def __init__(self, app: MooringApp) -> None:
        self._app = app
        self.unfinished: tuple[Unfinished, ...] = ()

    def begin(self, scope: Scope, plan: Plan | None = None, note: str = "") -> None:
        """Plan, read, type the name, run: each on a screen of its own."""
        from tui.screens.removal import PlanScreen

        self._app.push_screen(PlanScreen(scope, self._app.main.glyphs, plan, note), self._confirm)

    def _confirm(self, plan: Plan | None) -> None:
        from tui.screens.removal import ConfirmScreen

        if plan is not None:
            self._app.push_screen(ConfirmScreen(plan, self._app.main.glyphs), functools.partial(self._confirmed, plan))

    def _confirmed(self, plan: Plan, yes: bool | None) -> None:
        """The name was typed: look once more, and start only what was read.

        The runner asks the guards again too; this is so that the person learns of a change before anything begins.
        """
        if not yes:
            self._app.notify("Nothing was changed.")
            return
        remover = self._app.backends.remover

        def work() -> Plan | pathlib.Path:
            chosen = plan.options
            fresh = remover.plan(plan.scope, abandon=chosen.abandon, end_users=chosen.end_users)
            return remover.start(fresh) if fresh.digest == plan.digest and not fresh.blocked else fresh

        background.run(self._app, work, functools.partial(self._begun, plan))

    def _begun(self, plan: Plan, result: Plan | pathlib.Path | MooringError) -> None:
        name = plan.name
        if isinstance(result, pathlib.Path):
            self._watch(result, name)
        elif isinstance(result, MooringError):
            text = " ".join(filter(None, (say(str(result)), say(result.fix))))
            self._app.notify(text, title="The removal was not started", severity="error", timeout=20, markup=False)
        else:
            from tui.plantext import what_changed

            self.begin(plan.scope, result, what_changed(plan, result))

    def _watch(self, journal: pathlib.Path, name: str) -> None:
        from tui.screens.progress import ProgressScreen

        self._app.push_screen(
            ProgressScreen(journal, name, self._app.main.glyphs), lambda _: self._look_for_unfinished()
        )

    def _look_for_unfinished(self) -> None:
        background.run(self._app, self._app.backends.remover.unfinished, self._note_unfinished)
        if self._app.touring is not None:
            self.read()

    def _note_unfinished(self, found: Sequence[Unfinished] | MooringError) -> None:
        self.unfinished = () if isinstance(found, MooringError) else tuple(found)
        self._app.main.tell_age()

    def offer_unfinished(self, found: Sequence[Unfinished] | MooringError) -> None:
        self._note_unfinished(found)
        if self.unfinished and not isinstance(self._app.screen, Dialog) and self._app.options.screenshot is None:
            self.show_unfinished()

    def show_unfinished(self) -> None:
        """The removals that wait, to look at one of them."""
        if not self.unfinished:
            self._app.notify("No removal waits.")
            return

        from tui.screens.progress import UnfinishedScreen

        self._app.push_screen(UnfinishedScreen(self.unfinished, self._app.main.glyphs), self._look)

    def _look(self, entry: Unfinished | None) -> None:
        if entry is not None:
            self._watch(entry.path, entry.disk)

    def read(self) -> None:
        """Look through the journals for the removals of the past."""
        background.run(self._app, self._app.backends.remover.past, self._read)

    def _read(self, found: Sequence[Past] | MooringError) -> None:
        if isinstance(found, MooringError):
            self._app.notify(say(str(found)), title="The journals cannot be read", severity="error", markup=False)
            return
        if self._app.touring is not None:
            self._app.touring.removals(found)
            self._app.main.fill_lesson()
        if found != self._app.store.removals:
            self._app.store.removals = found
            self._app.store.refresh()
            self._app.main.show_data()

    # --- paths that are out for maintenance ---------------------------------------------------------------------

    def choose_path_back(self) -> None:
        """The paths that were taken out, to bring one of them back."""
        past = self._app.backends.remover.past
        background.run(self._app, lambda: paths_out(past()), self._choose_path_back)

    def _choose_path_back(self, out: Sequence[Unfinished] | MooringError) -> None:
        from tui.screens.progress import UnfinishedScreen

        if isinstance(out, MooringError):
            self._app.notify(say(str(out)), title="The journals cannot be read", severity="error", markup=False)
            return
        if not out:
            self._app.notify("No path is out for maintenance.")
        elif len(out) == 1:
            self._watch(out[0].path, out[0].disk)
        else:
            self._app.push_screen(UnfinishedScreen(out, self._app.main.glyphs, PATHS_OUT), self._look)
