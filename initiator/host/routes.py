"""How the kernel would send to a peer: its own answer (RTM_GETROUTE), so that rules and tables of any kind count.

pyroute2 costs 0.3 s to import: it is only done where somebody asks, not on the command line's short way.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from initiator.fabric import Ends, Route


def read_routes(pairs: Iterable[Ends]) -> dict[Ends, Route]:
    """The route of each pair of local address and peer; one that the kernel refuses is left out.

    The local address may be an empty string: the kernel chooses. With `%eth1` behind it the socket is bound to that
    interface (SO_BINDTODEVICE), and only routes over it count.

    Raises:
        OSError: the kernel does not let us ask.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    found: dict[Ends, Route] = {}
    try:
        with IPRoute() as kernel:
            names: dict[int, str | None] = {}
            for local, peer in pairs:
                try:
                    answer = kernel.route("get", **_question(local, peer))
                except (NetlinkError, ValueError):
                    continue  # no route, or an address that has gone: the pair is simply not in the answer
                for message in answer:
                    found[local, peer] = _route(kernel, message, names)
    except NetlinkError as error:
        raise OSError(error.code, f"rtnetlink: {error}") from error
    return found


def way_to(host: str) -> str | None:
    """The name of the link in whose own network an address is; None if it is in none, or the kernel does not tell.

    A way through a gateway tells nothing: where a storage link is down, that is the way of everything else.
    """
    try:
        found = next(iter(read_routes((("", host),)).values()), None)
    except OSError:
        return None
    return found.device if found is not None and found.gateway is None else None


def read_ways(hosts: Iterable[str]) -> dict[str, str]:
    """By address: the name of the link through which the kernel would send to it.

    An address that cannot be reached is left out, and so is a host name: nothing is looked up here.

    Raises:
        OSError: the kernel does not let us ask.
    """
    found = read_routes(("", host) for host in dict.fromkeys(hosts))
    return {peer: route.device for (_, peer), route in found.items() if route.device is not None}


def read_default_links() -> frozenset[str]:
    """The names of the links of all default routes.

    Raises:
        OSError: the kernel does not let us ask.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as kernel:
            numbers = {number for each in kernel.get_default_routes() for number in _numbers(each)}
            names = {each["index"]: each.get_attr("IFLA_IFNAME") for each in kernel.get_links()}
    except NetlinkError as error:
        raise OSError(error.code, f"rtnetlink: {error}") from error
    return frozenset(names[number] for number in numbers if number in names)


def _numbers(route: Any) -> list[int]:
    """The interfaces of a route, of one with several next hops too."""
    own = route.get_attr("RTA_OIF")
    return [own] if own is not None else [hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ()]


def _question(local: str, peer: str) -> dict[str, Any]:
    """The arguments for one pair.

    Raises:
        ValueError: they are no addresses of one family, or name an interface that is not there.
    """
    to = ipaddress.ip_address(peer.partition("%")[0])
    question: dict[str, Any] = {"dst": str(to), "family": socket.AF_INET if to.version == 4 else socket.AF_INET6}
    if local:
        source = ipaddress.ip_address(local.partition("%")[0])
        if to.version != source.version:
            raise ValueError("an address of each family")
        question["src"] = str(source)
    scope = local.partition("%")[2] or (peer.partition("%")[2] if to.is_link_local else "")
    if scope:
        try:
            question["oif"] = socket.if_nametoindex(scope)
        except OSError as error:
            raise ValueError(f"no interface {scope}") from error
    return question


def _route(kernel: Any, message: Any, names: dict[int, str | None]) -> Route:
    number = message.get_attr("RTA_OIF")
    if number is not None and number not in names:
        links = kernel.link("get", index=number)
        names[number] = links[0].get_attr("IFLA_IFNAME") if links else None
    return Route(
        device=names.get(number),
        gateway=message.get_attr("RTA_GATEWAY"),
        source=message.get_attr("RTA_PREFSRC"),
    )
