"""Persistent reservations: who is registered with a logical unit, and who may write to it (SPC-4, 5.13, 6.15, 6.16).

Keys are 64-bit numbers; 0 is no key. Builders return a CDB, or `(cdb, data)` where a parameter list goes with it.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Iterable

from initiator.scsi.commands import Buffer
from initiator.scsi.errors import ScsiFormatError, need

PARAMETER_BYTES = 24
"""Length of the parameter list of PERSISTENT RESERVE OUT, without SPEC_I_PT (SPC-4, 6.16.3)."""
ISCSI = 5
"""Protocol identifier of an iSCSI TransportID (SPC-4, 7.6.4)."""

_HEADER = struct.Struct(">II")
_PARAMETERS = struct.Struct(">QQ4xB3x")
_REGISTRATION = struct.Struct(">Q4xBB4xHI")


class Ask(enum.IntEnum):
    """Service actions of PERSISTENT RESERVE IN."""

    READ_KEYS = 0
    READ_RESERVATION = 1
    REPORT_CAPABILITIES = 2
    READ_FULL_STATUS = 3


class Order(enum.IntEnum):
    """Service actions of PERSISTENT RESERVE OUT."""

    REGISTER = 0
    RESERVE = 1
    RELEASE = 2
    CLEAR = 3
    PREEMPT = 4
    PREEMPT_AND_ABORT = 5
    REGISTER_AND_IGNORE = 6


class Type(enum.IntEnum):
    """What a reservation keeps from others (SPC-4, table 169)."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS = 5
    EXCLUSIVE_ACCESS_REGISTRANTS = 6
    WRITE_EXCLUSIVE_ALL = 7
    EXCLUSIVE_ACCESS_ALL = 8

    @property
    def words(self) -> str:
        """`write exclusive, registrants only`."""
        name = self.name.lower().replace("_registrants", ", registrants only").replace("_all", ", all registrants")
        return name.replace("_", " ")

    @property
    def of_registrants(self) -> bool:
        """True if every registered initiator keeps its access."""
        return self > Type.EXCLUSIVE_ACCESS

    @property
    def of_all(self) -> bool:
        """True if every registered initiator counts as its holder."""
        return self >= Type.WRITE_EXCLUSIVE_ALL

    @property
    def guards_reads(self) -> bool:
        """True if others may not even read."""
        return self in (Type.EXCLUSIVE_ACCESS, Type.EXCLUSIVE_ACCESS_REGISTRANTS, Type.EXCLUSIVE_ACCESS_ALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """A READ KEYS answer: the keys of all registrations, one for each, so that the same may be there twice."""

    generation: int
    """Counts changes of registrations since power on."""
    keys: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Reservation:
    """The reservation of a logical unit."""

    key: int
    """The holder's key; 0 where every registrant holds it."""
    type: int
    """A `Type`, or a number that the standard has set aside."""

    @property
    def words(self) -> str:
        """Its type for people."""
        try:
            return Type(self.type).words
        except ValueError:
            return f"type {self.type:X}h"


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """One initiator port that is registered: a descriptor of READ FULL STATUS."""

    key: int
    initiator: str | None
    """Its iSCSI name, or None for another transport or an unreadable one."""
    isid: str | None = None
    """Twelve hexadecimal digits; None if the key holds for every session of that initiator."""
    holder: bool = False
    type: int = 0
    """The type of the reservation, if it is the holder."""
    all_ports: bool = False
    """Registered at every port of the target."""
    port: int = 0
    """The relative target port, unless `all_ports`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """A REPORT CAPABILITIES answer."""

    types: frozenset[int]
    persist: bool
    """PTPL_C: registrations can be kept through a loss of power."""
    persisting: bool
    """PTPL_A: they are kept now."""
    all_ports: bool
    """ATP_C: one registration can hold at every port."""


def reserve_in(ask: Ask, length: int = 8192) -> bytes:
    """PERSISTENT RESERVE IN (SPC-4, 6.15)."""
    return struct.pack(">BB5xHB", 0x5E, ask, length, 0)


def parse_reserve_in(cdb: Buffer) -> tuple[int, int]:
    """Service action and allocation length of a PERSISTENT RESERVE IN."""
    need(cdb, 10, "PERSISTENT RESERVE IN")
    return cdb[1] & 0x1F, int.from_bytes(cdb[7:9], "big")


def reserve_out(
    order: Order, key: int, new_key: int = 0, type_: int = 0, *, all_ports: bool = False, persist: bool = False
) -> tuple[bytes, bytes]:
    """PERSISTENT RESERVE OUT and its parameter list (SPC-4, 6.16).

    Args:
        order: What to do.
        key: Our key as it is registered; 0 for a first REGISTER.
        new_key: REGISTER: our key from now on, 0 to unregister. PREEMPT: whose registration goes.
        type_: Of the reservation: RESERVE, RELEASE, PREEMPT.
        all_ports: Register at every target port (ALL_TG_PT).
        persist: Keep it through a loss of power (APTPL).
    """
    cdb = struct.pack(">BBBxxIB", 0x5F, order, type_, PARAMETER_BYTES, 0)
    return cdb, _PARAMETERS.pack(key, new_key, (0x04 if all_ports else 0) | (0x01 if persist else 0))


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """A PERSISTENT RESERVE OUT as its target reads it."""

    order: int
    scope: int
    type: int
    key: int
    new_key: int
    named_ports: bool
    """SPEC_I_PT: the list names initiator ports."""
    all_ports: bool
    persist: bool


def parse_reserve_out(cdb: Buffer, data: Buffer) -> Demand:
    """What a PERSISTENT RESERVE OUT asks for.

    Raises:
        ScsiFormatError: the parameter list is cut short.
    """
    need(cdb, 10, "PERSISTENT RESERVE OUT")
    need(data, PARAMETER_BYTES, "PERSISTENT RESERVE OUT parameter list")
    key, new_key, flags = _PARAMETERS.unpack_from(data)
    return Demand(
        order=cdb[1] & 0x1F,
        scope=cdb[2] >> 4,
        type=cdb[2] & 0x0F,
        key=key,
        new_key=new_key,
        named_ports=bool(flags & 0x08),
        all_ports=bool(flags & 0x04),
        persist=bool(flags & 0x01),
    )


def answer_needs(data: Buffer) -> int:
    """Bytes that a whole READ KEYS, READ RESERVATION or READ FULL STATUS answer takes, header included."""
    need(data, 8, "PERSISTENT RESERVE IN answer")
    return 8 + int.from_bytes(data[4:8], "big")


def _body(data: Buffer, what: str) -> tuple[int, memoryview]:
    need(data, 8, what)
    generation, length = _HEADER.unpack_from(data)
    need(data, 8 + length, what)
    return generation, memoryview(data)[8 : 8 + length]


def parse_keys(data: Buffer) -> Keys:
    """A READ KEYS answer (SPC-4, 6.15.2).

    Raises:
        ScsiFormatError: cut short, or ends inside a key.
    """
    generation, body = _body(data, "READ KEYS answer")
    if len(body) % 8:
        raise ScsiFormatError("READ KEYS answer ends inside a key")
    return Keys(generation, struct.unpack(f">{len(body) // 8}Q", body))


def build_keys(item: Keys) -> bytes:
    """A READ KEYS answer."""
    return _HEADER.pack(item.generation, 8 * len(item.keys)) + struct.pack(f">{len(item.keys)}Q", *item.keys)


def parse_reservation(data: Buffer) -> Reservation | None:
    """A READ RESERVATION answer (SPC-4, 6.15.3); None where there is no reservation.

    Raises:
        ScsiFormatError: cut short.
    """
    _, body = _body(data, "READ RESERVATION answer")
    if not body:
        return None
    need(body, 16, "READ RESERVATION answer's descriptor")
    return Reservation(int.from_bytes(body[:8], "big"), body[13] & 0x0F)


def build_reservation(generation: int, item: Reservation | None) -> bytes:
    """A READ RESERVATION answer."""
    if item is None:
        return _HEADER.pack(generation, 0)
    return _HEADER.pack(generation, 16) + struct.pack(">Q5xB2x", item.key, item.type)


def parse_full_status(data: Buffer) -> tuple[Registration, ...]:
    """A READ FULL STATUS answer (SPC-4, 6.15.5).

    Raises:
        ScsiFormatError: cut short, or ends inside a descriptor.
    """
    _, body = _body(data, "READ FULL STATUS answer")
    found: list[Registration] = []
    at = 0
    while at < len(body):
        need(body[at:], _REGISTRATION.size, "READ FULL STATUS descriptor")
        key, flags, kind, port, size = _REGISTRATION.unpack_from(body, at)
        at += _REGISTRATION.size
        need(body[at:], size, "TransportID")
        name, isid = _parse_transport(body[at : at + size])
        at += size
        holder = bool(flags & 1)
        found.append(Registration(key, name, isid, holder, kind & 0x0F if holder else 0, bool(flags & 2), port))
    return tuple(found)


def build_full_status(generation: int, items: Iterable[Registration]) -> bytes:
    """A READ FULL STATUS answer."""
    parts: list[bytes] = []
    for item in items:
        transport = build_transport(item.initiator or "", item.isid)
        flags = (2 if item.all_ports else 0) | (1 if item.holder else 0)
        port = 0 if item.all_ports else item.port
        parts += [_REGISTRATION.pack(item.key, flags, item.type, port, len(transport)), transport]
    body = b"".join(parts)
    return _HEADER.pack(generation, len(body)) + body


def build_transport(initiator: str, isid: str | None) -> bytes:
    """An iSCSI TransportID (SPC-4, 7.6.4.6): the name, with its ISID where one session is meant, ended by zeroes."""
    name = initiator.encode() + (b"" if isid is None else b",i,0x" + isid.encode())
    size = max(20, (len(name) + 4) & ~3)
    return struct.pack(">BxH", (0x40 if isid is not None else 0) | ISCSI, size) + name.ljust(size, b"\0")


def _parse_transport(data: memoryview) -> tuple[str | None, str | None]:
    """Name and ISID. A TransportID that cannot be read hides who it is, not that somebody is registered."""
    if len(data) < 4 or data[0] & 0x0F != ISCSI:
        return None, None
    text = bytes(data[4 : 4 + int.from_bytes(data[2:4], "big")]).split(b"\0")[0].decode("utf-8", "replace")
    name, mark, isid = text.partition(",i,0x")
    return name or None, isid if mark else None


_MASKS = {
    Type.WRITE_EXCLUSIVE: 0x0200,
    Type.EXCLUSIVE_ACCESS: 0x0800,
    Type.WRITE_EXCLUSIVE_REGISTRANTS: 0x2000,
    Type.EXCLUSIVE_ACCESS_REGISTRANTS: 0x4000,
    Type.WRITE_EXCLUSIVE_ALL: 0x8000,
    Type.EXCLUSIVE_ACCESS_ALL: 0x0001,
}


def parse_capabilities(data: Buffer) -> Capabilities:
    """A REPORT CAPABILITIES answer (SPC-4, 6.15.4).

    Raises:
        ScsiFormatError: fewer than 8 bytes.
    """
    need(data, 8, "REPORT CAPABILITIES answer")
    mask = int.from_bytes(data[4:6], "big") if data[3] & 0x80 else 0
    types = frozenset(int(kind) for kind, bit in _MASKS.items() if mask & bit)
    return Capabilities(types, bool(data[2] & 1), bool(data[3] & 1), bool(data[2] & 4))


def build_capabilities(item: Capabilities) -> bytes:
    """A REPORT CAPABILITIES answer."""
    mask = sum(bit for kind, bit in _MASKS.items() if kind in item.types)
    flags = (4 if item.all_ports else 0) | (1 if item.persist else 0)
    return struct.pack(">HBBHxx", 8, flags, 0x80 | int(item.persisting), mask)


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """Who has a logical unit in use, by its persistent reservations."""

    keys: Keys
    reservation: Reservation | None = None
    registrations: tuple[Registration, ...] = ()
    """Who has the keys; empty where the target does not tell (READ FULL STATUS is optional)."""

    def others(self, initiator: str) -> tuple[Registration, ...]:
        """Registrations of other initiators than the named one. Without READ FULL STATUS each key counts as another's:
        nobody can say whose it is.
        """
        known = self.registrations or tuple(Registration(key, None) for key in self.keys.keys)
        return tuple(each for each in known if each.initiator != initiator)


def registered(claims: Claims) -> tuple[Registration, ...]:
    """Who is registered; where the target does not tell their names, their keys."""
    holder = claims.reservation or Reservation(-1, 0)
    return claims.registrations or tuple(
        Registration(key, None, holder=holder.key in (key, 0), type=holder.type) for key in claims.keys.keys
    )
