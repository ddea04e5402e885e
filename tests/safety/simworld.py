"""A simulated host that keeps count of where the bytes are, and can die at any effect.

Bytes written by the user move from the file system's cache to the device's, to the target's cache, to stable storage,
and only the calls that do so on a real host move them here. Detaching, or logging out, while bytes are not stable yet
loses them, and `lost` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from initiator.engine.rpc import EngineError, EngineNotRunning, EngineSilent
from initiator.host.mounts import Mount
from initiator.host.volumes import to_volume
from initiator.model import BlockNode, DiskState, Session, Snapshot
from safety.facts import Facts, User
from safety.scope import Extent
from safety.world import Busy, Claim, Ends, LoopState, StepError
from safety.world_kernel import KernelWorld
from tests.safety import scenes


class Crash(BaseException):
    """The runner's process dies here."""


@dataclasses.dataclass(slots=True)
class SimClaim:
    open: bool = True

    @property
    def held(self) -> bool:
        return self.open


class SimWorld:
    """Implements `safety.world.World` without a kernel."""

    def __init__(self, mounts: Sequence[Mount] = (scenes.DATA_MOUNT,)) -> None:
        self.clock = 100.0
        self.engine_state = "running"
        self.mounted = list(mounts)
        self.fuse: list[Mount] = []
        self.device: str | None = "/dev/loop3"
        self.dev = scenes.DEV
        self.diskseq = 7
        self.autoclear = False
        self.sealed = False
        self.foreign_openers = 0
        self.users: tuple[User, ...] = ()
        self.state = DiskState.ATTACHED
        self.sessions: list[Session] = [scenes.session(1), scenes.session(2)]
        self.paths = [scenes.path(1), scenes.path(2)]
        self.tcp = {1, 2}
        self.identity: dict[str, Any] = {}
        self.claims: list[SimClaim] = []
        self.next_session = 10
        self.next_mount = 100
        self.fs_dirty = 3 if mounts else 0
        self.device_dirty = 1
        self.target_dirty = 1
        self.stable = 0
        self.lost = 0
        self.flush_answer: dict[str, Any] = {"status": 0, "sense": "", "explain": "GOOD", "paths": []}
        self.silent: set[str] = set()
        self.secret: str | None = None
        self.target_secret: str | None = None
        self.attach_asked: dict[str, Any] = {}
        self.calls: list[str] = []
        self.die_before: int | None = None
        self.die_after: int | None = None

    @property
    def kernel(self) -> KernelWorld:
        raise AssertionError("the kernel's initiator has no part in this")

    # The bytes.

    @property
    def written(self) -> int:
        return self.fs_dirty + self.device_dirty + self.target_dirty + self.stable + self.lost

    def _write_back_device(self) -> None:
        self.target_dirty += self.device_dirty
        self.device_dirty = 0

    def _lose(self) -> None:
        self.lost += self.fs_dirty + self.device_dirty
        self.fs_dirty = self.device_dirty = 0

    def _own(self) -> set[str]:
        return {path.session for path in self.paths if path.disk == scenes.DISK}

    # Dying.

    def _effect(self, name: str) -> None:
        self.calls.append(name)
        if self.die_before == len(self.calls):
            raise Crash

    def _done(self) -> None:
        if self.die_after == len(self.calls):
            raise Crash

    def process_died(self) -> None:
        """What the kernel does when the runner's process ends."""
        self.die_before = self.die_after = None
        for claim in self.claims:
            self._close(claim)

    def restart(self) -> None:
        """The machine is restarted, in good order: nothing is mounted, attached or logged in."""
        self.mounted, self.paths, self.sessions, self.tcp, self.claims = [], [], [], set(), []
        self.device, self.autoclear, self.sealed = None, False, False
        self.state = DiskState.ATTACHED

    def _close(self, claim: SimClaim) -> None:
        claim.open = False
        if self.autoclear and self.foreign_openers == 0 and not any(one.open for one in self.claims):
            self._detach()

    def _detach(self) -> None:
        self._lose()
        self.device, self.autoclear, self.sealed = None, False, False

    # Reading.

    def snapshot(self) -> Snapshot:
        found = scenes.snapshot()
        nodes: list[BlockNode] = [found.block[0]]
        if self.device is not None:
            nodes.append(scenes.node(kname=self.device[5:], dev=self.dev, diskseq=self.diskseq))
        attached = self.device is not None
        shown = scenes.disk(
            state=self.state,
            device=self.device if attached else None,
            dev=self.dev if attached else None,
            diskseq=self.diskseq if attached else None,
        )
        if self.engine_state != "running":
            return dataclasses.replace(
                found, sessions=(), disks=(), paths=(), block=tuple(nodes), engine=self.engine_state
            )
        disks = (dataclasses.replace(shown, **self.identity),) if self._own() else ()
        return dataclasses.replace(
            found,
            sessions=tuple(self.sessions),
            disks=disks,
            paths=tuple(self.paths),
            block=tuple(nodes),
            volumes=tuple(to_volume(mount, (scenes.DISK,), None, None) for mount in self.mounted if disks),
        )

    def facts(self, snapshot: Snapshot, extent: Extent) -> Facts:
        alive = tuple({"loop3"} if self.mounted else set())
        return scenes.facts(mounts=self.mounts(), superblocks=alive, users=self.users)

    def mounts(self) -> tuple[Mount, ...]:
        return (scenes.ROOT_MOUNT, *self.fuse, *self.mounted)

    def superblocks(self) -> tuple[str, ...]:
        return ("loop3",) if self.mounted and self.device == "/dev/loop3" else ()

    def loop(self, dev: str) -> LoopState | None:
        if self.device is None or dev != self.dev:
            return LoopState("loop3", None, False, self.diskseq + 1)
        return LoopState(self.device[5:], "/run/mooring/disks/data/data", self.autoclear, self.diskseq)

    def connections(self) -> tuple[Ends, ...]:
        return tuple(Ends(f"127.0.0.{one}", 50000 + one, f"127.0.0.{one}", 3260) for one in sorted(self.tcp))

    def trouble(self, kname: str) -> tuple[str, ...]:
        return ()

    def on_top(self, mountpoint: str, mount_id: int, deadline: float) -> bool:
        here = [mount for mount in self.mounted if mount.mountpoint == mountpoint]
        return bool(here) and here[-1].mount_id == mount_id

    def now(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    # Acting.

    def syncfs(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"syncfs {mountpoint}")
        self.device_dirty += self.fs_dirty
        self.fs_dirty = 0
        self._done()

    def unmount(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"umount {mountpoint}")
        if self.users:
            raise Busy(f"{mountpoint} is in use.")
        for mount in reversed(self.mounted):
            if mount.mountpoint == mountpoint:
                assert not any(one.parent_id == mount.mount_id for one in self.mounted), "not the deepest first"
                self.mounted.remove(mount)
                break
        self.device_dirty += self.fs_dirty
        self.fs_dirty = 0
        self._done()

    def unmount_in(self, pid: int, namespace: str, mountpoint: str, deadline: float) -> None:
        raise AssertionError("there is one namespace")

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        self._effect("mount " + " ".join(arguments))
        if arguments[0] in ("-t", "--bind"):
            source, point = arguments[-2:]
            if arguments[0] == "-t":
                assert source == self.device, "mounts what is there"
            else:
                assert any(source.startswith(one.mountpoint) for one in self.mounted), "binds what is there"
            assert not any(claim.open for claim in self.claims), "EBUSY"
            before = next(one for one in ALL_MOUNTS if one.mountpoint == point)
            parent = next((one.mount_id for one in self.mounted if point.startswith(one.mountpoint + "/")), 1)
            fresh = dataclasses.replace(before, mount_id=self.next_mount, dev=self.dev, source=source, parent_id=parent)
            self.next_mount += 1
            self.mounted.append(fresh)
        self._done()

    def terminate(self, pid: int, started: int) -> None:
        self._effect(f"terminate {pid}")
        self.users = tuple(user for user in self.users if (user.pid, user.started) != (pid, started))
        self._done()

    def alive(self, pid: int, started: int) -> bool:
        return any((user.pid, user.started) == (pid, started) for user in self.users)

    def masked(self, unit: str) -> bool:
        raise AssertionError("no unit has part in this")

    def systemctl(self, arguments: Sequence[str], deadline: float) -> None:
        raise AssertionError("no unit has part in this")

    def scratch(self) -> str:
        return "/run/mooring/undo"

    def claim(self, device: str, dev: str, diskseq: int | None, deadline: float) -> Claim:
        self._effect(f"claim {device}")
        if self.mounted or self.sealed or any(one.open for one in self.claims):
            raise Busy(f"{device} is in use.")
        if device != self.device or diskseq != self.diskseq:
            raise StepError("another device", code="identity-changed")
        claim = SimClaim()
        self.claims.append(claim)
        self._done()
        return claim

    def fsync(self, claim: Claim, deadline: float) -> None:
        self._effect("fsync")
        assert claim.held
        self._write_back_device()
        self._done()

    def seal(self, claim: Claim, deadline: float) -> bool:
        self._effect("seal")
        assert claim.held
        self._write_back_device()
        if self.foreign_openers:
            return False
        self.autoclear = self.sealed = True
        self._done()
        return True

    def release(self, claim: Claim, deadline: float) -> None:
        self._effect("release")
        assert isinstance(claim, SimClaim)
        self._close(claim)
        self._done()

    def wake(self) -> None:
        self._effect("wake")
        self.engine_state = "running"
        self._done()

    def engine(self, method: str, timeout: float, params: Mapping[str, Any]) -> Any:
        self._effect(f"engine {method}")
        if self.engine_state != "running":
            raise EngineNotRunning("the engine is not running")
        answer = getattr(self, f"_engine_{method}")(**params)
        self._done()
        if method in self.silent:
            raise EngineSilent(f"the engine did not answer {method!r}")
        return answer

    def _engine_flush(self, disk: str) -> dict[str, Any]:
        if self.flush_answer["status"] == 0:
            self.stable += self.target_dirty
            self.target_dirty = 0
        return self.flush_answer

    def _engine_offline(self, disk: str) -> dict[str, Any]:
        if self.device is not None:
            raise EngineError("its loop device is still there", code="attached")
        self.state = DiskState.OFFLINE
        return {"disk": disk, "evidence": []}

    def _engine_online(self, disk: str) -> dict[str, Any]:
        if self.state is DiskState.OFFLINE:
            self._attach_device()
        return {}

    def _engine_logout(self, session: str) -> dict[str, Any]:
        if self.state is not DiskState.OFFLINE:
            raise EngineError("it has an attached disk", code="attached")
        kept = [one for one in self.sessions if one.id != session]
        gone = [one for one in self.sessions if one.id == session]
        if not gone:
            raise EngineError("no such session", code="unknown-session")
        self.sessions = kept
        self.paths = [one for one in self.paths if one.session != session]
        self.tcp -= {int(str(gone[0].portal.host).rpartition(".")[2])}
        if not self._own():
            self.lost += self.target_dirty
            self.target_dirty = 0
        return {"session": session, "state": "logged-out"}

    def _engine_attach(self, **params: Any) -> dict[str, Any]:
        if self._own():
            raise EngineError("this disk is attached already", code="attached")
        self.attach_asked = params
        if self.secret is not None and params.get("chap_secret") != self.secret:
            raise EngineError("the target refused the login", code="auth")
        if params.get("chap_target_secret") != self.target_secret:
            raise EngineError("the target did not prove who it is", code="auth")
        for number, portal in enumerate(params["portals"], 1):
            host = portal.rpartition(":")[0]
            fresh = scenes.session(number, id=f"engine:s:{self.next_session}")
            assert fresh.portal.host == host
            self.sessions.append(fresh)
            self.paths.append(scenes.path(number, session=fresh.id))
            self.tcp.add(number)
            self.next_session += 1
        self._attach_device()
        return {}

    def _attach_device(self) -> None:
        self.device, self.dev = "/dev/loop5", "7:5"
        self.diskseq += 3
        self.state = DiskState.ATTACHED


INNER_MOUNT = dataclasses.replace(
    scenes.DATA_MOUNT, mount_id=41, parent_id=40, mountpoint="/mnt/data/inner", root="/sub"
)
ALL_MOUNTS = (scenes.DATA_MOUNT, INNER_MOUNT)
