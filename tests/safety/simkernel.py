"""A simulated kernel with iSCSI sessions, SCSI paths, multipath maps and LVM, that keeps count of where the bytes are.

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
from initiator.host.services import Automount
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
from initiator.scsi.reservations import Registration
from safety.facts import Facts, Memory, SystemUse, User
from safety.facts_kernel import KernelFacts, Record
from safety.scope import Extent, Reach, Scope
from safety.world import Busy, Claim, Ends, LoopState, StepError
from safety.world_kernel import Answer, Door, PathClaim, Route
from tests.safety import scenes
from tests.safety.simworld import Crash

TARGET = "iqn.2026-11.example:disks"
GROUP = "A" * 32
SIZE = 64 << 20
STARTUP = "automatic"


def wwid(number: int) -> str:
    return f"naa.600140500000000{number + 1}"


def uuid(number: int) -> str:
    return f"mpath-3600140500000000{number + 1}"


DISK = f"kernel:d:{wwid(0)}"
SCOPE = Scope(Reach.DISKS, (DISK,), "mpatha")


_PATH_STATES = {
    "running": PathState.ACTIVE,
    "offline": PathState.OFFLINE,
    "transport-offline": PathState.FAILED,
    "blocked": PathState.FAILED,
}
AUTOFS = Mount(39, 1, "0:55", "/", "/mnt/data", "rw", "shared:1", "autofs", "systemd-1", "rw,fd=1,pgrp=1,direct")


@dataclasses.dataclass(slots=True)
class SimClaim:
    """On the map of a disk, or on a path."""

    disk: int
    what: Route | None = None
    open: bool = True

    @property
    def held(self) -> bool:
        return self.open

    @property
    def route(self) -> Route:
        assert self.what is not None
        return self.what


@dataclasses.dataclass(slots=True)
class SimDisk:
    """A logical unit: its map, and where its bytes are."""

    number: int
    map_seq: int | None
    deferred: bool = False
    device_dirty: int = 1
    target_dirty: int = 1
    stable: int = 0
    lost: int = 0

    @property
    def name(self) -> str:
        return f"mpath{'abcd'[self.number]}"

    @property
    def kname(self) -> str:
        return f"dm-{3 + 10 * self.number}"

    @property
    def dev(self) -> str:
        return f"253:{3 + 10 * self.number}"

    @property
    def written(self) -> int:
        return self.device_dirty + self.target_dirty + self.stable + self.lost


@dataclasses.dataclass(slots=True)
class SimVolume:
    """A file system, on one disk or on the logical volume over all of them."""

    number: int
    disks: tuple[int, ...]
    dirty: int = 3

    @property
    def mountpoint(self) -> str:
        return "/mnt/data" + (str(self.number + 1) if self.number else "")


class SimKernel:
    """Implements `safety.world.World` and `safety.world_kernel.KernelWorld` without a kernel.

    Args:
        portals: Sessions to the target, each with a path to every disk.
        disks: Logical units.
        mapped: Whether multipathd joins the paths.
        group: One volume group with one volume over all disks, instead of a file system on each.
        swap: A swap file on the first file system.
        automount: An automount of systemd at the first mount point.
    """

    def __init__(
        self,
        portals: int = 2,
        *,
        disks: int = 1,
        mapped: bool = True,
        group: bool = False,
        swap: bool = False,
        automount: bool = False,
    ) -> None:
        self.clock = 100.0
        self.mapped = mapped
        self.sids = dict.fromkeys(range(1, portals + 1), TARGET)
        self.disks = [SimDisk(number, 20 + number if mapped else None) for number in range(disks)]
        self.lanes: dict[str, dict[str, Any]] = {}
        for disk in self.disks:
            for number in self.sids:
                self._add_lane(disk.number, number, 10 + number + 100 * disk.number)
        self.group = group
        self.active = group
        self.swapped = swap
        self.records = dict.fromkeys(self.sids, STARTUP)
        self.other_luns: dict[int, str] = {}
        self.forgotten: set[str] = set()
        self.claims: list[SimClaim] = []
        own = [SimVolume(0, tuple(range(disks)))] if group else [SimVolume(one, (one,)) for one in range(disks)]
        self.volumes = own
        self.mounted: list[Mount] = [self._mount(volume, 40 + volume.number) for volume in own]
        self.users: tuple[User, ...] = ()
        self.next_seq, self.next_mount = 500, 600
        self.answer = Answer(0, 0, 0, b"")
        self.automounted = automount
        self.dead = False
        self.stubborn = False
        self.registrations: tuple[tuple[str, tuple[Registration, ...]], ...] = ()
        self.queueing = False
        self.masks: set[str] = set()
        self.write_cache: bool | None = True
        self.state_after: dict[str, str] = {}
        self.noise = 0
        self.intruder = False
        self.broke_in: list[str] = []
        self.calls: list[str] = []
        self.die_before: int | None = None
        self.die_after: int | None = None

    def _add_lane(self, disk: int, number: int, seq: int, sid: int | None = None) -> None:
        place = number + 3 * disk
        self.lanes[f"{number}:0:0:{disk}"] = {
            "disk": disk,
            "sid": number if sid is None else sid,
            "kname": f"sd{'abcdefghijklm'[place]}",
            "dev": f"8:{16 * place}",
            "seq": seq,
            "state": "running",
        }

    @property
    def kernel(self) -> SimKernel:
        return self

    # What there is.

    @property
    def written(self) -> int:
        return sum(disk.written for disk in self.disks) + sum(volume.dirty for volume in self.volumes)

    @property
    def lost(self) -> int:
        return sum(disk.lost for disk in self.disks)

    @property
    def stable(self) -> int:
        return sum(disk.stable for disk in self.disks)

    def die(self) -> None:
        """The target is gone, and the kernel has given up every path."""
        self.dead, self.queueing = True, self.mapped
        for lane in self.lanes.values():
            lane["state"] = "transport-offline"

    def lanes_of(self, disk: int) -> dict[str, dict[str, Any]]:
        return {hctl: lane for hctl, lane in self.lanes.items() if lane["disk"] == disk}

    def joined(self, disk: SimDisk) -> list[str]:
        """Knames of the paths that the map of a disk holds."""
        if disk.map_seq is None:
            return []
        return [lane["kname"] for lane in self.lanes_of(disk.number).values() if lane["kname"] not in self.forgotten]

    def base(self, disk: SimDisk) -> BlockNode | None:
        """The device of a disk."""
        if disk.map_seq is not None:
            holders = ("dm-5",) if self.active else ()
            names = tuple(self.joined(disk))
            node = BlockNode(disk.kname, disk.dev, "mpath", SIZE, False, holders, names)
            return dataclasses.replace(node, dm_name=disk.name, dm_uuid=uuid(disk.number), diskseq=disk.map_seq)
        return next(iter(self._nodes_of(disk)), None)

    def top(self, volume: SimVolume) -> BlockNode | None:
        """The device that carries a file system."""
        if self.group:
            grounds = [self.base(disk) for disk in self.disks]
            under = tuple(node.kname for node in grounds if node is not None)
            name, number = "vg-data", f"LVM-{GROUP}{'b' * 32}"
            logical = BlockNode("dm-5", "253:5", "lvm", SIZE, False, (), under, dm_name=name, dm_uuid=number)
            return logical if self.active else None
        return self.base(self.disks[volume.disks[0]])

    def _nodes_of(self, disk: SimDisk) -> list[BlockNode]:
        return [
            BlockNode(lane["kname"], lane["dev"], "disk", SIZE, False, self._holders(disk, lane), diskseq=lane["seq"])
            for lane in self.lanes_of(disk.number).values()
        ]

    def _holders(self, disk: SimDisk, lane: Mapping[str, Any]) -> tuple[str, ...]:
        if lane["kname"] in self.joined(disk):
            return (disk.kname,)
        return ("dm-5",) if self.active and disk.map_seq is None else ()

    def _mount(self, volume: SimVolume, number: int) -> Mount:
        top = self.top(volume)
        assert top is not None
        name = f"/dev/mapper/{top.dm_name}" if top.dm_name else f"/dev/{top.kname}"
        return Mount(number, 1, top.dev, "/", volume.mountpoint, "rw,noatime", "", "ext4", name, "rw")

    def nodes(self) -> tuple[BlockNode, ...]:
        found = [BlockNode("vda", "254:0", "disk", 1 << 34, False)]
        found += [node for disk in self.disks for node in self._nodes_of(disk)]
        for node in [*map(self.base, self.disks), *map(self.top, self.volumes)]:
            if node is not None and node not in found:
                found.append(node)
        return tuple(found)

    def paths(self) -> Paths:
        found = [
            ScsiPath(
                hctl=hctl,
                sid=lane["sid"],
                lun=lane["disk"],
                kind="disk",
                wwid=wwid(lane["disk"]),
                state=lane["state"],
                kname=lane["kname"],
                dev=lane["dev"],
                diskseq=lane["seq"],
                size_bytes=SIZE,
                holders=self._holders(self.disks[lane["disk"]], lane),
            )
            for hctl, lane in self.lanes.items()
        ]
        found += [
            ScsiPath(f"{sid}:0:0:9", sid, 9, "disk", name, "running", f"sdx{sid}", f"65:{sid}", 5, SIZE)
            for sid, name in self.other_luns.items()
        ]
        return Paths(tuple(self._session(sid) for sid in self.sids), tuple(found))

    def _session(self, sid: int) -> ScsiSession:
        return ScsiSession(
            sid,
            TARGET,
            (Portal(f"127.0.0.{sid % 10}", 3260),),
            "default",
            "FREE" if self.dead else "LOGGED_IN",
            "SCANNED",
        )

    def snapshot(self) -> Snapshot:
        seen = self.paths()
        sessions = tuple(
            Session(
                id=f"kernel:s:{each.sid}",
                name=f"disks@{each.portals[0]}",
                state=SessionState.FAILED if self.dead else SessionState.LOGGED_IN,
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
                id=f"kernel:p:{hctl}",
                name=hctl,
                state=_PATH_STATES[lane["state"]],
                disk=f"kernel:d:{wwid(lane['disk'])}",
                session=f"kernel:s:{lane['sid']}",
                map=f"kernel:m:{lane['disk']}" if self.disks[lane["disk"]].map_seq is not None else None,
                lun=lane["disk"],
                device=f"/dev/{lane['kname']}",
            )
            for hctl, lane in self.lanes.items()
        )
        return Snapshot(
            host="testhost",
            taken_at=1000.0,
            sessions=sessions,
            disks=tuple(self._disk(disk, paths) for disk in self.disks if self.lanes_of(disk.number)),
            paths=paths,
            maps=tuple(self._map(disk) for disk in self.disks if disk.map_seq is not None),
            links=(Link("link:lo", "lo", LinkState.UP),),
            block=self.nodes(),
            swaps=self.swaps(),
        )

    def _map(self, disk: SimDisk) -> Map:
        own, device = f"kernel:d:{wwid(disk.number)}", f"/dev/mapper/{disk.name}"
        name = f"kernel:m:{disk.number}"
        state, queueing = (MapState.NO_PATH if self.dead else MapState.OK), "on" if self.queueing else "off"
        return Map(name, disk.name, state, Source.KERNEL, uuid(disk.number)[6:], device, own, queueing=queueing)

    def _disk(self, disk: SimDisk, paths: tuple[Path, ...]) -> Disk:
        base = self.base(disk)
        assert base is not None
        own = tuple(path for path in paths if path.disk == f"kernel:d:{wwid(disk.number)}")
        running = any(path.state is PathState.ACTIVE for path in own)
        return Disk(
            id=f"kernel:d:{wwid(disk.number)}",
            name=base.dm_name or base.kname,
            state=DiskState.ATTACHED if running else DiskState.NO_PATH if self.dead else DiskState.OFFLINE,
            source=Source.KERNEL,
            wwid=wwid(disk.number),
            size_bytes=SIZE,
            device=f"/dev/mapper/{base.dm_name}" if base.dm_name else f"/dev/{base.kname}",
            dev=base.dev,
            diskseq=base.diskseq,
            paths=tuple(path.id for path in own),
            map=f"kernel:m:{disk.number}" if disk.map_seq is not None else None,
            target=TARGET,
            lun=disk.number,
            designators=(wwid(disk.number),),
            block_bytes=512,
            multipath=disk.map_seq is not None,
            write_cache=self.write_cache,
        )

    def facts(self, snapshot: Snapshot, extent: Extent) -> Facts:
        seen = self.paths()
        going = {each.removeprefix("kernel:p:") for each in extent.path_ids}
        own = tuple(path for path in seen.paths if path.hctl in going)
        named = {int(session.id.rpartition(":")[2]) for session in extent.sessions}
        sids = {path.sid for path in own} | named
        grounds = tuple(node.dev for node in map(self.base, self.disks) if node is not None)
        return Facts(
            mounts=self.mounts(),
            superblocks=self.superblocks(),
            users=self.users,
            system=(SystemUse("/", "254:0"),),
            automounts=(Automount("mnt-data.automount", "/mnt/data", "active"),) if self.automounted else (),
            memory=Memory(8 << 30, 4 << 30, 0.0),
            kernel=KernelFacts(
                paths=own,
                others=tuple(path for path in seen.paths if path.sid in sids and path.hctl not in going),
                sessions=tuple(session for session in seen.sessions if session.sid in sids),
                every_session=seen.sessions,
                records=tuple(Record(sid, self.records.get(sid % 10)) for sid in self.sids if sid in sids),
                multipathd="running" if self.mapped else "absent",
                registrations=self.registrations,
                groups=(VolumeGroup("vg", GROUP, grounds, ("vg/data",)),) if self.active else (),
            ),
        )

    def mounts(self) -> tuple[Mount, ...]:
        return (scenes.ROOT_MOUNT, *((AUTOFS,) if self.automounted else ()), *self.mounted)

    def superblocks(self) -> tuple[str, ...]:
        devs = {mount.dev for mount in self.mounted}
        return tuple(sorted(node.kname for node in self.nodes() if node.dev in devs))

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

    def terminate(self, pid: int, started: int) -> None:
        self._effect(f"terminate {pid}")
        if not self.stubborn:
            self.users = tuple(user for user in self.users if (user.pid, user.started) != (pid, started))
        self._done()

    def alive(self, pid: int, started: int) -> bool:
        return any((user.pid, user.started) == (pid, started) for user in self.users)

    def masked(self, unit: str) -> bool:
        return unit in self.masks

    def systemctl(self, arguments: Sequence[str], deadline: float) -> None:
        self._effect(" ".join(arguments))
        verb, unit = arguments[0], arguments[-1]
        if verb == "mask":
            self.masks.add(unit)
        elif verb == "unmask":
            self.masks.discard(unit)
        elif verb == "stop":
            assert not any(mount.mountpoint == "/mnt/data" for mount in self.mounted), "it would be unmounted lazily"
            self.automounted = False
        else:
            assert (verb, unit in self.masks, self.mounted) == ("start", False, [])
            self.automounted = True
        self._done()

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
        if self.intruder and self.volumes:
            for volume in self.volumes:
                if self._can_be_mounted(volume):
                    self._break_in(volume)
                    return

    def _can_be_mounted(self, volume: SimVolume) -> bool:
        top = self.top(volume)
        if top is None or any(mount.dev == top.dev for mount in self.mounted):
            return False
        for number in volume.disks:
            if any(claim.open and claim.disk == number for claim in self.claims):
                return False
            lanes = self.lanes_of(number).values()
            if self.disks[number].map_seq is None and all(lane["state"] == "offline" for lane in lanes):
                return False
        return True

    def _break_in(self, volume: SimVolume) -> None:
        self.broke_in.append(self.calls[-1] if self.calls else "")
        self.mounted.append(dataclasses.replace(self._mount(volume, self.next_mount), mountpoint="/mnt/intruder"))
        volume.dirty += 1
        self.intruder = False

    def process_died(self) -> None:
        """What the kernel does when the runner's process ends."""
        self.die_before = self.die_after = None
        for claim in self.claims:
            self._close(claim)

    def restart(self) -> None:
        """The machine is restarted, in good order: nothing is mounted, mapped or logged in."""
        for volume in self.volumes:
            self._write_back(volume)
        for disk in self.disks:
            self.vanish(disk)
        self.mounted, self.sids, self.lanes, self.active = [], {}, {}, False
        self.forgotten = set()

    def _close(self, claim: SimClaim) -> None:
        was, claim.open = claim.open, False
        if was and claim.what is None and self.disks[claim.disk].deferred:
            self.vanish(self.disks[claim.disk])

    def vanish(self, disk: SimDisk) -> None:
        """The last close of a device writes its cache back, without telling anybody whether that went well."""
        if self.dead:
            disk.lost += disk.device_dirty
        else:
            disk.target_dirty += disk.device_dirty
        disk.device_dirty = 0
        disk.map_seq, disk.deferred = None, False

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

    def _at(self, mountpoint: str) -> SimVolume:
        return next(volume for volume in self.volumes if volume.mountpoint == mountpoint)

    def _write_back(self, volume: SimVolume) -> None:
        self.disks[volume.disks[0]].device_dirty += volume.dirty
        volume.dirty = 0

    def syncfs(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"syncfs {mountpoint}")
        if self.dead:
            assert not self.queueing, "it would hang"
            self._done()
            raise HelperFailed("syncfs", 5, "Input/output error")
        self._write_back(self._at(mountpoint))
        self._done()

    def unmount(self, mountpoint: str, deadline: float) -> None:
        self._effect(f"umount {mountpoint}")
        if self.users or self.swapped:
            raise Busy(f"{mountpoint} is in use.")
        self.mounted = [mount for mount in self.mounted if mount.mountpoint != mountpoint]
        self._write_back(self._at(mountpoint))
        self._done()

    def unmount_in(self, pid: int, namespace: str, mountpoint: str, deadline: float) -> None:
        raise AssertionError("there is one namespace")

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        self._effect("mount " + " ".join(arguments))
        if arguments[0] != "-t":
            return
        volume = self._at(arguments[-1])
        assert not any(claim.open and claim.disk in volume.disks for claim in self.claims), "EBUSY"
        fresh, top = self._mount(volume, self.next_mount), self.top(volume)
        assert top is not None
        assert arguments[-2] == f"/dev/{top.kname}", "mounts what is there"
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
            assert all(self.base(disk) is not None for disk in self.disks)
            self.active = True
        else:
            raise AssertionError(argv)
        self._done()

    def remove_map(self, uuid: str, deadline: float) -> None:
        self._effect(f"remove {uuid}")
        assert self.dead, "there are no partitions, and volumes are closed by LVM"
        assert not self.mounted
        self.active = False
        self._done()

    def _in_use(self, disk: SimDisk) -> bool:
        mounted = {mount.dev for mount in self.mounted}
        used = any(
            disk.number in volume.disks and (top := self.top(volume)) is not None and top.dev in mounted
            for volume in self.volumes
        )
        return used or self.active

    def claim(self, device: str, dev: str, diskseq: int | None, deadline: float) -> Claim:
        self._effect(f"claim {device}")
        disk = next(disk for disk in self.disks if disk.dev == dev)
        if self._in_use(disk) or any(claim.open and claim.disk == disk.number for claim in self.claims):
            raise Busy(f"{device} is in use.")
        assert diskseq == disk.map_seq
        claim = SimClaim(disk.number)
        self.claims.append(claim)
        self._done()
        return claim

    def _fsync(self, disk: SimDisk) -> None:
        disk.target_dirty += disk.device_dirty
        disk.device_dirty = 0

    def fsync(self, claim: Claim, deadline: float) -> None:
        assert isinstance(claim, SimClaim)
        self._effect("fsync")
        assert claim.held
        self._fsync(self.disks[claim.disk])
        self._done()

    def release(self, claim: Claim, deadline: float) -> None:
        assert isinstance(claim, SimClaim)
        self._close(claim)

    def hand_over(self, claim: Claim, uuid_: str, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        assert isinstance(claim, SimClaim)
        assert (uuid_, claim.held) == (uuid(claim.disk), True)
        self._effect("defer")
        self.disks[claim.disk].deferred = True
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
        found = []
        for route in routes:
            lane = self.lanes[route.hctl]
            disk = self.disks[lane["disk"]]
            if self._holders(disk, lane) or (disk.map_seq is None and self._in_use(disk)):
                raise Busy("a path is in use.")
            assert (lane["seq"], lane["state"]) == (route.diskseq, "running"), "ENXIO"
            found.append(SimClaim(disk.number, route))
        self.claims += found
        return tuple(found)

    def forget(self, route: Route) -> bool:
        self._effect(f"forget {route.kname}")
        self.forgotten.add(route.kname)
        self._done()
        return True

    def remember(self, route: Route) -> bool:
        self._effect(f"remember {route.kname}")
        disk = self.disks[self.lanes[route.hctl]["disk"]]
        assert not any(claim.open and claim.what == route for claim in self.claims), "EBUSY"
        self.forgotten.discard(route.kname)
        if self.mapped and disk.map_seq is None:
            disk.map_seq = self.next_seq = self.next_seq + 1
        self._done()
        return True

    def queue(self, name: str, *, on: bool) -> None:
        self._effect(f"queue {name} {on}")
        self.queueing = on
        self._done()

    def fsync_path(self, claim: PathClaim, deadline: float) -> None:
        self._effect(f"fsync {claim.route.kname}")
        assert claim.held
        disk = self.disks[self.lanes[claim.route.hctl]["disk"]]
        if disk.map_seq is None:  # a path that left its map has a cache of its own, and nothing in it
            self._fsync(disk)
        self._done()

    def synchronize(self, claim: PathClaim, deadline: float) -> Answer:
        self._effect(f"synchronize {claim.route.kname}")
        assert claim.held
        disk = self.disks[self.lanes[claim.route.hctl]["disk"]]
        if self.answer.status == 0 and self.answer.host == 0:
            disk.stable += disk.target_dirty
            disk.target_dirty = 0
        self._done()
        return self.answer

    def _lose(self, number: int) -> None:
        """What no path can carry any more."""
        disk = self.disks[number]
        if any(lane["state"] == "running" for lane in self.lanes_of(number).values()) and disk.map_seq is not None:
            return
        disk.lost += disk.device_dirty
        disk.device_dirty = 0
        for volume in self.volumes:
            if number in volume.disks:
                disk.lost += volume.dirty
                volume.dirty = 0

    def offline(self, claim: PathClaim, deadline: float) -> None:
        self._effect(f"offline {claim.route.kname}")
        assert claim.held
        lane = self.lanes[claim.route.hctl]
        lane["state"] = self.state_after.get(claim.route.hctl, "offline")
        self._lose(lane["disk"])
        self._done()

    def online(self, route: Route, deadline: float) -> None:
        self._effect(f"online {route.kname}")
        self.lanes[route.hctl]["state"] = "running"
        self._done()

    def delete(self, claim: PathClaim | None, route: Route, deadline: float) -> None:
        self._effect(f"delete {route.kname}")
        lane = self.lanes.get(route.hctl)
        if lane is None or lane["seq"] != route.diskseq:
            raise HelperFailed("write_attribute", 19, "No such device")
        assert lane["state"] in ("offline", "transport-offline")
        disk = self.disks[lane["disk"]]
        assert not self._holders(disk, lane), "it is held"
        if self.dead:
            disk.lost += disk.device_dirty
            disk.device_dirty = 0
        del self.lanes[route.hctl]
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
        for disk in self.disks:
            if not self.lanes_of(disk.number):
                disk.lost += disk.target_dirty
                disk.target_dirty = 0
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
        for disk in self.disks:
            if f"{number}:0:0:{disk.number}" not in self.lanes:
                self.next_seq += 1
                self._add_lane(disk.number, number, self.next_seq, sid)
                # multipathd takes up a path of a map that it has; where it has none it waits to be told
                (self.forgotten.discard if disk.map_seq else self.forgotten.add)(
                    f"sd{'abcdefghijklm'[number + 3 * disk.number]}"
                )
