"""Helper operations on SCSI disks; lies beside `initiator.host.helper`, which runs them.

Like that file it is imported alone by a bare interpreter and takes only the standard library.
"""

from __future__ import annotations

import errno
import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SG_IO = 0x2285
_SG_HEADER = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII0P")
"""struct sg_io_hdr, scsi/sg.h; the kernel's layout is the compiler's own."""
_SG_DXFER_NONE = -1
_SG_DXFER_FROM_DEV = -3
_SENSE_BYTES = 96
_STEP = 0.001


def sg_io(fd: int, cdb: bytes, seconds: float) -> tuple[int, int, int, bytes]:
    """Sends one SCSI command without data and gives what came back: SCSI, host and driver status, and sense data."""
    status, host, driver, sense, _ = _command(fd, cdb, 0, seconds)
    return status, host, driver, sense


def sg_read(path: str, cdb: bytes, length: int, seconds: float) -> tuple[int, int, bytes, bytes]:
    """Sends one SCSI command that only asks, and gives SCSI and host status, sense data and what was answered."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status, host, _, sense, data = _command(handle, cdb, length, seconds)
    finally:
        os.close(handle)
    return status, host, sense, data


def _command(fd: int, cdb: bytes, length: int, seconds: float) -> tuple[int, int, int, bytes, bytes]:
    import ctypes
    import fcntl

    command = ctypes.create_string_buffer(cdb, len(cdb))
    sense = ctypes.create_string_buffer(_SENSE_BYTES)
    data = ctypes.create_string_buffer(length or 1)
    direction = _SG_DXFER_FROM_DEV if length else _SG_DXFER_NONE
    header = bytearray(
        _SG_HEADER.pack(
            ord("S"), direction, len(cdb), _SENSE_BYTES, 0, length,
            ctypes.addressof(data) if length else 0, ctypes.addressof(command), ctypes.addressof(sense),
            int(seconds * 1000), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        )
    )  # fmt: skip
    fcntl.ioctl(fd, _SG_IO, header)
    fields = _SG_HEADER.unpack(header)
    status, written, host, driver, left = fields[13], fields[16], fields[17], fields[18], fields[19]
    return status, host, driver, sense.raw[:written], data.raw[: length - left] if length else b""


def open_locked(path: str, patience: float) -> Any:
    """Opens a whole disk and takes the lock that keeps udev, and so all that listens to it, away."""
    import fcntl

    from helper import Done  # type: ignore[import-not-found]

    until = time.monotonic() + patience
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > until:
                os.close(handle)
                raise
            time.sleep(_STEP)
        else:
            return Done(None, (handle,))


def claim_all(paths: list[str], patience: float) -> Any:
    """Opens every one of `paths` exclusively, all or none; EBUSY: somebody else has one, and kept it for `patience`."""
    from helper import Done

    until = time.monotonic() + patience
    handles: list[int] = []
    while len(handles) < len(paths):
        path = paths[len(handles)]
        try:
            handles.append(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= until:
                for handle in handles:
                    os.close(handle)
                raise OSError(error.errno, f"{path}: {error.strerror}") from error
            time.sleep(_STEP)
    return Done(None, tuple(handles))


def write_attribute(fd: int, text: str) -> None:
    """Writes a sysfs attribute through a descriptor that was opened before: it cannot hit another device."""
    os.pwrite(fd, text.encode(), 0)


OPERATIONS = {operation.__name__: operation for operation in (sg_io, sg_read, open_locked, claim_all, write_attribute)}
