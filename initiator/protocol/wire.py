"""The common shape of every iSCSI PDU: a 48-byte header, extra headers, data, digests (RFC 7143, 11.2).

A PDU class names its layout once, as a `struct` format and the fields in the order of the format; encoding and decoding
follow from that table. Reserved bits are sent as zero and ignored when received (RFC 7143, 11).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from initiator.protocol.digest import Buffer, crc32c, wire
from initiator.protocol.errors import LocalProtocolError

BHS_BYTES = 48
MAX_DATA_BYTES = 0xFFFFFF
"""DataSegmentLength is 24 bits wide."""
NO_TAG = 0xFFFFFFFF
"""The reserved value of Initiator Task Tag and Target Transfer Tag: "none"."""

IMMEDIATE = 0x40
FINAL = 0x80
OPCODE_MASK = 0x3F

PAD = (b"", b"\0\0\0", b"\0\0", b"\0")
"""Pad bytes by `length % 4`."""

LENGTHS = struct.Struct(">4xI")
"""One word: TotalAHSLength in its top byte (in words of four bytes), DataSegmentLength in the other three."""
WORD = struct.Struct(">I")


class Op(enum.IntEnum):
    """Opcodes (RFC 7143, 11.2.1.2). Those below 0x20 are the initiator's, the others the target's."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK_REQUEST = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


INITIATOR_OPS = frozenset(op for op in Op if op < 0x20)
TARGET_OPS = frozenset(op for op in Op if op >= 0x20)


def frame_length(bhs: Buffer) -> tuple[int, int]:
    """Lengths that a header announces: bytes of extra headers, bytes of data without pad and digests."""
    (word,) = LENGTHS.unpack_from(bhs)
    return (word >> 24) * 4, word & MAX_DATA_BYTES


def padded(length: int) -> int:
    """`length` rounded up to a whole number of four-byte words."""
    return (length + 3) & ~3


def seal(bhs: bytes, ahs: bytes, data: Buffer, *, header_digest: bool, data_digest: bool) -> bytes:
    """Header, extra headers, data and pad as one byte string, with the digests asked for (RFC 7143, 11.2.3)."""
    pieces: list[Buffer] = [bhs, ahs]
    if header_digest:
        pieces.append(wire(crc32c(ahs, crc32c(bhs))))
    if data:
        pad = PAD[len(data) % 4]
        pieces += [data, pad]
        if data_digest:
            pieces.append(wire(crc32c(pad, crc32c(data))))
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Bits:
    """Where a field sits inside the flags byte: a single bit is a bool, several are a number."""

    mask: int

    def put(self, value: int) -> int:
        """The flags byte's share of `value`."""
        return (int(value) * (self.mask & -self.mask)) & self.mask

    def get(self, flags: int) -> bool | int:
        """The field's value in a flags byte."""
        unit = self.mask & -self.mask
        part = flags & self.mask
        return bool(part) if self.mask == unit else part // unit


@dataclass(frozen=True, slots=True)
class Layout:
    """How a PDU's header is laid out.

    Attributes:
        code: Format of all 48 bytes; byte 0 is the opcode, byte 1 the flags.
        fields: Dataclass fields after the flags byte, in order; `lengths` stands for the length word.
        flags: Fields that live in the flags byte.
        fixed: Bits of the flags byte that are always 1.
        may_be_immediate: True if the PDU carries the I bit.
    """

    code: struct.Struct
    fields: tuple[str, ...]
    flags: Mapping[str, Bits] = field(default_factory=dict)
    fixed: int = 0
    may_be_immediate: bool = False


def layout(
    code: str, fields: str, flags: Mapping[str, int] | None = None, *, fixed: int = 0, immediate: bool = False
) -> Layout:
    """A layout from its format, its fields separated by blanks, and the masks of its flags."""
    bits = {name: Bits(mask) for name, mask in (flags or {}).items()}
    return Layout(struct.Struct(">BB" + code), tuple(fields.split()), bits, fixed, immediate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """Base of all PDUs: what each of them has."""

    OPCODE: ClassVar[Op]
    LAYOUT: ClassVar[Layout]

    initiator_task_tag: int = NO_TAG
    data: bytes = field(default=b"", repr=False)
    """The data segment without pad; not part of the repr since it may hold a CHAP exchange."""

    def extra_headers(self) -> bytes:
        """Additional header segments, padded; most PDUs have none."""
        return b""

    def encode(self, header_digest: bool = False, data_digest: bool = False) -> bytes:
        """The PDU as it goes over the wire.

        Raises:
            LocalProtocolError: a field does not fit into its place.
        """
        ahs = self.extra_headers()
        if len(self.data) > MAX_DATA_BYTES or len(ahs) > 0xFF * 4:
            raise LocalProtocolError(f"{len(self.data)} bytes of data do not fit into one PDU")
        lengths = (len(ahs) // 4) << 24 | len(self.data)
        shape = self.LAYOUT
        flags = shape.fixed
        for name, bits in shape.flags.items():
            flags |= bits.put(getattr(self, name))
        first = self.OPCODE | (IMMEDIATE if shape.may_be_immediate and getattr(self, "immediate", False) else 0)
        values = (lengths if name == "lengths" else self._wire_value(name) for name in shape.fields)
        try:
            bhs = shape.code.pack(first, flags, *values)
        except struct.error as error:
            raise LocalProtocolError(f"{type(self).__name__}: a field is out of range: {error}") from None
        return seal(bhs, ahs, self.data, header_digest=header_digest, data_digest=data_digest)

    def _wire_value(self, name: str) -> Any:
        return getattr(self, name)

    @classmethod
    def parse(cls, bhs: Buffer, ahs: bytes, data: bytes) -> Self:
        """The PDU of this class that the header describes; reserved bits are ignored."""
        shape = cls.LAYOUT
        first, flags, *values = shape.code.unpack(bhs)
        found: dict[str, Any] = dict(zip(shape.fields, values, strict=True))
        del found["lengths"]
        for name, bits in shape.flags.items():
            found[name] = bits.get(flags)
        if shape.may_be_immediate:
            found["immediate"] = bool(first & IMMEDIATE)
        cls._adopt(found, ahs)
        return cls(data=data, **found)

    @classmethod
    def _adopt(cls, found: dict[str, Any], ahs: bytes) -> None:
        """Lets a class correct what it found, and read its extra headers. Unknown ones are skipped (11.2.2)."""


def split_ahs(ahs: bytes) -> Iterable[tuple[int, bytes]]:
    """The additional header segments in `ahs` as (type, bytes after the type), cut short ones left out (11.2.2)."""
    position = 0
    while position + 4 <= len(ahs):
        length = int.from_bytes(ahs[position : position + 2], "big")
        end = position + 3 + length
        if length and end <= len(ahs):
            yield ahs[position + 2] & OPCODE_MASK, ahs[position + 3 : end]
        position += padded(3 + length)


def join_ahs(kind: int, specific: bytes) -> bytes:
    """One additional header segment, padded to whole words."""
    raw = struct.pack(">HB", len(specific), kind) + specific
    return raw + PAD[len(raw) % 4]
