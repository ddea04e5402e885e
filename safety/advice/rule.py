"""What a rule is, what it can answer, and the values that all rules ask the same questions of."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from initiator.chain import lowest, under
from initiator.host.nodes import NodeRecord
from initiator.model import (
    Connection,
    Disk,
    Link,
    Map,
    Path,
    PathState,
    Session,
    Severity,
    Snapshot,
    Volume,
    holds_data,
)
from initiator.names import clean
from safety.advice.facts import Facts


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """The rule fires: something is not as it should be.

    The texts may hold strings of targets and files: whoever shows them treats them as plain text.
    """

    subject: str
    """The name of what it is about, as a person knows it."""
    evidence: str
    """What was read."""
    fix: str = ""
    """The exact command or setting for this case; empty where the rule's own text says all."""
    about: str = ""
    """The id of what it is about, if it is something of the snapshot."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unsure:
    """The rule cannot know."""

    subject: str
    reason: str


Answer = Hit | Unsure


def command(*words: str) -> str:
    """A command that can be copied into a shell, whatever names of targets and files are in it."""
    return shlex.join(clean(word) for word in words)


class Host:
    """A snapshot with its facts, and what rules look up in them."""

    def __init__(self, snapshot: Snapshot, facts: Facts) -> None:
        self.snapshot = snapshot
        self.facts = facts

    @functools.cached_property
    def sessions(self) -> Mapping[str, Session]:
        """By id."""
        return {session.id: session for session in self.snapshot.sessions}

    @functools.cached_property
    def maps(self) -> Mapping[str, Map]:
        """By id."""
        return {each.id: each for each in self.snapshot.maps}

    @functools.cached_property
    def links(self) -> Mapping[str, Link]:
        """By id."""
        return {link.id: link for link in self.snapshot.links}

    @functools.cached_property
    def links_by_name(self) -> Mapping[str, Link]:
        """By name."""
        return {link.name: link for link in self.snapshot.links}

    @functools.cached_property
    def disks(self) -> tuple[Disk, ...]:
        """Those that hold data."""
        return tuple(disk for disk in self.snapshot.disks if holds_data(disk.kind))

    @functools.cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes on our disks, each file system once: of several mounts the first in the own namespace."""
        found: dict[str, Volume] = {}
        for volume in sorted(self.snapshot.volumes, key=lambda each: (each.namespace is not None, each.mount_id)):
            if volume.disks:
                found.setdefault(volume.dev, volume)
        return tuple(found.values())

    @functools.cached_property
    def _paths(self) -> Mapping[str, list[Path]]:
        found = defaultdict(list)
        for path in self.snapshot.paths:
            found[path.disk].append(path)
        return found

    def paths(self, disk: Disk) -> list[Path]:
        """The paths to a disk."""
        return self._paths.get(disk.id, [])

    def connections(self, path: Path) -> tuple[Connection, ...]:
        """The connections that carry a path."""
        session = self.sessions.get(path.session)
        return session.connections if session else ()

    @functools.cached_property
    def wired(self) -> tuple[tuple[Session, Link], ...]:
        """The sessions that leave this host, each with its link. A session over loopback needs no advice on cables."""
        pairs = ((session, self.links.get(session.link or "")) for session in self.snapshot.sessions)
        return tuple((session, link) for session, link in pairs if link is not None and link.kind != "loopback")

    @functools.cached_property
    def unplaced(self) -> tuple[Session, ...]:
        """The sessions whose link is not known."""
        return tuple(session for session in self.snapshot.sessions if session.link not in self.links)

    @functools.cached_property
    def by_target(self) -> Mapping[str, tuple[list[NodeRecord], list[Session]]]:
        """Node records and sessions of each target."""
        found: dict[str, tuple[list[NodeRecord], list[Session]]] = defaultdict(lambda: ([], []))
        for record in self.facts.records.nodes if self.facts.records else ():
            found[record.target][0].append(record)
        for session in self.snapshot.sessions:
            found[session.target][1].append(session)
        return found

    @functools.cached_property
    def storage_links(self) -> tuple[Link, ...]:
        """The links that sessions go through, each once."""
        return tuple(dict.fromkeys(link for _, link in self.wired))

    def not_asked(self, disk: Disk) -> str:
        """Why it is not known who is registered with a disk."""
        if disk.device is None:
            return "who is registered with it: only disks that are attached are asked"
        return f"who is registered with it: {self.facts.why('registrations')}"

    def path_links(self, disk: Disk) -> list[tuple[Path, Link]]:
        """The paths of a disk that leave this host through a known link."""
        pairs = ((path, self.links.get(path.link or "")) for path in self.paths(disk))
        return [(path, link) for path, link in pairs if link is not None and link.kind != "loopback"]

    def chain(self, link: Link) -> tuple[Link, ...]:
        """A link and all that it stands on, top first."""
        return under(link, self.links_by_name)

    def below(self, link: Link) -> tuple[Link, ...]:
        """What a link stands on in the end: itself if it is a real one, else those under a bond, VLAN or bridge."""
        return lowest(self.chain(link))


WORKING = (PathState.ACTIVE, PathState.STANDBY)
Check = Callable[[Host], Iterable[Answer]]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a well set up host does, or does not."""

    id: str
    """Stable word for programs: the family, a slash, a name."""
    severity: Severity
    """What is at stake: bad is data, warn is availability or safety, note is what a careful person would do."""
    title: str
    """What is wrong when it fires."""
    reason: str
    """Why that matters, for somebody who does not know."""
    fix: str
    """What to do about it, in general."""
    check: Check

    @property
    def family(self) -> str:
        """naming, network, multipath, boot, data, security or leftovers."""
        return self.id.partition("/")[0]


class Family:
    """Collects the rules of one file in the order in which they are written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rules: list[Rule] = []

    def rule(self, name: str, severity: Severity, title: str, reason: str, fix: str) -> Callable[[Check], Check]:
        """Makes a function a rule of this family."""

        def add(check: Check) -> Check:
            self.rules.append(Rule(f"{self.name}/{name}", severity, title, reason, fix, check))
            return check

        return add

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)
