"""The kernel's disks with their paths and maps, made anew only where something they are made of has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from initiator import model
from initiator.host import attributes, lifetimes, sysfs
from initiator.host.diskstats import Counters, StatsReader
from initiator.host.luns import Lun
from initiator.host.multipath import MapInfo
from initiator.host.multipathd import Daemon
from initiator.host.units import Facts, Joined, Unit, path_id, read_facts, to_disk, to_map, to_path, wrong_with
from initiator.host.watched import Descriptors, Follower, in_turn
from initiator.model import BlockNode, Disk, Map, Problem

_LOOKS = lifetimes.looks(lifetimes.SCSI_DISK)
FACTS_TURN = 16
"""Of how many disks the facts are read anew in one reading without a reason."""


_NEVER = (None, None)
"""The path, and its counters, that were made before of one that is new."""


class Disks(NamedTuple):
    """One reading; tuples are sorted by id, and the same objects as before if nothing has changed."""

    paths: tuple[model.Path, ...] = ()
    disks: tuple[Disk, ...] = ()
    maps: tuple[Map, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Inputs(NamedTuple):
    """What the objects of one disk are made of. Compared as a whole: what is equal makes the same."""

    unit: Unit
    info: MapInfo | None
    counters: tuple[Counters | None, ...]
    answered_at: float | None
    multipath: bool | None
    suspended: bool | None
    facts: Facts | None


class _Made(NamedTuple):
    """The objects of one disk."""

    inputs: _Inputs
    paths: list[model.Path]
    disk: Disk
    map: Map | None
    wrong: str | None


class DiskMaker:
    """Makes the disks of one reading after another.

    Args:
        root: Where `sys` and `proc` are.
        descriptors: How many files may be kept open.
        turn: Of how many disks the facts are read in one reading without a reason.
    """

    def __init__(self, root: Path, descriptors: Descriptors | None = None, turn: int = FACTS_TURN) -> None:
        self._base = sysfs.base(root)
        self._stats = StatsReader(root)
        self._facts = FactsReader(descriptors, turn)
        self._made: dict[str, _Made] = {}
        self._paths: dict[str, model.Path] = {}
        self._disks: dict[str, Disk] = {}
        self._maps: dict[str, Map] = {}
        self._last = Disks()
        self._last_count = 0
        self._joined = Joined({}, None, None, Daemon.ABSENT, frozenset(), False)
        self._units: Mapping[str, Unit] = {}
        self._unit_of: dict[str, str] = {}
        """By kernel name of each path, and by address of each first path."""
        self._map_names: dict[str, str] = {}
        self._unsure: set[str] = set()
        """The units of whose map sysfs has to say whether it is suspended: it is asked each time."""

    def make(
        self, units: Mapping[str, Unit], touched: Iterable[str], joined: Joined, now: float, full: bool = False
    ) -> Disks:
        """The disks of these units.

        Args:
            units: By id; the same mapping as before if none has come or gone.
            touched: The ids of those that are others than before, if the mapping is the same.
            joined: What is known of maps.
            now: Unix time.
            full: Read also what hardly ever changes.
        """
        counters = self._stats.read()
        stale = self._facts.refresh(full)
        if units is not self._units:
            self._take(units)
            dirty = set(units)
        elif full or not joined.like(self._joined):
            dirty = set(units)
        else:
            dirty = {*touched, *self._unsure}
            dirty.update(self._unit_of[name] for name in (self._stats.changed | stale) if name in self._unit_of)
            if joined.infos is not self._joined.infos:
                dirty.update(key for name, key in self._map_names.items() if self._told_anew(name, joined))
        self._joined = joined
        fresh = []
        for key in attributes.in_order(dirty, units):
            inputs = self._inputs(units[key], joined, counters)
            made = self._made.get(key)
            if made is None or made.inputs != inputs:
                self._made[key] = made = _make(inputs, made, now)
                fresh.append(made)
        if fresh or len(self._made) != self._last_count:
            self._last = self._put_together(fresh)
            self._last_count = len(self._made)
        return self._last

    def _take(self, units: Mapping[str, Unit]) -> None:
        """Some units are new or gone."""
        self._units = units
        self._made = {key: made for key, made in self._made.items() if key in units}
        self._unsure = set()
        self._unit_of = {}
        self._map_names = {}
        first = set()
        for key, unit in units.items():
            if unit.map is not None:
                self._map_names[unit.map.dm_name or ""] = key
            for placed in unit.members:
                if placed.lun.kname is not None:
                    self._unit_of[placed.lun.kname] = key
            if unit.members:
                first.add(unit.members[0].lun.hctl)
                self._unit_of[unit.members[0].lun.hctl] = key
        self._facts.keep(first)

    def _told_anew(self, name: str, joined: Joined) -> bool:
        return joined.infos.get(name) is not self._joined.infos.get(name)

    def _inputs(self, unit: Unit, joined: Joined, counters: Mapping[str, Counters]) -> _Inputs:
        info = suspended = None
        if unit.map is not None:
            info = joined.infos.get(unit.map.dm_name or "")
            suspended = info.suspended if info is not None else None
            if suspended is None:
                suspended = self._suspended(unit.map)
                self._unsure.add(unit.id)
            else:
                self._unsure.discard(unit.id)
        return _Inputs(
            unit,
            info,
            tuple([counters.get(placed.lun.kname or "") for placed in unit.members]),
            joined.answered_at,
            joined.multipath(unit),
            suspended,
            self._facts.of(unit.members[0].lun) if unit.members else None,
        )

    def _put_together(self, fresh: Iterable[_Made]) -> Disks:
        """The result with the fresh objects in it; sorted anew only if one has come or gone."""
        paths = {path.id: path for made in fresh for path in made.paths}
        disks = {made.disk.id: made.disk for made in fresh}
        maps = {made.map.id: made.map for made in fresh if made.map is not None}
        every = self._made.values()
        counts = (sum([len(made.paths) for made in every]), len(every), sum([made.map is not None for made in every]))
        fits = counts == (len(self._paths), len(self._disks), len(self._maps))
        if fits and paths.keys() <= self._paths.keys() and disks.keys() <= self._disks.keys() and (
            maps.keys() <= self._maps.keys()
        ):  # fmt: skip
            self._paths |= paths
            self._disks |= disks
            self._maps |= maps
        else:
            self._paths = dict(sorted((path.id, path) for made in every for path in made.paths))
            self._disks = dict(sorted((made.disk.id, made.disk) for made in every))
            self._maps = dict(sorted((made.map.id, made.map) for made in every if made.map is not None))
        problems = [Problem("kernel", key, made.wrong) for key, made in self._made.items() if made.wrong is not None]
        return Disks(
            tuple(self._paths.values()), tuple(self._disks.values()), tuple(self._maps.values()), tuple(problems)
        )

    def _suspended(self, node: BlockNode) -> bool | None:
        number = sysfs.read_int(f"{self._base}/sys/class/block/{node.kname}/dm/suspended")
        return None if number is None else bool(number)

    def close(self) -> None:
        """Closes what is kept open."""
        self._facts.close()


def _make(inputs: _Inputs, before: _Made | None, now: float) -> _Made:
    """The objects of one disk; those that come out as they were stay the same objects."""
    unit, info = inputs.unit, inputs.info
    by_dev = {path.dev_t: path for path in info.paths} if info else {}
    old = {}
    if before is not None:
        old = {path.id: (path, was) for path, was in zip(before.paths, before.inputs.counters, strict=True)}
    paths = []
    for placed, counted_now in zip(unit.members, inputs.counters, strict=True):
        was, counted = old.get(path_id(placed.lun), _NEVER) if old else _NEVER
        path = by_dev.get(placed.node.dev) if placed.node is not None else None
        made = to_path(unit, placed, path, counted_now, counted, was, now)
        paths.append(was if was is not None and made == was else made)
    wrong = wrong_with(unit)
    disk = to_disk(unit, paths, inputs.facts, wrong, inputs.multipath)
    joined = None
    if unit.map is not None:
        joined = to_map(unit, unit.map, info, paths, inputs.answered_at, inputs.suspended)
    return _Made(
        inputs=inputs,
        paths=paths,
        disk=before.disk if before is not None and before.disk == disk else disk,
        map=before.map if before is not None and before.map == joined else joined,
        wrong=wrong,
    )


class FactsReader:
    """Reads the facts of disks again and again, each over its first path.

    Args:
        descriptors: How many files may be kept open.
        turn: Of how many disks they are read in one reading without a reason.
    """

    def __init__(self, descriptors: Descriptors | None = None, turn: int = FACTS_TURN) -> None:
        self._turn = turn
        self._watch = Follower(descriptors)
        self._known: dict[str, tuple[Lun, Facts]] = {}
        self._unwatched: list[str] = []
        self._stale: set[str] = set()
        self._next = 0

    def refresh(self, full: bool) -> set[str]:
        """A reading begins: finds out of which LUNs the facts have to be read again."""
        for hctl in self._unwatched:
            if (known := self._known.get(hctl)) is not None:
                lun, facts = known
                self._watch.follow(
                    hctl,
                    f"{lun.place}/scsi_disk/{hctl}",
                    _LOOKS,
                    {} if facts.cache_type is None else {"cache_type": facts.cache_type},
                )
        self._unwatched.clear()
        names = list(self._known)
        self._stale = self._watch.changed()
        if full:
            self._stale.update(names)
        due, self._next = in_turn(names, self._next, self._turn)
        self._stale |= due
        return set(self._stale)

    def of(self, lun: Lun) -> Facts:
        """The facts of a disk; the same object as before if they have not changed."""
        known = self._known.get(lun.hctl)
        if known is not None and lun.hctl not in self._stale:
            if known[0] is lun:
                return known[1]
            if (known[0].fixed, known[0].kname) == (lun.fixed, lun.kname):
                self._known[lun.hctl] = (lun, known[1])
                return known[1]
        self._stale.discard(lun.hctl)
        facts = read_facts(lun)
        if known is None or known[0].kname != lun.kname:
            if known is not None:
                self._watch.forget({lun.hctl})
            if lun.kname is not None:
                self._unwatched.append(lun.hctl)
        elif known[1] == facts:
            facts = known[1]
        self._known[lun.hctl] = (lun, facts)
        return facts

    def keep(self, hctls: set[str]) -> None:
        """Forgets the facts of all LUNs but these."""
        self._watch.forget(self._known.keys() - hctls)
        self._known = {hctl: known for hctl, known in self._known.items() if hctl in hctls}

    def close(self) -> None:
        """Closes what is kept open."""
        self._watch.close()
