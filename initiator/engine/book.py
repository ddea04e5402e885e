"""Which writes the kernel was told are done, and which of them a flush has covered: in memory that outlives a worker.

A worker that is killed takes its knowledge with it. These two counters are in a memory file that the supervisor holds
as well, so that a replacement knows whether anything was acknowledged and not flushed. Only then it is a question
whether the target kept it.
"""

from __future__ import annotations

import mmap
import os
import struct

_SIZE = mmap.PAGESIZE
_COUNTS = struct.Struct("=QQ")


def create() -> int:
    """A descriptor of a fresh book, with nothing written."""
    fd = os.memfd_create("mooring-book", os.MFD_CLOEXEC)
    os.ftruncate(fd, _SIZE)
    return fd


def exposed(fd: int) -> bool:
    """Whether there are acknowledged writes that no flush has covered, by the book behind this descriptor."""
    acknowledged, covered = _COUNTS.unpack(os.pread(fd, _COUNTS.size, 0))
    return bool(acknowledged > covered)


class Book:
    """The counters as the worker keeps them.

    Args:
        fd: a descriptor from `create`; it may be closed afterwards.
    """

    def __init__(self, fd: int) -> None:
        self._counts = memoryview(mmap.mmap(fd, _SIZE)).cast("Q")

    def acknowledge(self) -> None:
        """A write is about to be answered with success."""
        self._counts[0] += 1

    def begin_flush(self) -> int:
        """What a flush that starts now covers; to be handed to `end_flush`."""
        return self._counts[0]

    def end_flush(self, begun: int) -> None:
        """The flush succeeded."""
        self._counts[1] = max(self._counts[1], begun)
