"""Mounting a volume read-only, to look: what it lies on, what speaks against it, and how it is mounted.

Nothing here reads or does anything; see `safety.looking`. The guards that a removal asks who uses a disk are asked here
too, and unknown means no as there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from initiator.host import block
from initiator.host.contents import Contents
from initiator.model import BlockNode, Disk, DiskState, MapState, Snapshot
from safety import guard_disk, guard_kernel, guard_use, guard_volume, scope
from safety.findings import Finding, Level, blocks, in_order
from safety.scene import Scene
from safety.scope import Extent

KINDS = {
    "ext4": ("ext4", "noload"),
    "ext3": ("ext3", "noload"),
    "ext2": ("ext2", ""),
    "xfs": ("xfs", "norecovery,nouuid"),
    "btrfs": ("btrfs", "rescue=nologreplay"),
    "vfat": ("vfat", ""),
    "exfat": ("exfat", ""),
    "ntfs": ("ntfs3", ""),
    "iso9660": ("iso9660", ""),
    "udf": ("udf", ""),
    "squashfs": ("squashfs", ""),
    "erofs": ("erofs", ""),
}
"""By blkid's name: the kernel's name, and what keeps it from writing, or from replaying its journal, beyond `ro`.

Others are not mounted: what they write when they are mounted read-only is not known here. A kernel that does not know
an option refuses the mount. `nouuid`: a snapshot of a volume that is mounted has the same UUID.
"""
FLAGS = ("ro", "nosuid", "nodev", "noexec")
_DEAD = frozenset({DiskState.DEAD, DiskState.UNKNOWN})


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """A block device, and the disks that it stands on."""

    node: BlockNode
    disks: tuple[Disk, ...]

    @property
    def name(self) -> str:
        """What a person calls it: the disk, where it carries nothing else, else with what stands on it."""
        own = self.node.dm_name or self.node.kname
        whole = any(disk.dev == self.node.dev for disk in self.disks)
        return self.disks[0].name if whole else f"{self.disks[0].name} {own}"

    @property
    def device(self) -> str:
        """Its node as the kernel names it."""
        return f"/dev/{self.node.kname}"

    def extent(self, snapshot: Snapshot) -> Extent:
        """What has to be known about it is what has to be known to unmount it."""
        return scope.dismounted(snapshot, self.disks, {self.node.dev})


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """How a volume is mounted to look into it."""

    name: str
    device: str
    dev: str
    diskseq: int | None
    fstype: str
    """As the kernel calls it."""
    data: str
    """Options of the file system."""
    label: str | None
    uuid: str | None
    folder: str
    """What its folder is called, if that is free."""

    @property
    def options(self) -> str:
        """As mount(8) takes them."""
        return ",".join((*FLAGS, *filter(None, (self.data,))))

    def would(self, folder: str) -> tuple[str, ...]:
        """What is done, for a person."""
        return (
            f"have the kernel write nothing to {self.device} (BLKROSET)",
            f"mount -t {self.fstype} -o {self.options} {self.device} {folder}",
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        told = {"name": self.name, "device": self.device, "dev": self.dev, "fstype": self.fstype}
        return {**told, "options": self.options, "label": self.label, "uuid": self.uuid}


def grounds(snapshot: Snapshot) -> tuple[Ground, ...]:
    """Every attached disk and all that stands on it."""
    graph = block.Graph(snapshot.block)
    above = [(disk, graph.above([disk.dev])) for disk in snapshot.disks if disk.dev is not None]
    found = ((node, tuple(disk for disk, devs in above if node.dev in devs)) for node in snapshot.block)
    return tuple(Ground(node, disks) for node, disks in found if disks)


def leaves(snapshot: Snapshot, disk: Disk) -> tuple[Ground, ...]:
    """The devices of a disk that nothing else stands on: where a file system can be."""
    own = (ground for ground in grounds(snapshot) if disk in ground.disks)
    return tuple(ground for ground in own if not (ground.node.holders or ground.node.partitions))


def against(scene: Scene) -> tuple[Finding, ...]:
    """What forbids to look, as far as it is known without reading the device."""
    return blocks(in_order(finding for guard in GUARDS for finding in guard(scene)))


def order(ground: Ground, found: Contents) -> tuple[Look | None, tuple[Finding, ...]]:
    """How the volume is mounted; or what of its contents forbids it."""
    findings = tuple(_contents(ground, found))
    if findings or found.type is None:
        return None, findings
    kind, data = KINDS[found.type]
    node, folder = ground.node, re.sub(r"[^A-Za-z0-9_-]+", "-", ground.name).strip("-")[:60] or ground.node.kname
    look = Look(ground.name, ground.device, node.dev, node.diskseq, kind, data, found.label, found.uuid, folder)
    return look, ()


def _attached(scene: Scene) -> Iterator[Finding]:
    for unit in scene.units:
        disk, seen = unit.disk, f"state {unit.disk.state}, device {unit.disk.device or 'none'}"
        if disk.state is DiskState.AVAILABLE:
            text, fix = f"{disk.name} is not attached.", "attach it first: mooring attach"
            yield Finding(Level.BLOCK, "not-attached", disk.id, text, seen, fix)
        elif disk.state is DiskState.OFFLINE:
            text, fix = f"{disk.name} is being removed.", "mooring resume, or mooring undo"
            yield Finding(Level.BLOCK, "offline", disk.id, text, seen, fix)
        elif disk.state in _DEAD:
            text, fix = f"Nothing serves {disk.name} any more.", "mooring engine status"
            yield Finding(Level.BLOCK, "dead", disk.id, text, disk.reason or seen, fix)


def _mounted(scene: Scene) -> Iterator[Finding]:
    for mount in scene.mounts:
        where = f" in mount namespace {mount.namespace} (a container, a service)" if mount.namespace else ""
        text = f"It is mounted already, at {mount.mountpoint}{where}."
        fix = f"look there, or first: mooring unmount {mount.mountpoint}"
        if mount.namespace is not None:
            fix = "look there, or have whoever made that namespace unmount it"
        elif mount.mountpoint in scene.facts.looks:
            fix = f"look there; when done: mooring unmount {mount.mountpoint}"
        yield Finding(Level.BLOCK, "mounted", mount.mountpoint, text, f"{mount.fstype}, mount {mount.mount_id}", fix)


def _swap(scene: Scene) -> Iterator[Finding]:
    for area in scene.snapshot.swaps:
        if area.dev is None or area.dev in scene.devs:
            sure = area.dev is not None
            text = f"Swap is switched on in {area.path}" + ("." if sure else ", of which nobody knows where it lies.")
            yield Finding(Level.BLOCK, "swap", area.path, text, f"/proc/swaps: {area.kind}", f"swapoff {area.path}")


def _reachable(scene: Scene) -> Iterator[Finding]:
    maps = {each.id: each for each in scene.snapshot.maps}
    for unit in scene.units:
        if not any(path.state in guard_disk.WORKING for path in unit.kept):
            text = f"No path of {unit.disk.name} works: whoever looks into it would hang."
            seen = ", ".join(f"{path.name} {path.state}" for path in unit.kept) or "it has no path"
            yield Finding(Level.BLOCK, "no-path", unit.disk.id, text, seen, "bring a path back first")
        found = maps.get(unit.disk.map or "")
        if found is not None and found.state is MapState.SUSPENDED:
            text = f"The map {found.name} is suspended: whoever looks into it would hang."
            fix = f"find who suspended it; dmsetup resume {found.name}"
            yield Finding(Level.BLOCK, "map-suspended", found.id, text, "dm/suspended is 1", fix)


def _single_path(scene: Scene) -> Iterator[Finding]:
    """A path below a map: what is read there is not what the map has in memory, and the map holds it anyway."""
    devices = {path.device: path for path in scene.snapshot.paths if path.map is not None and path.device}
    for node in scene.nodes:
        path = devices.get(f"/dev/{node.kname}")
        if path is not None:
            text = f"/dev/{node.kname} is a single path of a map."
            yield Finding(Level.BLOCK, "single-path", path.id, text, path.name, "name the map, or the disk")


GUARDS: tuple[Callable[[Scene], Iterable[Finding]], ...] = (
    guard_disk.permitted,
    guard_disk.readable,
    _attached,
    guard_kernel.known,
    guard_kernel.kind,
    guard_disk.identity,
    guard_disk.only_one,
    guard_volume.known,
    _mounted,
    guard_use.invisible,
    _swap,
    guard_use.above,
    guard_use.loops,
    guard_use.exports,
    guard_use.users,
    _single_path,
    guard_kernel.joined,
    _reachable,
)
"""In the order in which their findings are shown. Of the guards of a removal, only what they forbid counts here."""


def _contents(ground: Ground, found: Contents) -> Iterator[Finding]:
    device = ground.device
    seen = f"blkid: {found.usage or 'no usage'}, {found.type or 'no type'}"

    def no(code: str, text: str, fix: str = "") -> Finding:
        return Finding(Level.BLOCK, code, device, text, seen, fix)

    if found.several:
        text = f"{device} has signatures of several things; nobody knows which holds."
        yield no("ambiguous", text, f"look at: wipefs --no-act {device}")
    elif found.type is None and found.table is not None:
        fix = f"name one of its partitions, once the kernel lists them: partprobe {device}"
        yield no("partitioned", f"{device} has a partition table ({found.table}) and no file system of its own.", fix)
    elif found.type is None:
        yield no("empty", f"There is no file system on {device} that anybody knows.", f"look at: blkid -p {device}")
    elif found.usage != "filesystem":
        fix = _MEMBERS.get(found.usage or "", "whoever made it looks into it")
        yield no("member", f"{device} carries no file system but {found.type}.", fix)
    elif found.type not in KINDS:
        text = f"Whether {found.type} writes when it is mounted read-only is not known, so it is not mounted."
        yield no("unknown-kind", text, "look into a snapshot of it, on a host that may write to it")
    elif found.type == "btrfs" and found.devices != 1:
        many = "an unknown number of" if not found.devices else str(found.devices)
        text = f"This btrfs lies on {many} devices; whether all are there, and who uses the others, was not asked."
        yield no("several-devices", text, "mount it by hand: mount -o ro,rescue=nologreplay")


_MEMBERS = {
    "raid": "open what it is a member of (vgchange, mdadm), then name that",
    "crypto": "open it (cryptsetup open --readonly), then name that",
}
