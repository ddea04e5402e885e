"""Asymmetric logical unit access: REPORT TARGET PORT GROUPS answers (SPC-4, 5.15 and 6.37)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable

from initiator.model import Access
from initiator.scsi.commands import Buffer
from initiator.scsi.errors import ScsiFormatError, need

_STATES = {
    0x0: Access.OPTIMIZED,
    0x1: Access.NON_OPTIMIZED,
    0x2: Access.STANDBY,
    0x3: Access.UNAVAILABLE,
    0xE: Access.OFFLINE,
    0xF: Access.TRANSITIONING,
}
_CODES = {state: code for code, state in _STATES.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class PortGroup:
    """One target port group: ports that always share their access state."""

    group: int
    access: Access
    preferred: bool = False
    ports: tuple[int, ...] = ()
    """Relative target port identifiers."""
    supported: int = 0x8F
    """Byte 1 of the descriptor: which states the group can take (T U O x LBD S AN AO)."""
    status: int = 0
    """Why it is in that state: 0 not said, 1 by SET TARGET PORT GROUPS, 2 implicitly."""


def build_port_groups(groups: Iterable[PortGroup]) -> bytes:
    """A REPORT TARGET PORT GROUPS answer with the length-only header."""
    body = b"".join(
        struct.pack(
            ">BBHxBxB",
            (0x80 if item.preferred else 0) | _CODES.get(item.access, 0),
            item.supported,
            item.group,
            item.status,
            len(item.ports),
        )
        + b"".join(struct.pack(">2xH", port) for port in item.ports)
        for item in groups
    )
    return struct.pack(">I", len(body)) + body


def parse_port_groups(data: Buffer) -> tuple[PortGroup, ...]:
    """The groups of a REPORT TARGET PORT GROUPS answer, either header format.

    Raises:
        ScsiFormatError: the answer ends inside a group, or repeats one.
    """
    need(data, 4, "REPORT TARGET PORT GROUPS answer")
    end = 4 + int.from_bytes(data[:4], "big")
    need(data, end, "REPORT TARGET PORT GROUPS answer")
    # The extended header announces itself with format 001b in its first byte; a group descriptor of a length-only
    # answer has the access state in the low nibble there and zero in bits 4 to 6 (SPC-4, 6.37).
    at = 8 if end > 4 and data[4] >> 4 & 0x7 == 1 else 4
    groups: dict[int, PortGroup] = {}
    while at < end:
        if at + 8 > end or at + 8 + 4 * data[at + 7] > end:
            raise ScsiFormatError("REPORT TARGET PORT GROUPS answer ends inside a group")
        count = data[at + 7]
        number = int.from_bytes(data[at + 2 : at + 4], "big")
        if number in groups:
            raise ScsiFormatError(f"REPORT TARGET PORT GROUPS answer names group {number} twice")
        ports = tuple(int.from_bytes(data[at + 10 + 4 * i : at + 12 + 4 * i], "big") for i in range(count))
        access = _STATES.get(data[at] & 0x0F, Access.UNKNOWN)
        groups[number] = PortGroup(number, access, bool(data[at] & 0x80), ports, data[at + 1], data[at + 5])
        at += 8 + 4 * count
    return tuple(groups.values())


def port_groups_need(data: Buffer) -> int:
    """Bytes that the whole answer takes, header included."""
    need(data, 4, "REPORT TARGET PORT GROUPS answer")
    return 4 + int.from_bytes(data[:4], "big")


def access_of(groups: Iterable[PortGroup], group: int | None, port: int | None) -> tuple[Access, bool]:
    """Access state and preference of a path by its port group, else by its relative port; UNKNOWN without a match."""
    for item in groups:
        if group is not None and item.group == group:
            return item.access, item.preferred
        if group is None and port is not None and port in item.ports:
            return item.access, item.preferred
    return Access.UNKNOWN, False


def set_port_groups(wanted: Iterable[tuple[int, Access]]) -> tuple[bytes, bytes]:
    """SET TARGET PORT GROUPS and its parameter list (SPC-4, 6.45): the explicit way to change access states."""
    body = b"".join(struct.pack(">BxH", _CODES[access], group) for group, access in wanted)
    data = bytes(4) + body
    return struct.pack(">BB4xIxx", 0xA4, 0x0A, len(data)), data


def parse_set_port_groups(data: Buffer) -> tuple[tuple[int, Access], ...]:
    """Groups and states of a SET TARGET PORT GROUPS parameter list.

    Raises:
        ScsiFormatError: cut short, or a state that nobody can ask for.
    """
    need(data, 4, "SET TARGET PORT GROUPS parameter list")
    if len(data) % 4:
        raise ScsiFormatError("SET TARGET PORT GROUPS parameter list ends inside a group")
    found: list[tuple[int, Access]] = []
    for at in range(4, len(data), 4):
        access = _STATES.get(data[at] & 0x0F, Access.UNKNOWN)
        if access in (Access.UNKNOWN, Access.TRANSITIONING):
            raise ScsiFormatError(f"SET TARGET PORT GROUPS asks for state {data[at] & 0x0F:X}h")
        found.append((int.from_bytes(data[at + 2 : at + 4], "big"), access))
    return tuple(found)
