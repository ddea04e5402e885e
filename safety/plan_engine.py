"""The steps that remove a disk of the engine, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from initiator.host.mounts import Mount
from initiator.model import Source
from safety import plan_common
from safety.scene import Scene, Unit
from safety.sequence import Phase
from safety.step import Options, Step


def steps(scene: Scene, unit: Unit, options: Options) -> tuple[Step, ...]:
    """From its claim to its offline."""
    disk = unit.disk
    device = disk.device or "the device"
    fuse = _fuse_mount(scene, unit)
    own = (disk.id,)
    return (
        plan_common.claim("claim", device, "it is detached", unit),
        plan_common.fsync("fsync", unit, options),
        Step(
            id="flush",
            kind="flush",
            phase=Phase.FLUSH,
            title=f"Have the target write the cache of {disk.name} to stable storage",
            command=f"SYNCHRONIZE CACHE to LUN {disk.lun} of {disk.target}",
            proof="the target answered GOOD",
            undo="",
            deadline_s=options.flush_deadline_s,
            expected_s=0.5,
            disks=own,
        ),
        Step(
            id="detach",
            kind="detach",
            phase=Phase.OFFLINE,
            title=f"Detach {device} under the claim",
            command="fsync, then LOOP_CLR_FD on the claimed descriptor",
            proof="the kernel refuses every further open: nobody else has the device",
            undo="bring the device back from the engine",
            deadline_s=options.flush_deadline_s,
            expected_s=0.2,
            disks=own,
        ),
        Step(
            id="release",
            kind="release",
            phase=Phase.OFFLINE,
            title="Release the claim",
            command="close the claimed descriptor",
            proof=f"{device} has no backing file any more; its sequence number was {disk.diskseq} until then",
            undo="bring the device back from the engine",
            deadline_s=60.0,
            expected_s=0.2,
            disks=own,
        ),
        Step(
            id="offline",
            kind="offline",
            phase=Phase.OFFLINE,
            title=f"Close the engine's gate to {disk.name}",
            command=f"SYNCHRONIZE CACHE once more, then engine: offline {disk.id}",
            proof="the engine takes no command for the disk, and its FUSE mount and connection are gone",
            undo=f"engine: online {disk.id}",
            deadline_s=60.0,
            expected_s=0.5,
            params={"fuse_dev": fuse and fuse.dev, "fuse_point": fuse and fuse.mountpoint},
            disks=own,
        ),
    )


def logouts(scene: Scene) -> Iterator[Step]:
    """One for each session of the engine."""
    for session in scene.sessions:
        if session.source is Source.ENGINE:
            yield dataclasses.replace(
                plan_common.logout("logout", session, scene),
                command=f"engine: logout {session.id} ({session.target})",
                undo="log in and attach again" if scene.units_over(session) else "log in again",
            )


def _fuse_mount(scene: Scene, unit: Unit) -> Mount | None:
    """The FUSE mount that holds the file the disk's loop device is made of."""
    backing = unit.node.backing_file if unit.node else None
    if backing is None:
        return None
    best: Mount | None = None
    for mount in scene.facts.mounts:
        inside = backing == mount.mountpoint or backing.startswith(mount.mountpoint.rstrip("/") + "/")
        if mount.namespace is None and inside and (best is None or len(mount.mountpoint) >= len(best.mountpoint)):
            best = mount
    return best if best is not None and best.fstype.startswith("fuse") else None


def attach(scene: Scene, unit: Unit) -> dict[str, Any]:
    """Parameters with which the engine attaches the disk again."""
    disk, sessions = unit.disk, scene.sessions_of(unit)
    users = [session.chap_user for session in sessions if session.chap_user]
    theirs = [name for session in sessions if (name := session.details.get("chap_user_in"))]
    initiators = [session.initiator for session in sessions if session.initiator]
    return {
        "target": disk.target,
        "lun": disk.lun,
        "portals": list(dict.fromkeys(str(session.portal) for session in sessions)),
        "name": disk.name,
        "initiator": initiators[0] if initiators else None,
        "chap_user": users[0] if users else None,
        "chap_target_user": theirs[0] if theirs else None,
        "read_only": disk.read_only,
    }
