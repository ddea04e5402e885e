"""A removal as its journal tells it: which steps are proven, which one is under way, and how it ended. No Textual."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from safety.journal import FINAL, Kind, Outcome, Record
from safety.journal import Mark as StepMark
from safety.plan import Plan
from safety.scope import Reach
from tui.layout import paragraph
from tui.removalwords import verb
from tui.words import Glyphs, Line, Mark, Piece, say, span

MARKS: dict[StepMark | None, Mark] = {
    None: Mark("dot", "waits", "dim"),
    StepMark.STARTED: Mark("here", "now", "warn"),
    StepMark.VERIFIED: Mark("good", "proven", "good"),
    StepMark.FAILED: Mark("bad", "failed", "bad"),
    StepMark.STUCK: Mark("bad", "stuck", "bad"),
    StepMark.UNDOING: Mark("here", "undoing", "warn"),
    StepMark.UNDONE: Mark("idle", "undone", "calm"),
}


_LONG_S = 2.0
"""Seconds after which somebody who looks on wants to know what a step waits for."""


@dataclasses.dataclass(slots=True)
class StepProgress:
    """One step and what became of it."""

    id: str
    title: str
    expected_s: float = 0.0
    deadline_s: float = 0.0
    mark: StepMark | None = None
    began: float | None = None
    ended: float | None = None
    said: str = ""
    """Evidence, or why it failed."""


class Progress:
    """The state of one removal; feed it records in order."""

    def __init__(self) -> None:
        self.name = ""
        self.reach: Reach | None = None
        self.steps: dict[str, StepProgress] = {}
        self.outcome: Outcome | None = None
        self.said = ""
        """The last word of the runner."""
        self.fix = ""
        self.code = ""
        """The runner's word for why it stopped."""
        self.undoing = False
        self.began: float | None = None
        self.ended: float | None = None
        self.run: Record | None = None
        """The newest record of a runner's start."""
        self.notes: list[str] = []
        self.runner_lost = False
        self.waits = ""
        """What the children of the runner wait for in the kernel."""

    @property
    def over(self) -> bool:
        """Whether nobody works on it now."""
        return self.outcome is not None or self.runner_lost

    @property
    def can_go_on(self) -> bool:
        """Whether it can be resumed or undone."""
        return self.over and self.outcome not in FINAL

    @property
    def can_come_back(self) -> bool:
        """Whether it took out a path for maintenance, or unmounted a volume, and that can be brought back."""
        return self.outcome is Outcome.DONE and self.reach in (Reach.PATH, Reach.VOLUME)

    def take(self, records: Iterable[Record]) -> None:
        """Go on with these records."""
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        if self.began is None:
            self.began = record.at
        if record.kind is Kind.PLAN:
            plan = Plan.from_json(record.data["plan"])
            self.name, self.reach = plan.name, plan.scope.reach
            self.steps = {
                step.id: StepProgress(step.id, step.title, step.expected_s, step.deadline_s) for step in plan.steps
            }
        elif record.kind is Kind.RUN:
            self.run, self.outcome, self.ended, self.runner_lost = record, None, None, False
            self.said = self.fix = self.code = ""
            self.undoing = record.data.get("mode") == "undo"
        elif record.kind is Kind.STEP and record.step is not None:
            self._step(record, record.step)
        elif record.kind is Kind.NOTE:
            self.notes.append(record.text)
        elif record.kind is Kind.END:
            self.outcome, self.said, self.ended = record.outcome, record.text, record.at
            self.fix, self.code = str(record.data.get("fix", "")), str(record.data.get("code", ""))

    def _step(self, record: Record, key: str) -> None:
        step = self.steps.setdefault(key, StepProgress(key, key))
        step.mark = record.mark
        if record.mark in (StepMark.STARTED, StepMark.UNDOING):
            step.began, step.ended, step.said = record.at, None, ""
        else:
            step.ended, step.said = record.at, record.text

    def headline(self) -> tuple[str, str]:
        """One sentence and its role."""
        name = say(self.name) or "the disk"
        if self.runner_lost:
            return (
                f"The runner is gone. The journal says what it did: resume or undo {name}.",
                "bad",
            )
        match self.outcome:
            case None:
                doing = f"Bringing {name} back" if self.undoing else f"{verb(self.reach).doing.capitalize()} {name}"
                return f"{doing}. You can hide this: it goes on by itself.", "strong"
            case Outcome.DONE:
                return say(self.said) or self._done(name), "good"
            case Outcome.UNDONE:
                return say(self.said) or f"{name} is back as it was.", "good"
            case Outcome.REFUSED:
                return say(self.said) or "Refused; nothing was changed.", "warn"
            case _:
                return say(self.said) or f"The {verb(self.reach).noun} of {name} stopped part-way.", "bad"

    def _done(self, name: str) -> str:
        return f"Unmounted: {name}." if self.reach is Reach.VOLUME else f"Safe to pull: {name}."

    def lines(self, width: int, glyphs: Glyphs, now: float) -> list[Line]:
        """The whole story."""
        text, role = self.headline()
        first, _, rest = text.partition(". ")
        sign = {"good": f"{glyphs.good} ", "bad": f"{glyphs.bad} ", "warn": f"{glyphs.warn} "}.get(role, "")
        lines = paragraph(f"{sign}{first}{'.' if rest else ''}", width, "done" if role == "good" else role)
        lines += paragraph(rest, width) if rest else []
        if self.fix:
            lines += paragraph(f"{glyphs.arrow} {say(self.fix)}", width)
        lines.append(())
        for step in self.steps.values():
            lines += _step_lines(step, width, glyphs, now, self.over, self.waits)
        if self.began is not None:
            whole = span((self.ended if self.ended is not None else now) - self.began)
            lines += [(), (Piece(f"{'took' if self.over else 'since'} {whole}", "dim"),)]
        for note in self.notes:
            lines += paragraph(f"{glyphs.dot} {say(note)}", width, "dim")
        return lines


def _step_lines(step: StepProgress, width: int, glyphs: Glyphs, now: float, over: bool, waits: str) -> list[Line]:
    mark = MARKS[step.mark]
    if over and step.mark in (StepMark.STARTED, StepMark.UNDOING):
        mark = Mark("unknown", "not known", "bad")
    (sign,) = mark.pieces(glyphs)
    took = ""
    if step.began is not None and not (over and step.ended is None):
        took = _elapsed((step.ended if step.ended is not None else now) - step.began)
    title = Piece(say(step.title), "dim" if step.mark is None else "strong" if step.ended is None else "")
    first: Line = (Piece(sign.text.ljust(12), sign.role), title, Piece(f"  {took}", "dim"))
    said = step.said
    if waits and step.ended is None and step.began is not None and not over and now - step.began >= _LONG_S:
        said = f"waits in the kernel: {waits}; usually {_elapsed(step.expected_s)}, at most {_elapsed(step.deadline_s)}"
    failed = step.mark in (StepMark.FAILED, StepMark.STUCK)
    return [first, *(paragraph(say(said), width, "bad" if failed else "dim", indent=14) if said else [])]


def _elapsed(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else span(seconds)
