"""Small files of this host, and folders whose entries have to be on stable storage."""

from __future__ import annotations

import os
from pathlib import Path

from initiator.host import sysfs


def read_some(path: str, largest: int) -> str:
    """A file's text, at most so many bytes of it; empty where there is none.

    Raises:
        OSError: it may not be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(largest).decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno in sysfs.GONE:
            return ""
        raise


def sync_folder(folder: str | Path) -> None:
    """Has what a folder lists survive a loss of power.

    Raises:
        OSError: as the kernel says.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
