"""What a guard found: one reason against a removal, or one thing to know before it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any


class Level(enum.StrEnum):
    """What a finding means for the removal."""

    BLOCK = "block"
    """The removal is not done."""
    WARN = "warn"
    """It can be done; the person should know this first."""
    NOTE = "note"
    """The plan deals with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing a guard found.

    Text, evidence and fix may hold strings that came from targets, files or processes: whoever shows them treats
    them as plain text.
    """

    level: Level
    code: str
    """Stable word for programs: `open`, `swap`, `mounted-elsewhere`, …"""
    subject: str
    """What it is about, the same in every reading: a mount point, `pid:123`, an id."""
    text: str
    """One sentence."""
    evidence: str
    """What was read, and where."""
    fix: str = ""
    """What the person can do about it; empty for a note."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the same field names."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """The inverse of `to_json`.

        Raises:
            KeyError, ValueError: fields are missing or wrong.
        """
        fields = {field.name: str(data[field.name]) for field in dataclasses.fields(cls)}
        return cls(**{**fields, "level": Level(fields["level"])})  # type: ignore[arg-type]


RANK = {Level.BLOCK: 0, Level.WARN: 1, Level.NOTE: 2}


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; among equals, in the order in which they were found; each only once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: RANK[finding.level]))


def blocks(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that forbid the removal."""
    return tuple(finding for finding in findings if finding.level is Level.BLOCK)
