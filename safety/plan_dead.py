"""The steps that take away what no path reaches any more: nothing can be flushed, and the person has said so."""

from __future__ import annotations

import dataclasses

from safety import plan_common, plan_kernel
from safety.facts_kernel import KernelFacts
from safety.scene import Scene, Unit
from safety.sequence import Phase
from safety.step import Options, Step
from safety.world_kernel import Route

_NOTHING = KernelFacts()


def steps(scene: Scene, unit: Unit, options: Options) -> tuple[Step, ...]:
    """From the claim of a disk, or of those of its paths that go, to their deletion."""
    facts = scene.facts.kernel or _NOTHING
    routes = [Route.of(path) for path in facts.of(unit.paths)]
    mapped = unit.whole and unit.disk.map is not None
    made = [
        *((_fail_queue(unit),) if mapped else ()),
        *(plan_kernel.leave(unit, route) for route in routes if not unit.whole),
        *(_claim_map(unit) if mapped else (_claim_dead(routes),)),
        _give_up(unit, routes, options),
        *(_dead(route) for route in routes),
        *(dataclasses.replace(plan_kernel.delete(route), kind="delete-dead") for route in routes),
    ]
    return tuple(dataclasses.replace(step, disks=(unit.disk.id,)) for step in made)


def _fail_queue(unit: Unit) -> Step:
    return Step(
        id="fail-queue-#",
        kind="fail-queue",
        phase=Phase.STOP,
        title=f"Have the map {unit.disk.name} fail what it queues",
        command=f"multipathd: disablequeueing map {unit.disk.name}",
        proof="the map does not queue any more: what waited was answered with an error",
        undo=f"multipathd: restorequeueing map {unit.disk.name}; what it had queued stays lost",
        deadline_s=30.0,
        expected_s=1.0,
        params={"map": unit.disk.name},
    )


def _claim_map(unit: Unit) -> tuple[Step, ...]:
    uuid = unit.node.dm_uuid if unit.node else None
    return (
        plan_common.claim("claim-map", f"the map {unit.disk.name}", "it is gone", unit),
        Step(
            id="drop-map",
            kind="drop-map",
            phase=Phase.MAP,
            title=f"Have the map {unit.disk.name} vanish",
            command="DM_DEV_REMOVE with DM_DEFERRED_REMOVE, close the claim; multipathd del path",
            proof="the map is gone, and nothing holds its paths",
            undo="multipathd makes the map again when its paths are back",
            deadline_s=60.0,
            expected_s=0.5,
            params={"uuid": uuid},
        ),
    )


def _claim_dead(routes: list[Route]) -> Step:
    names = ", ".join(f"/dev/{route.kname}" for route in routes)
    return Step(
        id="claim",
        kind="claim-dead",
        phase=Phase.CLAIM,
        title=f"See that nobody can open {names}",
        command="read state and holders of each path",
        proof="nothing holds them, and the kernel lets nobody open them any more",
        undo="",
        deadline_s=10.0,
        expected_s=0.1,
    )


def _give_up(unit: Unit, routes: list[Route], options: Options) -> Step:
    return Step(
        id="give-up",
        kind="give-up",
        phase=Phase.FLUSH,
        title=f"Give up what {unit.disk.name} has not written yet"
        if unit.whole
        else f"See that {', '.join(route.kname for route in routes)} carries nothing any more",
        command="read the state of each path: no flush can reach the target",
        proof="the kernel has given up every path: transport-offline or offline",
        undo="",
        deadline_s=options.flush_deadline_s,
        expected_s=0.1,
    )


def _dead(route: Route) -> Step:
    return Step(
        id="dead-#",
        kind="dead-path",
        phase=Phase.OFFLINE,
        title=f"See that path {route.hctl} ({route.kname}) is dead",
        command=f"read /sys/class/scsi_device/{route.hctl}/device/state",
        proof="the kernel says transport-offline or offline",
        undo="its session has to come back",
        deadline_s=10.0,
        expected_s=0.1,
        params={"route": dataclasses.asdict(route)},
    )
