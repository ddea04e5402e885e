"""The plan of one removal: the same object for dry run, dialog, `--json`, execution and journal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from initiator.errors import MooringError
from initiator.model import Snapshot, Source
from safety import plan_engine, plan_kernel
from safety.facts import Facts
from safety.findings import Finding, blocks
from safety.guards import examine
from safety.identity import Identity
from safety.plan_common import deepest_first
from safety.scene import find_disk, view
from safety.sequence import Phase, check_order
from safety.step import Options, Step

__all__ = ["SCHEMA", "Options", "Plan", "PlanError", "Step", "deepest_first", "make"]

SCHEMA = 1
_PASSING = frozenset({"memory-pressure"})
"""Findings that come and go by themselves and change nothing in what will be done."""


class PlanError(MooringError):
    """A stored plan cannot be used."""

    code = "plan"
    fix = "make a new plan"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be done to remove one disk, in order, and all that speaks for or against it.

    `steps` is complete even when the plan is blocked, so that a person sees what would be done.
    """

    identity: Identity
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    options: Options
    attach: Mapping[str, Any]
    """What it takes to have the disk again: the parameters of the engine's `attach` (target, lun, portals, name,
    initiator, chap_user), or the kernel's paths and sessions (`safety.plan_kernel.attach`)."""
    host: str
    made_at: float
    """Unix time of the snapshot that it was made from."""
    digest: str
    """SHA-256 over identity, steps, findings and options: the same while the situation is the same."""

    @property
    def blocked(self) -> bool:
        """True if a guard forbids the removal."""
        return bool(blocks(self.findings))

    @property
    def expected_s(self) -> float:
        """Seconds that the whole removal normally takes."""
        return sum(step.expected_s for step in self.steps)

    def step(self, step_id: str) -> Step:
        """The step with this id.

        Raises:
            KeyError: there is none.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schema": SCHEMA,
            "host": self.host,
            "made_at": self.made_at,
            "digest": self.digest,
            "blocked": self.blocked,
            "identity": self.identity.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "steps": [_step_json(step) for step in self.steps],
            "options": dataclasses.asdict(self.options),
            "attach": dict(self.attach),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            PlanError: it is of another version, not a plan, or was changed after it was made.
            SequenceError: its steps are not a removal.
        """
        try:
            if data["schema"] != SCHEMA:
                raise PlanError(f"The plan has format {data['schema']!r}; this Mooring reads {SCHEMA}.")
            plan = cls(
                identity=Identity.from_json(data["identity"]),
                findings=tuple(Finding.from_json(item) for item in data["findings"]),
                steps=tuple(_step_from_json(item) for item in data["steps"]),
                options=Options(**data["options"]),
                attach=dict(data["attach"]),
                host=str(data["host"]),
                made_at=float(data["made_at"]),
                digest=str(data["digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"This is not a plan: {error!r}") from error
        if plan.digest != _digest(plan.identity, plan.steps, plan.findings, plan.options, plan.attach):
            raise PlanError("The plan was changed after it was made.")
        check_order(step.phase for step in plan.steps)
        return plan


def make(snapshot: Snapshot, facts: Facts, disk_id: str, options: Options | None = None) -> Plan:
    """Plan the removal of one disk.

    Args:
        snapshot: The host as it is.
        facts: What the guards need beyond it, read at the same time.
        disk_id: Id of the disk in the snapshot.
        options: What the person chose.

    Raises:
        BadInputError: there is no such disk.
    """
    chosen = options or Options()
    scene = view(snapshot, facts, find_disk(snapshot, disk_id))
    identity = Identity.of(scene.disk)
    findings = examine(scene)
    route = plan_kernel if scene.disk.source is Source.KERNEL else plan_engine
    steps = route.steps(scene, identity, chosen)
    check_order(step.phase for step in steps)
    attach = route.attach(scene)
    digest = _digest(identity, steps, findings, chosen, attach)
    return Plan(identity, findings, steps, chosen, attach, snapshot.host, snapshot.taken_at, digest)


def _digest(
    identity: Identity,
    steps: tuple[Step, ...],
    findings: tuple[Finding, ...],
    options: Options,
    attach: Mapping[str, Any],
) -> str:
    matter = {
        "identity": identity.to_json(),
        "steps": [_step_json(step) for step in steps],
        "findings": sorted(
            [str(finding.level), finding.code, finding.subject] for finding in findings if finding.code not in _PASSING
        ),
        "options": dataclasses.asdict(options),
        "attach": dict(attach),
    }
    return hashlib.sha256(json.dumps(matter, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _step_json(step: Step) -> dict[str, Any]:
    fields = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    return {**fields, "phase": str(step.phase), "params": dict(step.params), "changing": step.changing}


def _step_from_json(data: Mapping[str, Any]) -> Step:
    fields = {field.name: data[field.name] for field in dataclasses.fields(Step)}
    return Step(**{**fields, "phase": Phase(fields["phase"]), "params": dict(fields["params"])})
