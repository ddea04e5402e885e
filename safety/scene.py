"""What a removal takes away and all that stands on it, worked out once for all guards from a snapshot and its facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from initiator.host import block
from initiator.host.mounts import Mount
from initiator.host.stacks import VolumeGroup
from initiator.model import BlockNode, Disk, Path, Session, Snapshot, Source
from safety.facts import Facts
from safety.facts_kernel import KernelFacts
from safety.scope import Extent, Part
from safety.step import Options


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """One disk of the removal."""

    disk: Disk
    paths: tuple[Path, ...]
    """The paths that go."""
    kept: tuple[Path, ...]
    """Those that stay; empty when the disk leaves the host."""
    node: BlockNode | None
    """Its block device; None while it is not attached, or when the kernel does not list it."""
    devs: frozenset[str]
    """`major:minor` of the disk and of all that stands on it, as in `Scene.devs`."""
    stays: bool = False
    """Whether only a file system of it is dismounted."""

    @property
    def whole(self) -> bool:
        """Whether the disk leaves the host."""
        return not self.kept and not self.stays

    @property
    def kernel(self) -> bool:
        """Whether it is a disk of the kernel's initiator."""
        return self.disk.source is Source.KERNEL


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What the guards look at."""

    snapshot: Snapshot
    facts: Facts
    units: tuple[Unit, ...]
    sessions: tuple[Session, ...]
    """The sessions of the paths that go, in the order of the paths, and those that were named; each once."""
    named: frozenset[str]
    """Ids of the sessions that have to end."""
    parts: tuple[BlockNode, ...]
    """Partitions of the disks that leave the host; or the devices that carry the volume, if only that is dismounted."""
    above: tuple[BlockNode, ...]
    """All other devices that stand on these, however indirectly."""
    devs: frozenset[str]
    """`major:minor` of these disks and all that stands on them, and the numbers of their file systems in mountinfo."""
    mounts: tuple[Mount, ...]
    """Every mount of a file system on `devs`, in any namespace."""
    left: frozenset[str] = frozenset()
    """`major:minor` of the maps that only lose paths, and of all that stands on them: a path that goes does not matter
    to any of it."""
    volume_groups: tuple[VolumeGroup, ...] = ()
    """Those with a physical volume on one of the disks, on a path of it that goes, or on something above these, unless
    all of it is on what is left."""
    options: Options = dataclasses.field(default_factory=Options)
    """What the person chose."""
    volume: bool = False
    """Whether only a file system is dismounted, and every disk and path stays."""
    resuming: bool = False
    """Whether the removal was begun already: what it did itself stands against nothing."""

    @property
    def abandon(self) -> bool:
        """Whether the person gives up what cannot be reached any more."""
        return self.options.abandon

    @property
    def whole(self) -> tuple[Unit, ...]:
        """The disks that leave the host."""
        return tuple(unit for unit in self.units if unit.whole)

    @property
    def kept(self) -> tuple[Unit, ...]:
        """The disks that only lose paths."""
        return tuple(unit for unit in self.units if unit.kept and not unit.stays)

    @property
    def dismounted(self) -> tuple[Unit, ...]:
        """The disks of which file systems are dismounted, whether they leave or stay."""
        return self.units if self.volume else self.whole

    @property
    def own_mounts(self) -> tuple[Mount, ...]:
        """The mounts in Mooring's own namespace."""
        return tuple(mount for mount in self.mounts if mount.namespace is None)

    @property
    def nodes(self) -> tuple[BlockNode, ...]:
        """The devices of the disks that leave the host, and all that stands on them; of a volume, its own alone."""
        own = (unit.node for unit in self.dismounted if unit.node is not None and unit.node.dev in unit.devs)
        return (*own, *self.parts, *self.above)

    @property
    def kernel_devs(self) -> frozenset[str]:
        """As `devs`, of the kernel's disks alone."""
        return frozenset(dev for unit in self.dismounted if unit.kernel for dev in unit.devs)

    def unit(self, disk_id: str) -> Unit:
        """The disk with this id.

        Raises:
            KeyError: it is not of this removal.
        """
        for unit in self.units:
            if unit.disk.id == disk_id:
                return unit
        raise KeyError(disk_id)

    def sessions_of(self, unit: Unit) -> tuple[Session, ...]:
        """The sessions of the paths of a disk that go, in the order of the paths."""
        by_id = {session.id: session for session in self.sessions}
        return tuple(by_id[one] for one in dict.fromkeys(path.session for path in unit.paths) if one in by_id)

    def units_over(self, session: Session) -> tuple[Unit, ...]:
        """The disks that lose a path with a session."""
        return tuple(unit for unit in self.units if any(path.session == session.id for path in unit.paths))

    def on(self, dev: str) -> tuple[Unit, ...]:
        """The disks that something stands on, and those that cannot be dismounted apart from them."""
        return next((group for group in self.groups() if any(dev in unit.devs for unit in group)), ())

    def groups(self) -> tuple[tuple[Unit, ...], ...]:
        """The disks that are dismounted, put together where something stands on more than one of them."""
        ties = [frozenset(group.devices) for group in self.volume_groups]
        left: list[tuple[Unit, ...]] = [(unit,) for unit in self.dismounted]
        for tie in [*(unit.devs for unit in self.dismounted), *ties]:
            tied = [group for group in left if any(tie & unit.devs for unit in group)]
            if len(tied) > 1:
                joined = tuple(unit for unit in self.dismounted if any(unit in group for group in tied))
                left[left.index(tied[0])] = joined
                left = [group for group in left if group not in tied[1:]]
        return tuple(left)


