"""The kernel's own sessions, disks, paths and multipath maps: open-iscsi's (or any transport's) part of a Snapshot.

sysfs and the device mapper are the truth about what there is. multipathd is asked what it makes of the paths; while it
is silent the device mapper is asked instead, and where nobody answers a path of a map is `unknown`.
"""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from initiator import model
from initiator.host import iscsi, routes, sysfs
from initiator.host.blocklinks import BlockLink
from initiator.host.blockreader import read_block
from initiator.host.dmstatus import DmStatus
from initiator.host.grouping import Grouper
from initiator.host.iscsi import SessionReader
from initiator.host.kerneldisks import FACTS_TURN, DiskMaker
from initiator.host.kernelsessions import SessionMaker, Tcp
from initiator.host.multipath import ListedPath, MapInfo
from initiator.host.multipathd import PATIENCE, Daemon, Multipathd, Told
from initiator.host.nodes import RecordReader, Records
from initiator.host.units import MPATH, Joined
from initiator.host.watched import Descriptors
from initiator.model import BlockNode, Disk, Link, Map, Problem, Session

FIRST_PATIENCE = 1.0
"""Seconds that the first reading waits for multipathd: nothing is known yet that could stand in for its answer."""
STALE = 15.0
"""Seconds after which an old answer of multipathd says nothing of the present any more."""


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


class KernelReader:
    """Reads again and again. What has not changed since is the same object as before.

    Args:
        root: Where `sys`, `proc`, `etc`, `var` and `run` are.
        clock: Unix time.
        monotonic: A clock for durations.
        tcp: Asks TCP; None leaves `Connection.tcp` empty.
        dm_status: Asks the device mapper for the maps by name; None where it cannot be asked.
        descriptors: How many files may be kept open.
        turn: Of how many LUNs everything is read in one reading without a reason; None for the usual.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        tcp: Tcp | None = None,
        dm_status: Callable[[], Mapping[str, MapInfo] | None] | None = None,
        descriptors: Descriptors | None = None,
        turn: int | None = None,
    ) -> None:
        self._root = root
        self._base = sysfs.base(root)
        self._clock = clock
        self._tcp = tcp
        self._dm_status = dm_status or DmStatus(root, monotonic)
        self._reader = SessionReader(root, iscsi.TURN if turn is None else turn, descriptors)
        self._records = RecordReader(root)
        self._multipathd = Multipathd(root, clock, monotonic)
        self._asked = False
        self._maker = SessionMaker(routes.way_to if self._base == "" else None)
        self._grouper = Grouper()
        self._disks = DiskMaker(root, descriptors, FACTS_TURN if turn is None else turn)
        self._nodes: Sequence[BlockNode] | None = None
        self._maps: dict[str, BlockNode] = {}
        self._told: Told | None = None
        self._infos: dict[str, MapInfo] = {}
        self._listed: dict[str, ListedPath] = {}
        self._wwids: tuple[str | None, frozenset[str]] = (None, frozenset())
        self._sorted: tuple[object, tuple[Session, ...]] = (None, ())

    def read(
        self,
        nodes: Sequence[BlockNode],
        found_links: Sequence[Link] = (),
        full: bool = False,
        blocks: Mapping[str, BlockLink] | None = None,
    ) -> KernelReport:
        """Reads what is there now.

        Args:
            nodes: The block devices, from `initiator.host.blockreader.read_block`.
            found_links: The network interfaces, from `initiator.host.links.read_links`.
            full: Read everything, whatever is remembered.
            blocks: Where the block devices are, from `BlockReader.links`; None to look.
        """
        found = self._reader.read(full, blocks)
        if nodes is not self._nodes:
            self._maps = {node.kname: node for node in nodes if (node.dm_uuid or "").startswith(MPATH)}
            self._nodes = nodes
        if not found.sessions and not self._maps:
            return KernelReport(problems=found.problems)
        records = self._records.read(full)
        told = self._multipathd.read(PATIENCE if self._asked else FIRST_PATIENCE)
        self._asked = True
        tcp = self._tcp() if self._tcp is not None else {}
        sessions = self._maker.make(found, records, tcp, found_links)
        if self._sorted[0] is not sessions:
            self._sorted = (sessions, tuple(sorted(sessions.values(), key=operator.attrgetter("id"))))
        units = self._grouper.group(found.luns, sessions, nodes, self._maps)
        now = self._clock()
        joined = self._joined(told, now, any(unit.map is None for unit in units.values()))
        made = self._disks.make(units, self._grouper.touched, joined, now, full)
        return KernelReport(
            sessions=self._sorted[1],
            disks=made.disks,
            paths=made.paths,
            maps=made.maps,
            problems=(*found.problems, *records.problems, *told.problems(now), *made.problems),
            records=records,
            daemon=told.daemon,
        )

    # --- multipath ---

    def _joined(self, told: Told, now: float, loose: bool) -> Joined:
        """What is known of each map, and since when: from multipathd, else from the device mapper."""
        running = told.daemon is Daemon.RUNNING
        if self._told is None or self._told.maps is not told.maps or self._told.listed is not told.listed:
            self._told = told
            self._infos = {info.name: info for info in told.maps}
            self._listed = {path.dev: path for path in told.listed if path.dev}
        listed = self._listed if running and loose else None
        wwids = self._joined_before() if loose else frozenset()
        infos: Mapping[str, MapInfo] = self._infos
        at = None if running else told.at
        if self._maps and (told.daemon is Daemon.ABSENT or told.at is None or now - told.at > STALE):
            asked = self._dm_status()
            infos, at = ({}, at) if asked is None else (asked, None)
        return Joined(infos, at, listed, told.daemon, wwids, bool(self._maps))

    def _joined_before(self) -> frozenset[str]:
        """The disks that multipath has joined before and would join again."""
        text = sysfs.read_text(f"{self._base}/etc/multipath/wwids")
        if self._wwids[0] != text:
            lines = (text or "").splitlines()
            self._wwids = (text, frozenset(line.strip("/") for line in lines if line.startswith("/")))
        return self._wwids[1]

    def close(self) -> None:
        """Lets go of multipathd and of what is kept open."""
        self._multipathd.close()
        self._reader.close()
        self._disks.close()

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
