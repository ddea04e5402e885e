"""The steps that every removal has, and the order of its unmounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from initiator.host.mounts import Mount
from initiator.model import Session
from safety.identity import Identity
from safety.scene import Scene
from safety.sequence import Phase
from safety.step import Options, Step


def identify(kind: str, identity: Identity) -> Step:
    """Know the disk."""
    device = identity.device or "the device"
    return Step(
        id="identify",
        kind=kind,
        phase=Phase.IDENTIFY,
        title=f"Know the disk {identity.name}",
        command=f"read the identification, size and sequence number of {device} and ask every guard",
        proof=f"{identity.wwid or 'its identification'}, {identity.size_bytes} bytes, as planned; no guard says no",
        undo="",
        deadline_s=30.0,
        expected_s=0.3,
    )


def lock(identity: Identity) -> Step:
    """Nobody else removes it."""
    return Step(
        id="lock",
        kind="lock",
        phase=Phase.LOCK,
        title="Lock the disk and open the journal",
        command=f"flock(LOCK_EX) on the lock file of disk {identity.key()}",
        proof="this runner alone holds the lock",
        undo="",
        deadline_s=5.0,
        expected_s=0.0,
    )


def claim(kind: str, what: str, until: str, identity: Identity) -> Step:
    """Nobody else builds on it."""
    device = identity.device or "the device"
    return Step(
        id="claim",
        kind=kind,
        phase=Phase.CLAIM,
        title=f"Claim {what}",
        command=f'open("{device}", O_RDONLY|O_EXCL), kept open until {until}',
        proof=f"the open succeeded, on the device with sequence number {identity.diskseq}",
        undo="close it",
        deadline_s=30.0,
        expected_s=0.1,
    )


def fsync(kind: str, identity: Identity, options: Options) -> Step:
    """The page cache of the device itself."""
    return Step(
        id="fsync",
        kind=kind,
        phase=Phase.FLUSH,
        title=f"Write back what {identity.device or 'the device'} has in memory",
        command="fsync on the claimed descriptor",
        proof="it returned without error",
        undo="",
        deadline_s=options.flush_deadline_s,
        expected_s=0.5,
    )


def logout(kind: str, session: Session, number: int) -> Step:
    """One session; the caller says by which command, and what takes it back."""
    return Step(
        id=f"logout-{number}",
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
            "portal": str(session.portal),
            "link": session.link,
            "connections": _ends(session),
        },
    )


def watch(kind: str, options: Options) -> Step:
    """Nothing may come back."""
    return Step(
        id="watch",
        kind=kind,
        phase=Phase.WATCH,
        title="Watch that nothing comes back",
        command=f"read sessions, block devices and mounts again for {options.watch_s:g} s",
        proof="no session, no device and no mount of the disk came back",
        undo="",
        deadline_s=options.watch_s + 30.0,
        expected_s=options.watch_s,
        params={"seconds": options.watch_s},
    )


def unmounts(
    kind: str, scene: Scene, options: Options, more: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Step, ...]:
    """One step for each mount in the own namespace, deepest first.

    Args:
        kind: The kind of these steps.
        scene: The disk and what stands on it.
        options: What the person chose.
        more: Further parameters, by the device number in mountinfo.
    """
    order = deepest_first(scene.own_mounts, scene.facts.mounts)
    return tuple(
        _unmount(kind, mount, number, len(order), scene, options, (more or {}).get(mount.dev, {}))
        for number, mount in enumerate(order, 1)
    )


def _unmount(
    kind: str, mount: Mount, number: int, total: int, scene: Scene, options: Options, more: Mapping[str, Any]
) -> Step:
    here = mount.mountpoint
    return Step(
        id=f"unmount-{number}",
        kind=kind,
        phase=Phase.DISMOUNT,
        title=f"Unmount {here}",
        command=f'syncfs("{here}"), then umount2("{here}", UMOUNT_NOFOLLOW)',
        proof=f"syncfs reported no error; no mount namespace lists {mount.dev}"
        + (f" at {here}" if number < total else " any more, and its superblock is gone"),
        undo=f"mount again at {here} with {mount.options}",
        deadline_s=options.unmount_deadline_s,
        expected_s=1.0,
        params={
            "mountpoint": here,
            "mount_id": mount.mount_id,
            "dev": mount.dev,
            "devs": sorted(scene.devs),
            "fstype": mount.fstype,
            "source": mount.source,
            "root": mount.root,
            "options": mount.options,
            "super_options": mount.super_options,
            "propagation": mount.propagation,
            "last": number == total,
            **more,
        },
    )


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


def _ends(session: Session) -> list[dict[str, Any]]:
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
