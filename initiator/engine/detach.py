"""A child that takes the file from one loop device, and only if nobody uses the device.

Run as `python -I -S detach.py /dev/loopN BACKING_FILE`. The device is opened with O_EXCL, which fails while it is
mounted, swapped on or built upon in any namespace, and which keeps everybody from doing so until it is gone. This can
hang when the file behind the device does, so it is never done by the engine itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

BLKROSET = 0x125D
LOOP_CLR_FD = 0x4C01


def main() -> int:
    """Exit status 0: done, or gone already. 1: in use. 2: it is something else now. 3: the kernel said no."""
    device, backing = sys.argv[1:3]
    try:
        handle = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        print(f"{device}: {error.strerror}", file=sys.stderr)
        return 1 if error.errno == errno.EBUSY else 3
    try:
        with open(f"/sys/block/{os.path.basename(device)}/loop/backing_file", "rb") as text:
            found = os.fsdecode(text.read()).rstrip("\n")
    except OSError:
        return 0
    if found.removesuffix(" (deleted)") != backing:
        print(f"{device} stands on {found!r} now", file=sys.stderr)
        return 2
    try:
        fcntl.ioctl(handle, BLKROSET, bytes(4))  # or whoever gets the device next could not write to it either
        fcntl.ioctl(handle, LOOP_CLR_FD)
    except OSError as error:
        print(f"{device}: {error.strerror}", file=sys.stderr)
        return 0 if error.errno == errno.ENXIO else 3
    os.close(handle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
