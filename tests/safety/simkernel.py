"""A simulated kernel with iSCSI sessions, SCSI paths, a multipath map and LVM, that keeps count of where the bytes are.

As in `simworld`: bytes move from the file system's cache to the device's, to the target's cache, to stable storage, and
only the calls that do so on a real host move them here. An offline path with dirty bytes behind it, or a logout with
bytes in the target's cache, loses them, and `lost` says so. It can die at any effect, and an intruder may try to get in
at any moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from initiator.host.mounts import Mount
from initiator.host.run import HelperFailed
from initiator.host.scsipaths import Paths, ScsiPath, ScsiSession, Traffic
from initiator.host.stacks import VolumeGroup
from initiator.model import (
    BlockNode,
    Connection,
    Disk,
    DiskState,
    Link,
    LinkState,
    Map,
    MapState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Snapshot,
    Source,
    Swap,
)
from safety.facts import Facts, Memory, SystemUse, User
from safety.facts_kernel import KernelFacts, Record
from safety.world import Busy, Claim, Ends, LoopState, StepError
from safety.world_kernel import Answer, Door, PathClaim, Route
from tests.safety import scenes
from tests.safety.simworld import Crash

WWID = "naa.6001405000000001"
UUID = "mpath-36001405000000001"
GROUP = "A" * 32
DISK = f"kernel:d:{WWID}"
TARGET = "iqn.2026-11.example:disks"
SIZE = 64 << 20
STARTUP = "automatic"


@dataclasses.dataclass(slots=True)
class SimClaim:
    """On the map, or on a path."""

    what: Route | None = None
    open: bool = True

    @property
    def held(self) -> bool:
        return self.open

    @property
    def route(self) -> Route:
        assert self.what is not None
        return self.what


class SimKernel:
    """Implements `safety.world.World` and `safety.world_kernel.KernelWorld` without a kernel."""

    def __init__(self, portals: int = 2, *, mapped: bool = True, group: bool = False, swap: bool = False) -> None:
        self.clock = 100.0
        self.mapped = mapped
        self.sids = dict.fromkeys(range(1, portals + 1), TARGET)
        self.lanes = {number: self._lane(number, 10 + number) for number in self.sids}
        self.map_seq: int | None = 20 if mapped else None
        self.deferred = False
        self.group = group
        self.active = group
        self.swapped = swap
        self.records = dict.fromkeys(self.sids, STARTUP)
        self.other_luns: dict[int, str] = {}
        self.forgotten: set[str] = set()
        self.claims: list[SimClaim] = []
        self.mounted: list[Mount] = [self._mount(40)]
        self.users: tuple[User, ...] = ()
        self.next_seq, self.next_mount = 30, 100
        self.fs_dirty, self.device_dirty, self.target_dirty, self.stable, self.lost = 3, 1, 1, 0, 0
        self.answer = Answer(0, 0, 0, b"")
        self.write_cache: bool | None = True
        self.state_after: dict[str, str] = {}
        self.noise = 0
        self.intruder = False
        self.broke_in: list[str] = []
        self.calls: list[str] = []
        self.die_before: int | None = None
        self.die_after: int | None = None

    def _lane(self, number: int, seq: int) -> dict[str, Any]:
        return {
            "sid": number,
            "kname": f"sd{'abcdef'[number]}",
            "dev": f"8:{16 * number}",
            "seq": seq,
            "state": "running",
        }

    @property
    def kernel(self) -> SimKernel:
        return self

    # What there is.

    @property
    def written(self) -> int:
        return self.fs_dirty + self.device_dirty + self.target_dirty + self.stable + self.lost

    @property
    def base(self) -> BlockNode | None:
        """The device of the disk."""
        if self.map_seq is not None:
            holders = ("dm-5",) if self.active else ()
            names = tuple(lane["kname"] for lane in self.lanes.values())
            return BlockNode(
                "dm-3",
                "253:3",
                "mpath",
                SIZE,
                False,
                holders,
                names,
                dm_name="mpatha",
                dm_uuid=UUID,
                diskseq=self.map_seq,
            )
        return next(iter(self._disks()), None)

    @property
    def top(self) -> BlockNode | None:
        """The device that carries the file system."""
        if self.group:
            logical = BlockNode(
                "dm-5", "253:5", "lvm", SIZE, False, (), ("dm-3",), dm_name="vg-data", dm_uuid=f"LVM-{GROUP}{'b' * 32}"
            )
            return logical if self.active else None
        return self.base

    def _disks(self) -> list[BlockNode]:
        holders = ("dm-3",) if self.map_seq is not None else ("dm-5",) if self.active else ()
        return [
            BlockNode(lane["kname"], lane["dev"], "disk", SIZE, False, holders, diskseq=lane["seq"])
            for lane in self.lanes.values()
        ]

    def _mount(self, number: int) -> Mount:
        top = self.top
        assert top is not None
        name = f"/dev/mapper/{top.dm_name}" if top.dm_name else f"/dev/{top.kname}"
        return Mount(number, 1, top.dev, "/", "/mnt/data", "rw,noatime", "", "ext4", name, "rw")

    def nodes(self) -> tuple[BlockNode, ...]:
        found = [BlockNode("vda", "254:0", "disk", 1 << 34, False), *self._disks()]
        found += [node for node in (self.base, self.top) if node is not None and node not in found]
        return tuple(found)

    def paths(self) -> Paths:
        found = [
            ScsiPath(
                hctl=f"{number}:0:0:0",
                sid=lane["sid"],
                lun=0,
                kind="disk",
                wwid=WWID,
                state=lane["state"],
                kname=lane["kname"],
                dev=lane["dev"],
                diskseq=lane["seq"],
                size_bytes=SIZE,
                holders=("dm-3",) if self.map_seq is not None else ("dm-5",) if self.active else (),
            )
            for number, lane in self.lanes.items()
        ]
        found += [
            ScsiPath(f"{sid}:0:0:1", sid, 1, "disk", name, "running", f"sdx{sid}", f"65:{sid}", 5, SIZE)
            for sid, name in self.other_luns.items()
        ]
        return Paths(tuple(self._session(sid) for sid in self.sids), tuple(found))

    def _session(self, sid: int) -> ScsiSession:
        return ScsiSession(sid, TARGET, (Portal(f"127.0.0.{sid % 10}", 3260),), "default", "LOGGED_IN", "SCANNED")

    def snapshot(self) -> Snapshot:
        seen = self.paths()
        own = [path for path in seen.paths if path.wwid == WWID]
        sessions = tuple(
            Session(
                id=f"kernel:s:{each.sid}",
                name=f"disks@{each.portals[0]}",
                state=SessionState.LOGGED_IN,
                source=Source.KERNEL,
                target=TARGET,
                portal=each.portals[0],
                connections=(
                    Connection(f"c{each.sid}", "0", "up", 0, "127.0.0.9", 50000 + each.sid, each.portals[0].host, 3260),
                ),
                link="link:lo",
            )
            for each in seen.sessions
        )
        paths = tuple(
            Path(
                id=f"kernel:p:{path.hctl}",
                name=path.hctl,
                state=PathState.ACTIVE if path.state == "running" else PathState.OFFLINE,
                disk=DISK,
                session=f"kernel:s:{path.sid}",
                map=f"kernel:m:{UUID}" if self.map_seq is not None else None,
                device=f"/dev/{path.kname}",
            )
            for path in own
        )
        return Snapshot(
            host="testhost",
            taken_at=1000.0,
            sessions=sessions,
            disks=(self._disk(paths),) if own else (),
            paths=paths,
            maps=(Map(f"kernel:m:{UUID}", "mpatha", MapState.OK, Source.KERNEL, UUID[6:], "/dev/mapper/mpatha", DISK),)
            if self.map_seq is not None
            else (),
            links=(Link("link:lo", "lo", LinkState.UP),),
            block=self.nodes(),
            swaps=self.swaps(),
        )

    def _disk(self, paths: tuple[Path, ...]) -> Disk:
        base = self.base
        assert base is not None
        running = any(path.state is PathState.ACTIVE for path in paths)
        return Disk(
            id=DISK,
            name=base.dm_name or base.kname,
            state=DiskState.ATTACHED if running else DiskState.OFFLINE,
            source=Source.KERNEL,
            wwid=WWID,
            size_bytes=SIZE,
            device=f"/dev/mapper/{base.dm_name}" if base.dm_name else f"/dev/{base.kname}",
            dev=base.dev,
            diskseq=base.diskseq,
            paths=tuple(path.id for path in paths),
            map=f"kernel:m:{UUID}" if self.map_seq is not None else None,
            target=TARGET,
            lun=0,
            designators=(WWID,),
            block_bytes=512,
            multipath=self.map_seq is not None,
            write_cache=self.write_cache,
        )

    def facts(self, snapshot: Snapshot, disk: Disk) -> Facts:
        seen = self.paths()
        return Facts(
            mounts=self.mounts(),
            superblocks=self.superblocks(),
            users=self.users,
            system=(SystemUse("/", "254:0"),),
            memory=Memory(8 << 30, 4 << 30, 0.0),
            kernel=KernelFacts(
                paths=tuple(path for path in seen.paths if path.wwid == WWID),
                others=tuple(path for path in seen.paths if path.wwid != WWID),
                sessions=seen.sessions,
                every_session=seen.sessions,
                records=tuple(Record(sid, self.records.get(sid % 10)) for sid in self.sids),
                multipathd="running" if self.mapped else "absent",
                groups=(VolumeGroup("vg", GROUP, ("253:3" if self.mapped else "8:16",), ("vg/data",)),)
                if self.active
                else (),
            ),
        )

    def mounts(self) -> tuple[Mount, ...]:
        return (scenes.ROOT_MOUNT, *self.mounted)

    def superblocks(self) -> tuple[str, ...]:
        return (self.top.kname,) if self.mounted and self.top is not None else ()

    def swaps(self) -> tuple[Swap, ...]:
        return (Swap("/mnt/data/swap", "file", 4096, self.mounted[0].dev),) if self.swapped and self.mounted else ()

    def array_uuids(self) -> Mapping[str, str]:
        return {}

    def traffic(self, route: Route) -> Traffic | None:
        self.noise -= self.noise > 0
        return Traffic(0, 0, 100 + self.noise, 0, 0)

    def startup(self, door: Door) -> str | None:
        return self.records.get(door.sid % 10)

    def connections(self) -> tuple[Ends, ...]:
        return tuple(Ends("127.0.0.9", 50000 + sid, f"127.0.0.{sid % 10}", 3260) for sid in self.sids)

    def loop(self, dev: str) -> LoopState | None:
        raise AssertionError("no loop device has part in this")

    def trouble(self, kname: str) -> tuple[str, ...]:
        return ()

    def on_top(self, mountpoint: str, mount_id: int, deadline: float) -> bool:
        return any(mount.mount_id == mount_id for mount in self.mounted)

    def now(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.clock += seconds
        self._intrude()

    def scratch(self) -> str:
        return "/run/mooring/undo"

    def wake(self) -> None:
        raise AssertionError("no engine has part in this")

    def seal(self, claim: Claim, deadline: float) -> bool:
        raise AssertionError("no loop device has part in this")

    def engine(self, method: str, timeout: float, params: Mapping[str, Any]) -> Any:
        raise AssertionError("no engine has part in this")

    # Dying, and others.

    def _effect(self, name: str) -> None:
        self.calls.append(name)
        self._intrude()
        if self.die_before == len(self.calls):
            raise Crash

    def _done(self) -> None:
        self._intrude()
        if self.die_after == len(self.calls):
            raise Crash

    def _intrude(self) -> None:
        """Somebody mounts whatever can be mounted, and dirties it at once."""
        top = self.top
        if not self.intruder or self.mounted or top is None or any(claim.open for claim in self.claims):
            return
        if self.map_seq is None and all(lane["state"] == "offline" for lane in self.lanes.values()):
            return
        self.broke_in.append(self.calls[-1] if self.calls else "")
        self.mounted.append(dataclasses.replace(self._mount(self.next_mount), mountpoint="/mnt/intruder"))
        self.fs_dirty += 1
        self.intruder = False

    def process_died(self) -> None:
        """What the kernel does when the runner's process ends."""
        self.die_before = self.die_after = None
        for claim in self.claims:
            self._close(claim)

    def _close(self, claim: SimClaim) -> None:
        was, claim.open = claim.open, False
        if was and claim.what is None and self.deferred:
            self._vanish()

    def _vanish(self) -> None:
        """The last close of a device writes its cache back, without telling anybody whether that went well."""
        self.target_dirty += self.device_dirty
        self.device_dirty = 0
        self.map_seq, self.deferred = None, False

    # Acting.

    def set_startup(self, door: Door, value: str) -> None:
        self._effect(f"startup {door.sid % 10} {value}")
        self.records[door.sid % 10] = value
        self._done()

    def swap_off(self, path: str, deadline: float) -> None:
        self._effect(f"swapoff {path}")
        self.swapped = False
        self._done()

    def swap_on(self, path: str, deadline: float) -> None:
        self._effect(f"swapon {path}")
        assert self.mounted, "a swap file needs its file system"
        self.swapped = True
        self._done()

    def syncfs(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"syncfs {mountpoint}")
        self.device_dirty += self.fs_dirty
        self.fs_dirty = 0
        self._done()

    def unmount(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"umount {mountpoint}")
        if self.users or self.swapped:
            raise Busy(f"{mountpoint} is in use.")
        self.mounted = [mount for mount in self.mounted if mount.mountpoint != mountpoint]
        self.device_dirty += self.fs_dirty
        self.fs_dirty = 0
        self._done()

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        self._effect("mount " + " ".join(arguments))
        if arguments[0] != "-t":
            return
        assert not any(claim.open for claim in self.claims), "EBUSY"
        fresh = self._mount(self.next_mount)
        assert self.top is not None
        assert (arguments[-2], arguments[-1]) == (f"/dev/{self.top.kname}", "/mnt/data"), "mounts what is there"
        self.next_mount += 1
        self.mounted.append(fresh)
        self._done()

    def command(self, argv: Sequence[str], deadline: float) -> None:
        self._effect(" ".join(argv))
        if argv[0] == "vgchange":
            if self.mounted:
                raise StepError("Logical volume vg/data contains a filesystem in use.", code="tool")
            self.active = False
        elif argv[0] == "lvchange":
            assert self.base is not None
            self.active = True
        else:
            raise AssertionError(argv)
        self._done()

    def remove_map(self, uuid: str, deadline: float) -> None:
        raise AssertionError("there are no partitions")

    def claim(self, device: str, dev: str, diskseq: int | None, deadline: float) -> Claim:
        self._effect(f"claim {device}")
        if self.mounted or self.active or any(claim.open for claim in self.claims):
            raise Busy(f"{device} is in use.")
        assert (dev, diskseq) == ("253:3", self.map_seq)
        claim = SimClaim()
        self.claims.append(claim)
        self._done()
        return claim

    def fsync(self, claim: Claim, deadline: float) -> None:
        self._effect("fsync")
        assert claim.held
        self.target_dirty += self.device_dirty
        self.device_dirty = 0
        self._done()

    def release(self, claim: Claim, deadline: float) -> None:
        assert isinstance(claim, SimClaim)
        self._close(claim)

    def hand_over(self, claim: Claim, uuid: str, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        assert isinstance(claim, SimClaim)
        assert (uuid, claim.held) == (UUID, True)
        self._effect("defer")
        self.deferred = True
        self._done()
        self.calls.append("hand over")
        if self.die_before == len(self.calls):
            raise Crash
        self._close(claim)
        taken = self._take(routes)
        self._done()
        return taken

    def claim_paths(self, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        self._effect("claim paths")
        taken = self._take(routes)
        self._done()
        return taken

    def _take(self, routes: Sequence[Route]) -> tuple[PathClaim, ...]:
        if self.mounted or self.active or self.map_seq is not None:
            raise Busy("a path is in use.")
        for route in routes:
            lane = self.lanes[int(route.hctl[0])]
            assert (lane["seq"], lane["state"]) == (route.diskseq, "running"), "ENXIO"
        found = [SimClaim(route) for route in routes]
        self.claims += found
        return tuple(found)

    def forget(self, route: Route) -> bool:
        self._effect(f"forget {route.kname}")
        self.forgotten.add(route.kname)
        self._done()
        return True

    def remember(self, route: Route) -> bool:
        self._effect(f"remember {route.kname}")
        self.forgotten.discard(route.kname)
        if self.mapped and self.map_seq is None:
            assert not any(claim.open for claim in self.claims), "EBUSY"
            self.map_seq = self.next_seq = self.next_seq + 1
        self._done()
        return True

    def fsync_path(self, claim: PathClaim, deadline: float) -> None:
        self._effect(f"fsync {claim.route.kname}")
        assert claim.held
        self.target_dirty += self.device_dirty
        self.device_dirty = 0
        self._done()

    def synchronize(self, claim: PathClaim, deadline: float) -> Answer:
        self._effect(f"synchronize {claim.route.kname}")
        assert claim.held
        if self.answer.status == 0 and self.answer.host == 0:
            self.stable += self.target_dirty
            self.target_dirty = 0
        self._done()
        return self.answer

    def offline(self, claim: PathClaim, deadline: float) -> None:
        self._effect(f"offline {claim.route.kname}")
        assert claim.held
        self.lost += self.device_dirty + self.fs_dirty
        self.device_dirty = self.fs_dirty = 0
        self.lanes[int(claim.route.hctl[0])]["state"] = self.state_after.get(claim.route.hctl, "offline")
        self._done()

    def online(self, route: Route, deadline: float) -> None:
        self._effect(f"online {route.kname}")
        self.lanes[int(route.hctl[0])]["state"] = "running"
        self._done()

    def delete(self, claim: PathClaim | None, route: Route, deadline: float) -> None:
        self._effect(f"delete {route.kname}")
        lane = self.lanes.get(int(route.hctl[0]))
        if lane is None or lane["seq"] != route.diskseq:
            raise HelperFailed("write_attribute", 19, "No such device")
        assert lane["state"] == "offline"
        del self.lanes[int(route.hctl[0])]
        self._done()

    def let_go(self, claims: Sequence[PathClaim]) -> None:
        for claim in claims:
            assert isinstance(claim, SimClaim)
            self._close(claim)

    def logout(self, sid: int) -> None:
        self._effect(f"logout {sid}")
        assert not any(lane["sid"] == sid for lane in self.lanes.values()), "a cable is pulled"
        assert sid not in self.other_luns, "another disk's cable is pulled"
        del self.sids[sid]
        if not self.lanes:
            self.lost += self.target_dirty
            self.target_dirty = 0
        self._done()

    def login(self, door: Door, user: str | None, secret: str | None) -> None:
        self._effect(f"login {door.host}")
        number = int(door.host[-1])
        if user is not None and secret is None:
            raise StepError("the target refused the credentials (CHAP)", code="login")
        self.sids[number + 10] = TARGET
        self._scan(number, number + 10)
        self._done()

    def rescan(self, sid: int) -> None:
        self._effect(f"rescan {sid}")
        self._scan(sid % 10, sid)
        self._done()

    def _scan(self, number: int, sid: int) -> None:
        if number not in self.lanes:
            self.next_seq += 1
            self.lanes[number] = {**self._lane(number, self.next_seq), "sid": sid}
