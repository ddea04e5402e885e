"""Small files of this host."""

from __future__ import annotations

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
