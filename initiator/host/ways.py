"""Where the kernel would send a packet (RTM_GETROUTE), and how large TCP's packets are on the way there."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from initiator.model import Connection


class Segment(NamedTuple):
    """One connection's packets."""

    path_mtu: int | None
    """What TCP has found out about the way to the peer."""
    sent_bytes: int | None
    """The largest segment that is sent: no more than the peer's own MTU allows."""


def read_ways(hosts: Iterable[str]) -> tuple[dict[str, str], frozenset[str]]:
    """By address: the name of the link through which the kernel would send to it; and the links of default routes.

    An address that cannot be reached is left out, and so is a host name: nothing is looked up here.

    Raises:
        OSError: the kernel does not let us ask.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    ways: dict[str, str] = {}
    try:
        with IPRoute() as kernel:
            names = {each["index"]: each.get_attr("IFLA_IFNAME") for each in kernel.get_links()}
            for host in dict.fromkeys(hosts):
                if (name := names.get(_outgoing(kernel, host))) is not None:
                    ways[host] = name
            defaults = {number for each in kernel.get_default_routes() for number in _numbers(each)}
    except NetlinkError as error:
        raise OSError(error.code, f"rtnetlink: {error}") from error
    return ways, frozenset(names[number] for number in defaults if number in names)


def way_to(host: str) -> str | None:
    """The name of the link through which the kernel would send to an address; None if it does not tell."""
    try:
        return read_ways((host,))[0].get(host)
    except OSError:
        return None


def _outgoing(kernel: Any, host: str) -> int | None:
    from pyroute2.netlink.exceptions import NetlinkError

    address, _, scope = host.partition("%")
    question: dict[str, Any] = {}
    try:
        to = ipaddress.ip_address(address)
        if scope:
            question["oif"] = socket.if_nametoindex(scope)
        family = socket.AF_INET if to.version == 4 else socket.AF_INET6
        answer = kernel.route("get", dst=str(to), family=family, **question)
    except (NetlinkError, ValueError, OSError):
        return None  # no address, no such interface, or no route
    return next((message.get_attr("RTA_OIF") for message in answer), None)


def _numbers(route: Any) -> list[int]:
    """The interfaces of a route, of one with several next hops too."""
    own = route.get_attr("RTA_OIF")
    return [own] if own is not None else [hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ()]


def read_segments(connections: Iterable[Connection]) -> dict[str, Segment]:
    """By id of each of these connections, as far as the kernel has it.

    Raises:
        OSError: the kernel has no inet_diag, or does not let us ask.
    """
    from pyroute2.netlink.diag import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    wanted = {(each.local_port, each.peer_port): each.id for each in connections}
    found: dict[str, Segment] = {}
    try:
        with DiagSocket() as diag:
            diag.bind()
            for family in (socket.AF_INET, socket.AF_INET6):
                for message in diag.get_sock_stats(family=family, states=1 << 1, extensions=1 << 1):
                    key = wanted.get((message["idiag_sport"], message["idiag_dport"]))
                    if key is not None:
                        found[key] = _segment(message.get_attr("INET_DIAG_INFO") or {})
    except NetlinkError as error:
        raise OSError(error.code, f"inet_diag: {error}") from error
    return found


def _segment(info: Mapping[str, int]) -> Segment:
    return Segment(info.get("tcpi_pmtu") or None, info.get("tcpi_snd_mss") or None)
