"""What a person wants to be rid of, and what that means on the host as it is.

A removal takes paths away: all of a disk's, one of a map's, all of a session, of a target or of a link. A disk that
loses every path leaves the host as a whole; one that keeps others goes on, over its map. A session that carries nothing
else is logged out. So every scope comes down to the same thing: disks with the paths that go, and sessions.

The reach of a volume ends before that: its file system is dismounted, and its disk stays with every path.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar

from initiator.errors import BadInputError
from initiator.model import Disk, DiskState, Path, Session, Snapshot, Volume
from safety import cables


class Reach(enum.StrEnum):
    """How far a removal reaches."""

    DISKS = "disks"
    """Disks, with all their paths; sessions that carry others stay."""
    PATH = "path"
    """One path of a map, which goes on over the others."""
    SESSION = "session"
    TARGET = "target"
    """Every session of this host to one target, and all that they carry."""
    LINK = "link"
    """Every session over one network link."""
    VOLUME = "volume"
    """One file system, wherever it is mounted; its disk stays."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A disk, or some of its paths."""

    disk: Disk
    paths: tuple[Path, ...]
    """Those that go."""
    kept: tuple[Path, ...] = ()
    """Those that stay; empty when the disk leaves the host."""
    stays: bool = False
    """Whether the disk stays though it may have no path at all: only a file system of it is dismounted."""

    @property
    def whole(self) -> bool:
        """Whether the disk leaves the host."""
        return not self.kept and not self.stays


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """What a scope means now."""

    parts: tuple[Part, ...] = ()
    sessions: tuple[Session, ...] = ()
    """The sessions of the paths that go, and those without any that the scope names; in the order of the paths."""
    named: frozenset[str] = frozenset()
    """Ids of the sessions that the person named, or their target or link: these have to end."""
    volume: frozenset[str] = frozenset()
    """`major:minor` of the devices that carry the file system, where just that is dismounted; else empty."""

    @property
    def path_ids(self) -> frozenset[str]:
        """Ids of all paths that go."""
        return frozenset(path.id for part in self.parts for path in part.paths)


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """The request of a removal."""

    reach: Reach
    subjects: tuple[str, ...]
    """Ids of disks, of a path, a session, a link or a volume; the name of a target."""
    name: str
    """What a person calls it, and types to confirm."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the same field names."""
        return {"reach": str(self.reach), "subjects": list(self.subjects), "name": self.name}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: fields are missing or wrong.
        """
        return cls(Reach(data["reach"]), tuple(str(item) for item in data["subjects"]), str(data["name"]))

    def on(self, snapshot: Snapshot) -> Extent:
        """What it means on this host now.

        Raises:
            BadInputError: there is no such thing.
        """
        if self.reach is Reach.DISKS:
            return extent(snapshot, [(find_disk(snapshot, one), None) for one in self.subjects])
        if self.reach is Reach.PATH:
            path = _find(snapshot.paths, self.subjects[0], "path")
            return extent(snapshot, [(find_disk(snapshot, path.disk), {path.id})])
        if self.reach is Reach.VOLUME:
            found = _find(snapshot.volumes, self.subjects[0], "volume")
            own = [disk for disk in snapshot.disks if disk.id in found.disks]
            return dismounted(snapshot, own, _grounds(snapshot, found))
        return _of_sessions(snapshot, self._sessions(snapshot))

    def _sessions(self, snapshot: Snapshot) -> list[Session]:
        (subject,) = self.subjects
        if self.reach is Reach.SESSION:
            return [_find(snapshot.sessions, subject, "session")]
        if self.reach is Reach.TARGET:
            found = [each for each in cables.live(snapshot) if each.target == subject]
        else:
            _find(snapshot.links, subject, "link")
            carried = cables.carried(snapshot, subject)
            found = list(carried.alone)
            if carried.shared and not found:
                bonds = ", ".join(sorted({(each.link or "").removeprefix("link:") for each in carried.shared}))
                text = f"{self.name} carries no session alone: it is a member of what carries {bonds}, which goes on."
                raise BadInputError(text, fix=f"mooring drain {bonds}, if all of it has to go")
        if not found:
            text = f"This host has no session {'to' if self.reach is Reach.TARGET else 'over'} {self.name}."
            raise BadInputError(text, fix="mooring list")
        return found


def disks(*found: Disk) -> Scope:
    """The scope of these disks."""
    return Scope(Reach.DISKS, tuple(disk.id for disk in found), " ".join(disk.name for disk in found))


def path(snapshot: Snapshot, found: Path) -> Scope:
    """The scope of one path: called by its device or its name, with that of its disk."""
    disk = find_disk(snapshot, found.disk)
    own = (found.device or "").removeprefix("/dev/") or found.name
    return Scope(Reach.PATH, (found.id,), f"{disk.name} {own}")


def session(found: Session) -> Scope:
    """The scope of one session."""
    return Scope(Reach.SESSION, (found.id,), found.name)


def target(name: str) -> Scope:
    """The scope of a target."""
    return Scope(Reach.TARGET, (name,), name)


def volume(found: Volume) -> Scope:
    """The scope of one file system, called by the place where it is mounted."""
    return Scope(Reach.VOLUME, (found.id,), found.mountpoint)


def dismounted(snapshot: Snapshot, own: Iterable[Disk], devs: Collection[str]) -> Extent:
    """The extent of a file system on these devices of these disks, which stay."""
    paths = snapshot.paths
    parts = (Part(disk, (), tuple(each for each in paths if each.disk == disk.id), stays=True) for disk in own)
    return Extent(tuple(parts), volume=frozenset(devs))


def _grounds(snapshot: Snapshot, found: Volume) -> set[str]:
    """The device that carries a volume: a btrfs shows under a number of its own, which is no device."""
    if not found.dev.startswith("0:"):
        return {found.dev}
    name = found.device.rpartition("/")[2]
    devs = {node.dev for node in snapshot.block if name in (node.kname, node.dm_name)}
    return devs or {found.dev}


def find_disk(snapshot: Snapshot, disk_id: str) -> Disk:
    """The disk with this id.

    Raises:
        BadInputError: there is none.
    """
    return _find(snapshot.disks, disk_id, "disk")


def extent(
    snapshot: Snapshot,
    wanted: Iterable[tuple[Disk, Collection[str] | None]],
    named: Iterable[Session] = (),
) -> Extent:
    """Work out an extent.

    Args:
        snapshot: The host.
        wanted: Disks, each with the ids of the paths that go; None for all.
        named: Sessions that have to end, whatever they carry.
    """
    parts = []
    for disk, ids in wanted:
        own = tuple(each for each in snapshot.paths if each.disk == disk.id)
        gone = own if ids is None else tuple(each for each in own if each.id in ids)
        parts.append(Part(disk, gone, tuple(each for each in own if each not in gone)))
    ends = tuple(named)
    by_id = {each.id: each for each in snapshot.sessions}
    order = dict.fromkeys([each.session for part in parts for each in part.paths] + [each.id for each in ends])
    touched = tuple(by_id[each] for each in order if each in by_id)
    return Extent(tuple(parts), touched, frozenset(each.id for each in ends))


def _of_sessions(snapshot: Snapshot, found: list[Session]) -> Extent:
    """All that these sessions carry; what is only seen over them and was never attached just goes from view."""
    own = {each.id for each in found}
    gone = [each for each in snapshot.paths if each.session in own]
    carried = {each.disk for each in gone}
    attached = [each for each in snapshot.disks if each.id in carried and each.state is not DiskState.AVAILABLE]
    wanted = [(disk, {each.id for each in gone if each.disk == disk.id}) for disk in attached]
    return extent(snapshot, wanted, found)


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def _find(items: Iterable[_T], wanted: str, kind: str) -> _T:
    for item in items:
        if item.id == wanted:
            return item
    raise BadInputError(f"There is no {kind} {wanted!r}.", fix="mooring list")
