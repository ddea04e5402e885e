"""The child that detaches a claimed loop device; run as `python -I -S loopctl.py FD`.

With the exclusive descriptor FD it writes back what is dirty, then asks the kernel to take the file from the device
(LOOP_CLR_FD). What happens then depends on who else has the device open:

- nobody: the kernel refuses every further open from that moment on (LOOP_GET_STATUS64 fails with ENXIO on our own
  descriptor), and takes the file away when FD is closed. There is no gap in which anybody could mount or write;
- somebody: the kernel would take the file away at the last close, whenever that is, and until then anybody may
  mount. So this is taken back (the autoclear flag is switched off) and reported.

An fsync can hang with the file behind the device, so all of this has a process of its own. It prints one word.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time

BLKROSET = 0x125D
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_GET_STATUS64 = 0x4C05
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
        OSError: the write-back or the kernel failed.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        os.fsync(fd)
        if cleared(fd):
            fcntl.ioctl(fd, BLKROSET, bytes(4))  # or whoever gets the device next could not write to it either
            return "sealed"
        if time.monotonic() > until:
            keep(fd)
            return "shared"
        time.sleep(_STEP)


def cleared(fd: int) -> bool:
    """Ask for the detach; True if nobody can open the device any more."""
    try:
        fcntl.ioctl(fd, LOOP_CLR_FD)
        fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(_SIZE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        raise
    return False


def keep(fd: int) -> None:
    """Take the detach back: without the autoclear flag the device stays when the last opener leaves."""
    status = bytearray(fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(_SIZE)))
    flags = int.from_bytes(status[_FLAGS], sys.byteorder) & ~_AUTOCLEAR
    status[_FLAGS] = flags.to_bytes(4, sys.byteorder)
    fcntl.ioctl(fd, LOOP_SET_STATUS64, bytes(status))


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
