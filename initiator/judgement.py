"""The words in which health is told: verdicts, trends, ways. `initiator.health` judges."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from initiator.chain import Kind

SETTLE = 60.0
"""Seconds for which a path that came back has to hold before it counts as good, where nobody has set another time."""


class Verdict(enum.StrEnum):
    """How something is."""

    OK = "ok"
    DEGRADED = "degraded"
    """Worse than it should be, and still able to lose something more."""
    AT_RISK = "at-risk"
    """Works; the next fault ends it, or one is on its way."""
    DOWN = "down"
    UNKNOWN = "unknown"


RANK = (Verdict.OK, Verdict.DEGRADED, Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.DOWN)
"""From good to bad. Unknown is worse than what is known to work."""


class Said(NamedTuple):
    """What one rule found."""

    verdict: Verdict
    reason: str
    """In a sentence, without a full stop."""
    facts: str = ""
    """What was read; empty where the reason says it."""


def judged(kind: str, subject: str, name: str, said: Sequence[Said], well: str, seen: tuple[str, ...]) -> Judgement:
    """The verdict on one thing: the worst that was said of it, or `well` where nothing was, for what was `seen`."""
    if not said:
        return Judgement(kind, subject, name, Verdict.OK, well, seen)
    ranked = sorted(said, key=lambda each: -RANK.index(each.verdict))
    return Judgement(
        kind, subject, name, ranked[0].verdict, ranked[0].reason, tuple(each.facts or each.reason for each in ranked)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one thing."""

    kind: str
    """`path`, `disk`, `map` or `link`."""
    subject: str
    """Its id."""
    name: str
    verdict: Verdict
    reason: str
    """One sentence, without a full stop."""
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Trend:
    """What the recent past says of a path. Zero and None mean that nothing of that kind was seen."""

    errors: int = 0
    """Commands that ended in an error or in no time, in the last minute."""
    resent: int = 0
    """Segments that its connection sent again in the last minute."""
    sent: int | None = None
    """How many it sent in all in the same time, where some were sent again and the kernel tells."""
    falls: int = 0
    """How often it went from working to not working in the last hour."""
    back_s: float | None = None
    """For how many seconds it works again; None for one that never was away, or is."""
    slower: float | None = None
    """How many times as long as its mates it takes for a command."""
    probe: str | None = None
    """What a probe of its own found wrong on the same way."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkTrend:
    """What the recent past says of a link."""

    errors: int = 0
    drops: int = 0
    """Both in the last minute."""
    falls: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Trends:
    """The recent past of everything that has one worth telling."""

    paths: Mapping[str, Trend] = dataclasses.field(default_factory=dict)
    links: Mapping[str, LinkTrend] = dataclasses.field(default_factory=dict)
    uneven: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By disk id: how unevenly its active paths are used, in a sentence."""
    settle_s: float = SETTLE


CALM = Trends()


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """Something that several working paths of one disk stand on."""

    kind: Kind
    name: str
    paths: int


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """How redundant the paths of one disk are."""

    total: int
    working: int
    independent: int
    """How many working paths there are of which no two have a portal, link, network, switch or controller in common."""
    shared: tuple[Shared, ...] = ()
    unknown: tuple[Kind, ...] = ()
    """In what respect nobody can say whether they are independent."""

    @property
    def common(self) -> tuple[Shared, ...]:
        """What all of several working paths stand on."""
        return tuple(each for each in self.shared if each.paths == self.working > 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Everything that was judged. What is not in `judgements` was not: a link without iSCSI, a controller's door."""

    judgements: Mapping[str, Judgement]
    ways: Mapping[str, Ways]
    """By disk id."""

    def wrong(self) -> tuple[Judgement, ...]:
        """All that is not ok, worst first; a map is told of as its disk."""
        every = self.judgements.values()
        found = [each for each in every if each.verdict is not Verdict.OK and each.kind != "map"]
        return tuple(sorted(found, key=lambda each: -RANK.index(each.verdict)))
