"""How large TCP's packets are on the way to a peer (inet_diag)."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from initiator.model import Connection


class Segment(NamedTuple):
    """One connection's packets."""

    path_mtu: int | None
    """What TCP has found out about the way to the peer."""
    sent_bytes: int | None
    """The largest segment that is sent: no more than the peer's own MTU allows."""


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
