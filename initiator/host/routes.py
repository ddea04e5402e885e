"""How the kernel would send to a peer: its own answer (RTM_GETROUTE), so that rules and tables of any kind count."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from initiator.fabric import Ends, Route


def read_routes(pairs: Iterable[Ends]) -> dict[Ends, Route]:
    """The route of each pair of local address and peer; one that the kernel refuses is left out.

    Costs an import of 0.3 s the first time: not for the command line's short way.

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


def _question(local: str, peer: str) -> dict[str, Any]:
    """The arguments for one pair.

    Raises:
        ValueError: they are no addresses of one family.
    """
    to, source = ipaddress.ip_address(peer.partition("%")[0]), ipaddress.ip_address(local.partition("%")[0])
    if to.version != source.version:
        raise ValueError("an address of each family")
    import socket

    question: dict[str, Any] = {
        "dst": str(to),
        "src": str(source),
        "family": socket.AF_INET if to.version == 4 else socket.AF_INET6,
    }
    scope = (peer.partition("%")[2] or local.partition("%")[2]) if to.is_link_local else ""
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
