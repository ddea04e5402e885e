"""A disk and all that stands on it, worked out once for all guards from one snapshot and its facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from initiator.errors import BadInputError
from initiator.host import block
from initiator.host.mounts import Mount
from initiator.model import BlockNode, Disk, Path, Session, Snapshot
from safety.facts import Facts


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What the guards look at."""

    snapshot: Snapshot
    facts: Facts
    disk: Disk
    node: BlockNode | None
    """The block device of the disk; None while it is not attached, or when the kernel does not list it."""
    parts: tuple[BlockNode, ...]
    """Its partitions."""
    above: tuple[BlockNode, ...]
    """All other devices that stand on it, however indirectly."""
    devs: frozenset[str]
    """`major:minor` of all these, and the device numbers under which their file systems show in mountinfo."""
    mounts: tuple[Mount, ...]
    """Every mount of a file system on `devs`, in any namespace."""
    paths: tuple[Path, ...]
    sessions: tuple[Session, ...]
    """The sessions of its paths, in the order of the paths, each once."""

    @property
    def own_mounts(self) -> tuple[Mount, ...]:
        """The mounts in Mooring's own namespace."""
        return tuple(mount for mount in self.mounts if mount.namespace is None)


def find_disk(snapshot: Snapshot, disk_id: str) -> Disk:
    """The disk with this id.

    Raises:
        BadInputError: there is none.
    """
    for disk in snapshot.disks:
        if disk.id == disk_id:
            return disk
    raise BadInputError(f"There is no disk {disk_id!r}.", fix="mooring list")


def view(snapshot: Snapshot, facts: Facts, disk: Disk) -> Scene:
    """Work out what stands on `disk`."""
    node = next((item for item in snapshot.block if disk.dev is not None and item.dev == disk.dev), None)
    own = {disk.dev} if disk.dev is not None else set()
    loops = {use.dev: use.on for use in facts.loops}
    devs = _closure(snapshot.block, own, loops, facts)
    others = [item for item in snapshot.block if item.dev in devs and item.dev not in own]
    parts = tuple(item for item in others if node is not None and item.parent == node.kname)
    paths = tuple(path for path in snapshot.paths if path.disk == disk.id)
    wanted = dict.fromkeys(path.session for path in paths)
    by_id = {session.id: session for session in snapshot.sessions}
    return Scene(
        snapshot=snapshot,
        facts=facts,
        disk=disk,
        node=node,
        parts=parts,
        above=tuple(item for item in others if item not in parts),
        devs=devs,
        mounts=tuple(mount for mount in facts.mounts if mount.dev in devs),
        paths=paths,
        sessions=tuple(by_id[session] for session in wanted if session in by_id),
    )


def _closure(nodes: Iterable[BlockNode], devs: Iterable[str], loops: dict[str, str], facts: Facts) -> frozenset[str]:
    """`devs`, all devices above them, and the anonymous numbers of file systems that span any of these.

    Repeated until nothing new comes: a loop device can stand on a file of a btrfs that stands on the disk.
    """
    every = tuple(nodes)
    found: frozenset[str] = frozenset(devs)
    while True:
        grown = block.above(every, found, loops)
        grown |= {anonymous for anonymous, behind in facts.filesystem_devs.items() if grown.intersection(behind)}
        if grown == found:
            return found
        found = grown
