"""The disks and volumes of the simulated kernel of `simkernel`, and what they are called."""

from __future__ import annotations

import dataclasses

from initiator.host.mounts import Mount
from initiator.model import (
    PathState,
)
from safety.scope import Reach, Scope
from safety.world_kernel import Route

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


PATH_STATES = {
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
