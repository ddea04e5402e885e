"""Reading sysfs and procfs: files that vanish, refuse or say `(null)` while they are read.

A device that is being taken down answers ENOENT, ENODEV, ENXIO, ENOTCONN, EINVAL or EIO, and a file of somebody else
EACCES: none of these is a failure of the reader. They all read as None, "not known".
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

GONE = frozenset(
    (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EINVAL, errno.EIO, errno.ENOTDIR, errno.ESRCH)
)
"""What a kernel object answers that is going away or has no value now."""
REFUSED = frozenset((errno.EACCES, errno.EPERM))
_UNSET = frozenset(("", "(null)", "<NULL>", "<null>"))
_CHUNK = 1 << 16


def base(root: Path) -> str:
    """`root` as a prefix for absolute paths: the empty string for `/`."""
    return str(root).rstrip("/")


def read_bytes(path: str) -> bytes:
    """The whole file.

    Raises:
        OSError: as the kernel says.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(handle, _CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def read_text(path: str) -> str | None:
    """The stripped text of an attribute; None where it is absent, refused, going away or unset."""
    try:
        text = os.fsdecode(read_bytes(path)).strip()
    except OSError as error:
        if error.errno in GONE or error.errno in REFUSED:
            return None
        raise
    return None if text in _UNSET else text


def read_int(path: str, number_base: int = 10) -> int | None:
    """The number in an attribute; None where there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text, number_base)
    except ValueError:
        return None


def read_pairs(path: str) -> dict[str, str]:
    """The `KEY=value` lines of a `uevent` file; empty where it cannot be read."""
    lines = (read_text(path) or "").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def names(folder: str) -> tuple[str, ...]:
    """The sorted entries of a folder; empty where it is absent or going away."""
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError as error:
        if error.errno in GONE or error.errno in REFUSED:
            return ()
        raise


def read_link(path: str) -> str | None:
    """What a symbolic link says, without following it; None where there is none."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in GONE or error.errno in REFUSED:
            return None
        raise
