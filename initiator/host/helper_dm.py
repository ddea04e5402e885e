"""Helper operations on device mapper maps; lies beside `initiator.host.helper`, which runs them.

Like that file it is imported alone by a bare interpreter and takes only the standard library. The requests are those of
linux/dm-ioctl.h; a map is named by its UUID in all of them, because names and numbers are given again to others.
"""

from __future__ import annotations

import errno
import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REMOVE = 0xC138FD04
_RESUME = 0xC138FD06
"""DM_DEV_SUSPEND without its flag: what was loaded takes the place of what was there."""
_STATUS = 0xC138FD07
_LOAD = 0xC138FD09
_TABLE = 0xC138FD0C
_MESSAGE = 0xC138FD0E
_READ_ONLY = 1
_STATUS_TABLE = 1 << 4
_BUFFER_FULL = 1 << 8
_SKIP_LOCKFS = 1 << 10
_DEFERRED = 1 << 17
_HEAD = 312
_ROOM = 16384
"""Bytes for a table: a path takes some 20."""
_SPEC = struct.Struct("=QQiI16s")
"""struct dm_target_spec: first sector, sectors, status, where the next one is, kind."""
_STEP = 0.02


def dm_remove(uuid: str, deferred: bool) -> None:
    """Removes a map; deferred: when its last opener closes it, and until then nobody notices."""
    _ask(_REMOVE, uuid, _DEFERRED * deferred)


def dm_open_count(uuid: str) -> int:
    """How often a map is open, by whomever."""
    return int(struct.unpack_from("=i", _ask(_STATUS, uuid, 0), 24)[0])


def hand_over(fd: int, uuid: str, paths: list[str], patience: float) -> Any:
    """Takes the paths from a map that only `fd` has open, opens each exclusively, and lets the map go.

    The map gets a table without paths. That releases them before the call returns, so whoever holds one afterwards came
    in between: then the map gets its paths back, for which it waits up to `patience` seconds. Before all that it is
    marked to go with its last descriptor: nothing of it stays when this process is killed.
    """
    from helper_scsi import claim_all  # type: ignore[import-not-found]

    read_only, sectors, kind, params = _table(uuid)
    try:
        dm_remove(uuid, True)
        _load(uuid, read_only, sectors, b"error", b"")
        _ask(_RESUME, uuid, _SKIP_LOCKFS)
        claims = claim_all(paths, 0.0)
    except OSError as error:
        kept = _give_back(uuid, patience, (read_only, sectors, kind, params))
        text = "the map has its paths again" if kept else "the map goes, since it cannot have its paths again"
        raise OSError(error.errno, f"{error.strerror or error}; {text}") from error
    os.close(fd)
    return claims


def _give_back(uuid: str, patience: float, table: tuple[int, int, bytes, bytes]) -> bool:
    """The map is as it was; False when somebody keeps one of its paths for too long."""
    until = time.monotonic() + patience
    while True:
        try:
            _load(uuid, *table)
            _ask(_RESUME, uuid, _SKIP_LOCKFS)
            _ask(_MESSAGE, uuid, 0, bytes(8) + b"@cancel_deferred_remove\0")
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                return False
            time.sleep(_STEP)
        else:
            return True


def _table(uuid: str) -> tuple[int, int, bytes, bytes]:
    """What a map consists of: the flag of one that is read-only, sectors, kind, parameters."""
    told = _ask(_TABLE, uuid, _STATUS_TABLE, bytes(_ROOM))
    start, targets, _, flags = struct.unpack_from("=IIiI", told, 16)
    first, sectors, _, _, kind = _SPEC.unpack_from(told, start)
    if flags & _BUFFER_FULL or targets != 1 or first != 0:
        raise OSError(errno.EINVAL, "no table of one piece")
    params = told[start + _SPEC.size :].partition(b"\0")[0]
    return flags & _READ_ONLY, sectors, kind.rstrip(b"\0"), bytes(params)


def _load(uuid: str, flags: int, sectors: int, kind: bytes, params: bytes) -> None:
    """Prepares a table; the next `_RESUME` puts it in place."""
    size = _SPEC.size + len(params) // 8 * 8 + 8
    _ask(_LOAD, uuid, flags, (_SPEC.pack(0, sectors, 0, size, kind) + params).ljust(size, b"\0"), targets=1)


def _ask(request: int, uuid: str, flags: int, data: bytes = b"", targets: int = 0) -> bytearray:
    """One ioctl of the device mapper about the map with this UUID."""
    import fcntl

    name = uuid.encode()
    if not 0 < len(name) < 129:
        raise OSError(errno.EINVAL, "no UUID of a map")
    # struct dm_ioctl: version 4.0.0, sizes, counts, flags; name at 48, UUID at 176
    told = bytearray(_HEAD) + data
    struct.pack_into("=IIIIIIiIII", told, 0, 4, 0, 0, len(told), _HEAD, targets, 0, flags, 0, 0)
    told[176 : 176 + len(name)] = name
    handle = os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, request, told)
    finally:
        os.close(handle)
    return told


OPERATIONS = {operation.__name__: operation for operation in (dm_remove, dm_open_count, hand_over)}
