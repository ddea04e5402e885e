"""Guards for a volume that is dismounted while its disk stays."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.model import MapState
from safety.findings import Finding, Level
from safety.guard_disk import WORKING
from safety.scene import Scene, Unit


def known(scene: Scene) -> Iterator[Finding]:
    """The device that carries it has to be one of the block devices that were read, or nobody sees who uses it."""
    if scene.volume and not scene.nodes:
        text = "Which block device carries this file system is not known."
        seen = ", ".join(mount.source for mount in scene.own_mounts) or "no block device has its number"
        yield Finding(Level.BLOCK, "device-unknown", "volume", text, seen, "look at: findmnt, lsblk")


def reachable(scene: Scene) -> Iterator[Finding]:
    """What it has not written yet has to get to the target."""
    for unit in scene.units if scene.volume else ():
        if not any(path.state in WORKING for path in unit.kept):
            text = f"No path of {unit.disk.name} works: what the file system has not written yet cannot be written."
            seen = ", ".join(f"{path.name} {path.state}" for path in unit.kept) or "it has no path"
            fix = "bring a path back (cable, portal, target) first"
            yield Finding(Level.BLOCK, "no-path", unit.disk.id, text, seen, fix)
        yield from _suspended(scene, unit)


def _suspended(scene: Scene, unit: Unit) -> Iterator[Finding]:
    found = next((each for each in scene.snapshot.maps if each.id == unit.disk.map), None)
    if found is not None and found.state is MapState.SUSPENDED:
        text = f"The map {found.name} is suspended: writing back would wait for as long as it is."
        fix = f"find who suspended it; dmsetup resume {found.name}"
        yield Finding(Level.BLOCK, "map-suspended", found.id, text, "dm/suspended is 1", fix)
