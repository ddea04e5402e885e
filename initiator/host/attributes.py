"""Many small files of one kernel object, read as cheaply as Python can: one open folder, three calls for each file.

The readers of thousands of sessions and paths stand on this; `initiator.host.sysfs` is for everybody else. What kernel
objects answer that are going away is the same for both: it reads as absent.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Set

from initiator.host.sysfs import GONE, REFUSED

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_CLOEXEC
PAGE = 4096
"""No text attribute is longer; of a binary one more is never needed here."""
MOSTLY = 448
"""Nearly every attribute is shorter; Python keeps memory for so many bytes at hand, a page it has to ask for."""
_UNSET = frozenset(("", "(null)", "<NULL>", "<null>"))

Raw = Mapping[str, bytes]
"""Attributes as the kernel wrote them, without those that could not be read."""


def read_raw(folder: str, names: Iterable[str]) -> dict[str, bytes] | None:
    """The attributes `names` of one object; those that are absent, refused or going away are left out.

    Returns:
        None where the object itself is gone or refused.
    """
    open_, read, close = os.open, os.read, os.close  # this loop runs a hundred thousand times in one snapshot
    try:
        handle = open_(folder, _FOLDER)
    except OSError as error:
        if tolerable(error):
            return None
        raise
    found = {}
    try:
        for name in names:
            try:
                file = open_(name, FILE, dir_fd=handle)
            except OSError as error:
                if tolerable(error):
                    continue
                raise
            try:
                data = read(file, MOSTLY)
                found[name] = data if len(data) < MOSTLY else data + read(file, PAGE)
            except OSError as error:
                if not tolerable(error):
                    raise
            finally:
                close(file)
    finally:
        close(handle)
    return found


def tolerable(error: OSError) -> bool:
    """Whether an error says no more than that there is no value to have."""
    return error.errno in GONE or error.errno in REFUSED or isinstance(error, IsADirectoryError)


@functools.lru_cache(maxsize=1 << 13)
def text(data: bytes | None) -> str | None:
    """An attribute as text, whatever bytes it has; None where it is unset.

    Remembered, because thousands of objects say the same.
    """
    if data is None:
        return None
    stripped = data.decode("utf-8", "surrogateescape").strip().strip("\0")
    return None if stripped in _UNSET else stripped


def texts(raw: Raw) -> dict[str, str]:
    """All that are set."""
    return {name: value for name, data in raw.items() if (value := text(data)) is not None}


def read_one(path: str) -> bytes | None:
    """One attribute; None where it is absent, refused or going away."""
    try:
        file = os.open(path, FILE)
    except OSError as error:
        if tolerable(error):
            return None
        raise
    try:
        return os.read(file, PAGE)
    except OSError as error:
        if tolerable(error):
            return None
        raise
    finally:
        os.close(file)


def read_whole(path: str) -> bytes | None:
    """A file of any length; None where it is absent or refused."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        if tolerable(error):
            return None
        raise


def number(data: bytes | None, base: int = 10) -> int | None:
    """An attribute as a number; None where it is none."""
    try:
        return None if data is None else int(data, base)
    except ValueError:
        return None


def entries(folder: str) -> dict[str, int] | None:
    """The names in a folder of links with the inode of each link.

    The kernel makes a new link with a new inode for each new object, so an object that took over the name of another
    one is found out without reading it.

    Returns:
        None where the folder is absent.

    Raises:
        PermissionError: it may not be listed.
    """
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry.inode() for entry in found}
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def in_order(due: Set[str], listed: Mapping[str, object]) -> Iterable[str]:
    """Those of the objects in a folder that are to be read, in the folder's order if that is nearly all of them.

    The kernel has made them in that order: what one needs is near in memory to what the last one needed.
    """
    if len(due) * 2 > len(listed):
        return [name for name in listed if name in due]
    return [name for name in due if name in listed]
