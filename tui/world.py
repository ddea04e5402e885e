"""One snapshot with the questions answered that the screen asks over and over, and what its rows stand for.

Pure: made anew for every snapshot.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from collections import defaultdict
from typing import NamedTuple

from initiator.model import (
    Disk,
    DiskState,
    Event,
    Link,
    Map,
    Path,
    PathState,
    Session,
    SessionState,
    Severity,
    Snapshot,
    Volume,
)
from safety.past import Past
from tui.words import Mark, natural


class Kind(enum.StrEnum):
    """What a row stands for."""

    TARGET = "target"
    DISK = "disk"
    VOLUME = "volume"
    PATH = "path"
    SESSIONS = "sessions"
    SESSION = "session"
    LINKS = "links"
    LINK = "link"
    TROUBLE = "problem"
    EVENT = "event"
    REMOVAL = "removal"
    CHECK = "check"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What the host knows of one target, summed up."""

    id: str
    name: str
    sessions: tuple[Session, ...]
    disks: tuple[Disk, ...]
    mark: Mark


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A heading with a count, over sessions or links."""

    id: str
    name: str
    total: int
    working: int
    target: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """One event, with a number of its own."""

    id: str
    event: Event

    @property
    def name(self) -> str:
        """What happened."""
        return self.event.text


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong with no single thing: what could not be read."""

    id: str
    name: str
    severity: Severity


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What a rule of best practice says of one thing."""

    id: str
    severity: Severity | None
    """None where the rule cannot know."""
    rule: str
    name: str
    """What is not as it should be, or what is asked."""
    subject: str
    about: str
    """The id of what it is about; empty where that is no single thing."""
    evidence: str
    """What was read, or why the rule cannot know."""
    reason: str = ""
    fix: str = ""


Item = Target | Group | Disk | Volume | Path | Session | Link | Happened | Trouble | Past | Checked
Thing = Session | Disk | Path | Map | Volume | Link


class Row(NamedTuple):
    """One line of the tree."""

    key: str
    kind: Kind
    item: Item
    guide: str
    """The branches to the left, one letter for each level: `t`ee, `l`ast, `s`tem, or a space where nothing runs."""
    opened: bool | None
    """None where nothing can be opened."""


class World:
    """A snapshot with the questions answered that the screen asks over and over."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.index: dict[str, Thing] = dict(snapshot.index())
        rank = {s.id: n for n, s in enumerate(sorted(snapshot.sessions, key=lambda s: natural(str(s.portal))))}
        self._paths: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(snapshot.paths, key=lambda path: rank.get(path.session, -1)):
            self._paths[path.disk].append(path)
        by_target: dict[str, tuple[list[Session], list[Disk]]] = defaultdict(lambda: ([], []))
        for session in snapshot.sessions:
            by_target[session.target][0].append(session)
        for disk in snapshot.disks:
            by_target[self.target_of(disk)][1].append(disk)
        self.targets = tuple(
            _target(name, *by_target[name]) for name in sorted(by_target, key=lambda name: (name == "", natural(name)))
        )
        self._by_name = {target.name: target for target in self.targets}
        self.used_links = _used_links(snapshot)
        self.links = _links(snapshot, self.used_links)

    def paths_of(self, disk: Disk) -> list[Path]:
        """The paths of a disk, by portal."""
        return self._paths.get(disk.id, [])

    def volumes_of(self, disk: Disk) -> list[Volume]:
        """The mounts on a disk, by mount point, Mooring's own namespace first."""
        if not disk.volumes:
            return []
        found = [self.index.get(key) for key in disk.volumes]
        return sorted(
            (volume for volume in found if isinstance(volume, Volume)),
            key=lambda volume: (volume.namespace is not None, natural(volume.mountpoint), volume.id),
        )

    def session_of(self, path: Path) -> Session | None:
        """The session that carries a path."""
        found = self.index.get(path.session)
        return found if isinstance(found, Session) else None

    def disk(self, key: str | None) -> Disk | None:
        """The disk with this id."""
        found = self.index.get(key) if key else None
        return found if isinstance(found, Disk) else None

    def link(self, key: str | None) -> Link | None:
        """The link with this id."""
        found = self.index.get(key) if key else None
        return found if isinstance(found, Link) else None

    def portal_of(self, path: Path) -> str:
        """Where a path leads, as `address:port`; the path's own name where its session is not known."""
        session = self.session_of(path)
        return str(session.portal) if session else path.name

    def sessions_of(self, target: str) -> tuple[Session, ...]:
        """The sessions with a target, by portal."""
        found = self._by_name.get(target)
        return found.sessions if found else ()

    def carried_by(self, session: Session) -> list[Disk]:
        """The disks that have a path over a session."""
        return [disk for disk in map(self.disk, self._carried.get(session.id, ())) if disk]

    def map_of(self, disk: Disk) -> Map | None:
        """The map that joins the paths of a disk."""
        found = self.index.get(disk.map) if disk.map else None
        return found if isinstance(found, Map) else None

    def sessions_on(self, link: Link) -> list[Session]:
        """The sessions whose connections leave through a link."""
        return self._on_link.get(link.id, [])

    @functools.cached_property
    def _on_link(self) -> dict[str, list[Session]]:
        on: dict[str, list[Session]] = defaultdict(list)
        for session in self.snapshot.sessions:
            if session.link:
                on[session.link].append(session)
        return on

    @functools.cached_property
    def working(self) -> int:
        """How many paths can carry I/O."""
        states = collections.Counter(path.state for path in self.snapshot.paths)
        return states[PathState.ACTIVE] + states[PathState.STANDBY]

    @functools.cached_property
    def idle_failures(self) -> tuple[Session, ...]:
        """Lost sessions that no path tells of."""
        lost = [s for s in self.snapshot.sessions if s.state in (SessionState.FAILED, SessionState.FREE)]
        told = {path.session for path in self.snapshot.paths} if lost else set()
        return tuple(session for session in lost if session.id not in told)

    @functools.cached_property
    def _carried(self) -> dict[str, dict[str, None]]:
        """Disk ids by session id, in the order of the paths."""
        carried: dict[str, dict[str, None]] = defaultdict(dict)
        for path in self.snapshot.paths:
            carried[path.session][path.disk] = None
        return carried

    def target_of(self, disk: Disk) -> str:
        """The iSCSI name of the target that serves a disk; empty when nothing tells."""
        if disk.target:
            return disk.target
        sessions = (self.session_of(path) for path in self._paths.get(disk.id, ()))
        return next((session.target for session in sessions if session), "")


