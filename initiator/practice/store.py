"""The bytes of a practice disk: one sparse file.

Writes land in the page cache, as in the volatile cache of a real disk; `sync` is what makes them last. Blocks that were
never written or were deallocated are holes and read as zeroes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from initiator.errors import MooringError

Buffer = bytes | bytearray | memoryview

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10
_CHUNK = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class StoreError(MooringError):
    """A backing file cannot be served."""

    code = "practice-store"


class Store:
    """An open backing file. Offsets and lengths are in bytes; the caller has checked that they lie inside `size`.

    Every method may raise OSError (EIO, ENOSPC) from the file system below.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Open the file, make it when it is missing and as large as `size`; it never becomes smaller.

        Raises:
            StoreError: it cannot be opened, is no regular file, or another target serves it.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        try:
            # Two targets on one file would destroy each other's file systems.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size = max(size, os.fstat(self._fd).st_size)
            os.ftruncate(self._fd, self.size)
        except OSError as error:
            os.close(self._fd)
            why = "another target serves it" if error.errno == errno.EWOULDBLOCK else error.strerror
            raise StoreError(f"{path}: {why}") from error

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk."""
        data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise OSError(errno.EIO, "the backing file is shorter than the disk")
        return data

    def write(self, offset: int, data: Buffer) -> None:
        """Write into the volatile cache."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def sync(self) -> None:
        """Everything written so far is on stable storage when this returns. Blocks."""
        os.fdatasync(self._fd)

    def deallocate(self, offset: int, length: int) -> None:
        """Make a hole: the range reads as zeroes and takes no space."""
        if not self._fallocate(_PUNCH_HOLE | _KEEP_SIZE, offset, length):
            self._write_zeroes(offset, length)

    def zero(self, offset: int, length: int) -> None:
        """The range reads as zeroes and keeps its space."""
        if not self._fallocate(_ZERO_RANGE | _KEEP_SIZE, offset, length):
            self._write_zeroes(offset, length)

    def fill(self, offset: int, length: int, pattern: Buffer) -> None:
        """Repeat `pattern`, whose length divides `length`."""
        chunk = bytes(pattern) * max(1, _CHUNK // len(pattern))
        while length:
            piece = chunk[:length]
            self.write(offset, piece)
            offset, length = offset + len(piece), length - len(piece)

    def has_hole(self, offset: int, length: int) -> bool:
        """True if a write to the range would need new space."""
        return os.lseek(self._fd, offset, os.SEEK_HOLE) < offset + length

    def grow(self, size: int) -> None:
        """Make the disk larger."""
        os.ftruncate(self._fd, size)
        self.size = size

    def _fallocate(self, mode: int, offset: int, length: int) -> bool:
        """True when done, False where the file system has no such operation."""
        while _libc.fallocate(self._fd, mode, offset, length):
            number = ctypes.get_errno()
            if number == errno.EOPNOTSUPP:
                return False
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
        return True

    def _write_zeroes(self, offset: int, length: int) -> None:
        self.fill(offset, length, bytes(512))
