"""The child that detaches a claimed loop device; run as `python -I -S loopctl.py FD`.

With the exclusive descriptor FD it writes back what is dirty, then asks the kernel to take the file from the device
(LOOP_CLR_FD). What happens then depends on who else has the device open:

- nobody: the kernel refuses every further open from that moment on (LOOP_GET_STATUS64 fails with ENXIO on our own
  descriptor), and takes the file away when FD is closed. There is no gap in which anybody could mount or write;
- somebody: the kernel would take the file away at the last close, whenever that is, and until then anybody may
  mount. So this is taken back (the autoclear flag is switched off) and reported.

A device that the kernel takes for read-only (somebody looked into it) is made writable first: whoever gets it next
could not write to it either. What was done before a part fails is taken back, and each part that failed is named.

An fsync can hang with the file behind the device, so all of this has a process of its own. It prints one word.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Sequence

_CODES = {
    "BLKROSET": 0x125D,
    "BLKROGET": 0x125E,
    "LOOP_CLR_FD": 0x4C01,
    "LOOP_SET_STATUS64": 0x4C04,
    "LOOP_GET_STATUS64": 0x4C05,
}
_SIZE = 232
"""sizeof(struct loop_info64), linux/loop.h."""
_FLAGS = slice(52, 56)
_AUTOCLEAR = 4
_PATIENCE = 2.0
"""Seconds during which somebody who opened the device in passing (blkid, udev) may close it again."""
_STEP = 0.02


def seal(fd: int) -> str:
    """`sealed` if nobody else had the device open, else `shared`, and the device is as it was.

    Raises:
        OSError: the write-back or the kernel failed; the device is as it was, but for what the text says.
    """
    until = time.monotonic() + _PATIENCE
    back: list[Callable[[int], None]] = []
    try:
        write_back(fd)
        if freed(fd):
            back.append(protect)
        back.append(keep)
        while not cleared(fd):
            if time.monotonic() > until:
                break
            time.sleep(_STEP)
            write_back(fd)
        else:
            return "sealed"
    except OSError as error:
        raise _failed(error, _taken_back(fd, back)) from error
    left = _taken_back(fd, back)
    if left:
        raise _failed(OSError(errno.EBUSY, "somebody else has it open"), left)
    return "shared"


def _taken_back(fd: int, back: Sequence[Callable[[int], None]]) -> list[str]:
    """Take back all that was done; what of it failed."""
    left = []
    for undo in back:
        try:
            undo(fd)
        except OSError as error:
            left.append(f"not taken back, {error.strerror}")
    return left


def _failed(error: OSError, left: Sequence[str]) -> OSError:
    return OSError(error.errno, "; ".join((str(error.strerror), *left)))


def write_back(fd: int) -> None:
    """Put what is dirty into the file behind the device."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, f"fsync: {error.strerror}") from error


def freed(fd: int) -> bool:
    """Have the kernel take the device for writable; True if it was not, and `protect` takes it back."""
    if not _read_only(fd):
        return False
    ioctl(fd, "BLKROSET", bytes(4))
    return not _read_only(fd)  # a device whose file cannot be written to stays read-only, whatever the flag says


def _read_only(fd: int) -> bool:
    return ioctl(fd, "BLKROGET", bytes(4)) != bytes(4)


def protect(fd: int) -> None:
    """Have the kernel take the device for read-only again."""
    ioctl(fd, "BLKROSET", (1).to_bytes(4, sys.byteorder))


def cleared(fd: int) -> bool:
    """Ask for the detach; True if nobody can open the device any more."""
    try:
        ioctl(fd, "LOOP_CLR_FD")
        ioctl(fd, "LOOP_GET_STATUS64", bytes(_SIZE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        raise
    return False


def keep(fd: int) -> None:
    """Take the detach back: without the autoclear flag the device stays when the last opener leaves."""
    status = bytearray(ioctl(fd, "LOOP_GET_STATUS64", bytes(_SIZE)))
    flags = int.from_bytes(status[_FLAGS], sys.byteorder) & ~_AUTOCLEAR
    status[_FLAGS] = flags.to_bytes(4, sys.byteorder)
    ioctl(fd, "LOOP_SET_STATUS64", bytes(status))


def ioctl(fd: int, name: str, argument: bytes = b"") -> bytes:
    """One order to the device; an error names it."""
    try:
        return fcntl.ioctl(fd, _CODES[name], argument)
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}") from error


def main() -> int:
    """Exit status 0 with the word, or the errno of the failure with its text."""
    try:
        print(seal(int(sys.argv[1])))
    except OSError as error:
        print(f"{error.strerror}", file=sys.stderr)
        return min(error.errno or errno.EIO, 125)
    return 0


if __name__ == "__main__":
    sys.exit(main())
