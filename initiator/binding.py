"""Which interface a session is bound to, so that the kernel's routes alone do not say where its packets leave. Pure.

iscsid binds the socket of a session over its own TCP (SO_BINDTODEVICE) to what the interface record names, to a
hardware address before a name (`bind_conn_to_iface` in open-iscsi's usr/io.c), and writes both to its host in sysfs.
There nothing is set of a session that is not bound. An offload card has its own name there and sends through itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from initiator.fabric import Ends
from initiator.model import Connection, Link, Session

_UNSET = ("", "default")


def bound_to(session: Session, links: Iterable[Link]) -> tuple[str, ...] | None:
    """The interfaces that it can be bound to: nobody knows which where that is not one. None: it is not bound."""
    transport = session.details.get("transport")
    if transport == "iser":
        return None  # rdma_resolve_addr gets no interface: the route decides, whatever the record says
    mac = session.details.get("hardware_address", "").lower()
    if transport == "tcp" and mac not in _UNSET:
        return _with_mac(mac, session, tuple(links))
    name = session.details.get("net_device", "")
    if name in _UNSET:
        return None
    return (name,) if any(link.name == name for link in links) else ()


def _with_mac(mac: str, session: Session, links: tuple[Link, ...]) -> tuple[str, ...]:
    """A bond, its members and its VLANs all have one hardware address; then the local address may tell."""
    found = [link for link in links if (link.mac or "").lower() == mac]
    if len(found) > 1:
        local = {(each.local_host or "").partition("%")[0] for each in session.connections}
        own = [link for link in found if local & {address.partition("%")[0] for address in link.addresses}]
        found = own or found
    return tuple(link.name for link in found)


def ends_of(session: Session, connection: Connection, links: Iterable[Link]) -> Ends | None:
    """What the kernel is asked for the route of a connection; None where that is not known."""
    local, peer = connection.local_host, connection.peer_host
    if local is None or peer is None:
        return None
    bound = bound_to(session, links)
    if bound is None:
        return local, peer
    return (f"{local.partition('%')[0]}%{bound[0]}", peer) if len(bound) == 1 else None
