"""Errors of the SCSI room."""

from __future__ import annotations

from initiator.errors import MooringError


class ScsiFormatError(MooringError):
    """A command, an answer or sense data is too short or contradicts itself."""

    code = "scsi-format"
    fix = "the target (or its firmware) sends malformed SCSI data; report it to its vendor"


class UnsupportedCommandError(ScsiFormatError):
    """A CDB carries an operation code or service action that is not in the table here."""

    code = "scsi-unsupported"
    fix = ""


class UnitError(MooringError):
    """A logical unit answered a command with something other than success."""

    code = "scsi-answer"


def need(data: bytes | bytearray | memoryview, length: int, what: str) -> None:
    """Raise ScsiFormatError unless `data` holds at least `length` bytes of `what`."""
    if len(data) < length:
        raise ScsiFormatError(f"{what} has {len(data)} bytes, needs at least {length}")
