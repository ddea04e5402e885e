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

from initiator.host.run import HelperFailed
from initiator.host.scsipaths import Traffic
from safety.world import Busy, Claim, StepError
from safety.world_kernel import Answer, Door, PathClaim, Route
from tests.safety.simparts import (
    TARGET,
    SimClaim,
    SimDisk,
    SimVolume,
    uuid,
)
from tests.safety.simview import SimView
from tests.safety.simworld import Crash


class SimKernel(SimView):
    """Implements `safety.world.World` and `safety.world_kernel.KernelWorld` without a kernel."""

    @property
    def kernel(self) -> SimKernel:
        return self

    def die(self) -> None:
        """The target is gone, and the kernel has given up every path."""
        self.dead, self.queueing = True, self.mapped
        for lane in self.lanes.values():
            lane["state"] = "transport-offline"

    def traffic(self, route: Route) -> Traffic | None:
        self.noise -= self.noise > 0
        return Traffic(0, 0, 100 + self.noise, 0, 0)

    def pause(self, seconds: float) -> None:
        self.clock += seconds
        self._intrude()

    def terminate(self, pid: int, started: int) -> None:
        self._effect(f"terminate {pid}")
        if not self.stubborn:
            self.users = tuple(user for user in self.users if (user.pid, user.started) != (pid, started))
        self._done()

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
        self.mounted, self.sids, self.lanes = [], {}, {}
        self.active = self.swapped = False
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
        disk = next((disk for disk in self.disks if disk.dev == dev and disk.map_seq is not None), None)
        if disk is None:
            return self._claim_top(device, dev)
        if self._in_use(disk) or any(claim.open and claim.disk == disk.number for claim in self.claims):
            raise Busy(f"{device} is in use.")
        assert diskseq == disk.map_seq
        claim = SimClaim(disk.number)
        self.claims.append(claim)
        self._done()
        return claim

    def _claim_top(self, device: str, dev: str) -> Claim:
        """Of what carries a file system and is no map."""
        if any(mount.dev == dev for mount in self.mounted):
            raise Busy(f"{device} is in use.")
        (volume,) = (each for each in self.volumes if (top := self.top(each)) is not None and top.dev == dev)
        claim = SimClaim(volume.disks[0])
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