def view(
    snapshot: Snapshot, facts: Facts, extent: Extent, options: Options | None = None, *, resuming: bool = False
) -> Scene:
    """Work out what stands on what a removal takes away."""
    loops = {use.dev: use.on for use in facts.loops}
    carriers = _carriers(extent.volume, facts)
    units = tuple(_unit(snapshot, facts, part, loops, carriers) for part in extent.parts)
    gone = [unit for unit in units if unit.whole or carriers]
    grounds = {unit.disk.dev for unit in gone}
    devs = frozenset(dev for unit in gone for dev in unit.devs)
    others = [item for item in snapshot.block if item.dev in devs and item.dev not in grounds]
    names = {unit.node.kname for unit in gone if unit.node is not None}
    parts = tuple(item for item in others if (item.dev in carriers if carriers else item.parent in names))
    maps = (unit.disk.dev for unit in units if unit.kept and not unit.stays and unit.disk.map is not None)
    left = block.above(snapshot.block, [dev for dev in maps if dev is not None])
    return Scene(
        snapshot=snapshot,
        facts=facts,
        units=units,
        sessions=extent.sessions,
        named=extent.named,
        parts=parts,
        above=tuple(item for item in others if item not in parts),
        devs=devs,
        mounts=tuple(mount for mount in facts.mounts if mount.dev in devs),
        left=left,
        volume_groups=_volume_groups(snapshot, facts.kernel, units, left) if facts.kernel else (),
        options=options or Options(),
        volume=bool(carriers),
        resuming=resuming,
    )


def _volume_groups(
    snapshot: Snapshot, facts: KernelFacts, units: Iterable[Unit], left: frozenset[str]
) -> tuple[VolumeGroup, ...]:
    under = {unit.disk.dev for unit in units} | {path.dev for path in facts.paths}
    own = block.above(snapshot.block, [dev for dev in under if dev is not None])
    found = (group for group in facts.groups if not own.isdisjoint(group.devices))
    return tuple(group for group in found if not left.issuperset(filter(None, group.devices)))


def _carriers(volume: frozenset[str], facts: Facts) -> frozenset[str]:
    """The devices that carry a volume, all of them where its file system lies on several."""
    behind = (under for under in facts.filesystem_devs.values() if volume.intersection(under))
    return volume.union(*behind)


def _unit(
    snapshot: Snapshot, facts: Facts, part: Part, loops: dict[str, str], carriers: frozenset[str] = frozenset()
) -> Unit:
    disk = part.disk
    node = next((item for item in snapshot.block if disk.dev is not None and item.dev == disk.dev), None)
    own = carriers or ({disk.dev} if disk.dev is not None else set())
    return Unit(disk, part.paths, part.kept, node, _closure(snapshot.block, own, loops, facts), part.stays)


def _closure(nodes: Sequence[BlockNode], devs: Iterable[str], loops: dict[str, str], facts: Facts) -> frozenset[str]:
    """`devs`, all devices above them, and the anonymous numbers of file systems that span any of these.

    Repeated until nothing new comes: a loop device can stand on a file of a btrfs that stands on the disk.
    """
    found: frozenset[str] = frozenset(devs)
    while True:
        grown = block.above(nodes, found, loops)
        grown |= {anonymous for anonymous, behind in facts.filesystem_devs.items() if grown.intersection(behind)}
        if grown == found:
            return found
        found = grown
