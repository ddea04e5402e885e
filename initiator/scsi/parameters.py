"""Capacity and mode page answers (SBC-3, 5.15, 5.16 and 6.4.5; SPC-4, 7.5)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable

from initiator.scsi.commands import Buffer
from initiator.scsi.errors import ScsiFormatError, need

PAGE_CACHING = 0x08
PAGE_CONTROL = 0x0A
PAGE_ALL = 0x3F

_CAPACITY10 = struct.Struct(">II")
_CAPACITY16 = struct.Struct(">QIBBH")


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """READ CAPACITY(16), as far as it matters here."""

    blocks: int
    """How many logical blocks there are (the answer itself carries the last LBA)."""
    block_bytes: int
    physical_exponent: int = 0
    """A physical block holds 2 to this power logical blocks."""
    thin: bool = False
    """LBPME: logical block provisioning management is on, UNMAP may work."""
    reads_zero: bool = False
    protection: bool = False
    """PROT_EN: the unit is formatted with protection information."""
    lowest_aligned: int = 0

    @property
    def size_bytes(self) -> int:
        """The size of the unit in bytes."""
        return self.blocks * self.block_bytes


def _checked(blocks: int, block_bytes: int) -> None:
    if block_bytes < 512 or block_bytes > 65536 or block_bytes & (block_bytes - 1):
        raise ScsiFormatError(f"block length {block_bytes} is not a power of two from 512 to 65536")
    if blocks * block_bytes >= 1 << 63:
        raise ScsiFormatError(f"{blocks} blocks of {block_bytes} bytes are more than 8 EiB")


def parse_capacity16(data: Buffer) -> Capacity:
    """A READ CAPACITY(16) answer.

    Raises:
        ScsiFormatError: fewer than 12 bytes, or a size that cannot be.
    """
    need(data, 12, "READ CAPACITY(16) answer")
    last, block_bytes, protection, exponent, provisioning = _CAPACITY16.unpack(bytes(data[:16]).ljust(16, b"\0"))
    _checked(last + 1, block_bytes)
    return Capacity(
        blocks=last + 1,
        block_bytes=block_bytes,
        physical_exponent=exponent & 0x0F,
        thin=bool(provisioning & 0x8000),
        reads_zero=bool(provisioning & 0x4000),
        protection=bool(protection & 1),
        lowest_aligned=provisioning & 0x3FFF,
    )


def build_capacity16(item: Capacity) -> bytes:
    """A READ CAPACITY(16) answer of 32 bytes."""
    flags = (0x8000 if item.thin else 0) | (0x4000 if item.reads_zero else 0) | item.lowest_aligned
    head = _CAPACITY16.pack(item.blocks - 1, item.block_bytes, int(item.protection), item.physical_exponent, flags)
    return head.ljust(32, b"\0")


def parse_capacity10(data: Buffer) -> Capacity | None:
    """A READ CAPACITY(10) answer; None when the unit is too large for it and (16) has to be asked."""
    need(data, 8, "READ CAPACITY(10) answer")
    last, block_bytes = _CAPACITY10.unpack(bytes(data[:8]))
    if last == 0xFFFFFFFF:
        return None
    _checked(last + 1, block_bytes)
    return Capacity(last + 1, block_bytes)


def build_capacity10(item: Capacity) -> bytes:
    """A READ CAPACITY(10) answer of 8 bytes."""
    return _CAPACITY10.pack(min(item.blocks - 1, 0xFFFFFFFF), item.block_bytes)


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """The header of a MODE SENSE answer and its pages by code."""

    write_protected: bool
    fua: bool
    """DPOFUA: READ and WRITE know the FUA bit."""
    pages: dict[int, bytes]
    """Whole mode pages, header included; sub-pages are left out."""

    @property
    def write_cache(self) -> bool | None:
        """WCE of the caching page: True for a volatile write cache; None without the page."""
        page = self.pages.get(PAGE_CACHING)
        return bool(page[2] & 0x04) if page is not None and len(page) > 2 else None


def parse_mode(data: Buffer, ten: bool = False) -> Mode:
    """A MODE SENSE(6) answer, or a MODE SENSE(10) answer if `ten`.

    Raises:
        ScsiFormatError: cut inside the header, a block descriptor or a page.
    """
    need(data, 8 if ten else 4, "MODE SENSE answer")
    if ten:
        end, device, descriptors, at = _u16(data, 0) + 2, data[3], _u16(data, 6), 8
    else:
        end, device, descriptors, at = data[0] + 1, data[2], data[3], 4
    need(data, end, "MODE SENSE answer")
    at += descriptors
    if at > end:
        raise ScsiFormatError("MODE SENSE answer ends inside a block descriptor")
    pages: dict[int, bytes] = {}
    while at < end:
        sub = bool(data[at] & 0x40)
        need(data[at:end], 4 if sub else 2, "mode page")
        size = 4 + _u16(data, at + 2) if sub else 2 + data[at + 1]
        if at + size > end:
            raise ScsiFormatError("MODE SENSE answer ends inside a page")
        if not sub:
            pages[data[at] & 0x3F] = bytes(data[at : at + size])
        at += size
    return Mode(bool(device & 0x80), bool(device & 0x10), pages)


def build_mode(pages: Iterable[bytes], *, ten: bool = False, write_protected: bool = False, fua: bool = True) -> bytes:
    """A MODE SENSE answer without block descriptors around whole mode pages."""
    body = b"".join(pages)
    device = (0x80 if write_protected else 0) | (0x10 if fua else 0)
    if ten:
        return struct.pack(">HBBBxH", len(body) + 6, 0, device, 0, 0) + body
    return bytes((len(body) + 3, 0, device, 0)) + body


def caching_page(write_cache: bool) -> bytes:
    """The caching mode page, 20 bytes."""
    return bytes((PAGE_CACHING, 18, 0x04 if write_cache else 0)).ljust(20, b"\0")


def control_page(descriptor_sense: bool = False) -> bytes:
    """The control mode page, 12 bytes: unrestricted reordering, shared task set."""
    return bytes((PAGE_CONTROL, 10, 0x04 if descriptor_sense else 0, 0x10)).ljust(12, b"\0")


def _u16(data: Buffer, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
