"""Which LUNs are one disk: those under one map, and those that the kernel gives the same name."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence

from initiator.host import kernelview
from initiator.host.luns import Lun
from initiator.host.units import Placed, Unit, map_wwid, unit_key
from initiator.model import BlockNode, Session


class Grouper:
    """Groups one reading after another; a disk of which nothing has changed is the same unit as before."""

    def __init__(self) -> None:
        self._luns: tuple[Lun, ...] = ()
        self._sessions: Mapping[int, Session] = {}
        self._nodes: Sequence[BlockNode] | None = None
        self._placed: dict[str, Placed] = {}
        self._unit_of: dict[str, str] = {}
        self._units: dict[str, Unit] = {}
        self.touched: set[str] = set()
        """The ids of the units that are others than before, as long as the mapping is the same."""

    def group(
        self,
        luns: tuple[Lun, ...],
        sessions: Mapping[int, Session],
        nodes: Sequence[BlockNode],
        maps: Mapping[str, BlockNode],
    ) -> Mapping[str, Unit]:
        """The units by id, the same mapping as before as long as none comes or goes.

        Args:
            luns: All LUNs.
            sessions: All sessions, by number.
            nodes: All block devices; the same object as before if none has changed.
            maps: The multipath maps among them, by kernel name.
        """
        self.touched = set()
        if nodes is not self._nodes or not self._replace(luns, sessions):
            self._regroup(luns, sessions, nodes, maps)
        self._luns, self._sessions, self._nodes = luns, sessions, nodes
        return self._units

    def _replace(self, luns: tuple[Lun, ...], sessions: Mapping[int, Session]) -> bool:
        """Takes up LUNs and sessions that have changed, and gives whether each still belongs where it did."""
        if luns is self._luns and sessions is self._sessions:
            return True
        if len(luns) != len(self._luns):
            return False
        moved = {sid for sid, session in sessions.items() if self._sessions.get(sid) is not session}
        fresh: dict[str, Placed] = {}
        for was, lun in zip(self._luns, luns, strict=True):
            if was is lun and lun.sid not in moved:
                continue
            if was.hctl != lun.hctl or was.kname != lun.kname or was.sid != lun.sid:
                return False
            placed = self._placed[lun.hctl]
            identity = placed.identity if was.fixed is lun.fixed else kernelview.identity(lun.fixed)
            if unit_key(lun, identity) != placed.key:
                return False
            fresh[lun.hctl] = placed._replace(lun=lun, identity=identity, session=sessions[lun.sid])
        self._placed |= fresh
        self.touched = {self._unit_of[hctl] for hctl in fresh}
        for key in self.touched:
            unit = self._units[key]
            self._units[key] = unit._replace(
                members=tuple([fresh.get(placed.lun.hctl, placed) for placed in unit.members])
            )
        return True

    def _regroup(
        self,
        luns: Iterable[Lun],
        sessions: Mapping[int, Session],
        nodes: Iterable[BlockNode],
        maps: Mapping[str, BlockNode],
    ) -> None:
        by_name = {node.kname: node for node in nodes}
        members: dict[str, list[Placed]] = {}
        joined_by: dict[str, BlockNode] = {}
        keys: dict[str, str] = {}
        before, self._placed = self._placed, {}
        for lun in luns:
            placed = _placed(lun, sessions[lun.sid], by_name, maps, before.get(lun.hctl))
            self._placed[lun.hctl] = placed
            key = placed.key if placed.map is None else keys.setdefault(placed.map.kname, placed.key)
            if placed.map is not None:
                joined_by.setdefault(key, placed.map)
            members.setdefault(key, []).append(placed)
        units = {
            f"kernel:d:{key}": Unit(f"kernel:d:{key}", tuple(placed), joined_by.get(key))
            for key, placed in members.items()
        }
        for kname, node in maps.items():
            if kname not in keys and not node.slaves:
                unit = Unit(f"kernel:d:{map_wwid(node)}", (), node)
                units.setdefault(unit.id, unit)
        self._units = {key: _same(self._units.get(key), unit) for key, unit in units.items()}
        self._unit_of = {placed.lun.hctl: unit.id for unit in units.values() for placed in unit.members}


def _placed(
    lun: Lun,
    session: Session,
    nodes: Mapping[str, BlockNode],
    maps: Mapping[str, BlockNode],
    before: Placed | None,
) -> Placed:
    node = nodes.get(lun.kname) if lun.kname else None
    joined = None
    for name in node.holders if node is not None else ():
        joined = maps.get(name, joined)
    if before is not None and (before.lun, before.session, before.node, before.map) == (lun, session, node, joined):
        return before
    same = before is not None and before.lun.fixed is lun.fixed
    identity = before.identity if before is not None and same else kernelview.identity(lun.fixed)
    return Placed(lun, identity, session, node, joined, unit_key(lun, identity))


def _same(before: Unit | None, now: Unit) -> Unit:
    """`before` if it is made of the same objects."""
    if before is None or before.map is not now.map or len(before.members) != len(now.members):
        return now
    return before if all(map(operator.is_, before.members, now.members)) else now
