"""The kernel's sessions as the model has them, with node records, interfaces and TCP; made anew only as needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from initiator.host import kernelview, links
from initiator.host.iscsi import KernelSession, Sessions
from initiator.host.luns import Lun
from initiator.host.nodes import NodeRecord, Records
from initiator.model import Link, Session, TcpInfo

TcpKey = tuple[int, str, int]
"""Local port, peer, port of the peer."""
Tcp = Callable[[], Mapping[TcpKey, TcpInfo]]
"""Gives TCP's view of all connections."""
Way = Callable[[str], str | None]
"""Gives the name of the interface through which the kernel would send to an address; None where nobody knows."""

_RecordKey = tuple[str, str, int, str]


class _Made(NamedTuple):
    """A session and what it was made of."""

    seen: KernelSession
    luns: tuple[int, ...]
    records: tuple[NodeRecord, ...]
    tcp: TcpInfo | None
    link: str | None
    session: Session


class SessionMaker:
    """Makes the sessions of one reading after another; what has not changed is the same object as before.

    Args:
        way: The kernel's routes, if it is a kernel that is read.
    """

    def __init__(self, way: Way | None = None) -> None:
        self._way = way
        self._found = Sessions()
        self._records = Records()
        self._by_place: dict[_RecordKey, list[NodeRecord]] = {}
        self._luns: dict[int, tuple[int, ...]] = {}
        self._finder = _LinkFinder((), way)
        self._had_tcp = False
        self._made: dict[int, _Made] = {}
        self._last: dict[int, Session] = {}

    def make(
        self, found: Sessions, records: Records, tcp: Mapping[TcpKey, TcpInfo], found_links: Sequence[Link]
    ) -> dict[int, Session]:
        """The sessions by number; the same dictionary as before if none has changed."""
        same_records = records is self._records
        same_links = self._finder.is_for(found_links)
        if found is self._found and same_records and same_links and not tcp and not self._had_tcp:
            return self._last
        if not same_records:
            self._by_place = _by_place(records)
        if not same_links:
            self._finder = _LinkFinder(found_links, self._way)
        if [lun.hctl for lun in found.luns] != [lun.hctl for lun in self._found.luns]:
            self._luns = _numbers(found.luns)
        self._found, self._records, self._had_tcp = found, records, bool(tcp)
        made: dict[int, _Made] = {}
        for each in found.sessions:
            own = self._luns.get(each.sid, ())
            info = _tcp_of(each, tcp)
            known = self._made.get(each.sid)
            same = known is not None and same_records and known.seen is each
            mine = known.records if known is not None and same else _records_of(each, self._by_place)
            link = known.link if known is not None and same and same_links else self._finder(each)
            if known is None or (known.seen, known.luns, known.records, known.tcp, known.link) != (
                each, own, mine, info, link,
            ):  # fmt: skip
                boot = any(target.name == each.attributes.get("targetname") for target in records.boot)
                session = kernelview.to_session(each, own, mine, info, boot, link)
                if known is not None and known.session == session:
                    session = known.session
                known = _Made(each, own, mine, info, link, session)
            made[each.sid] = known
        self._made = made
        sessions = {sid: known.session for sid, known in made.items()}
        if len(sessions) != len(self._last) or any(self._last.get(sid) is not each for sid, each in sessions.items()):
            self._last = sessions
        return self._last


def _numbers(luns: Sequence[Lun]) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for lun in luns:
        found.setdefault(lun.sid, []).append(lun.lun)
    return {sid: tuple(sorted(numbers)) for sid, numbers in found.items()}


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
    """Through which interface a session goes: the one it is bound to, else the one that has its local address.

    A broken connection has no address any more: then the one through which the kernel would reach its portal.
    """

    def __init__(self, found: Sequence[Link], way: Way | None) -> None:
        self._found = found
        self._way = way
        self._key = _addressing(found)
        self._names = {link.name: link.id for link in found}
        self._known: dict[str, str | None] = {}

    def is_for(self, found: Sequence[Link]) -> bool:
        """Whether it would find the same with these interfaces; their counters do not matter."""
        return self._key == _addressing(found)

    def __call__(self, session: KernelSession) -> str | None:
        # iSER does not bind to what its interface record names (see initiator.binding).
        rdma = session.scsi_host.get("proc_name") == "iscsi_iser"
        bound = self._names.get(session.iscsi_host.get("netdev", "")) if not rdma else None
        if bound is not None or not self._found:
            return bound
        values = session.connections[0].attributes if session.connections else {}
        local = values.get("local_ipaddr") or session.iscsi_host.get("ipaddress")
        if not local:
            peer = kernelview.portal(values, "persistent_")
            name = self._way(peer.host) if self._way is not None and peer is not None else None
            return self._names.get(name or "")
        if local not in self._known:
            self._known[local] = links.link_for(local, self._found)
        return self._known[local]


def _addressing(found: Sequence[Link]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(link.id, link.name, link.kind, link.addresses) for link in found]
