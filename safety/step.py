"""One step of a plan, and what a person can choose about a removal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from safety.sequence import SEQUENCE, Phase


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose about a removal."""

    watch_s: float = 5.0
    """Seconds for which nothing may come back before the disk is called safe to pull."""
    unmount_deadline_s: float = 600.0
    """Seconds that writing back and unmounting one file system may take."""
    flush_deadline_s: float = 120.0
    """Seconds that a flush may take."""


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

    @property
    def changing(self) -> bool:
        """True if stopping after it leaves something that has to be resumed or undone."""
        return not SEQUENCE[self.phase].free
