"""INQUIRY answers: standard data and vital product data pages (SPC-4, 6.6 and 7.8; SBC-3, 6.6)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable

from initiator.scsi.commands import Buffer
from initiator.scsi.errors import ScsiFormatError, need

VPD_SUPPORTED = 0x00
VPD_SERIAL = 0x80
VPD_DESIGNATORS = 0x83
VPD_LIMITS = 0xB0
VPD_CHARACTERISTICS = 0xB1
VPD_PROVISIONING = 0xB2


_KINDS = {
    0: "disk",
    1: "tape",
    2: "printer",
    3: "processor",
    4: "worm",
    5: "cd",
    7: "optical",
    8: "changer",
    12: "controller",
    13: "enclosure",
    14: "disk",
    20: "disk",
    30: "well known",
}
"""Peripheral device types (SPC-4, table 138); 0Eh is simplified, 14h host managed zoned direct access."""


def kind(device_type: int) -> str:
    """The word for a peripheral device type."""
    return _KINDS.get(device_type, f"device type {device_type}")


def _text(data: Buffer) -> str:
    # Fields are ASCII by the standard; what is not printable ASCII becomes a question mark so that no control code
    # or markup of a target can reach a screen through here (brackets are printable: the screens escape them).
    raw = bytes(data).rstrip(b"\0 ").lstrip(b" ")
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in raw)


def _padded(text: str, size: int) -> bytes:
    return text.encode("ascii", "replace")[:size].ljust(size)


@dataclasses.dataclass(frozen=True, slots=True)
class StandardInquiry:
    """Standard INQUIRY data (SPC-4, 6.6.2)."""

    vendor: str
    product: str
    revision: str
    device_type: int = 0
    """0 is a direct access block device; 1Fh means that nothing can be there."""
    qualifier: int = 0
    """0: connected; 1: supported but not connected; 3: this target has no such LUN."""
    removable: bool = False
    version: int = 6
    tpgs: int = 0
    """Bit 0: implicit ALUA, bit 1: explicit ALUA."""
    command_queuing: bool = True

    @property
    def usable(self) -> bool:
        """True where a direct access logical unit really is behind the LUN."""
        return self.qualifier == 0 and self.device_type == 0


def parse_standard(data: Buffer) -> StandardInquiry:
    """Standard INQUIRY data.

    Raises:
        ScsiFormatError: fewer than 36 bytes.
    """
    need(data, 36, "standard INQUIRY data")
    return StandardInquiry(
        vendor=_text(data[8:16]),
        product=_text(data[16:32]),
        revision=_text(data[32:36]),
        device_type=data[0] & 0x1F,
        qualifier=data[0] >> 5,
        removable=bool(data[1] & 0x80),
        version=data[2],
        tpgs=data[5] >> 4 & 3,
        command_queuing=bool(data[7] & 0x02),
    )


def build_standard(item: StandardInquiry) -> bytes:
    """Standard INQUIRY data of 36 bytes."""
    return (
        bytes(
            (
                item.qualifier << 5 | item.device_type,
                0x80 if item.removable else 0,
                item.version,
                0x12,  # HISUP and response data format 2
                31,
                item.tpgs << 4,
                0,
                0x02 if item.command_queuing else 0,
            )
        )
        + _padded(item.vendor, 8)
        + _padded(item.product, 16)
        + _padded(item.revision, 4)
    )


def build_page(page: int, body: bytes) -> bytes:
    """Any VPD page of a direct access device around its body."""
    return struct.pack(">BBH", 0, page, len(body)) + body


def parse_page(data: Buffer, page: int) -> memoryview:
    """The body of a VPD page, cut to the length that it announces.

    Raises:
        ScsiFormatError: another page, or shorter than announced.
    """
    need(data, 4, f"VPD page {page:02X}h")
    if data[1] != page:
        # A target that does not know EVPD answers standard data, whose second byte is not the page code.
        raise ScsiFormatError(f"asked for VPD page {page:02X}h, got {data[1]:02X}h")
    end = 4 + int.from_bytes(data[2:4], "big")
    need(data, end, f"VPD page {page:02X}h")
    return memoryview(data)[4:end]


def page_needs(data: Buffer) -> int:
    """Bytes that the whole VPD page takes, header included."""
    need(data, 4, "VPD page")
    return 4 + int.from_bytes(data[2:4], "big")


def parse_supported_pages(data: Buffer) -> frozenset[int]:
    """Page 00h: which pages the logical unit has."""
    return frozenset(parse_page(data, VPD_SUPPORTED))


def build_supported_pages(pages: Iterable[int]) -> bytes:
    """Page 00h."""
    return build_page(VPD_SUPPORTED, bytes(sorted(set(pages) | {VPD_SUPPORTED})))


def parse_serial(data: Buffer) -> str:
    """Page 80h: the unit serial number."""
    return _text(parse_page(data, VPD_SERIAL))


def build_serial(serial: str) -> bytes:
    """Page 80h."""
    return build_page(VPD_SERIAL, serial.encode("ascii", "replace"))


@dataclasses.dataclass(frozen=True, slots=True)
class BlockLimits:
    """Page B0h (SBC-3, 6.6.4). Counts are in logical blocks; 0 means not reported, for UNMAP not supported."""

    maximum_transfer: int = 0
    optimal_transfer: int = 0
    optimal_granularity: int = 0
    maximum_unmap_blocks: int = 0
    maximum_unmap_ranges: int = 0
    unmap_granularity: int = 0
    unmap_alignment: int | None = None
    maximum_write_same: int = 0
    write_same_non_zero: bool = False
    """WSNZ: a WRITE SAME must say how many blocks."""
    maximum_compare: int = 0
    """Blocks of one COMPARE AND WRITE; 0 where it is not supported."""


_LIMITS = struct.Struct(">BBHIIIIIIIQ")


def parse_block_limits(data: Buffer) -> BlockLimits:
    """Page B0h; an old short page (SBC-2: 12 bytes) is filled up with zeroes."""
    body = bytes(parse_page(data, VPD_LIMITS))
    need(body, 12, "VPD page B0h body")
    fields = _LIMITS.unpack(body.ljust(_LIMITS.size, b"\0")[: _LIMITS.size])
    alignment = fields[9]
    return BlockLimits(
        write_same_non_zero=bool(fields[0] & 1),
        maximum_compare=fields[1],
        optimal_granularity=fields[2],
        maximum_transfer=fields[3],
        optimal_transfer=fields[4],
        maximum_unmap_blocks=fields[6],
        maximum_unmap_ranges=fields[7],
        unmap_granularity=fields[8],
        unmap_alignment=alignment & 0x7FFFFFFF if alignment & 0x80000000 else None,
        maximum_write_same=fields[10],
    )


def build_block_limits(item: BlockLimits) -> bytes:
    """Page B0h, 64 bytes."""
    body = _LIMITS.pack(
        int(item.write_same_non_zero),
        item.maximum_compare,
        item.optimal_granularity,
        item.maximum_transfer,
        item.optimal_transfer,
        0,
        item.maximum_unmap_blocks,
        item.maximum_unmap_ranges,
        item.unmap_granularity,
        0 if item.unmap_alignment is None else 0x80000000 | item.unmap_alignment,
        item.maximum_write_same,
    )
    return build_page(VPD_LIMITS, body.ljust(60, b"\0"))


@dataclasses.dataclass(frozen=True, slots=True)
class Provisioning:
    """Page B2h (SBC-3, 6.6.7)."""

    unmap: bool = False
    write_same_unmap: bool = False
    reads_zero: bool = False
    kind: int = 0
    """0 not reported, 1 resource provisioned, 2 thin provisioned."""
    threshold_exponent: int = 0


def parse_provisioning(data: Buffer) -> Provisioning:
    """Page B2h."""
    body = parse_page(data, VPD_PROVISIONING)
    need(body, 4, "VPD page B2h body")
    flags = body[1]
    return Provisioning(bool(flags & 0x80), bool(flags & 0x40), bool(flags & 0x1C), body[2] & 7, body[0])


def build_provisioning(item: Provisioning) -> bytes:
    """Page B2h, 8 bytes."""
    flags = (0x80 if item.unmap else 0) | (0x40 if item.write_same_unmap else 0) | (0x04 if item.reads_zero else 0)
    return build_page(VPD_PROVISIONING, bytes((item.threshold_exponent, flags, item.kind, 0)))
