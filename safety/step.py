"""One step of a plan, and what a person can choose about a removal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from initiator.judgement import SETTLE
from safety.sequence import ORDER, SEQUENCE, Phase


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose about a removal."""

    watch_s: float = 5.0
    """Seconds for which nothing may come back before the disk is called safe to pull."""
    unmount_deadline_s: float = 600.0
    """Seconds that writing back and unmounting one file system may take."""
    flush_deadline_s: float = 120.0
    """Seconds that a flush may take."""
    settle_s: float = SETTLE
    """Seconds that a path which came back has to hold before it is relied on."""
    other_namespaces: bool = False
    """Unmount in the mount namespaces of others too (containers), instead of letting them forbid the removal."""
    end_users: bool = False
    """End the processes that use a file system (SIGTERM), instead of letting them forbid the removal."""
    abandon: bool = False
    """Take away what no path reaches any more: nothing is flushed, and what was not written is lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. What it does is looked up by `kind` in `safety.steps.KINDS`."""

    id: str
    """Unique in the plan: `unmount-1`."""
    kind: str
    phase: Phase
    title: str
    command: str
    """The exact command or system call, as text for a person."""
    proof: str
    """What has to be seen afterwards."""
    undo: str
    """What takes it back; an empty string where there is nothing to take back."""
    deadline_s: float
    expected_s: float
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the step needs to know; JSON values."""
    disks: tuple[str, ...] = ()
    """Ids of the disks that it is about, in the order of the plan."""

    @property
    def changing(self) -> bool:
        """True if stopping after it leaves something that has to be resumed or undone."""
        return not SEQUENCE[self.phase].free


def in_sequence(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps of any number of disks in the order of the phases, so that all are dismounted before the first is claimed.

    Ids that end in `-#` get the number of their turn; others get one only from the second of their name on.
    """
    ordered = sorted(steps, key=lambda step: ORDER.index(step.phase))
    counted: Counter[str] = Counter()
    numbered = []
    for step in ordered:
        stem = step.id.removesuffix("-#")
        counted[stem] += 1
        plain = stem == step.id and counted[stem] == 1
        numbered.append(dataclasses.replace(step, id=stem if plain else f"{stem}-{counted[stem]}"))
    return tuple(numbered)
