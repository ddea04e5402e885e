"""Exclusive opens of block devices, held from `unused` to `detached`.

While a claim is held, nobody can mount the device, swap on it or build on it, in any namespace (EBUSY from the
kernel). A plain open without O_EXCL still succeeds; sealing (`seal`) is what excludes those too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path

from initiator.host.run import Helper, HelperFailed, close_all, run, run_helper
from safety.world import Busy, StepError

BLKGETDISKSEQ = 0x80081280
"""linux/fs.h: the sequence number of the disk behind an open descriptor."""
_LOOPCTL = str(Path(__file__).with_name("loopctl.py"))


@dataclasses.dataclass(slots=True)
class DeviceClaim:
    """One exclusive open. The kernel releases it when the process ends, however it ends."""

    device: str
    dev: str
    fd: int

    @property
    def held(self) -> bool:
        """Whether the descriptor is still open and still on the claimed device."""
        if self.fd < 0:
            return False
        try:
            found = os.fstat(self.fd)
        except OSError:
            return False
        return stat.S_ISBLK(found.st_mode) and number(found.st_rdev) == self.dev


def number(rdev: int) -> str:
    """`major:minor` of a device number."""
    return f"{os.major(rdev)}:{os.minor(rdev)}"


def take(device: str, dev: str, diskseq: int | None, deadline: float) -> DeviceClaim:
    """Open a block device exclusively and make sure that it is the one that was meant.

    Raises:
        Busy: something holds the device: a mount, swap, a device above, another claim.
        StepError: the node leads to another device, or the kernel said no.
        Stuck: the open hangs.
    """
    try:
        result = run_helper("open_excl", {"path": device, "read_only": True}, deadline, want_fds=1)
    except HelperFailed as error:
        if error.errno == errno.EBUSY:
            raise Busy(
                f"{device} is in use: the kernel refuses to let it be opened exclusively.",
                fix="a mount in a hidden namespace, a lazily unmounted file system or a device above it holds it",
            ) from error
        raise StepError(f"{device} cannot be claimed: {error}") from error
    claim = DeviceClaim(device, dev, result.fds[0])
    with contextlib.ExitStack() as undo:
        undo.callback(close_all, (claim.fd,))
        found = number(os.fstat(claim.fd).st_rdev)
        if found != dev:
            raise StepError(f"{device} leads to device {found} now, not to {dev}.", code="identity-changed")
        sequence = sequence_number(claim.fd)
        if diskseq is not None and sequence is not None and sequence != diskseq:
            text = f"{device} has sequence number {sequence} now, not {diskseq}: it is another device."
            raise StepError(text, code="identity-changed")
        undo.pop_all()
    return claim


def sequence_number(fd: int) -> int | None:
    """The kernel's sequence number of the disk behind a descriptor; None where the kernel has none (before 5.15)."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, BLKGETDISKSEQ, bytes(8)), sys.byteorder)
    except OSError:
        return None


def fsync(claim: DeviceClaim, deadline: float) -> None:
    """Write back the device's own page cache; the error of any earlier write-back comes out here.

    Raises:
        HelperFailed: a write failed: data is not on the disk.
        Stuck: it hangs.
    """
    run_helper("fsync", {"fd": claim.fd}, deadline, pass_fds=(claim.fd,))


def seal(claim: DeviceClaim, deadline: float) -> bool:
    """Detach the loop device under the claim, if nobody else has it open; see `safety.loopctl`.

    Raises:
        StepError: the last write-back or the kernel failed.
        Stuck: it hangs.
    """
    done = run([sys.executable, "-I", "-S", _LOOPCTL, str(claim.fd)], deadline, pass_fds=(claim.fd,))
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise StepError(f"{claim.device} cannot be detached: {reason}.", code="kernel-said-no")
    return done.stdout.strip() == "sealed"


def release(claim: DeviceClaim, deadline: float) -> None:
    """Give the claim up. The last close is made by a child, because it can wait for the file behind the device.

    Whether the device is gone afterwards is for the caller to see in sysfs.

    Raises:
        CannotRun: the child was not there in time; the claim is held.
    """
    if claim.fd < 0:
        return
    with contextlib.ExitStack() as stack:
        last = stack.enter_context(Helper((claim.fd,)))
        last.start(deadline)
        close_all((claim.fd,))
        claim.fd = -1
