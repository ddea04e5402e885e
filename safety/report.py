"""What became of a removal, from its journal: for the file of whoever has to answer for it later."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from initiator.names import clean
from safety.journal import JournalError, Kind, Mark, Record
from safety.plan import Plan, Step
from safety.scope import Reach

SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """One step and what became of it."""

    step: Step
    marks: tuple[Record, ...]
    """Its records, in order."""

    @property
    def mark(self) -> Mark | None:
        """Its last mark; None if it was never begun."""
        return self.marks[-1].mark if self.marks else None

    @property
    def evidence(self) -> str:
        """What was seen, or why it failed."""
        return next((each.text for each in reversed(self.marks) if each.text), "")

    @property
    def took_s(self) -> float | None:
        """Seconds from its last start to its end; None if it did not end."""
        begun = [each.at for each in self.marks if each.mark in (Mark.STARTED, Mark.UNDOING)]
        ended = [each.at for each in self.marks if each.mark not in (Mark.STARTED, Mark.UNDOING)]
        return ended[-1] - begun[-1] if begun and ended and ended[-1] >= begun[-1] else None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "id": self.step.id,
            "phase": str(self.step.phase),
            "title": self.step.title,
            "disks": list(self.step.disks),
            "command": self.step.command,
            "proof": self.step.proof,
            "mark": self.mark,
            "evidence": self.evidence,
            "took_s": None if self.took_s is None else round(self.took_s, 3),
            "deadline_s": self.step.deadline_s,
            "marks": [{"mark": each.mark, "at": each.at, "text": each.text} for each in self.marks],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A removal from its plan to its last word."""

    plan: Plan
    steps: tuple[Done, ...]
    runs: tuple[Record, ...]
    notes: tuple[Record, ...]
    end: Record | None
    """None while a runner is at work, or when it died."""
    begun: float
    """Unix time."""
    last: float

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        return str(self.end.outcome) if self.end is not None else "not ended"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schema": SCHEMA,
            "name": self.plan.name,
            "host": self.plan.host,
            "outcome": self.outcome,
            "said": self.end.text if self.end is not None else "",
            "details": dict(self.end.data) if self.end is not None else {},
            "begun": self.begun,
            "last": self.last,
            "runs": [{"mode": each.text, "at": each.at, "boot": each.boot} for each in self.runs],
            "disks": [{**member.identity.to_json(), "whole": member.whole} for member in self.plan.members],
            "sessions": [each.to_json() for each in self.plan.touched],
            "findings": [each.to_json() for each in self.plan.findings],
            "steps": [each.to_json() for each in self.steps],
            "notes": [{"at": each.at, "text": each.text} for each in self.notes],
            "plan_digest": self.plan.digest,
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        what = "Unmounting" if self.plan.scope.reach is Reach.VOLUME else "Removal"
        yield f"{what} of {clean(self.plan.name)} on {clean(self.plan.host)}: {self.outcome}"
        yield f"begun {_clock(self.begun)}, last word {_clock(self.last)}"
        if self.end is not None:
            yield clean(self.end.text, 2000)
        yield ""
        for member in self.plan.members:
            disk = member.identity
            fate = "left this host" if member.whole else "stays"
            yield f"disk {clean(disk.name)}: {clean(disk.wwid or 'no WWID')}, {disk.size_bytes} bytes, {fate} by plan"
        for each in self.plan.touched:
            fate = "logout" if each.ends else "stays"
            yield f"session {each.number}: {clean(each.target)} at {clean(each.portal)}, {fate} by plan"
        for finding in self.plan.findings:
            yield f"{finding.level}: {clean(finding.text, 500)} [{finding.code}]"
        yield ""
        for number, done in enumerate(self.steps, 1):
            yield from _step_lines(number, done)
        for note in self.notes:
            yield f"note {_clock(note.at)}: {clean(note.text, 500)}"


def _step_lines(number: int, done: Done) -> Iterator[str]:
    took = "" if done.took_s is None else f", {done.took_s:.2f} s"
    yield f"{number:3}. {clean(done.step.title, 300)}: {done.mark or 'not begun'}{took}"
    yield f"     did:  {clean(done.step.command, 500)}"
    if done.evidence:
        yield f"     seen: {clean(done.evidence, 500)}"


def make_report(records: Sequence[Record]) -> Report:
    """The report of a journal.

    Raises:
        JournalError: it holds no plan.
        PlanError: the plan cannot be read.
    """
    if not records or records[0].kind is not Kind.PLAN:
        raise JournalError("The journal holds no plan: nothing was begun.")
    plan = Plan.from_json(records[0].data.get("plan", {}))
    marks = [each for each in records if each.kind is Kind.STEP]
    return Report(
        plan=plan,
        steps=tuple(Done(step, tuple(each for each in marks if each.step == step.id)) for step in plan.steps),
        runs=tuple(each for each in records if each.kind is Kind.RUN),
        notes=tuple(each for each in records if each.kind is Kind.NOTE),
        end=records[-1] if records[-1].kind is Kind.END else None,
        begun=records[0].at,
        last=records[-1].at,
    )


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
