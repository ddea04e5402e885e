"""The plan of one removal: the same object for dry run, dialog, `--json`, execution and journal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from initiator.errors import MooringError
from initiator.host.mounts import Mount
from initiator.model import Disk, Session, Snapshot
from safety.facts import Facts
from safety.findings import Finding, blocks
from safety.guards import examine
from safety.identity import Identity
from safety.scene import Scene, find_disk, view
from safety.sequence import SEQUENCE, Phase, check_order

SCHEMA = 1
_PASSING = frozenset({"memory-pressure"})
"""Findings that come and go by themselves and change nothing in what will be done."""


class PlanError(MooringError):
    """A stored plan cannot be used."""

    code = "plan"
    fix = "make a new plan"


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
    """Parameters with which the engine attaches the disk again: target, lun, portals, name, initiator, chap_user."""
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
    steps = _steps(scene, identity, chosen)
    check_order(step.phase for step in steps)
    attach = _attach(scene)
    digest = _digest(identity, steps, findings, chosen, attach)
    return Plan(identity, findings, steps, chosen, attach, snapshot.host, snapshot.taken_at, digest)


def _steps(scene: Scene, identity: Identity, options: Options) -> tuple[Step, ...]:
    device = identity.device or "the device"
    unmounts = deepest_first(scene.own_mounts, scene.facts.mounts)
    return (
        Step(
            id="identify",
            kind="identify",
            phase=Phase.IDENTIFY,
            title=f"Know the disk {identity.name}",
            command=f"read the identification, size and sequence number of {device} and ask every guard",
            proof=f"{identity.wwid or 'its identification'}, {identity.size_bytes} bytes, as planned; no guard says no",
            undo="",
            deadline_s=30.0,
            expected_s=0.3,
        ),
        Step(
            id="lock",
            kind="lock",
            phase=Phase.LOCK,
            title="Lock the disk and open the journal",
            command=f"flock(LOCK_EX) on the lock file of disk {identity.key()}",
            proof="this runner alone holds the lock",
            undo="",
            deadline_s=5.0,
            expected_s=0.0,
        ),
        *(_unmount(mount, number, len(unmounts), scene, options) for number, mount in enumerate(unmounts, 1)),
        *_device_steps(identity, device, options),
        *_engine_steps(scene, identity, options),
        *(_logout(session, number) for number, session in enumerate(scene.sessions, 1)),
        Step(
            id="watch",
            kind="watch",
            phase=Phase.WATCH,
            title="Watch that nothing comes back",
            command=f"read sessions, block devices and mounts again for {options.watch_s:g} s",
            proof="no session, no device and no mount of the disk came back",
            undo="",
            deadline_s=options.watch_s + 30.0,
            expected_s=options.watch_s,
            params={"seconds": options.watch_s},
        ),
    )


def _unmount(mount: Mount, number: int, total: int, scene: Scene, options: Options) -> Step:
    here = mount.mountpoint
    return Step(
        id=f"unmount-{number}",
        kind="unmount",
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
        },
    )


def _device_steps(identity: Identity, device: str, options: Options) -> tuple[Step, ...]:
    return (
        Step(
            id="claim",
            kind="claim",
            phase=Phase.CLAIM,
            title=f"Claim {device}",
            command=f'open("{device}", O_RDONLY|O_EXCL), kept open until it is detached',
            proof=f"the open succeeded, on the device with sequence number {identity.diskseq}",
            undo="close it",
            deadline_s=30.0,
            expected_s=0.1,
        ),
        Step(
            id="fsync",
            kind="fsync",
            phase=Phase.FLUSH,
            title=f"Write back what {device} has in memory",
            command="fsync on the claimed descriptor",
            proof="it returned without error",
            undo="",
            deadline_s=options.flush_deadline_s,
            expected_s=0.5,
        ),
    )


def _engine_steps(scene: Scene, identity: Identity, options: Options) -> tuple[Step, ...]:
    device = identity.device or "the device"
    fuse = _fuse_mount(scene)
    return (
        Step(
            id="flush",
            kind="flush",
            phase=Phase.FLUSH,
            title="Have the target write its cache to stable storage",
            command=f"SYNCHRONIZE CACHE to LUN {identity.lun} of {identity.target}",
            proof="the target answered GOOD",
            undo="",
            deadline_s=options.flush_deadline_s,
            expected_s=0.5,
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
        ),
        Step(
            id="release",
            kind="release",
            phase=Phase.OFFLINE,
            title="Release the claim",
            command="close the claimed descriptor",
            proof=f"{device} has no backing file any more; its sequence number was {identity.diskseq} until then",
            undo="bring the device back from the engine",
            deadline_s=60.0,
            expected_s=0.2,
        ),
        Step(
            id="offline",
            kind="offline",
            phase=Phase.OFFLINE,
            title="Close the engine's gate",
            command=f"SYNCHRONIZE CACHE once more, then engine: offline {identity.disk}",
            proof="the engine takes no command for the disk, and its FUSE mount and connection are gone",
            undo=f"engine: online {identity.disk}",
            deadline_s=60.0,
            expected_s=0.5,
            params={"fuse_dev": fuse and fuse.dev, "fuse_point": fuse and fuse.mountpoint},
        ),
    )


def _logout(session: Session, number: int) -> Step:
    ends = [
        {
            "local_host": connection.local_host,
            "local_port": connection.local_port,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
        }
        for connection in session.connections
    ]
    return Step(
        id=f"logout-{number}",
        kind="logout",
        phase=Phase.LOGOUT,
        title=f"Log out from {session.portal}",
        command=f"engine: logout {session.id} ({session.target})",
        proof="the session is not listed any more and its TCP connection is closed",
        undo="log in and attach again",
        deadline_s=30.0,
        expected_s=0.5,
        params={
            "session": session.id,
            "name": session.name,
            "portal": str(session.portal),
            "link": session.link,
            "connections": ends,
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


def _fuse_mount(scene: Scene) -> Mount | None:
    """The FUSE mount that holds the file the disk's loop device is made of."""
    backing = scene.node.backing_file if scene.node else None
    if backing is None:
        return None
    best: Mount | None = None
    for mount in scene.facts.mounts:
        inside = backing == mount.mountpoint or backing.startswith(mount.mountpoint.rstrip("/") + "/")
        if mount.namespace is None and inside and (best is None or len(mount.mountpoint) >= len(best.mountpoint)):
            best = mount
    return best if best is not None and best.fstype.startswith("fuse") else None


def _attach(scene: Scene) -> dict[str, Any]:
    disk: Disk = scene.disk
    users = [session.chap_user for session in scene.sessions if session.chap_user]
    initiators = [session.initiator for session in scene.sessions if session.initiator]
    return {
        "target": disk.target,
        "lun": disk.lun,
        "portals": list(dict.fromkeys(str(session.portal) for session in scene.sessions)),
        "name": disk.name,
        "initiator": initiators[0] if initiators else None,
        "chap_user": users[0] if users else None,
        "read_only": disk.read_only,
    }


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
