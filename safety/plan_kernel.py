"""The steps that remove a disk of the kernel's initiator, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from initiator.model import BlockNode, Session
from safety import plan_common, stand
from safety.facts_kernel import KernelFacts
from safety.guard_use import swapped_off
from safety.identity import Identity
from safety.scene import Scene
from safety.sequence import Phase
from safety.step import Options, Step
from safety.world_kernel import Door, Route

_NOTHING = KernelFacts()
_TOOL_S = 60.0
_DELETE_S = 90.0
"""A path that just died can hold a delete for half a minute."""


def steps(scene: Scene, identity: Identity, options: Options) -> tuple[Step, ...]:
    """Every step, also where a guard forbids the removal."""
    facts = scene.facts.kernel or _NOTHING
    routes = [Route.of(path) for path in facts.paths]
    leaving = [session for session in scene.sessions if not facts.stays(_sid(session))]
    return (
        plan_common.identify("identify-kernel", identity),
        plan_common.lock(identity),
        *_startups(leaving, facts),
        *_swaps(scene),
        *plan_common.unmounts("unmount-kernel", scene, options, _stands(scene, facts)),
        *_closes(scene, facts),
        *_claims(scene, identity, routes, options),
        *_flushes(identity, routes, options),
        *(_offline(route, number) for number, route in enumerate(routes, 1)),
        *(_delete(route, number) for number, route in enumerate(routes, 1)),
        *(_logout(session, facts, number) for number, session in enumerate(leaving, 1)),
        plan_common.watch("watch-kernel", options),
    )


def attach(scene: Scene) -> dict[str, Any]:
    """What it takes to have the disk again: its paths, how each session is reached, and its map."""
    facts = scene.facts.kernel or _NOTHING
    node = scene.node
    joined = scene.disk.map is not None and node is not None
    users = [session.chap_user for session in scene.sessions if session.chap_user]
    return {
        "target": scene.disk.target,
        "lun": scene.disk.lun,
        "routes": [{**dataclasses.asdict(Route.of(path)), "sid": path.sid} for path in facts.paths],
        "doors": [dataclasses.asdict(_door(session, facts)) for session in scene.sessions],
        "map": {"uuid": node.dm_uuid, "name": node.dm_name, "kname": node.kname} if joined and node else None,
        "chap_user": users[0] if users else None,
    }


def _sid(session: Session) -> int:
    return int(session.id.rpartition(":")[2])


def _door(session: Session, facts: KernelFacts) -> Door:
    sid = _sid(session)
    seen = next((each for each in facts.sessions if each.sid == sid), None)
    portal = seen.portals[0] if seen is not None and seen.portals else session.portal
    return Door(sid, session.target, portal.host, portal.port, seen.interface if seen is not None else "default")


def _startups(sessions: Iterable[Session], facts: KernelFacts) -> Iterator[Step]:
    """One for each session that will be logged out and would be logged in again by itself."""
    number = 0
    for session in sessions:
        door = _door(session, facts)
        record = facts.record(door.sid)
        if record is None or record.startup in (None, "manual"):
            continue
        number += 1
        yield Step(
            id=f"startup-{number}",
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
        )


def _swaps(scene: Scene) -> Iterator[Step]:
    for number, area in enumerate(swapped_off(scene), 1):
        yield Step(
            id=f"swapoff-{number}",
            kind="swapoff",
            phase=Phase.DISMOUNT,
            title=f"Switch swap off in {area.path}",
            command=f'swapoff("{area.path}")',
            proof="/proc/swaps does not list it",
            undo=f"swapon {area.path}",
            deadline_s=600.0,
            expected_s=1.0,
            params={"path": area.path, "kind": area.kind, "stand": _stand_of(scene, area.dev)},
        )


def _stands(scene: Scene, facts: KernelFacts) -> dict[str, dict[str, Any]]:
    """For each mounted device number: what it is, and the kernel names under which the kernel's log speaks of it."""
    found = {}
    for mount in scene.own_mounts:
        under = {mount.dev, *scene.facts.filesystem_devs.get(mount.dev, ())}
        nodes = [node for node in _every(scene) if node.dev in under]
        if nodes and scene.node is not None:
            stand_ = stand.describe(nodes[0], scene.node, _uuids(facts))
            found[mount.dev] = {"stand": stand_, "knames": sorted({node.kname for node in nodes})}
    return found


def _stand_of(scene: Scene, dev: str | None) -> dict[str, Any] | None:
    node = next((node for node in _every(scene) if node.dev == dev), None)
    if node is None or scene.node is None:
        return None
    return stand.describe(node, scene.node, _uuids(scene.facts.kernel or _NOTHING))


def _every(scene: Scene) -> tuple[BlockNode, ...]:
    return (*((scene.node,) if scene.node else ()), *scene.parts, *scene.above)


def _uuids(facts: KernelFacts) -> dict[str, str]:
    return {array.kname: array.uuid for array in facts.arrays if array.uuid is not None}


def _closes(scene: Scene, facts: KernelFacts) -> Iterator[Step]:
    """From the top down; a volume group as a whole, when the first of its volumes has its turn."""
    done: set[str] = set()
    number = 0
    for node in top_down(scene.above):
        made = _close(node, scene, facts, done)
        if made is not None:
            number += 1
            yield dataclasses.replace(made, id=f"close-{number}")


_Closing = tuple[str, str, str, str, dict[str, Any]]
"""Kind, title, command and undo of a step, and what it needs to know."""


