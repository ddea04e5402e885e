"""The kernel's view of TCP connections: struct tcp_info (linux/tcp.h), of an own socket or, by inet_diag, of any."""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from initiator.model import TcpInfo

_STATES = {
    1: "established",
    2: "syn-sent",
    3: "syn-received",
    4: "fin-wait-1",
    5: "fin-wait-2",
    6: "time-wait",
    7: "close",
    8: "close-wait",
    9: "last-ack",
    10: "listen",
    11: "closing",
    12: "new-syn-received",
}
_INET_DIAG_INFO = 2
_WITHOUT_PEER = (1 << 7) | (1 << 10)

_FIELDS = {
    "tcpi_retransmits": (2, "=B"),
    "tcpi_rto": (8, "=I"),
    "tcpi_unacked": (24, "=I"),
    "tcpi_last_data_recv": (52, "=I"),
    "tcpi_rtt": (68, "=I"),
    "tcpi_rttvar": (72, "=I"),
    "tcpi_snd_cwnd": (80, "=I"),
    "tcpi_total_retrans": (100, "=I"),
    "tcpi_data_segs_out": (156, "=I"),
    "tcpi_delivery_rate": (160, "=Q"),
}
"""Offset and format. The kernel only ever appends to the structure: an older one is shorter, a newer one longer."""


class Endpoint(NamedTuple):
    """One end of a connection."""

    host: str
    port: int


class Seen(NamedTuple):
    """One connection."""

    local: Endpoint
    peer: Endpoint
    info: TcpInfo


def parse_tcp_info(data: bytes) -> TcpInfo:
    """Reads what getsockopt(TCP_INFO) gave; fields beyond its end are None, bytes beyond what we know are ignored."""
    fields = {"tcpi_state": data[0]} if data else {}
    for name, (at, form) in _FIELDS.items():
        if len(data) >= at + struct.calcsize(form):
            (fields[name],) = struct.unpack_from(form, data, at)
    return _tcp_info(fields)


def _tcp_info(fields: Mapping[str, int]) -> TcpInfo:
    def measured(name: str) -> int | None:
        return fields.get(name) or None  # zero means that there has been no sample yet

    return TcpInfo(
        state=_STATES.get(fields.get("tcpi_state", 0), "unknown"),
        rtt_us=measured("tcpi_rtt"),
        rttvar_us=measured("tcpi_rttvar"),
        rto_us=measured("tcpi_rto"),
        retransmits=fields.get("tcpi_total_retrans"),
        unacked=fields.get("tcpi_unacked"),
        last_received_ms=fields.get("tcpi_last_data_recv"),
        delivery_rate_bytes_s=measured("tcpi_delivery_rate"),
        snd_cwnd=fields.get("tcpi_snd_cwnd"),
        unanswered=fields.get("tcpi_retransmits"),
        sent=fields.get("tcpi_data_segs_out"),
    )


def read_tcp(
    peer_port: int = 0, local_port: int = 0, wanted: Callable[[Endpoint, Endpoint], bool] | None = None
) -> list[Seen]:
    """Asks the kernel for TCP connections of all processes in this network namespace; needs no root.

    Costs an import of 0.2 s the first time: not for the command line's short way.

    Args:
        peer_port: Only connections to this port; 0 for any.
        local_port: Only connections from this port; 0 for any.
        wanted: Which of those are wanted, by local end and peer.

    Raises:
        OSError: the kernel has no inet_diag, or does not let us ask.
    """
    found = _ask(peer_port, local_port)
    for _ in range(2):  # a connection can begin or end between the two questions
        if found or not _lists_any(peer_port, local_port):
            return [each for each in found if wanted is None or wanted(each.local, each.peer)]
        found = _ask(peer_port, local_port)
    raise OSError(errno.EOPNOTSUPP, "inet_diag tells of no connection, and /proc/net/tcp lists some")


def _ask(peer_port: int, local_port: int) -> list[Seen]:
    """What inet_diag tells. pyroute2 takes an error of the kernel, as where it has none, for the end of the answer."""
    import socket

    from pyroute2.netlink.diag import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    found: list[Seen] = []
    try:
        with DiagSocket() as diag:
            diag.bind()
            for family in (socket.AF_INET, socket.AF_INET6):
                for message in diag.get_sock_stats(
                    family=family,
                    states=0xFFF & ~_WITHOUT_PEER,
                    extensions=1 << (_INET_DIAG_INFO - 1),
                    sport=local_port,
                    dport=peer_port,
                ):
                    found.append(_seen(message))
    except NetlinkError as error:
        raise OSError(error.code, f"inet_diag: {error}") from error
    return found


def _lists_any(peer_port: int, local_port: int) -> bool:
    return any(
        local_port in (0, seen.local.port) and peer_port in (0, seen.peer.port)
        for seen in list_tcp()
        if seen.info.state not in ("close", "listen")
    )


def list_tcp() -> list[Seen]:
    """The kernel's own list of the TCP sockets of this network namespace: no more than their ends and states.

    Needs neither an import nor inet_diag, so it is what a proof rests on. While it is read a socket can be passed over
    because another one went away, so whatever one of two readings shows is in it.

    Raises:
        OSError: the list cannot be read, or is not in its form (networking/proc_net_tcp).
    """
    found = {}
    for name in ("tcp", "tcp6") * 2:
        try:
            with open(f"/proc/self/net/{name}", encoding="ascii") as lines:
                for line in list(lines)[1:]:
                    seen = parse_listed(line)
                    found[seen.local, seen.peer] = seen
        except FileNotFoundError:
            if name == "tcp":
                raise  # only IPv6 can be switched off
        except ValueError as error:
            raise OSError(errno.EBADMSG, f"/proc/self/net/{name}: {error}") from error
    return list(found.values())


def parse_listed(line: str) -> Seen:
    """One line of that list.

    Raises:
        ValueError: it is not in its form.
    """
    _, local, peer, state, *_ = line.split()
    return Seen(_endpoint(local), _endpoint(peer), TcpInfo(state=_STATES.get(int(state, 16), "unknown")))


def _endpoint(text: str) -> Endpoint:
    """From hexadecimal: each four bytes of the address as a number in this processor's order, and the port."""
    import ipaddress

    address, _, port = text.partition(":")
    if len(address) not in (8, 32):
        raise ValueError(f"{address} is no address")
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    raw = b"".join(struct.pack("=I", word) for word in words)
    return Endpoint(_plain(str(ipaddress.ip_address(raw))), int(port, 16))


def _seen(message: Any) -> Seen:
    info = message.get_attr("INET_DIAG_INFO") or {}
    fields = {name: info[name] for name in ("tcpi_state", *_FIELDS) if name in info}
    fields.setdefault("tcpi_state", message["idiag_state"])
    return Seen(
        Endpoint(_plain(message["idiag_src"]), message["idiag_sport"]),
        Endpoint(_plain(message["idiag_dst"]), message["idiag_dport"]),
        _tcp_info(fields),
    )


def _plain(host: str) -> str:
    """An address in its shortest form; an IPv4 one that an IPv6 socket carries as IPv4."""
    import ipaddress

    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return str(getattr(address, "ipv4_mapped", None) or address)
    return host
