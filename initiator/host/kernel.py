"""The kernel's own sessions, disks, paths and multipath maps: open-iscsi's (or any transport's) part of a Snapshot.

sysfs and the device mapper are the truth about what there is. multipathd is asked what it makes of the paths; while it
is silent the device mapper is asked instead, and where nobody answers a path of a map is `unknown`.
"""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from initiator import model
from initiator.host import attributes, kernelview, links, sysfs
from initiator.host.block import read_block
from initiator.host.diskstats import Counters, StatsReader
from initiator.host.dmstatus import DmStatus
from initiator.host.iscsi import KernelSession, Lun, SessionReader
from initiator.host.kernelview import Identity
from initiator.host.multipath import MapInfo, MapPath
from initiator.host.multipathd import PATIENCE, Daemon, Multipathd, Told
from initiator.host.nodes import NodeRecord, RecordReader, Records
from initiator.host.units import (
    MPATH,
    Facts,
    Joined,
    Placed,
    Unit,
    map_wwid,
    read_facts,
    to_disk,
    to_map,
    to_path,
    unit_key,
    wrong_with,
)
from initiator.model import BlockNode, Disk, Link, Map, Problem, Session, TcpInfo

FIRST_PATIENCE = 1.0
"""Seconds that the first reading waits for multipathd: nothing is known yet that could stand in for its answer."""
STALE = 15.0
"""Seconds after which an old answer of multipathd says nothing of the present any more."""

Seen = TypeVar("Seen", Session, Disk, model.Path, Map)

TcpKey = tuple[int, str, int]
"""Local port, peer, port of the peer."""
Tcp = Callable[[], Mapping[TcpKey, TcpInfo]]
"""Gives TCP's view of all connections."""


@dataclasses.dataclass(frozen=True, slots=True)
class KernelReport:
    """One reading. Tuples are sorted by id."""

    sessions: tuple[Session, ...] = ()
    disks: tuple[Disk, ...] = ()
    paths: tuple[model.Path, ...] = ()
    maps: tuple[Map, ...] = ()
    problems: tuple[Problem, ...] = ()
    records: Records = dataclasses.field(default_factory=Records)
    daemon: Daemon = Daemon.ABSENT


class _KnownSession(NamedTuple):
    """A session and what it was made of."""

    seen: KernelSession
    luns: tuple[int, ...]
    records: tuple[NodeRecord, ...]
    tcp: TcpInfo | None
    link: str | None
    session: Session


