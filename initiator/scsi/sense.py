"""Sense data, fixed and descriptor format (SPC-4, 4.5), and what a status says in words."""

from __future__ import annotations

import dataclasses
import enum
import struct

from initiator.scsi.commands import Buffer, Status
from initiator.scsi.errors import ScsiFormatError, need

INVALID_OPERATION_CODE = 0x20
"""The additional sense code of a command that is not known (SPC-4, annex F)."""


class Key(enum.IntEnum):
    """Sense keys (SPC-4, table 55)."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


@dataclasses.dataclass(frozen=True, slots=True)
class Sense:
    """Why a command ended with CHECK CONDITION, or what an asynchronous message reports."""

    key: Key
    asc: int = 0
    ascq: int = 0
    deferred: bool = False
    """True when it is about an earlier command, not the one that carries it."""
    information: int | None = None
    """With a medium error: the first LBA that failed."""
    descriptor: bool = False
    """True for the descriptor format."""

    @property
    def code(self) -> int:
        """ASC and ASCQ as one number, `0x2906` for 29h/06h."""
        return self.asc << 8 | self.ascq

    def explain(self) -> str:
        """The sense in words and numbers: `NOT READY: target port in standby state (02/04/0B)`."""
        name = self.key.name.replace("_", " ")
        text = _TEXTS.get(self.code) or _ASC_TEXTS.get(self.asc)
        words = f"{name}: {text}" if text else name
        late = ", about an earlier command" if self.deferred else ""
        return f"{words} ({self.key:02X}/{self.asc:02X}/{self.ascq:02X}{late})"


def parse_sense(data: Buffer) -> Sense:
    """Sense data in either format; bytes that were cut off count as zero, as in SPC-4, 4.5.

    Raises:
        ScsiFormatError: empty, without a sense key, or of an unknown format.
    """
    need(data, 3, "sense data")
    form = data[0] & 0x7F
    if form in (0x70, 0x71):
        return _parse_fixed(data, form == 0x71)
    if form in (0x72, 0x73):
        return _parse_descriptor(data, form == 0x73)
    raise ScsiFormatError(f"sense data of unknown format {form:#04x}")


def _parse_fixed(data: Buffer, deferred: bool) -> Sense:
    end = min(len(data), 8 + data[7]) if len(data) > 7 else len(data)
    info = int.from_bytes(data[3:7], "big") if data[0] & 0x80 and end >= 7 else None
    asc = data[12] if end > 12 else 0
    ascq = data[13] if end > 13 else 0
    return Sense(Key(data[2] & 0x0F), asc, ascq, deferred, info)


def _parse_descriptor(data: Buffer, deferred: bool) -> Sense:
    asc = data[2]
    ascq = data[3] if len(data) > 3 else 0
    end = min(len(data), 8 + data[7]) if len(data) > 7 else len(data)
    info: int | None = None
    at = 8
    while at + 2 <= end:
        size = 2 + data[at + 1]
        # Descriptor type 0 is INFORMATION: length 0Ah, VALID bit in byte 2, the value in bytes 4 to 11.
        if data[at] == 0 and size == 12 and at + 12 <= end and data[at + 2] & 0x80:
            info = int.from_bytes(data[at + 4 : at + 12], "big")
        at += size
    return Sense(Key(data[1] & 0x0F), asc, ascq, deferred, info, descriptor=True)


def build_sense(sense: Sense) -> bytes:
    """Sense data as a target sends it: 18 bytes in the fixed format, 8 or 20 in the descriptor format."""
    if not sense.descriptor:
        info = sense.information if sense.information is not None and sense.information <= 0xFFFFFFFF else None
        first = (0x71 if sense.deferred else 0x70) | (0x80 if info is not None else 0)
        return struct.pack(">BxBIB4xBB4x", first, sense.key, info or 0, 10, sense.asc, sense.ascq)
    tail = b"" if sense.information is None else struct.pack(">BBBxQ", 0, 10, 0x80, sense.information)
    first = 0x73 if sense.deferred else 0x72
    return struct.pack(">BBBB3xB", first, sense.key, sense.asc, sense.ascq, len(tail)) + tail


def explain(status: int, sense: Buffer = b"") -> str:
    """What a status byte and its sense data mean, for people: `GOOD`, `CHECK CONDITION, MEDIUM ERROR: …`."""
    try:
        name = Status(status).name.replace("_", " ")
    except ValueError:
        return f"status {status:#04x}"
    if status != Status.CHECK_CONDITION:
        return name
    try:
        return f"{name}, {parse_sense(sense).explain()}"
    except ScsiFormatError as error:
        return f"{name}, {error}"


_TEXTS = {
    0x0000: "",
    0x0401: "becoming ready",
    0x0402: "start command required",
    0x0403: "manual intervention required",
    0x0404: "format in progress",
    0x0407: "operation in progress",
    0x0409: "self-test in progress",
    0x040A: "asymmetric access state transition",
    0x040B: "target port in standby state",
    0x040C: "target port in unavailable state",
    0x0C00: "write error",
    0x0C02: "write error, reallocation failed",
    0x1100: "unrecovered read error",
    0x1A00: "parameter list length error",
    0x2000: "invalid command operation code",
    0x2100: "logical block address out of range",
    0x2400: "invalid field in CDB",
    0x2500: "logical unit not supported",
    0x1D00: "miscompare during verify operation",
    0x2600: "invalid field in parameter list",
    0x2604: "invalid release of persistent reservation",
    0x2700: "write protected",
    0x2701: "hardware write protected",
    0x2702: "software write protected",
    0x2707: "space allocation failed, write protect",
    0x2800: "not ready to ready change, medium may have changed",
    0x2900: "power on, reset or bus device reset occurred",
    0x2901: "power on occurred",
    0x2902: "SCSI bus reset occurred",
    0x2903: "bus device reset occurred",
    0x2904: "device internal reset",
    0x2907: "I_T nexus loss occurred",
    0x2A01: "mode parameters changed",
    0x2A03: "reservations preempted",
    0x2A04: "reservations released",
    0x2A05: "registrations preempted",
    0x2A06: "asymmetric access state changed",
    0x2A07: "implicit asymmetric access state transition failed",
    0x2A09: "capacity data has changed",
    0x2A10: "time stamp changed",
    0x2F00: "commands cleared by another initiator",
    0x3807: "thin provisioning soft threshold reached",
    0x3A00: "medium not present",
    0x3F01: "microcode has been changed",
    0x3F03: "inquiry data has changed",
    0x3F0E: "reported LUNs data has changed",
    0x4400: "internal target failure",
    0x4700: "SCSI parity error",
    0x4705: "protection information error",
    0x4B00: "data phase error",
    0x5500: "system resource failure",
    0x5D00: "failure prediction threshold exceeded",
    0x6E00: "command to logical unit failed",
}
_ASC_TEXTS = {
    0x04: "logical unit not ready",
    0x08: "logical unit communication failure",
    0x0C: "write error",
    0x10: "protection information error",
    0x11: "unrecovered read error",
    0x27: "write protected",
    0x29: "reset occurred",
    0x2A: "parameters changed",
    0x3E: "logical unit failure",
    0x3F: "target operating conditions have changed",
    0x44: "internal target failure",
    0x47: "transfer error",
}
