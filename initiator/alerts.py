"""When a verdict is worth disturbing somebody: a pure state machine with hysteresis, one for each thing.

A worse verdict is told when it has lasted `raise_s` seconds (`down` at once), a better one when it has lasted `clear_s`
seconds. So a fault shows without delay, and what comes and goes is told once and not each time. How something is when
it is seen first is no change: unless it is down it counts as told, and so does its recovery.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable

from initiator.judgement import RANK, Judgement, Verdict
from initiator.model import Event, Severity

RAISE_S = 1.0
CLEAR_S = 10.0


class State(enum.StrEnum):
    """Where one thing is, beside what was told of it."""

    STEADY = "steady"
    """It is as it was told."""
    WORSENING = "worsening"
    """It is worse than told, and may be so for a moment only."""
    RECOVERING = "recovering"
    """It is better than told, and may be so for a moment only."""


class Seen(enum.IntEnum):
    """A verdict beside the one that was told last."""

    BETTER = -1
    SAME = 0
    WORSE = 1


TABLE: dict[tuple[State, Seen], tuple[State, bool]] = {
    (State.STEADY, Seen.SAME): (State.STEADY, False),
    (State.STEADY, Seen.WORSE): (State.WORSENING, True),
    (State.STEADY, Seen.BETTER): (State.RECOVERING, True),
    (State.WORSENING, Seen.SAME): (State.STEADY, False),
    (State.WORSENING, Seen.WORSE): (State.WORSENING, False),
    (State.WORSENING, Seen.BETTER): (State.RECOVERING, True),
    (State.RECOVERING, Seen.SAME): (State.STEADY, False),
    (State.RECOVERING, Seen.WORSE): (State.WORSENING, True),
    (State.RECOVERING, Seen.BETTER): (State.RECOVERING, False),
}
"""Which state follows, and whether its time begins anew. When that is up, the verdict is told and STEADY follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """One thing that somebody should know."""

    at: float
    """Unix time."""
    kind: str
    subject: str
    name: str
    verdict: Verdict
    was: Verdict
    """What was told of it before."""
    reason: str

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        if self.verdict is Verdict.OK:
            return Severity.NOTE
        return Severity.BAD if self.verdict in (Verdict.DOWN, Verdict.AT_RISK) else Severity.WARN

    @property
    def text(self) -> str:
        """One sentence."""
        word = {Verdict.OK: "is well again", Verdict.AT_RISK: "is at risk"}.get(self.verdict, f"is {self.verdict}")
        return f"{self.kind.capitalize()} {self.name} {word}: {self.reason}."

    def event(self) -> Event:
        """The same as an entry of the event list."""
        return Event(self.at, "alert", self.subject, self.text, self.severity)


TOLD_S, UNTOLD_S = 3600.0, 10.0
"""Seconds for which a thing that vanished is remembered, if somebody was told of it and if not. A dead disk is repaired
by a logout and a login; and what answers late once makes all it speaks for vanish for one look."""


@dataclasses.dataclass(slots=True)
class _Thing:
    told: Verdict
    seen: float
    """When it was last there."""
    heard: bool = False
    """Whether somebody was told; not of how it was at first."""
    name: str = ""
    """Under which it was told of."""
    state: State = State.STEADY
    since: float = 0.0


class Alerts:
    """Follows the judgements of one host.

    Args:
        raise_s: How long a worse verdict has to last.
        clear_s: How long a better one has to last.
        least: What is less bad than this counts as ok.
        kinds: Of which kinds of things alerts are made. A disk speaks for its paths.
        wall: Unix time, for the alerts.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        raise_s: float = RAISE_S,
        clear_s: float = CLEAR_S,
        least: Verdict = Verdict.DEGRADED,
        kinds: Iterable[str] = ("disk", "link"),
    ) -> None:
        self._wall = wall
        self._raise_s = raise_s
        self._clear_s = clear_s
        self._least = RANK.index(least)
        self._kinds = frozenset(kinds)
        self._things: dict[str, _Thing] = {}

    def see(self, judgements: Iterable[Judgement], at: float) -> tuple[Alert, ...]:
        """Takes in what is judged now, and gives what is to be told.

        Args:
            judgements: Of everything; what is not among them any more is forgotten after a while.
            at: Monotonic seconds, the same clock in each call.
        """
        found = []
        for judgement in judgements:
            if judgement.kind in self._kinds:
                thing = self._things.get(judgement.subject)
                if thing is None:
                    thing = self._things[judgement.subject] = _Thing(self._at_first(judgement), at)
                thing.seen = at
                alert = self._see(thing, judgement, at)
                if alert is not None:
                    found.append(alert)
        for subject, thing in list(self._things.items()):
            if at - thing.seen > (TOLD_S if thing.heard else UNTOLD_S):
                del self._things[subject]
        return tuple(found)

    def _see(self, thing: _Thing, judgement: Judgement, at: float) -> Alert | None:
        verdict = self._counted(judgement)
        thing.state, anew = TABLE[thing.state, _beside(verdict, thing.told)]
        if anew:
            thing.since = at
        if at - thing.since < self._patience(thing.state, verdict):
            return None
        if thing.state is State.STEADY:
            return None
        was, thing.told, thing.state = thing.told, verdict, State.STEADY
        if verdict is Verdict.OK and not thing.heard:
            return None
        # A disk that was unmounted meanwhile has lost the name of its volume, by which its alert is remembered.
        name = thing.name if verdict is Verdict.OK else judgement.name
        thing.heard, thing.name = verdict is not Verdict.OK, name
        return Alert(self._wall(), judgement.kind, judgement.subject, name, verdict, was, judgement.reason)

    def _counted(self, judgement: Judgement) -> Verdict:
        return judgement.verdict if RANK.index(judgement.verdict) >= self._least else Verdict.OK

    def _at_first(self, judgement: Judgement) -> Verdict:
        verdict = self._counted(judgement)
        return Verdict.OK if verdict is Verdict.DOWN else verdict

    def _patience(self, state: State, verdict: Verdict) -> float:
        if state is State.RECOVERING:
            return self._clear_s
        return 0.0 if verdict is Verdict.DOWN else self._raise_s


def _beside(verdict: Verdict, told: Verdict) -> Seen:
    now, then = RANK.index(verdict), RANK.index(told)
    return Seen((now > then) - (now < then))
