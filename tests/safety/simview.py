"""How the simulated kernel of `simkernel` looks: sessions, paths, maps, volumes, and what a reading of them gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from initiator.host.mounts import Mount
from initiator.host.scsipaths import Paths, ScsiPath, ScsiSession
from initiator.host.services import Automount
from initiator.host.stacks import VolumeGroup
from initiator.host.volumes import to_volume
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
from safety.scope import Extent
from safety.world import Ends, LoopState
from safety.world_kernel import Answer, Door, Route
from tests.safety import scenes
from tests.safety.simparts import (
    AUTOFS,
    GROUP,
    PATH_STATES,
    SIZE,
    STARTUP,
    TARGET,
    SimClaim,
    SimDisk,
    SimVolume,
    uuid,
    wwid,
)


class SimView:
    """What there is on a host with a simulated kernel, and how it looks from outside.

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
        self.raw: tuple[User, ...] = ()
        self.next_seq, self.next_mount = 500, 600
        self.answer = Answer(0, 0, 0, b"")
        self.automounted = automount
        self.dead = False
        self.back_at: dict[int, float] = {}
        """When sessions that are FAILED will be logged in again, by their number."""
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
    def written(self) -> int:
        return sum(disk.written for disk in self.disks) + sum(volume.dirty for volume in self.volumes)

    @property
    def lost(self) -> int:
        return sum(disk.lost for disk in self.disks)

    @property
    def stable(self) -> int:
        return sum(disk.stable for disk in self.disks)

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
            "FREE" if self.dead else "FAILED" if self.clock < self.back_at.get(sid, 0.0) else "LOGGED_IN",
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
                    Connection(
                        f"c{each.sid}", "0", "up", 0, "127.0.0.9", self._port(each.sid), each.portals[0].host, 3260
                    ),
                ),
                link="link:lo",
            )
            for each in seen.sessions
        )
        paths = tuple(
            Path(
                id=f"kernel:p:{hctl}",
                name=hctl,
                state=PATH_STATES[lane["state"]],
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
            volumes=tuple(to_volume(mount, self._disks_of(mount), None, None) for mount in self.mounted),
            swaps=self.swaps(),
        )

    def _disks_of(self, mount: Mount) -> tuple[str, ...]:
        tops = ((volume, self.top(volume)) for volume in self.volumes)
        return tuple(
            f"kernel:d:{wwid(number)}"
            for volume, top in tops
            if top is not None and top.dev == mount.dev
            for number in volume.disks
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

    def openers(self, routes: Sequence[Route]) -> tuple[User, ...]:
        return self.raw

    def startup(self, door: Door) -> str | None:
        return self.records.get(door.sid % 10)

    def connections(self) -> tuple[Ends, ...]:
        return tuple(Ends("127.0.0.9", self._port(sid), f"127.0.0.{sid % 10}", 3260) for sid in self.sids)

    def _port(self, sid: int) -> int:
        """Another one after each login."""
        return 50000 + sid + 1000 * (sid in self.back_at)

    def loop(self, dev: str) -> LoopState | None:
        raise AssertionError("no loop device has part in this")

    def trouble(self, kname: str) -> tuple[str, ...]:
        return ()

    def on_top(self, mountpoint: str, mount_id: int, deadline: float) -> bool:
        return any(mount.mount_id == mount_id for mount in self.mounted)

    def now(self) -> float:
        return self.clock

    def alive(self, pid: int, started: int) -> bool:
        return any((user.pid, user.started) == (pid, started) for user in self.users)

    def masked(self, unit: str) -> bool:
        return unit in self.masks

    def scratch(self) -> str:
        return "/run/mooring/undo"