class KernelReader:
    """Reads again and again. What has not changed since is the same object as before.

    Args:
        root: Where `sys`, `proc`, `etc`, `var` and `run` are.
        clock: Unix time.
        monotonic: A clock for durations.
        tcp: Asks TCP; None leaves `Connection.tcp` empty.
        dm_status: Asks the device mapper for the maps by name; None where it cannot be asked.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        tcp: Tcp | None = None,
        dm_status: Callable[[], Mapping[str, MapInfo] | None] | None = None,
    ) -> None:
        self._root = root
        self._base = sysfs.base(root)
        self._clock = clock
        self._tcp = tcp
        self._dm_status = dm_status or DmStatus(root, monotonic)
        self._reader = SessionReader(root)
        self._records = RecordReader(root)
        self._stats = StatsReader(root)
        self._multipathd = Multipathd(root, clock, monotonic)
        self._asked = False
        self._sessions: dict[int, _KnownSession] = {}
        self._last_records = Records()
        self._by_place: dict[_RecordKey, list[NodeRecord]] = {}
        self._identities: dict[str, tuple[attributes.Raw, Identity]] = {}
        self._facts: dict[str, tuple[attributes.Raw, Facts]] = {}
        self._paths: dict[str, tuple[object, model.Path, Counters | None]] = {}
        self._disks: dict[str, tuple[object, Disk]] = {}

    def read(self, nodes: Sequence[BlockNode], found_links: Sequence[Link] = (), full: bool = False) -> KernelReport:
        """Reads what is there now.

        Args:
            nodes: The block devices, from `initiator.host.block.read_block`.
            found_links: The network interfaces, from `initiator.host.links.read_links`.
            full: Read everything, whatever is remembered.
        """
        found = self._reader.read(full)
        maps = {node.kname: node for node in nodes if (node.dm_uuid or "").startswith(MPATH)}
        if not found.sessions and not maps:
            return KernelReport(problems=found.problems)
        if full:
            self._facts.clear()
        records = self._records.read(full)
        told = self._multipathd.read(PATIENCE if self._asked else FIRST_PATIENCE)
        self._asked = True
        sessions = self._to_sessions(found.sessions, found.luns, records, _LinkFinder(found_links))
        units = self._units(found.luns, sessions, {node.kname: node for node in nodes}, maps)
        now = self._clock()
        joined = self._joined(told, now, maps, any(unit.map is None for unit in units))
        paths, disks, made_maps, problems = self._objects(units, joined, now)
        return KernelReport(
            sessions=_sorted(sessions.values()),
            disks=_sorted(disks),
            paths=_sorted(paths),
            maps=_sorted(made_maps),
            problems=(*found.problems, *records.problems, *told.problems(now), *problems),
            records=records,
            daemon=told.daemon,
        )

    # --- sessions ---

    def _to_sessions(
        self, found: Iterable[KernelSession], luns: Iterable[Lun], records: Records, link_of: _LinkFinder
    ) -> dict[int, Session]:
        by_session: dict[int, list[int]] = {}
        for lun in luns:
            by_session.setdefault(lun.sid, []).append(lun.lun)
        tcp = self._tcp() if self._tcp is not None else {}
        if records is not self._last_records:
            self._last_records = records
            self._by_place = _by_place(records)
        made: dict[int, _KnownSession] = {}
        for each in found:
            own = tuple(sorted(by_session.get(each.sid, ())))
            info = _tcp_of(each, tcp)
            known = self._sessions.get(each.sid)
            mine = _records_of(each, self._by_place)
            link = link_of(each)
            if known is None or (known.seen, known.luns, known.records, known.tcp, known.link) != (
                each, own, mine, info, link,
            ):  # fmt: skip
                boot = any(target.name == each.attributes.get("targetname") for target in records.boot)
                session = kernelview.to_session(each, own, mine, info, boot, link)
                known = _KnownSession(each, own, mine, info, link, session)
            made[each.sid] = known
        self._sessions = made
        return {sid: known.session for sid, known in made.items()}

    # --- which LUNs are one disk ---

    def _units(
        self,
        luns: Iterable[Lun],
        sessions: Mapping[int, Session],
        nodes: Mapping[str, BlockNode],
        maps: Mapping[str, BlockNode],
    ) -> list[Unit]:
        """LUNs under one map are one disk; so are disks that the kernel gives the same name."""
        units: dict[str, Unit] = {}
        keys: dict[str, str] = {}
        identities: dict[str, tuple[attributes.Raw, Identity]] = {}
        for lun in luns:
            known = self._identities.get(lun.hctl)
            if known is None or known[0] is not lun.fixed:
                known = (lun.fixed, kernelview.identity(lun.fixed))
            identities[lun.hctl] = known
            node = nodes.get(lun.kname) if lun.kname else None
            joined = next((maps[name] for name in node.holders if name in maps), None) if node else None
            key = unit_key(lun, known[1])
            if joined is not None:
                key = keys.setdefault(joined.kname, key)
            unit = units.get(key)
            if unit is None or (unit.map is None and joined is not None):
                unit = units[key] = Unit(f"kernel:d:{key}", unit.members if unit else [], joined)
            unit.members.append(Placed(lun, known[1], sessions[lun.sid], node, joined))
        self._identities = identities
        for kname, node in maps.items():
            if kname not in keys and not node.slaves:
                units[f"map {kname}"] = Unit(f"kernel:d:{map_wwid(node)}", [], node)
        return list(units.values())

    # --- multipath ---

    def _joined(self, told: Told, now: float, maps: Mapping[str, BlockNode], loose: bool) -> Joined:
        """What is known of each map, and since when: from multipathd, else from the device mapper."""
        listed = {path.dev: path for path in told.listed if path.dev} if told.daemon is Daemon.RUNNING else None
        wwids = self._wwids() if loose else frozenset()
        infos: Mapping[str, MapInfo] = {info.name: info for info in told.maps}
        at = told.at
        stale = told.daemon is Daemon.ABSENT or at is None or now - at > STALE
        if maps and stale:
            asked = self._dm_status()
            infos, at = ({}, at) if asked is None else (asked, now)
        return Joined(infos, at, listed, told.daemon, wwids, bool(maps))

    def _wwids(self) -> frozenset[str]:
        """The disks that multipath has joined before and would join again."""
        lines = (sysfs.read_text(f"{self._base}/etc/multipath/wwids") or "").splitlines()
        return frozenset(line.strip("/") for line in lines if line.startswith("/"))

    # --- objects ---

    def _objects(
        self, units: Iterable[Unit], joined: Joined, now: float
    ) -> tuple[list[model.Path], list[Disk], list[Map], list[Problem]]:
        stats = self._stats.read()
        before_paths, self._paths = self._paths, {}
        before_disks, self._disks = self._disks, {}
        paths: list[model.Path] = []
        disks: list[Disk] = []
        maps: list[Map] = []
        problems: list[Problem] = []
        for unit in units:
            info = joined.infos.get(unit.map.dm_name or "") if unit.map else None
            by_dev = {path.dev_t: path for path in info.paths} if info else {}
            own = []
            for placed in unit.members:
                path = by_dev.get(placed.node.dev) if placed.node else None
                counters = stats.get(placed.lun.kname or "")
                own.append(self._path(unit, placed, path, counters, before_paths.get(placed.lun.hctl), now))
            if unit.map is not None:
                maps.append(to_map(unit, unit.map, info, own, joined, self._suspended(unit.map, info)))
            wrong = wrong_with(unit)
            if wrong is not None:
                problems.append(Problem("kernel", unit.id, wrong))
            disks.append(self._disk(unit, own, wrong, joined, before_disks.get(unit.id)))
            paths += own
        self._facts = {key: fact for key, fact in self._facts.items() if key in self._identities}
        return paths, disks, maps, problems

    def _suspended(self, node: BlockNode, info: MapInfo | None) -> bool | None:
        if info is not None and info.suspended is not None:
            return info.suspended
        number = sysfs.read_int(f"{self._base}/sys/class/block/{node.kname}/dm/suspended")
        return None if number is None else bool(number)

    def _path(
        self,
        unit: Unit,
        placed: Placed,
        path: MapPath | None,
        counters: Counters | None,
        before: tuple[object, model.Path, Counters | None] | None,
        now: float,
    ) -> model.Path:
        key = (placed.lun, placed.session, path, counters, unit.id, placed.map and placed.map.kname)
        if before is not None and before[0] == key:
            self._paths[placed.lun.hctl] = before
            return before[1]
        was = before[1] if before is not None and before[1].disk == unit.id else None
        made = to_path(unit, placed, path, counters, before[2] if before else None, was, now)
        self._paths[placed.lun.hctl] = (key, made, counters)
        return made

    def _disk(
        self,
        unit: Unit,
        paths: Sequence[model.Path],
        wrong: str | None,
        joined: Joined,
        before: tuple[object, Disk] | None,
    ) -> Disk:
        facts = self._facts_of(unit.members[0].lun) if unit.members else None
        multipath = joined.multipath(unit)
        members = tuple((placed.lun.hctl, placed.node, placed.identity) for placed in unit.members)
        targets = tuple(placed.session.target for placed in unit.members)
        states = tuple((path.state, path.reason) for path in paths)
        key = (members, targets, states, unit.map, facts, wrong, multipath)
        if before is not None and before[0] == key:
            self._disks[unit.id] = before
            return before[1]
        made = to_disk(unit, paths, facts, wrong, multipath)
        self._disks[unit.id] = (key, made)
        return made

    def _facts_of(self, lun: Lun) -> Facts:
        known = self._facts.get(lun.hctl)
        if known is None or known[0] is not lun.fixed:
            known = (lun.fixed, read_facts(lun))
            self._facts[lun.hctl] = known
        return known[1]

    def close(self) -> None:
        """Lets go of multipathd."""
        self._multipathd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_kernel(root: Path = Path("/")) -> KernelReport:
    """Reads everything once; whoever reads more than once keeps a `KernelReader`."""
    nodes, problems = read_block(root)
    with KernelReader(root) as reader:
        report = reader.read(nodes)
    return dataclasses.replace(report, problems=(*problems, *report.problems))


def _sorted(items: Iterable[Seen]) -> tuple[Seen, ...]:
    return tuple(sorted(items, key=operator.attrgetter("id")))


_RecordKey = tuple[str, str, int, str]


def _by_place(records: Records) -> dict[_RecordKey, list[NodeRecord]]:
    found: dict[_RecordKey, list[NodeRecord]] = {}
    for record in records.nodes:
        place = (record.target, record.portal.host, record.portal.port, record.interface)
        found.setdefault(place, []).append(record)
    return found


def _records_of(session: KernelSession, by_place: Mapping[_RecordKey, Sequence[NodeRecord]]) -> tuple[NodeRecord, ...]:
    """The node records that a session can have come from: of the portal that it was told to use, or that it is at."""
    if not by_place or not session.connections:
        return ()
    values = session.connections[0].attributes
    target = session.attributes.get("targetname", "")
    interface = session.attributes.get("ifacename", "default")
    for prefix in ("persistent_", ""):
        portal = kernelview.portal(values, prefix)
        if portal is not None and (found := by_place.get((target, portal.host, portal.port, interface))):
            return tuple(found)
    return ()


def _tcp_of(session: KernelSession, tcp: Mapping[TcpKey, TcpInfo]) -> TcpInfo | None:
    if not tcp or not session.connections:
        return None
    values = session.connections[0].attributes
    peer = kernelview.portal(values)
    port = values.get("local_port", "")
    return tcp.get((int(port), peer.host, peer.port)) if peer is not None and port.isdecimal() else None


class _LinkFinder:
    """Through which interface a session goes: the one it is bound to, else the one that has its local address."""

    def __init__(self, found: Sequence[Link]) -> None:
        self._found = found
        self._names = {link.name: link.id for link in found}
        self._known: dict[str | None, str | None] = {}

    def __call__(self, session: KernelSession) -> str | None:
        bound = self._names.get(session.iscsi_host.get("netdev", ""))
        if bound is not None or not self._found:
            return bound
        values = session.connections[0].attributes if session.connections else {}
        local = values.get("local_ipaddr") or session.iscsi_host.get("ipaddress")
        if local not in self._known:
            self._known[local] = links.link_for(local, self._found)
        return self._known[local]
