"""The steps that every removal has, and the order of its unmounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from initiator.host.mounts import Mount
from initiator.host.services import Automount
from initiator.model import BlockNode, Session
from safety import stand
from safety.facts_kernel import KernelFacts
from safety.guard_use import ended_first, unmounted_there
from safety.identity import Identity
from safety.scene import Scene, Unit
from safety.scope import Reach, Scope
from safety.sequence import Phase
from safety.step import Options, Step

_WHAT = {Reach.SESSION: "session", Reach.TARGET: "target", Reach.LINK: "link", Reach.PATH: "path"}


def members(scene: Scene) -> tuple[str, ...]:
    """Ids of all disks of a removal."""
    return tuple(unit.disk.id for unit in scene.units)


def identify(scene: Scene, scope: Scope) -> Step:
    """Know the disks."""
    known = [Identity.of(unit.disk) for unit in scene.units]
    devices = ", ".join(one.device or one.name for one in known)
    alone = scope.reach is Reach.DISKS and len(known) == 1
    what = f"the disk {scope.name}" if alone else _named(scope, known)
    same = ", ".join(f"{one.wwid or 'its identification'}, {one.size_bytes} bytes" for one in known)
    return Step(
        id="identify",
        kind="identify",
        phase=Phase.IDENTIFY,
        title=f"Know {what}",
        command=f"read the identification, size and sequence number of {devices} and ask every guard"
        if known
        else "read what the sessions carry and ask every guard",
        proof=f"{same}, as planned; no guard says no" if known else "the sessions carry nothing; no guard says no",
        undo="",
        deadline_s=30.0,
        expected_s=0.3,
        disks=members(scene),
    )


def _named(scope: Scope, known: list[Identity]) -> str:
    if scope.reach is Reach.DISKS:
        return f"the {len(known)} disks {scope.name}"
    if scope.reach is Reach.VOLUME:
        return f"the volume {scope.name}, on {', '.join(one.name for one in known)}"
    many = f", with {len(known)} disk{'s' if len(known) != 1 else ''}" if scope.reach is not Reach.PATH else ""
    return f"the {_WHAT[scope.reach]} {scope.name}{many}"


def lock(scene: Scene, scope: Scope) -> Step:
    """Nobody else removes them."""
    keys = [Identity.of(unit.disk).key() for unit in scene.units]
    what = "the disk" if len(keys) == 1 else f"the {len(keys)} disks" if keys else scope.name
    return Step(
        id="lock",
        kind="lock",
        phase=Phase.LOCK,
        title=f"Lock {what} and open the journal",
        command="flock(LOCK_EX) on the lock file of " + (f"disk {', '.join(keys)}" if keys else scope.name),
        proof="this runner alone holds the lock",
        undo="",
        deadline_s=5.0,
        expected_s=0.0,
        disks=members(scene),
    )


def claim(kind: str, what: str, until: str, unit: Unit) -> Step:
    """Nobody else builds on it."""
    device = unit.disk.device or "the device"
    return Step(
        id="claim",
        kind=kind,
        phase=Phase.CLAIM,
        title=f"Claim {what}",
        command=f'open("{device}", O_RDONLY|O_EXCL), kept open until {until}',
        proof=f"the open succeeded, on the device with sequence number {unit.disk.diskseq}",
        undo="close it",
        deadline_s=30.0,
        expected_s=0.1,
        disks=(unit.disk.id,),
    )


def fsync(kind: str, unit: Unit, options: Options) -> Step:
    """The page cache of the device itself."""
    return Step(
        id="fsync",
        kind=kind,
        phase=Phase.FLUSH,
        title=f"Write back what {unit.disk.device or 'the device'} has in memory",
        command="fsync on the claimed descriptor",
        proof="it returned without error",
        undo="",
        deadline_s=options.flush_deadline_s,
        expected_s=0.5,
        disks=(unit.disk.id,),
    )


def logout(kind: str, session: Session, scene: Scene) -> Step:
    """One session; the caller says by which command, and what takes it back."""
    return Step(
        id="logout-#",
        kind=kind,
        phase=Phase.LOGOUT,
        title=f"Log out from {session.portal}",
        command="",
        proof="the session is not listed any more and its TCP connection is closed",
        undo="",
        deadline_s=30.0,
        expected_s=0.5,
        params={
            "session": session.id,
            "name": session.name,
            "target": session.target,
            "portal": str(session.portal),
            "link": session.link,
            "connections": ends(session),
        },
        disks=tuple(unit.disk.id for unit in scene.units_over(session)),
    )


def watch(disks: tuple[str, ...], options: Options) -> Step:
    """Nothing may come back."""
    return Step(
        id="watch",
        kind="watch",
        phase=Phase.WATCH,
        title="Watch that nothing comes back",
        command=f"read sessions, block devices and mounts again for {options.watch_s:g} s",
        proof="no session, no device and no mount of the disk came back" if disks else "no session came back",
        undo="",
        deadline_s=options.watch_s + 30.0,
        expected_s=options.watch_s,
        params={"seconds": options.watch_s},
        disks=disks,
    )


def endings(scene: Scene) -> Iterator[Step]:
    """The processes that use what is unmounted, if the person chose to have them ended."""
    users = {user.pid: user for user in ended_first(scene)}
    if not users:
        return
    pids = " ".join(map(str, sorted(users)))
    yield Step(
        id="end-users",
        kind="end-users",
        phase=Phase.STOP,
        title=f"End {', '.join(f'{user.command} ({pid})' for pid, user in sorted(users.items()))}",
        command=f"kill -TERM {pids}",
        proof="none of these processes is there any more",
        undo="whoever started them starts them again",
        deadline_s=20.0,
        expected_s=1.0,
        params={"users": [{"pid": pid, "started": user.started} for pid, user in sorted(users.items())]},
        disks=tuple(unit.disk.id for unit in scene.dismounted),
    )


def unmounts_there(scene: Scene, options: Options) -> Iterator[Step]:
    """One step for each mount in the namespace of somebody else that the person chose to have unmounted."""
    for mount in unmounted_there(scene):
        here, pid = mount.mountpoint, mount.namespace_pid
        yield Step(
            id="unmount-there-#",
            kind="unmount-there",
            phase=Phase.DISMOUNT,
            title=f"Unmount {here} in the mount namespace of process {pid}",
            command=f'setns(/proc/{pid}/ns/mnt), syncfs("{here}"), then umount2("{here}", UMOUNT_NOFOLLOW)',
            proof=f"syncfs reported no error; mount namespace {mount.namespace} does not list it",
            undo="the container, or whoever made the namespace, mounts it again",
            deadline_s=options.unmount_deadline_s,
            expected_s=0.5,
            params={
                "mountpoint": here,
                "mount_id": mount.mount_id,
                "namespace": mount.namespace,
                "pid": pid,
                "knames": standing(scene, mount).get("knames", []),
            },
            disks=tuple(unit.disk.id for unit in scene.on(mount.dev)),
        )


def automounts(scene: Scene) -> Iterator[Step]:
    """For each automount of systemd: its mount is kept from being mounted, and when that is unmounted it is stopped.

    It is stopped after the unmount, because systemd takes everything away lazily that is mounted on an automount point.
    """
    own = {mount.mountpoint: mount.dev for mount in scene.own_mounts}
    for each in scene.facts.automounts:
        if each.active != "active" or each.where not in own:
            continue
        disks = tuple(unit.disk.id for unit in scene.on(own[each.where]))
        mount = f"{each.unit.removesuffix('.automount')}.mount"
        masked = _unit_step(each, disks, "mask-mount", Phase.STOP, mount)
        yield dataclasses.replace(
            masked,
            title=f"Keep systemd from mounting {each.where}",
            command=f"systemctl mask --runtime {mount}",
            proof=f"{mount} is masked in /run/systemd/system",
            undo=f"systemctl unmask --runtime {mount}",
        )
        stopped = _unit_step(each, disks, "stop-automount", Phase.DISMOUNT, mount)
        yield dataclasses.replace(
            stopped,
            title=f"Stop the automount at {each.where}",
            command=f"systemctl mask --runtime {each.unit}, then systemctl stop {each.unit}",
            proof=f"no autofs is mounted at {each.where}, and {each.unit} is masked",
            undo=f"systemctl unmask --runtime {each.unit}, then systemctl start {each.unit}",
        )


def _unit_step(unit: Automount, disks: tuple[str, ...], kind: str, phase: Phase, mount: str) -> Step:
    return Step(
        id=f"{kind}-#",
        kind=kind,
        phase=phase,
        title="",
        command="",
        proof="",
        undo="",
        deadline_s=30.0,
        expected_s=0.5,
        params={"unit": unit.unit, "mount": mount, "where": unit.where},
        disks=disks,
    )


def unmounts(scene: Scene, options: Options) -> Iterator[Step]:
    """One step for each mount in the own namespace, deepest first over all disks."""
    order = deepest_first(scene.own_mounts, scene.facts.mounts)
    groups = [scene.on(mount.dev) for mount in order]
    for number, (mount, group) in enumerate(zip(order, groups, strict=True)):
        yield _unmount(mount, group, scene, options, last=group not in groups[number + 1 :])


def _unmount(mount: Mount, group: tuple[Unit, ...], scene: Scene, options: Options, *, last: bool) -> Step:
    here = mount.mountpoint
    kernel = any(unit.kernel for unit in group)
    look = here in scene.facts.looks  # what was only looked into nobody misses
    return Step(
        id="unmount-#",
        kind="unmount-lost" if scene.abandon and kernel else "unmount-kernel" if kernel else "unmount",
        phase=Phase.DISMOUNT,
        title=f"Unmount {here}",
        command=f'syncfs("{here}"), then umount2("{here}", UMOUNT_NOFOLLOW)',
        proof=("" if scene.abandon else "syncfs reported no error; ")
        + f"no mount namespace lists {mount.dev}"
        + (" any more, and its superblock is gone" if last else f" at {here}"),
        undo="" if look else f"mount again at {here} with {mount.options}",
        deadline_s=options.unmount_deadline_s,
        expected_s=1.0,
        params={
            "mountpoint": here,
            "mount_id": mount.mount_id,
            "dev": mount.dev,
            "devs": sorted({dev for unit in group for dev in unit.devs}),
            "fstype": mount.fstype,
            "source": mount.source,
            "root": mount.root,
            "options": mount.options,
            "super_options": mount.super_options,
            "propagation": mount.propagation,
            "last": last,
            **({"look": True} if look else {}),
            **(standing(scene, mount) if kernel else {}),
        },
        disks=tuple(unit.disk.id for unit in group),
    )


def standing(scene: Scene, mount: Mount) -> dict[str, Any]:
    """What a mounted device is, and the kernel names under which the kernel's log speaks of it."""
    under = {mount.dev, *scene.facts.filesystem_devs.get(mount.dev, ())}
    found = [node for node in scene.nodes if node.dev in under]
    if not found:
        return {}
    return {"stand": place(scene, found[0]), "knames": sorted({node.kname for node in found})}


