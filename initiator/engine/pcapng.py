"""Writes what went over connections as a pcapng file, which Wireshark opens (draft-ietf-opsawg-pcapng).

What is recorded is a byte stream, so the IP and TCP headers are made up around it: addresses and ports are true,
sequence numbers count from 1, windows and TCP checksums say nothing (a checksum of zero, as before an offload).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any, Protocol

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_RAW_IP = 101
"""LINKTYPE_RAW: packets begin with an IPv4 or IPv6 header."""
_APPLICATION, _NAME = 4, 2
_SYN, _ACK, _PUSH, _FIN = 0x02, 0x10, 0x08, 0x01
_MOST = 60_000
"""Payload bytes in one made-up packet."""

Address = tuple[str, int]


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, text: str) -> bytes:
    value = text.encode()[:0xFFFF]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


_END = struct.pack("<HH", 0, 0)


class Sink(Protocol):
    """Where a file is written to."""

    def write(self, data: bytes, /) -> Any:
        """Take all of it, or raise OSError."""

    def flush(self) -> None:
        """Hand everything on."""


class Flow:
    """One TCP connection in the file: who talks to whom, and how far each has come."""

    def __init__(self, ours: Address, theirs: Address) -> None:
        self._ends = (ours, theirs)
        self._next = [1, 1]

    def packets(self, outgoing: bool, data: bytes, flags: int = _ACK | _PUSH) -> list[bytes]:
        """The IP packets that carry `data`; one without data for a flag alone."""
        return [self._packet(outgoing, data[at : at + _MOST], flags) for at in range(0, len(data) or 1, _MOST)]

    def _packet(self, outgoing: bool, data: bytes, flags: int) -> bytes:
        source, target = self._ends if outgoing else self._ends[::-1]
        here, there = (0, 1) if outgoing else (1, 0)
        counts = len(data) + bool(flags & (_SYN | _FIN))
        # A SYN stands one before the first byte.
        sequence = (self._next[here] - bool(flags & _SYN)) & 0xFFFFFFFF
        acknowledged = self._next[there] if flags & _ACK else 0
        if not flags & _SYN:
            self._next[here] = (self._next[here] + counts) & 0xFFFFFFFF
        tcp = struct.pack(
            ">HHIIBBHHH", source[1], target[1], sequence, acknowledged & 0xFFFFFFFF, 5 << 4, flags, 0xFFFF, 0, 0
        )
        return _ip(source[0], target[0], len(tcp) + len(data)) + tcp + data


def _ip(source: str, target: str, length: int) -> bytes:
    one, other = ipaddress.ip_address(source.partition("%")[0]), ipaddress.ip_address(target.partition("%")[0])
    if one.version == 6:
        return struct.pack(">IHBB", 6 << 28, length, 6, 64) + one.packed + other.packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + one.packed + other.packed
    total = sum(struct.unpack(">10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]


class Writer:
    """A pcapng file that is being written.

    Attributes:
        size: Bytes written so far.
        full: True once `limit` was reached; nothing more is written then.
        packets: How many packets are in the file.

    Every method may raise OSError.
    """

    def __init__(self, file: Sink, limit: int) -> None:
        """Begin a file that stops growing at about `limit` bytes."""
        self.size = 0
        self.full = False
        self.packets = 0
        self._file = file
        self._limit = limit
        self._put(
            _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(_APPLICATION, "Mooring") + _END)
        )
        self._put(_block(_INTERFACE, struct.pack("<HHI", _RAW_IP, 0, 0) + _option(_NAME, "mooring") + _END))

    def opened(self, flow: Flow, now: float) -> None:
        """A connection was made."""
        for outgoing, flags in ((True, _SYN), (False, _SYN | _ACK), (True, _ACK)):
            self._packets(flow, outgoing, b"", now, flags)

    def data(self, flow: Flow, outgoing: bool, data: bytes, now: float) -> None:
        """Bytes went over a connection; `now` is Unix time in seconds."""
        self._packets(flow, outgoing, data, now, _ACK | _PUSH)

    def closed(self, flow: Flow, now: float) -> None:
        """A connection ended."""
        self._packets(flow, True, b"", now, _FIN | _ACK)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._file.flush()

    def _packets(self, flow: Flow, outgoing: bool, data: bytes, now: float, flags: int) -> None:
        stamp = max(0, int(now * 1e6))  # a clock before 1970 has no place in the file
        for packet in flow.packets(outgoing, data, flags):
            if self.full or self.size + len(packet) > self._limit:
                self.full = True
                return
            head = struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet))
            self._put(_block(_PACKET, head + packet + bytes(-len(packet) % 4)))
            self.packets += 1

    def _put(self, block: bytes) -> None:
        self._file.write(block)
        self.size += len(block)
