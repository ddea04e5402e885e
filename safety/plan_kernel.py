"""The steps that remove disks and paths of the kernel's initiator, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from initiator.model import BlockNode, Session, Source
from safety import plan_common
from safety.facts_kernel import KernelFacts
from safety.guard_use import swapped_off
from safety.scene import Scene, Unit
from safety.sequence import Phase
from safety.step import Options, Step
from safety.world_kernel import Door, Route

_NOTHING = KernelFacts()
_TOOL_S = 60.0
_DELETE_S = 90.0
"""A path that just died can hold a delete for half a minute."""


def stops(scene: Scene) -> Iterator[Step]:
    """What is done once for all disks before the unmounts: stop what brings them back, and their swap."""
    yield from _startups(scene, scene.facts.kernel or _NOTHING)
    yield from _swaps(scene)


def steps(scene: Scene, unit: Unit, options: Options) -> tuple[Step, ...]:
    """From the claim of a disk, or of those of its paths that go, to their deletion."""
    facts = scene.facts.kernel or _NOTHING
    routes = [Route.of(path) for path in facts.of(unit.paths)]
    made = [
        *(leave(unit, route) for route in routes if not unit.whole),
        *_claims(unit, routes, options),
        *_flushes(unit, routes, options),
        *(_offline(route) for route in routes),
        *(delete(route) for route in routes),
    ]
    return tuple(dataclasses.replace(step, disks=(unit.disk.id,)) for step in made)


def logouts(scene: Scene) -> Iterator[Step]:
    """One for each session that carries nothing else."""
    facts = scene.facts.kernel or _NOTHING
    for session in _leaving(scene, facts):
        yield _logout(session, scene, facts)


def attach(scene: Scene, unit: Unit) -> dict[str, Any]:
    """What it takes to have the paths again: which they are, how each session is reached, and the map."""
    facts = scene.facts.kernel or _NOTHING
    node, sessions = unit.node, scene.sessions_of(unit)
    joined = unit.disk.map is not None and node is not None
    users = [session.chap_user for session in sessions if session.chap_user]
    return {
        "target": unit.disk.target,
        "lun": unit.disk.lun,
        "routes": [{**dataclasses.asdict(Route.of(path)), "sid": path.sid} for path in facts.of(unit.paths)],
        "doors": [dataclasses.asdict(_door(session, facts)) for session in sessions],
        "map": {"uuid": node.dm_uuid, "name": node.dm_name, "kname": node.kname} if joined and node else None,
        "chap_user": users[0] if users else None,
        "others": _other_hosts(scene, unit, facts),
    }


def _other_hosts(scene: Scene, unit: Unit, facts: KernelFacts) -> list[str]:
    """Names of the initiators of other hosts that are registered with a disk."""
    own = {session.initiator for session in scene.sessions}
    found = dict(facts.registrations).get(unit.disk.id, ())
    return sorted({each.initiator for each in found if each.initiator is not None and each.initiator not in own})


def _leaving(scene: Scene, facts: KernelFacts) -> tuple[Session, ...]:
    """The sessions of the kernel that are logged out."""
    own = (session for session in scene.sessions if session.source is Source.KERNEL)
    return tuple(session for session in own if not facts.stays(_sid(session)))


def _sid(session: Session) -> int:
    return int(session.id.rpartition(":")[2])


def _door(session: Session, facts: KernelFacts) -> Door:
    sid = _sid(session)
    seen = next((each for each in facts.sessions if each.sid == sid), None)
    portal = seen.portals[0] if seen is not None and seen.portals else session.portal
    return Door(sid, session.target, portal.host, portal.port, seen.interface if seen is not None else "default")


def _startups(scene: Scene, facts: KernelFacts) -> Iterator[Step]:
    """One for each session that will be logged out and would be logged in again by itself."""
    for session in _leaving(scene, facts):
        door = _door(session, facts)
        record = facts.record(door.sid)
        if record is None or record.startup in (None, "manual"):
            continue
        yield Step(
            id="startup-#",
            kind="startup",
            phase=Phase.STOP,
            title=f"Keep {session.name} from being logged in to at boot",
            command=f"iscsiadm -m node -T {door.target} -p {door.portal} -I {door.interface} -o update"
            " -n node.startup -v manual",
            proof="the record on disk says manual",
            undo=f"set node.startup to {record.startup} again",
            deadline_s=30.0,
            expected_s=0.3,
            params={"door": dataclasses.asdict(door), "was": record.startup},
            disks=tuple(unit.disk.id for unit in scene.units_over(session)),
        )


def _swaps(scene: Scene) -> Iterator[Step]:
    for area in swapped_off(scene):
        yield Step(
            id="swapoff-#",
            kind="swapoff",
            phase=Phase.DISMOUNT,
            title=f"Switch swap off in {area.path}",
            command=f'swapoff("{area.path}")',
            proof="/proc/swaps does not list it",
            undo=f"swapon {area.path}",
            deadline_s=600.0,
            expected_s=1.0,
            params={"path": area.path, "kind": area.kind, "stand": _stand_of(scene, area.dev)},
            disks=_group(scene, area.dev or ""),
        )


def _stand_of(scene: Scene, dev: str | None) -> dict[str, Any] | None:
    under = {dev, *scene.facts.filesystem_devs.get(dev or "", ())}
    node = next((node for node in scene.nodes if node.dev in under), None)
    return plan_common.place(scene, node) if node is not None else None


def _group(scene: Scene, dev: str) -> tuple[str, ...]:
    return tuple(unit.disk.id for unit in scene.on(dev))


def closes(scene: Scene) -> Iterator[Step]:
    """What stands on the disks, from the top down; a volume group as a whole, when its first volume has its turn."""
    facts = scene.facts.kernel or _NOTHING
    done: set[str] = set()
    for node in top_down(scene.above):
        made = _close(node, scene, facts, done)
        if made is not None:
            yield made


_Closing = tuple[str, str, str, str, dict[str, Any]]
"""Kind, title, command and undo of a step, and what it needs to know."""


def _close(node: BlockNode, scene: Scene, facts: KernelFacts, done: set[str]) -> Step | None:
    name = node.dm_name or node.kname
    made: _Closing | None = None
    if node.kind == "lvm" and scene.abandon:  # LVM's own tools would have to read what cannot be read
        made = _close_dm(node, f"Remove the logical volume {name}", "activate it again when the disk is back")
    elif node.kind == "lvm":
        made = _close_group(node, scene, done)
    elif node.kind == "crypt":
        again = f"a person opens {name} again: only its passphrase or key can"
        params = {"name": name, "uuid": node.dm_uuid}
        made = ("close-crypt", f"Close the encrypted volume {name}", f"cryptsetup close {name}", again, params)
    elif node.kind == "md":
        made = _close_array(node, scene, facts)
    elif node.kind == "part" and node.dm_uuid:
        made = _close_dm(node, f"Remove the partition device {name}", "udev makes it again with the map")
    if made is None:
        return None
    kind, title, command, undo, params = made
    return Step(
        id="close-#",
        kind=kind,
        phase=Phase.DISMOUNT,
        title=title,
        command=command,
        proof="the kernel lists no such device any more",
        undo=undo,
        deadline_s=_TOOL_S,
        expected_s=1.0,
        params=params,
        disks=_group(scene, node.dev),
    )


def _close_dm(node: BlockNode, title: str, again: str) -> _Closing:
    params = {"name": node.dm_name or node.kname, "uuid": node.dm_uuid}
    return ("close-part", title, f"DM_DEV_REMOVE of {node.dm_uuid}", again, params)


def _close_group(node: BlockNode, scene: Scene, done: set[str]) -> _Closing | None:
    uuid = (node.dm_uuid or "").removeprefix("LVM-")[:32]
    group = next((group for group in scene.volume_groups if group.uuid == uuid), None)
    if group is None or uuid in done:
        return None
    done.add(uuid)
    devices = sorted(each.dm_uuid or "" for each in scene.above if (each.dm_uuid or "").startswith(f"LVM-{uuid}"))
    return (
        "close-vg",
        f"Deactivate the volume group {group.name}",
        f"vgchange --activate n {group.name}",
        f"lvchange --activate y {' '.join(group.active)}",
        {"name": group.name, "uuid": uuid, "active": list(group.active), "devices": devices},
    )


def _close_array(node: BlockNode, scene: Scene, facts: KernelFacts) -> _Closing:
    array = next((array for array in facts.arrays if array.kname == node.kname), None)
    nodes = {each.kname: each for each in scene.nodes}
    members = [nodes[each].dev for each in (array.members if array else ()) if each in nodes]
    return (
        "close-md",
        f"Stop the array {node.kname}",
        f"mdadm --stop /dev/{node.kname}",
        f"mdadm --assemble /dev/{node.kname}",
        {
            "kname": node.kname,
            "uuid": array.uuid if array else None,
            "members": [_stand_of(scene, dev) for dev in members],
        },
    )


def top_down(nodes: Iterable[BlockNode]) -> tuple[BlockNode, ...]:
    """Devices in an order in which each can go: what stands on others before these."""
    left = {node.kname: node for node in nodes}
    order: list[BlockNode] = []
    while left:
        free = [node for node in left.values() if not set(node.holders).intersection(left)]
        for node in free or list(left.values()):
            order.append(left.pop(node.kname))
    return tuple(order)


def leave(unit: Unit, route: Route) -> Step:
    """A path leaves its map, which goes on."""
    left = ", ".join(path.name for path in unit.kept)
    return Step(
        id="leave-#",
        kind="leave-map",
        phase=Phase.DISMOUNT,
        title=f"Have the map {unit.disk.name} let go of path {route.hctl} ({route.kname})",
        command=f"multipathd: del path {route.kname}",
        proof=f"the map does not hold {route.kname}, and still holds {left}",
        undo=f"multipathd: add path {route.kname}",
        deadline_s=30.0,
        expected_s=0.5,
        params={"route": dataclasses.asdict(route)},
    )


def _claims(unit: Unit, routes: list[Route], options: Options) -> tuple[Step, ...]:
    given = [dataclasses.asdict(route) for route in routes]
    names = ", ".join(f"/dev/{route.kname}" for route in routes)
    each = f"open O_RDONLY|O_EXCL and flock(LOCK_EX) on {names}; open state and delete of each"
    if unit.disk.map is None or not unit.whole:
        what = (unit.disk.device or "the device") if unit.whole else names
        numbers = ", ".join(str(route.diskseq) for route in routes)
        return (
            Step(
                id="claim",
                kind="claim-paths",
                phase=Phase.CLAIM,
                title=f"Claim {what}",
                command=f"{each}, kept open until it is deleted",
                proof=f"the open succeeded, on the device with sequence number {numbers}",
                undo="close them",
                deadline_s=30.0,
                expected_s=0.2,
                params={"routes": given},
            ),
        )
    uuid = unit.node.dm_uuid if unit.node else None
    name = unit.disk.name
    return (
        plan_common.claim("claim-map", f"the map {name}", "its paths are claimed", unit),
        dataclasses.replace(
            plan_common.fsync("fsync-map", unit, options), phase=Phase.MAP, undo="nothing was changed by it"
        ),
        Step(
            id="hand-over",
            kind="hand-over",
            phase=Phase.MAP,
            title=f"Hand the claim on the map {name} over to its paths",
            command=f"DM_DEV_REMOVE with DM_DEFERRED_REMOVE, close the claim, {each}; multipathd del path",
            proof="the map is gone, and every path of it is claimed",
            undo="release the paths; multipathd makes the map again",
            deadline_s=60.0,
            expected_s=0.5,
            params={"routes": given, "uuid": uuid},
        ),
    )


def _flushes(unit: Unit, routes: list[Route], options: Options) -> tuple[Step, ...]:
    given = [dataclasses.asdict(route) for route in routes]
    return (
        Step(
            id="flush",
            kind="flush-paths",
            phase=Phase.FLUSH,
            title=f"Have the target write the cache of {unit.disk.name} to stable storage",
            command="fsync, then SYNCHRONIZE CACHE(10) by SG_IO on each claimed path",
            proof=f"the target answered GOOD for LUN {unit.disk.lun} of {unit.disk.target}",
            undo="",
            deadline_s=options.flush_deadline_s,
            expected_s=0.5,
            params={"routes": given},
        ),
        Step(
            id="silent",
            kind="silent",
            phase=Phase.FLUSH,
            title=f"See that nothing is under way to {unit.disk.name} any more",
            command="read inflight, device_busy, stat, ioerr_cnt and iotmo_cnt of each path, twice; then /proc/*/fd",
            proof="no request is in flight, none ended in between, no process has it open, "
            "and no error was counted since the flush",
            undo="",
            deadline_s=20.0,
            expected_s=0.3,
            params={"routes": given},
        ),
    )


def _offline(route: Route) -> Step:
    return Step(
        id="offline-#",
        kind="offline-path",
        phase=Phase.OFFLINE,
        title=f"Take path {route.hctl} ({route.kname}) offline",
        command=f'write "offline" to /sys/class/scsi_device/{route.hctl}/device/state, opened with the claim',
        proof="the kernel says offline",
        undo='write "running" to it',
        deadline_s=30.0,
        expected_s=0.1,
        params={"route": dataclasses.asdict(route)},
    )


def delete(route: Route) -> Step:
    """The kernel takes a path away."""
    return Step(
        id="delete-#",
        kind="delete-path",
        phase=Phase.DELETE,
        title=f"Delete path {route.hctl} ({route.kname})",
        command=f'write "1" to /sys/class/scsi_device/{route.hctl}/device/delete, opened with the claim',
        proof="the kernel does not list it any more",
        undo="have the session scanned again",
        deadline_s=_DELETE_S,
        expected_s=0.3,
        params={"route": dataclasses.asdict(route)},
    )


def _logout(session: Session, scene: Scene, facts: KernelFacts) -> Step:
    door = _door(session, facts)
    made = plan_common.logout("logout-dead" if scene.abandon else "logout-kernel", session, scene)
    return dataclasses.replace(
        made,
        command=f"iscsiadm -m session -r {door.sid} -u",
        undo="log in again",
        deadline_s=90.0,
        expected_s=2.0,
        params={**made.params, "door": dataclasses.asdict(door), "chap_user": session.chap_user},
    )
