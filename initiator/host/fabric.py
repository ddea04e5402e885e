"""Reads what lies around the paths of a snapshot: networks, cards, routes, switches and target ports.

Hardly any of it ever changes, and some of it costs much to ask. So each part is asked again only when what it hangs on
has changed, or when its time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from initiator.binding import ends_of
from initiator.errors import MooringError
from initiator.fabric import EMPTY, Ends, Fabric, Neighbour, Nic, Route, TargetPort
from initiator.host import attributes, lldp, nics, routes, sysfs
from initiator.model import Problem, Snapshot

SECONDS = 15.0
"""How old an answer may be that nothing tells to be outdated."""
_KERNEL_PATH = "kernel:p:"
T = TypeVar("T")


class _Kept(Generic[T]):
    """One part of the answer, and what it was asked for."""

    def __init__(self, empty: T) -> None:
        self.value = empty
        self.key: Hashable = None
        self.at: float | None = None

    def due(self, key: Hashable, at: float) -> bool:
        """Whether it has to be asked again; if so, this is noted as done."""
        if self.at is not None and self.key == key and at - self.at < SECONDS:
            return False
        self.key, self.at = key, at
        return True


class FabricReader:
    """Reads again and again.

    Args:
        root: Where `sys` and `run` are.
        networks: The networks of the interfaces; asked from the kernel when None.
        ask_routes: Asks the kernel, which costs an import of 0.3 s; None leaves the routes out.
        ask_neighbours: Asks lldpd, in a process of its own; None leaves the switches out.
        monotonic: A clock for durations.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        networks: nics.Networks | None = None,
        ask_routes: Callable[[set[Ends]], Mapping[Ends, Route]] | None = routes.read_routes,
        ask_neighbours: Callable[[], Mapping[str, Neighbour] | None] | None = lldp.read_neighbours,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._networks = networks
        self._ask_routes = ask_routes
        self._ask_neighbours = ask_neighbours
        self._clock = monotonic
        self._nics: _Kept[Mapping[str, Nic]] = _Kept({})
        self._routes: _Kept[Mapping[Ends, Route]] = _Kept({})
        self._neighbours: _Kept[Mapping[str, Neighbour]] = _Kept({})
        self._ports: dict[str, TargetPort] = {}
        self._problems: dict[str, Problem] = {}
        self._last = EMPTY

    def read(self, snapshot: Snapshot) -> Fabric:
        """What lies around the paths of this snapshot; the same object as before if nothing has changed."""
        now = self._clock()
        shape = tuple((link.name, link.master, link.addresses, link.state) for link in snapshot.links)
        if self._nics.due(shape, now):
            self._nics.value = nics.read_nics(snapshot.links, self._root, self._networks)
        ends = {
            pair
            for session in snapshot.sessions
            for connection in session.connections
            if (pair := ends_of(session, connection, snapshot.links)) is not None
        }
        if self._ask_routes is not None and self._routes.due((frozenset(ends), shape), now):
            self._routes.value = self._asked("routes", self._ask_routes, ends) or {}
        if self._ask_neighbours is not None and self._neighbours.due(shape, now):
            ask = self._ask_neighbours
            self._neighbours.value = self._asked("lldp", lambda: ask() or {}) or {}
        fresh = Fabric(
            nics=self._nics.value,
            routes=self._routes.value,
            neighbours=self._neighbours.value,
            ports=self._target_ports(snapshot),
            problems=tuple(self._problems.values()),
        )
        if fresh != self._last:
            self._last = fresh
        return self._last

    def _asked(self, what: str, ask: Callable[..., T], *arguments: Any) -> T | None:
        self._problems.pop(what, None)
        try:
            return ask(*arguments)
        except (MooringError, OSError) as error:
            self._problems[what] = Problem(what, what, str(error))
            return None

    def _target_ports(self, snapshot: Snapshot) -> Mapping[str, TargetPort]:
        """Of the kernel's paths, each read once: a path to another port would be another path."""
        wanted = [path.id for path in snapshot.paths if path.id.startswith(_KERNEL_PATH)]
        if self._ports.keys() != set(wanted):
            self._ports = {key: self._ports.get(key) or _target_port(self._root, key) for key in wanted}
        return self._ports


def _target_port(root: Path, key: str) -> TargetPort:
    from initiator.scsi import designators  # `mooring list` starts faster where the kernel has no path
    from initiator.scsi.errors import ScsiFormatError

    hctl = key.removeprefix(_KERNEL_PATH)
    place = f"{sysfs.base(root)}/sys/class/scsi_device/{hctl}/device"
    page = (attributes.read_raw(place, ("vpd_pg83",)) or {}).get("vpd_pg83")
    try:
        found = designators.parse_designators(page) if page is not None else ()
    except ScsiFormatError:
        found = ()  # a target's mistake; nothing is known then
    return TargetPort(designators.port_group(found), designators.relative_port(found))