def place(scene: Scene, node: BlockNode) -> dict[str, Any] | None:
    """How a device of the stack is found again when the disks came back; None where nothing is known of it."""
    unit = next((unit for unit in scene.dismounted if node.dev in unit.devs), None)
    if unit is None or unit.node is None:
        return None
    return {**stand.describe(node, unit.node, uuids(scene.facts.kernel)), "disk": unit.disk.id}


def uuids(facts: KernelFacts | None) -> dict[str, str]:
    """UUIDs of arrays, by kernel name."""
    return {array.kname: array.uuid for array in (facts.arrays if facts else ()) if array.uuid is not None}


def deepest_first(own: tuple[Mount, ...], everything: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Mounts of one namespace in an order in which each can go: what hangs deeper in the tree first, the newest first.

    Args:
        own: The mounts to order.
        everything: All mounts, which hold the parents too.
    """
    parents = {mount.mount_id: mount.parent_id for mount in everything if mount.namespace is None}

    def depth(mount: Mount) -> int:
        steps, at = 0, mount.mount_id
        while at in parents and parents[at] != at and steps <= len(parents):
            steps, at = steps + 1, parents[at]
        return steps

    return tuple(sorted(own, key=lambda mount: (-depth(mount), -mount.mount_id)))


def ends(session: Session) -> list[dict[str, Any]]:
    """The two ends of each TCP connection of a session."""
    return [
        {
            "local_host": connection.local_host,
            "local_port": connection.local_port,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
        }
        for connection in session.connections
    ]