def _close(node: BlockNode, scene: Scene, facts: KernelFacts, done: set[str]) -> Step | None:
    name = node.dm_name or node.kname
    made: _Closing | None = None
    if node.kind == "lvm":
        made = _close_group(node, facts, done)
    elif node.kind == "crypt":
        again = f"a person opens {name} again: only its passphrase or key can"
        params = {"name": name, "uuid": node.dm_uuid}
        made = ("close-crypt", f"Close the encrypted volume {name}", f"cryptsetup close {name}", again, params)
    elif node.kind == "md":
        made = _close_array(node, scene, facts)
    elif node.kind == "part" and node.dm_uuid:
        command, again = f"DM_DEV_REMOVE of {node.dm_uuid}", "udev makes it again with the map"
        made = (
            "close-part",
            f"Remove the partition device {name}",
            command,
            again,
            {"name": name, "uuid": node.dm_uuid},
        )
    if made is None:
        return None
    kind, title, command, undo, params = made
    return Step(
        id="close",
        kind=kind,
        phase=Phase.DISMOUNT,
        title=title,
        command=command,
        proof="the kernel lists no such device any more",
        undo=undo,
        deadline_s=_TOOL_S,
        expected_s=1.0,
        params=params,
    )


def _close_group(node: BlockNode, facts: KernelFacts, done: set[str]) -> _Closing | None:
    uuid = (node.dm_uuid or "").removeprefix("LVM-")[:32]
    group = next((group for group in facts.groups if group.uuid == uuid), None)
    if group is None or uuid in done:
        return None
    done.add(uuid)
    return (
        "close-vg",
        f"Deactivate the volume group {group.name}",
        f"vgchange --activate n {group.name}",
        f"lvchange --activate y {' '.join(group.active)}",
        {"name": group.name, "uuid": uuid, "active": list(group.active)},
    )


def _close_array(node: BlockNode, scene: Scene, facts: KernelFacts) -> _Closing:
    array = next((array for array in facts.arrays if array.kname == node.kname), None)
    nodes = {each.kname: each for each in _every(scene)}
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


def _claims(scene: Scene, identity: Identity, routes: list[Route], options: Options) -> tuple[Step, ...]:
    device = identity.device or "the device"
    given = [dataclasses.asdict(route) for route in routes]
    names = ", ".join(f"/dev/{route.kname}" for route in routes)
    each = f"open O_RDONLY|O_EXCL and flock(LOCK_EX) on {names}; open state and delete of each"
    if scene.disk.map is None:
        return (
            Step(
                id="claim",
                kind="claim-paths",
                phase=Phase.CLAIM,
                title=f"Claim {device}",
                command=f"{each}, kept open until it is deleted",
                proof=f"the open succeeded, on the device with sequence number {identity.diskseq}",
                undo="close them",
                deadline_s=30.0,
                expected_s=0.2,
                params={"routes": given},
            ),
        )
    uuid = scene.node.dm_uuid if scene.node else None
    return (
        plan_common.claim("claim-map", f"the map {identity.name}", "its paths are claimed", identity),
        dataclasses.replace(
            plan_common.fsync("fsync-map", identity, options), phase=Phase.MAP, undo="nothing was changed by it"
        ),
        Step(
            id="hand-over",
            kind="hand-over",
            phase=Phase.MAP,
            title=f"Hand the claim on the map {identity.name} over to its paths",
            command=f"DM_DEV_REMOVE with DM_DEFERRED_REMOVE, close the claim, {each}; multipathd del path",
            proof="the map is gone, and every path of it is claimed",
            undo="release the paths; multipathd makes the map again",
            deadline_s=60.0,
            expected_s=0.5,
            params={"routes": given, "uuid": uuid},
        ),
    )


def _flushes(identity: Identity, routes: list[Route], options: Options) -> tuple[Step, ...]:
    given = [dataclasses.asdict(route) for route in routes]
    return (
        Step(
            id="flush",
            kind="flush-paths",
            phase=Phase.FLUSH,
            title="Have the target write its cache to stable storage",
            command="fsync, then SYNCHRONIZE CACHE(10) by SG_IO on each claimed path",
            proof=f"the target answered GOOD for LUN {identity.lun} of {identity.target}",
            undo="",
            deadline_s=options.flush_deadline_s,
            expected_s=0.5,
            params={"routes": given},
        ),
        Step(
            id="silent",
            kind="silent",
            phase=Phase.FLUSH,
            title="See that nothing is under way any more",
            command="read inflight, device_busy, stat, ioerr_cnt and iotmo_cnt of each path, twice",
            proof="no request is in flight, none ended in between, and no error was counted since the flush",
            undo="",
            deadline_s=20.0,
            expected_s=0.3,
            params={"routes": given},
        ),
    )


def _offline(route: Route, number: int) -> Step:
    return Step(
        id=f"offline-{number}",
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


def _delete(route: Route, number: int) -> Step:
    return Step(
        id=f"delete-{number}",
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


def _logout(session: Session, facts: KernelFacts, number: int) -> Step:
    door = _door(session, facts)
    made = plan_common.logout("logout-kernel", session, number)
    return dataclasses.replace(
        made,
        command=f"iscsiadm -m session -r {door.sid} -u",
        undo="log in again",
        deadline_s=90.0,
        expected_s=2.0,
        params={**made.params, "door": dataclasses.asdict(door)},
    )
