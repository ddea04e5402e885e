"""Runs the steps of a plan, forwards or back, writing each into the journal before and after.

This is the runner without its process: everything outside comes in through `Work.world` and the journal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from initiator.errors import MooringError, OutcomeUnknownError
from initiator.host.run import Stuck
from initiator.names import clean
from safety.flushed import CLOSINGS, FLUSHES, closed
from safety.journal import EXIT, Journal, JournalError, Kind, Mark, Outcome, Record
from safety.plan import Plan, Step
from safety.scope import Reach
from safety.sequence import Phase, check_turn
from safety.steps import KINDS
from safety.verdict import verdict
from safety.work import NO_SECRETS, Secrets, Work
from safety.world import NotProven, StepError, World


@dataclasses.dataclass(slots=True)
class Run:
    """One run over one journal.

    Attributes:
        plan: What to do.
        journal: Where it is written; opened for appending.
        world: The outside.
        secrets: For logging in again.
        stop_asked: Asked before each step; True stops the removal there.
    """

    plan: Plan
    journal: Journal
    world: World
    secrets: Secrets = NO_SECRETS
    stop_asked: Callable[[], bool] = lambda: False
    _work: Work = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self._work = Work(
            plan=self.plan,
            world=self.world,
            note=lambda text: self.journal.append(Kind.NOTE, clean(text)),
            secrets=self.secrets,
            verified=lambda step_id: self.mark(step_id) is Mark.VERIFIED,
            records=self.journal.records,
            fresh=not any(record.kind is Kind.STEP for record in self.journal.records),
            rebooted=self.journal.rebooted,
        )

    def mark(self, step_id: str) -> Mark | None:
        """The last mark of a step in the journal; None if it was never begun."""
        return last_mark(self.journal.records, step_id)

    def forward(self) -> Outcome:
        """Remove the disk, or go on removing it.

        Raises:
            JournalError: the journal cannot be written; nothing was done after its last record.
        """
        if self.plan.blocked:
            return self._end(Outcome.REFUSED, "A guard forbids this removal.", "blocked")
        if any(record.mark in (Mark.UNDOING, Mark.UNDONE) for record in self.journal.records):
            return self._end(Outcome.STOPPED, "Taking it back was begun; it can only be finished.", "undo-begun")
        if self.journal.rebooted:
            return self._restarted()
        proven: list[Step] = []
        for step in self.plan.steps:
            try:
                self._one(step, proven)
            except JournalError:
                raise
            except MooringError as error:
                return self._failed(step, error)
            proven.append(step)
        try:
            text, places = verdict(self._work)
        except MooringError as error:
            name = self.plan.name
            text, places = f"{name} is safe to pull. Which links still carry other sessions is not known: {error}", {}
        return self._end(Outcome.DONE, text, "done", places)

    def _restarted(self) -> Outcome:
        """After a restart there is nothing left to go on with; say what is known."""
        if not any(
            record.step == step.id for step in self.plan.steps if step.changing for record in self.journal.records
        ):
            return self._end(Outcome.REFUSED, "The machine was restarted before anything was changed.", "restarted")
        if self.plan.scope.reach is Reach.VOLUME:
            text = f"The machine was restarted while {self.plan.name} was being unmounted: nothing of it is left to do."
            return self._end(Outcome.STOPPED, text, "restarted", {"fix": "undo mounts it again, if it is not mounted"})
        text = f"The machine was restarted in the middle of the removal of {self.plan.name}.{self._flushed()}"
        fix = "undo attaches and mounts it again; then remove it again"
        return self._end(Outcome.STOPPED, text, "restarted", {"fix": fix})

    def _flushed(self) -> str:
        """Whether all was flushed when the machine went down; empty for a plan that flushes nothing.

        No state can be seen any more, and the runner may have ended long before: only what was closed after its flush,
        and seen to be closed, is known to have got nothing new.
        """
        sure = []
        for member in self.plan.members:
            own = [step for step in self.plan.steps if member.id in step.disks]
            flushes = {step.id for step in own if step.kind in FLUSHES}
            ends = [closed(self.journal.records, flushes, step.id) for step in own if step.kind in CLOSINGS]
            if flushes:
                sure.append(all(end is Mark.VERIFIED for end in ends))
        return f" That everything had been flushed is {'proven' if all(sure) else 'not proven'}." if sure else ""

    def _one(self, step: Step, proven: Iterable[Step]) -> None:
        """One step: allowed by the sequence, standing already or done now, and proven."""
        if self.stop_asked():
            raise StepError("The runner was asked to stop.", code="asked", fix="resume, or undo")
        check_turn(step, self.plan.steps, [one.id for one in proven])
        kind, work = KINDS[step.kind], self._work.on(step.disks)
        resumed = not self._work.fresh and self.mark(step.id) is not None
        shown = kind.standing(work, step) if resumed else None
        if shown is None:
            kind.precheck(work, step)
            self._write(step, Mark.STARTED, "")
            shown = self._apply(step)
        self._write(step, Mark.VERIFIED, shown)

    def _apply(self, step: Step) -> str:
        """Do a step and give the proof.

        When nobody answers whether it happened, only a state that shows its effect counts; what no state can show
        (a flush) stays unknown.
        """
        kind, work = KINDS[step.kind], self._work.on(step.disks)
        try:
            kind.apply(work, step)
        except Stuck:
            raise
        except OutcomeUnknownError as error:
            reason = str(error)
            work.note(f"{reason} Looking for what shows it.")
            try:
                work.until(lambda: None if kind.standing(work, step) else reason, step.deadline_s)
            except NotProven:
                raise error from None
        return kind.verify(work, step)

    def _failed(self, step: Step, error: MooringError) -> Outcome:
        """Write down why a step stopped the removal, and what that makes of it."""
        data: dict[str, Any] = {"code": error.code, "fix": clean(error.fix)}
        if isinstance(error, Stuck):
            data |= {"pid": error.pid, "wchan": error.wchan, "left_behind": error.left_behind}
        mark = Mark.STUCK if isinstance(error, Stuck) else Mark.FAILED
        begun = self.mark(step.id) is Mark.STARTED
        self.journal.append(Kind.STEP, clean(str(error)), step=step.id, mark=mark, data=data)
        if begun and isinstance(error, OutcomeUnknownError) and not isinstance(error, Stuck):
            return self._end(Outcome.UNKNOWN, str(error), error.code, {"step": step.id, "fix": error.fix})
        outcome = Outcome.STOPPED if self._changed(step) else Outcome.REFUSED
        return self._end(outcome, str(error), error.code, {"step": step.id, "fix": error.fix})

    def _changed(self, failed: Step) -> bool:
        """Whether anything is not as it was before the plan began."""
        for step in self.plan.steps:
            if not step.changing or not any(record.step == step.id for record in self.journal.records):
                continue
            if step is not failed:
                if self.mark(step.id) is not Mark.UNDONE:
                    return True
            elif not self._untouched(step):
                return True
        return False

    def _untouched(self, step: Step) -> bool:
        if self.mark(step.id) is Mark.STUCK:
            return False
        if not any(record.step == step.id and record.mark is Mark.STARTED for record in self.journal.records):
            return True
        try:
            return KINDS[step.kind].untouched(self._work.on(step.disks), step)
        except MooringError:
            return False

    def back(self) -> Outcome:
        """Take back what was done, in reverse order.

        Raises:
            JournalError: the journal cannot be written; nothing was done after its last record.
        """
        for step in reversed(self.plan.steps):
            if not self._to_undo(step):
                continue
            try:
                self._write(step, Mark.UNDOING, "")
                self._write(step, Mark.UNDONE, KINDS[step.kind].undo(self._work.on(step.disks), step))
            except JournalError:
                raise
            except MooringError as error:
                self.journal.append(Kind.STEP, clean(str(error)), step=step.id, mark=Mark.FAILED)
                unknown = isinstance(error, OutcomeUnknownError) and not isinstance(error, Stuck)
                outcome = Outcome.UNKNOWN if unknown else Outcome.STOPPED
                return self._end(outcome, str(error), error.code, {"step": step.id, "fix": error.fix})
        return self._end(Outcome.UNDONE, f"{self.plan.name} is back as it was.", "undone")

    def _to_undo(self, step: Step) -> bool:
        """Whether it was begun, ever, and not taken back since.

        A restart unmounts and logs out what no step had come to yet, and takes away again what was back before it.
        """
        own = [record for record in self.journal.records if record.step == step.id and record.mark is not None]
        if own and own[-1].mark is Mark.UNDONE and own[-1].boot == self.journal.boot:
            return False
        if self.journal.rebooted and step.phase in (Phase.DISMOUNT, Phase.LOGOUT):
            return True
        begun = (Mark.STARTED, Mark.VERIFIED, Mark.UNDOING)
        return any(record.mark in begun for record in own)

    def _write(self, step: Step, mark: Mark, text: str) -> None:
        self.journal.append(Kind.STEP, clean(text), step=step.id, mark=mark)

    def _end(self, outcome: Outcome, text: str, code: str, more: dict[str, Any] | None = None) -> Outcome:
        # Nobody waits for a device that a stopped runner still holds.
        self._work.drop()
        data = {"outcome": str(outcome), "exit": EXIT[outcome], "code": code, **(more or {})}
        self.journal.append(Kind.END, clean(text), data=data)
        return outcome


def last_mark(records: Iterable[Record], step_id: str) -> Mark | None:
    """The last mark of a step among these records."""
    found = None
    for record in records:
        if record.step == step_id and record.mark is not None:
            found = record.mark
    return found


__all__ = ["NotProven", "Run", "last_mark"]
