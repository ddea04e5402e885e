"""Command descriptor blocks: builders for the initiator, one parser for the target (SPC-4, SBC-3).

Builders return the CDB as it stands in the iSCSI header; those that need a parameter list return `(cdb, data)`.
Lengths of answers are allocation lengths in bytes; LBAs and block counts are in logical blocks.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Callable, Iterable, Sequence

from initiator.scsi.errors import ScsiFormatError, UnsupportedCommandError, need

Buffer = bytes | bytearray | memoryview


class Status(enum.IntEnum):
    """Status byte of a finished command (SAM-5, 5.3)."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class Op(enum.Enum):
    """What a CDB asks for, whatever its length; the value is the field's name for it."""

    TEST_UNIT_READY = "TEST UNIT READY"
    REQUEST_SENSE = "REQUEST SENSE"
    INQUIRY = "INQUIRY"
    REPORT_LUNS = "REPORT LUNS"
    MODE_SENSE_6 = "MODE SENSE(6)"
    MODE_SENSE_10 = "MODE SENSE(10)"
    READ_CAPACITY_10 = "READ CAPACITY(10)"
    READ_CAPACITY_16 = "READ CAPACITY(16)"
    READ = "READ"
    WRITE = "WRITE"
    VERIFY = "VERIFY"
    SYNCHRONIZE_CACHE = "SYNCHRONIZE CACHE"
    WRITE_SAME = "WRITE SAME"
    UNMAP = "UNMAP"
    START_STOP_UNIT = "START STOP UNIT"
    REPORT_TARGET_PORT_GROUPS = "REPORT TARGET PORT GROUPS"
    SET_TARGET_PORT_GROUPS = "SET TARGET PORT GROUPS"
    COMPARE_AND_WRITE = "COMPARE AND WRITE"
    PERSISTENT_RESERVE_IN = "PERSISTENT RESERVE IN"
    PERSISTENT_RESERVE_OUT = "PERSISTENT RESERVE OUT"


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One parsed CDB. Fields that an operation does not have keep their default."""

    op: Op
    lba: int = 0
    blocks: int = 0
    length: int = 0
    """Allocation length of the answer, or length of the parameter list, in bytes."""
    page: int = 0
    """VPD page (INQUIRY) or mode page (MODE SENSE)."""
    subpage: int = 0
    evpd: bool = False
    fua: bool = False
    unmap: bool = False
    """WRITE SAME may deallocate instead of writing."""
    no_data: bool = False
    """WRITE SAME without a data-out block (NDOB): the pattern is zeroes."""
    select: int = 0
    """REPORT LUNS: SELECT REPORT; MODE SENSE: page control; START STOP UNIT: byte 4."""
    byte_check: int = 0
    """VERIFY: BYTCHK; 0 means that no data are sent."""


_RW6 = struct.Struct(">BBHBB")
_RW10 = struct.Struct(">BBIBHB")
_RW12 = struct.Struct(">BBIIBB")
_RW16 = struct.Struct(">BBQIBB")
_ALLOC_9 = struct.Struct(">BB4xIBB")
_pack10 = _RW10.pack
_pack16 = _RW16.pack

FLAT_LUNS = 16384
"""LUN numbers below are what people mean by a LUN."""
WELL_KNOWN = {0xC101: "REPORT LUNS", 0xC102: "ACCESS CONTROLS", 0xC103: "TARGET LOG PAGES", 0xC104: "SECURITY PROTOCOL"}
"""Well known logical units (SAM-5, 4.7.7.5.2), by the number of `decode_lun`."""
MAX_BLOCKS_10 = 0xFFFF
MAX_LBA_10 = 0xFFFFFFFF
FUA = 0x08


def encode_lun(number: int) -> bytes:
    """The 8-byte LUN field: peripheral addressing below 256, flat space below 16384 (SAM-5, 4.7.7).

    Numbers from 16384 on stand for the other methods, counted as Linux counts them: the four 16-bit words of the field,
    the first in the lowest bits. So 49409 (C101h) is the well known logical unit REPORT LUNS.

    Raises:
        ScsiFormatError: not a number of a LUN field.
    """
    if 0 <= number < 256:
        return bytes((0, number, 0, 0, 0, 0, 0, 0))
    if 256 <= number < FLAT_LUNS:
        return bytes((0x40 | number >> 8, number & 0xFF, 0, 0, 0, 0, 0, 0))
    if FLAT_LUNS <= number < 1 << 64:
        return straight_lun(number)
    raise ScsiFormatError(
        f"LUN {number} cannot be addressed", fix="use a LUN from 0 to 16383, or one that was reported"
    )


def decode_lun(field: Buffer) -> int:
    """The number of a LUN field, as `encode_lun` takes it; a flat field says the same as a peripheral one from 256 on.

    Raises:
        ScsiFormatError: not 8 bytes, or a bus other than 0 on the first level, behind which a bridge would be.
    """
    if len(field) != 8:
        raise ScsiFormatError(f"LUN field has {len(field)} bytes, not 8")
    method, rest = field[0] >> 6, any(field[2:])
    if method == 0 and not field[0] and not rest:
        return field[1]
    flat = (field[0] & 0x3F) << 8 | field[1]
    if method == 1 and flat >= 256 and not rest:
        return flat
    number = _count_words(field)
    if number < FLAT_LUNS:
        raise ScsiFormatError(f"LUN field {bytes(field).hex()} leads to another bus")
    return number


def straight_lun(number: int) -> bytes:
    """The LUN field of a number as Linux counts, as initiator and as target (LIO): without a method of addressing.

    It is that of `encode_lun`, except from 256 to 16383, where it has a bus other than 0 on the first level.
    """
    return struct.pack(">4H", *(number >> 16 * word & 0xFFFF for word in range(4)))


def decode_luns(fields: Iterable[bytes]) -> dict[int, bytes]:
    """The LUN fields of one target by their numbers, in order; no two have the same number.

    To the initiator a LUN field is a name that the target gives, whatever its levels say (SAM-5, 4.7). A target that
    writes 0100h for its LUN 256 (LIO does) means no bus; all of its fields are counted as Linux counts them then, for
    a flat 256 (4100h) would be another unit of it, 16640.
    """
    known = sorted({bytes(field) for field in fields})
    straight = any(0 < field[0] < 0x40 and not any(field[2:]) for field in known)
    count = _count_words if straight else decode_lun
    return dict(sorted((count(field), field) for field in known))


def _count_words(field: Buffer) -> int:
    words: tuple[int, ...] = struct.unpack(">4H", field)
    return sum(word << 16 * at for at, word in enumerate(words))


def test_unit_ready() -> bytes:
    """TEST UNIT READY (SPC-4, 6.47)."""
    return bytes(6)


# pytest would otherwise take the builder for a test wherever it is imported.
test_unit_ready.__test__ = False  # type: ignore[attr-defined]


def request_sense(length: int = 252) -> bytes:
    """REQUEST SENSE, fixed format (SPC-4, 6.39)."""
    return bytes((0x03, 0, 0, 0, length, 0))


def inquiry(evpd: bool = False, page: int = 0, length: int = 255) -> bytes:
    """INQUIRY: standard data, or one vital product data page (SPC-4, 6.6)."""
    return struct.pack(">BBBHB", 0x12, int(evpd), page, length, 0)


def report_luns(length: int = 16384, select: int = 0) -> bytes:
    """REPORT LUNS (SPC-4, 6.33); `select` 0 lists the addressable units without the well known ones."""
    return struct.pack(">BxB3xIxx", 0xA0, select, length)


def mode_sense6(page: int, subpage: int = 0, length: int = 252) -> bytes:
    """MODE SENSE(6), current values, without block descriptors (SPC-4, 6.11)."""
    return bytes((0x1A, 0x08, page & 0x3F, subpage, length, 0))


def mode_sense10(page: int, subpage: int = 0, length: int = 512) -> bytes:
    """MODE SENSE(10), current values, without block descriptors (SPC-4, 6.12)."""
    return struct.pack(">BBBB3xHB", 0x5A, 0x08, page & 0x3F, subpage, length, 0)


def mode_sense_caching(length: int = 252) -> bytes:
    """MODE SENSE(6) of the caching page, 08h (SBC-3, 6.4.5)."""
    return mode_sense6(0x08, 0, length)


def read_capacity10() -> bytes:
    """READ CAPACITY(10) (SBC-3, 5.15); the answer has 8 bytes."""
    return struct.pack(">B9x", 0x25)


def read_capacity16(length: int = 32) -> bytes:
    """READ CAPACITY(16) (SBC-3, 5.16)."""
    return struct.pack(">BB8xIxx", 0x9E, 0x10, length)


def read(lba: int, blocks: int, fua: bool = False) -> bytes:
    """READ(10) where it reaches, else READ(16) (SBC-3, 5.10 and 5.13)."""
    if lba <= MAX_LBA_10 and blocks <= MAX_BLOCKS_10:
        return _pack10(0x28, FUA if fua else 0, lba, 0, blocks, 0)
    return _pack16(0x88, FUA if fua else 0, lba, blocks, 0, 0)


def write(lba: int, blocks: int, fua: bool = False) -> bytes:
    """WRITE(10) where it reaches, else WRITE(16) (SBC-3, 5.32 and 5.35)."""
    if lba <= MAX_LBA_10 and blocks <= MAX_BLOCKS_10:
        return _pack10(0x2A, FUA if fua else 0, lba, 0, blocks, 0)
    return _pack16(0x8A, FUA if fua else 0, lba, blocks, 0, 0)


def synchronize_cache16(lba: int = 0, blocks: int = 0) -> bytes:
    """SYNCHRONIZE CACHE(16), not immediate; no blocks means to the end (SBC-3, 5.22)."""
    return _pack16(0x91, 0, lba, blocks, 0, 0)


def synchronize_cache10(lba: int = 0, blocks: int = 0) -> bytes:
    """SYNCHRONIZE CACHE(10), not immediate (SBC-3, 5.21)."""
    return _pack10(0x35, 0, lba, 0, blocks, 0)


def unmap(ranges: Sequence[tuple[int, int]]) -> tuple[bytes, bytes]:
    """UNMAP and its parameter list for `(lba, blocks)` ranges (SBC-3, 5.28)."""
    size = 16 * len(ranges)
    if size + 8 > 0xFFFF:
        raise ScsiFormatError(f"{len(ranges)} ranges do not fit into one UNMAP")
    data = struct.pack(">HH4x", size + 6, size) + b"".join(struct.pack(">QI4x", lba, count) for lba, count in ranges)
    return struct.pack(">B6xHx", 0x42, len(data)), data


def parse_unmap(data: Buffer) -> tuple[tuple[int, int], ...]:
    """The `(lba, blocks)` ranges of an UNMAP parameter list; a descriptor that is cut short is not used.

    Raises:
        ScsiFormatError: the list is shorter than it says.
    """
    need(data, 8, "UNMAP parameter list")
    size = struct.unpack_from(">H", data, 2)[0]
    need(data, 8 + size, "UNMAP parameter list")
    return tuple(struct.unpack_from(">QI", data, 8 + 16 * index) for index in range(size // 16))


def write_same16_zero(lba: int, blocks: int, block_bytes: int, may_unmap: bool = False) -> tuple[bytes, bytes]:
    """WRITE SAME(16) of zeroes and its one block of data (SBC-3, 5.47)."""
    return _pack16(0x93, 0x08 if may_unmap else 0, lba, blocks, 0, 0), bytes(block_bytes)


def compare_and_write(lba: int, blocks: int, fua: bool = False) -> bytes:
    """COMPARE AND WRITE (SBC-3, 5.2); its data are the blocks to compare with, then those to write.

    Raises:
        ScsiFormatError: more than 255 blocks.
    """
    if not 0 < blocks < 256:
        raise ScsiFormatError(f"COMPARE AND WRITE takes 1 to 255 blocks, not {blocks}")
    return struct.pack(">BBQ3xBBB", 0x89, FUA if fua else 0, lba, blocks, 0, 0)


def report_target_port_groups(length: int = 4096) -> bytes:
    """REPORT TARGET PORT GROUPS with the length-only header (SPC-4, 6.37)."""
    return struct.pack(">BB4xIxx", 0xA3, 0x0A, length)


def _rw6(op: Op) -> Callable[[Buffer], Command]:
    def parse(cdb: Buffer) -> Command:
        # Zero blocks means 256 in the six-byte form only (SBC-3, 5.9).
        return Command(op, lba=(cdb[1] & 0x1F) << 16 | cdb[2] << 8 | cdb[3], blocks=cdb[4] or 256)

    return parse


def _rw(op: Op, layout: struct.Struct) -> Callable[[Buffer], Command]:
    def parse(cdb: Buffer) -> Command:
        fields = layout.unpack_from(cdb)
        blocks = fields[4] if layout is _RW10 else fields[3]
        flags = fields[1]
        if op is Op.VERIFY:
            return Command(op, lba=fields[2], blocks=blocks, byte_check=flags >> 1 & 3)
        if op is Op.WRITE_SAME:
            same = bool(flags & 0x08)
            return Command(op, lba=fields[2], blocks=blocks, unmap=same, no_data=layout is _RW16 and bool(flags & 1))
        return Command(op, lba=fields[2], blocks=blocks, fua=op is not Op.SYNCHRONIZE_CACHE and bool(flags & FUA))

    return parse


def _simple(op: Op) -> Callable[[Buffer], Command]:
    return lambda cdb: Command(op)


def _u32(cdb: Buffer, at: int) -> int:
    return int.from_bytes(cdb[at : at + 4], "big")


def _u16(cdb: Buffer, at: int) -> int:
    return int.from_bytes(cdb[at : at + 2], "big")


def _mode(op: Op) -> Callable[[Buffer], Command]:
    def parse(cdb: Buffer) -> Command:
        length = cdb[4] if op is Op.MODE_SENSE_6 else _u16(cdb, 7)
        return Command(op, page=cdb[2] & 0x3F, subpage=cdb[3], select=cdb[2] >> 6, length=length)

    return parse


_PARSERS: dict[int, Callable[[Buffer], Command]] = {
    0x00: _simple(Op.TEST_UNIT_READY),
    0x03: lambda cdb: Command(Op.REQUEST_SENSE, length=cdb[4], select=cdb[1] & 1),
    0x08: _rw6(Op.READ),
    0x0A: _rw6(Op.WRITE),
    0x12: lambda cdb: Command(Op.INQUIRY, evpd=bool(cdb[1] & 1), page=cdb[2], length=_u16(cdb, 3)),
    0x1A: _mode(Op.MODE_SENSE_6),
    0x1B: lambda cdb: Command(Op.START_STOP_UNIT, select=cdb[4]),
    0x25: lambda cdb: Command(Op.READ_CAPACITY_10, length=8),
    0x28: _rw(Op.READ, _RW10),
    0x2A: _rw(Op.WRITE, _RW10),
    0x2F: _rw(Op.VERIFY, _RW10),
    0x35: _rw(Op.SYNCHRONIZE_CACHE, _RW10),
    0x41: _rw(Op.WRITE_SAME, _RW10),
    0x42: lambda cdb: Command(Op.UNMAP, length=_u16(cdb, 7)),
    0x5A: _mode(Op.MODE_SENSE_10),
    0x5E: lambda cdb: Command(Op.PERSISTENT_RESERVE_IN, select=cdb[1] & 0x1F, length=_u16(cdb, 7)),
    0x5F: lambda cdb: Command(Op.PERSISTENT_RESERVE_OUT, select=cdb[1] & 0x1F, length=_u32(cdb, 5)),
    0x88: _rw(Op.READ, _RW16),
    0x89: lambda cdb: Command(Op.COMPARE_AND_WRITE, _RW16.unpack_from(cdb)[2], cdb[13], fua=bool(cdb[1] & FUA)),
    0x8A: _rw(Op.WRITE, _RW16),
    0x8F: _rw(Op.VERIFY, _RW16),
    0x91: _rw(Op.SYNCHRONIZE_CACHE, _RW16),
    0x93: _rw(Op.WRITE_SAME, _RW16),
    0xA0: lambda cdb: Command(Op.REPORT_LUNS, select=cdb[2], length=_u32(cdb, 6)),
    0xA8: _rw(Op.READ, _RW12),
    0xAA: _rw(Op.WRITE, _RW12),
}
_SERVICE_PARSERS: dict[tuple[int, int], Callable[[Buffer], Command]] = {
    (0x9E, 0x10): lambda cdb: Command(Op.READ_CAPACITY_16, length=_u32(cdb, 10)),
    (0xA3, 0x0A): lambda cdb: Command(Op.REPORT_TARGET_PORT_GROUPS, length=_u32(cdb, 6), select=cdb[1] >> 5),
    (0xA4, 0x0A): lambda cdb: Command(Op.SET_TARGET_PORT_GROUPS, length=_u32(cdb, 6)),
}
_LENGTHS = (6, 10, 10, 0, 16, 12, 0, 0)
"""Length of a CDB by the three top bits of its operation code (SPC-4, 4.2.5.1)."""


def parse_cdb(cdb: Buffer) -> Command:
    """What a CDB asks for; bytes after its own length (iSCSI pads to 16) are not looked at.

    Raises:
        UnsupportedCommandError: an operation that is not in the table; answer INVALID COMMAND OPERATION CODE.
        ScsiFormatError: the CDB is cut short.
    """
    need(cdb, 6, "CDB")
    opcode = cdb[0]
    need(cdb, _LENGTHS[opcode >> 5], f"CDB {opcode:#04x}")
    parse = _PARSERS.get(opcode) or _SERVICE_PARSERS.get((opcode, cdb[1] & 0x1F))
    if parse is None:
        raise UnsupportedCommandError(f"operation code {opcode:#04x} (second byte {cdb[1]:#04x}) is not known")
    return parse(cdb)


def build_report_luns(luns: Iterable[int]) -> bytes:
    """Answer to REPORT LUNS for these LUN numbers; any that `encode_lun` takes."""
    body = b"".join(encode_lun(number) for number in luns)
    return struct.pack(">I4x", len(body)) + body


def parse_report_luns(data: Buffer) -> tuple[bytes, ...]:
    """The 8-byte LUN fields of a REPORT LUNS answer; fewer than announced when the answer was cut by its length.

    Raises:
        ScsiFormatError: no header.
    """
    need(data, 8, "REPORT LUNS answer")
    end = 8 + min(_u32(data, 0), len(data) - 8)
    return tuple(bytes(data[at : at + 8]) for at in range(8, end - 7, 8))


def report_luns_needs(data: Buffer) -> int:
    """Bytes that the whole REPORT LUNS answer takes, header included."""
    need(data, 8, "REPORT LUNS answer")
    return 8 + _u32(data, 0)
