"""The engine's log, which several processes append to and which is in memory on most hosts (the runtime folder)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_STEP = 1 << 16


def keep_short(log: Path, limit: int) -> None:
    """Move what a log has to `….old` once it is longer than `limit` bytes; of a longer one the end is kept.

    Its writers have it open, each for itself and for appending. So it stays the same file and is emptied: one that was
    renamed would go on growing under its new name. A line that comes between the copy and its end may be lost.
    """
    with contextlib.suppress(OSError):  # it is not there, or cannot be written: nobody can write to it either
        if log.stat().st_size <= limit:
            return
        with open(log, "r+b") as whole:
            whole.seek(-limit, os.SEEK_END)
            old = log.with_name(f"{log.name}.old")
            try:
                with open(old, "wb", opener=_private) as copy:
                    while piece := whole.read(_STEP):
                        copy.write(piece)
            except OSError:  # most likely because the log has filled the file system
                old.unlink(missing_ok=True)
            whole.truncate(0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
