"""The plan of one removal: the same object for dry run, dialog, `--json`, execution and journal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from initiator.errors import BadInputError, MooringError
from initiator.model import Snapshot
from safety import plan_common, plan_dead, plan_engine, plan_kernel, plan_volume
from safety.facts import Facts
from safety.findings import Finding, blocks
from safety.guards import examine
from safety.identity import Identity
from safety.plan_common import deepest_first
from safety.scene import Scene, Unit, view
from safety.scope import Reach, Scope
from safety.sequence import Phase, check_order
from safety.step import Options, Step, in_sequence
from safety.touched import TouchedSession, touched

__all__ = ["PASSING", "SCHEMA", "Member", "Options", "Plan", "PlanError", "Step", "deepest_first", "make"]

SCHEMA = 2
PASSING = frozenset({"memory-pressure", "unsettled", "settle-unknown"})
"""Findings that come and go by themselves and change nothing in what will be done."""


class PlanError(MooringError):
    """A stored plan cannot be used."""

    code = "plan"
    fix = "make a new plan"


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One disk of a plan."""

    identity: Identity
    whole: bool
    """Whether it leaves the host; False if it only loses paths."""
    attach: Mapping[str, Any]
    """What it takes to have it again as it was: the parameters of the engine's `attach` (target, lun, portals, name,
    initiator, chap_user, chap_target_user), or the kernel's paths and sessions (`safety.plan_kernel.attach`)."""

    @property
    def id(self) -> str:
        """Id of the disk in the snapshot."""
        return self.identity.disk

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the same field names."""
        return {"identity": self.identity.to_json(), "whole": self.whole, "attach": dict(self.attach)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: fields are missing or of the wrong kind.
        """
        return cls(Identity.from_json(data["identity"]), data["whole"], dict(data["attach"]))


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be done, in order, and all that speaks for or against it.

    `steps` is complete even when the plan is blocked, so that a person sees what would be done.
    """

    scope: Scope
    members: tuple[Member, ...]
    """The disks; none if only sessions without any end."""
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    touched: tuple[TouchedSession, ...]
    """Every session that loses a path or ends: how far this reaches."""
    options: Options
    host: str
    made_at: float
    """Unix time of the snapshot that it was made from."""
    digest: str
    """SHA-256 over scope, disks, steps, findings and options: the same while the situation is the same."""

    @property
    def name(self) -> str:
        """What a person calls that which is removed."""
        return self.scope.name

    @property
    def keys(self) -> tuple[str, ...]:
        """The words under which it is locked: one for each disk, and one for what else was named."""
        own = [member.identity.key() for member in self.members]
        if self.scope.reach not in (Reach.DISKS, Reach.PATH, Reach.VOLUME):
            own.append(hashlib.sha256("\n".join(self.scope.subjects).encode()).hexdigest()[:20])
        return tuple(sorted(set(own)))

    @property
    def lossy(self) -> bool:
        """Whether what was not written yet is lost by it."""
        return self.options.abandon and any(member.whole for member in self.members)

    @property
    def words(self) -> str:
        """What a person types to confirm it."""
        return f"lose {self.name}" if self.lossy else self.name

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
            "name": self.name,
            "scope": self.scope.to_json(),
            "disks": [member.to_json() for member in self.members],
            "touched": [each.to_json() for each in self.touched],
            "findings": [finding.to_json() for finding in self.findings],
            "steps": [_step_json(step) for step in self.steps],
            "options": dataclasses.asdict(self.options),
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
                scope=Scope.from_json(data["scope"]),
                members=tuple(Member.from_json(item) for item in data["disks"]),
                findings=tuple(Finding.from_json(item) for item in data["findings"]),
                steps=tuple(_step_from_json(item) for item in data["steps"]),
                touched=tuple(TouchedSession.from_json(item) for item in data["touched"]),
                options=Options(**data["options"]),
                host=str(data["host"]),
                made_at=float(data["made_at"]),
                digest=str(data["digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"This is not a plan: {error!r}") from error
        if plan.name != data.get("name") or plan.digest != _digest(plan):
            raise PlanError("The plan was changed after it was made.")
        check_order(plan.steps, end=_end(plan.scope))
        return plan


def make(snapshot: Snapshot, facts: Facts, scope: Scope, options: Options | None = None) -> Plan:
    """Plan a removal.

    Args:
        snapshot: The host as it is.
        facts: What the guards need beyond it, read at the same time.
        scope: What to be rid of.
        options: What the person chose.

    Raises:
        BadInputError: there is no such thing, or it cannot be given up apart from its disk.
    """
    chosen = options or Options()
    if chosen.abandon and scope.reach is Reach.VOLUME:
        raise BadInputError("a file system is given up together with its disk", fix="mooring remove --abandon DISK")
    told = dataclasses.replace(facts, settle_s=chosen.settle_s)
    scene = view(snapshot, told, scope.on(snapshot), chosen)
    steps = in_sequence(_steps(scene, scope, chosen))
    check_order(steps, end=_end(scope))
    members = tuple(Member(Identity.of(unit.disk), unit.whole, _attach(scene, unit)) for unit in scene.units)
    reached = touched(scene, steps)
    plan = Plan(scope, members, examine(scene), steps, reached, chosen, snapshot.host, snapshot.taken_at, "")
    return dataclasses.replace(plan, digest=_digest(plan))


def _end(scope: Scope) -> Phase:
    return Phase.UNMOUNTED if scope.reach is Reach.VOLUME else Phase.WATCH


def _steps(scene: Scene, scope: Scope, options: Options) -> list[Step]:
    """Every step, also where a guard forbids the removal."""
    if scope.reach is Reach.VOLUME:
        return list(plan_volume.steps(scene, scope, options))
    members = tuple(unit.disk.id for unit in scene.units)
    made = [
        plan_common.identify(scene, scope),
        plan_common.lock(scene, scope),
        *plan_common.endings(scene),
        *plan_kernel.stops(scene),
        *plan_common.unmounts_there(scene, options),
        *plan_common.unmounts(scene, options),
        *plan_common.automounts(scene),
        *plan_kernel.closes(scene),
    ]
    for unit in scene.units:
        route = plan_engine if not unit.kernel else plan_dead if options.abandon else plan_kernel
        made += route.steps(scene, unit, options)
    made += [*plan_kernel.logouts(scene), *plan_engine.logouts(scene), plan_common.watch(members, options)]
    return made


def _attach(scene: Scene, unit: Unit) -> dict[str, Any]:
    if unit.stays:
        return {"routes": [], "doors": [], "map": None}
    return plan_kernel.attach(scene, unit) if unit.kernel else plan_engine.attach(scene, unit)


def _digest(plan: Plan) -> str:
    matter = {
        "scope": plan.scope.to_json(),
        "disks": [member.to_json() for member in plan.members],
        "touched": [each.to_json() for each in plan.touched],
        "steps": [_step_json(step) for step in plan.steps],
        "findings": sorted([str(one.level), one.code, one.subject] for one in plan.findings if one.code not in PASSING),
        "options": dataclasses.asdict(plan.options),
    }
    return hashlib.sha256(json.dumps(matter, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _step_json(step: Step) -> dict[str, Any]:
    fields = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    more = {"phase": str(step.phase), "params": dict(step.params), "disks": list(step.disks)}
    return {**fields, **more, "changing": step.changing}


def _step_from_json(data: Mapping[str, Any]) -> Step:
    fields = {field.name: data[field.name] for field in dataclasses.fields(Step)}
    more = {"phase": Phase(fields["phase"]), "params": dict(fields["params"]), "disks": tuple(fields["disks"])}
    return Step(**{**fields, **more})
