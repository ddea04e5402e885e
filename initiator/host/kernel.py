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
from initiator.host.multipath import MapInfo
from initiator.host.multipathd import PATIENCE, Daemon, Multipathd, Told
from initiator.host.nodes import NodeRecord, RecordReader, Records
from initiator.host.units import (
    MPATH,
    Facts,
    Joined,
    Placed,
    Unit,
    map_wwid,
    path_id,
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


_Key = tuple[
    list[Placed], BlockNode | None, MapInfo | None, tuple[Counters | None, ...], float | None, bool | None, bool | None
]


class _Made(NamedTuple):
    """The objects of one disk and what they were made of."""

    key: _Key
    paths: list[model.Path]
    disk: Disk
    map: Map | None
    wrong: str | None


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
        self._placed: dict[str, Placed] = {}
        self._grouped: tuple[object, list[Unit]] | None = None
        self._facts: dict[str, tuple[attributes.Raw, Facts]] = {}
        self._made: dict[str, _Made] = {}

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
        units = self._units(found.luns, sessions, nodes, maps)
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
        same_records = records is self._last_records
        if not same_records:
            self._last_records = records
            self._by_place = _by_place(records)
        made: dict[int, _KnownSession] = {}
        for each in found:
            own = tuple(sorted(by_session.get(each.sid, ())))
            info = _tcp_of(each, tcp)
            known = self._sessions.get(each.sid)
            same = known is not None and same_records and known.seen is each
            mine = known.records if known is not None and same else _records_of(each, self._by_place)
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
        luns: tuple[Lun, ...],
        sessions: Mapping[int, Session],
        every: Sequence[BlockNode],
        maps: Mapping[str, BlockNode],
    ) -> list[Unit]:
        """LUNs under one map are one disk; so are disks that the kernel gives the same name."""
        if self._grouped is not None and self._grouped[0] == (luns, sessions, every):
            return self._grouped[1]
        nodes = {node.kname: node for node in every}
        units: dict[str, Unit] = {}
        keys: dict[str, str] = {}
        before, self._placed = self._placed, {}
        for lun in luns:
            node = nodes.get(lun.kname) if lun.kname else None
            joined = None
            for name in node.holders if node is not None else ():
                joined = maps.get(name, joined)
            session = sessions[lun.sid]
            placed = before.get(lun.hctl)
            if placed is None or placed.lun is not lun or (placed.session, placed.node, placed.map) != (
                session, node, joined,
            ):  # fmt: skip
                same = placed is not None and placed.lun.fixed is lun.fixed
                identity = placed.identity if placed is not None and same else kernelview.identity(lun.fixed)
                placed = Placed(lun, identity, session, node, joined, unit_key(lun, identity))
            self._placed[lun.hctl] = placed
            key = placed.key if joined is None else keys.setdefault(joined.kname, placed.key)
            unit = units.get(key)
            if unit is None or (unit.map is None and joined is not None):
                unit = units[key] = Unit(f"kernel:d:{key}", unit.members if unit else [], joined)
            unit.members.append(placed)
        for kname, node in maps.items():
            if kname not in keys and not node.slaves:
                units[f"map {kname}"] = Unit(f"kernel:d:{map_wwid(node)}", [], node)
        self._grouped = ((luns, sessions, every), list(units.values()))
        return self._grouped[1]

    # --- multipath ---

    def _joined(self, told: Told, now: float, maps: Mapping[str, BlockNode], loose: bool) -> Joined:
        """What is known of each map, and since when: from multipathd, else from the device mapper."""
        listed = {path.dev: path for path in told.listed if path.dev} if told.daemon is Daemon.RUNNING else None
        wwids = self._wwids() if loose else frozenset()
        infos: Mapping[str, MapInfo] = {info.name: info for info in told.maps}
        at = None if told.daemon is Daemon.RUNNING else told.at
        if maps and (told.daemon is Daemon.ABSENT or told.at is None or now - told.at > STALE):
            asked = self._dm_status()
            infos, at = ({}, at) if asked is None else (asked, None)
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
        before, self._made = self._made, {}
        paths: list[model.Path] = []
        disks: list[Disk] = []
        maps: list[Map] = []
        problems: list[Problem] = []
        for unit in units:
            info = joined.infos.get(unit.map.dm_name or "") if unit.map else None
            counters = tuple([stats.get(placed.lun.kname or "") for placed in unit.members])
            suspended = self._suspended(unit.map, info) if unit.map else None
            key = (unit.members, unit.map, info, counters, joined.answered_at, joined.multipath(unit), suspended)
            made = before.get(unit.id)
            if made is None or made.key != key:
                made = self._make(unit, info, key, made, joined.answered_at, now)
            self._made[unit.id] = made
            paths += made.paths
            disks.append(made.disk)
            if made.map is not None:
                maps.append(made.map)
            if made.wrong is not None:
                problems.append(Problem("kernel", unit.id, made.wrong))
        self._facts = {key: fact for key, fact in self._facts.items() if key in self._placed}
        return paths, disks, maps, problems

    def _make(
        self, unit: Unit, info: MapInfo | None, key: _Key, before: _Made | None, at: float | None, now: float
    ) -> _Made:
        """The objects of one disk; those that come out as they were stay the same objects."""
        _, _, _, counters, _, multipath, suspended = key
        by_dev = {path.dev_t: path for path in info.paths} if info else {}
        old = {path.id: (path, was) for path, was in zip(before.paths, before.key[3], strict=True)} if before else {}
        paths = []
        for placed, now_counted in zip(unit.members, counters, strict=True):
            was, counted = old.get(path_id(placed.lun), (None, None))
            path = by_dev.get(placed.node.dev) if placed.node else None
            made = to_path(unit, placed, path, now_counted, counted, was, now)
            paths.append(was if was is not None and made == was else made)
        wrong = wrong_with(unit)
        facts = self._facts_of(unit.members[0].lun) if unit.members else None
        disk = to_disk(unit, paths, facts, wrong, multipath)
        return _Made(
            key=key,
            paths=paths,
            disk=before.disk if before is not None and before.disk == disk else disk,
            map=to_map(unit, unit.map, info, paths, at, suspended) if unit.map is not None else None,
            wrong=wrong,
        )

    def _suspended(self, node: BlockNode, info: MapInfo | None) -> bool | None:
        if info is not None and info.suspended is not None:
            return info.suspended
        number = sysfs.read_int(f"{self._base}/sys/class/block/{node.kname}/dm/suspended")
        return None if number is None else bool(number)

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