def _target(name: str, sessions: list[Session], disks: list[Disk]) -> Target:
    states = {disk.state for disk in disks}
    if states & {DiskState.NO_PATH, DiskState.DEAD}:
        summary = Mark("bad", "failing", "bad")
    elif sessions and not any(session.state is SessionState.LOGGED_IN for session in sessions):
        summary = Mark("bad", "no session", "bad")
    elif DiskState.DEGRADED in states or any(session.state is not SessionState.LOGGED_IN for session in sessions):
        summary = Mark("warn", "degraded", "warn")
    elif states & {DiskState.OFFLINE, DiskState.UNKNOWN}:
        summary = Mark("warn", "attention", "warn")
    else:
        summary = Mark("good", "ok", "good")
    return Target(
        id=f"target:{name}",
        name=name,
        sessions=tuple(sorted(sessions, key=lambda session: (natural(str(session.portal)), natural(session.id)))),
        disks=tuple(sorted(disks, key=lambda disk: (natural(disk.name), disk.id))),
        mark=summary,
    )


def _used_links(snapshot: Snapshot) -> frozenset[str]:
    """The ids of the links that carry iSCSI, and of what these stand on or belong to."""
    by_name = {link.name: link for link in snapshot.links}
    by_id = {link.id: link for link in snapshot.links}
    carriers = {*(session.link for session in snapshot.sessions), *(path.link for path in snapshot.paths)}
    waiting = [by_id[key] for key in carriers if key in by_id]
    used: set[str] = set()
    while waiting:
        link = waiting.pop()
        if link.id not in used:
            used.add(link.id)
            waiting += [by_name[name] for name in (*link.lower, link.master) if name in by_name]
    return frozenset(used)


def _links(snapshot: Snapshot, used: frozenset[str]) -> tuple[Link, ...]:
    """The links that iSCSI uses, then other hardware; the veths of containers would be noise."""
    shown = (link for link in snapshot.links if link.id in used or link.kind in ("ethernet", "bond", "vlan"))
    return tuple(sorted(shown, key=lambda link: (link.id not in used, natural(link.name))))


def works(path: Path) -> bool:
    """Whether a path can carry I/O now."""
    return path.state in (PathState.ACTIVE, PathState.STANDBY)
