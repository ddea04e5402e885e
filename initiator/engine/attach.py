"""How a served file becomes a block device, and how that is taken back: the supervisor's half of attaching.

Everything that would ask the FUSE server runs in a child with a deadline (`initiator.host.run`): the server is a
process of ours, and waiting for ourselves never ends. What is reported as done is what sysfs and mountinfo show.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import sys
from pathlib import Path

from initiator.engine import detach, kernel
from initiator.engine.attached import FOLDER_NAME, Attachment, backing_file, loops_below
from initiator.engine.fuse import largest_request
from initiator.engine.kernel import AttachError
from initiator.errors import MooringError, RefusedError
from initiator.host.run import Finished, HelperFailed, run, run_helper

DEADLINE = 15.0
"""Seconds that a child may take."""
_GONE = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mounted:
    """A FUSE mount whose server nobody is yet."""

    fd: int
    mountpoint: str
    file: str
    dev: str
    """`0:N`; N is the number of the FUSE connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loop:
    """A loop device with direct I/O."""

    device: str
    dev: str
    diskseq: int | None


def mount_file(runtime: Path, name: str, block_bytes: int, read_only: bool) -> Mounted:
    """Mount a FUSE file system for one file at `runtime`/disks/`name`. Nobody is asked yet, so this cannot hang.

    Args:
        runtime: the engine's folder.
        name: the name of the disk, and of the file.
        block_bytes: its logical block length.
        read_only: whether nobody may write.

    Raises:
        AttachError: something is there already, or the kernel says no. Nothing is left behind.
    """
    folder = os.path.realpath(runtime) + f"/{FOLDER_NAME}"
    mountpoint = f"{folder}/{name}"
    if kernel.mounted_at(mountpoint) is not None:
        raise AttachError(
            f"{mountpoint} is still mounted: an engine that ended left it", fix=f"mooring engine cleanup {name}"
        )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(mountpoint, 0o700)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | (kernel.MS_RDONLY if read_only else 0)
        owner = f"user_id={os.geteuid()},group_id={os.getegid()}"
        data = f"fd={fd},rootmode=40000,{owner},max_read={largest_request(block_bytes)}"
        kernel.mount("mooring", mountpoint, "fuse.mooring", flags, data)
        found = kernel.mounted_at(mountpoint)
        if found is None:
            raise AttachError(f"{mountpoint} is not in the list of mounts although it was mounted")
    except OSError as error:
        os.close(fd)
        os.rmdir(mountpoint)
        raise AttachError(f"{mountpoint} cannot be mounted: {error.strerror}") from error
    except AttachError:
        os.close(fd)
        raise
    return Mounted(fd, mountpoint, f"{mountpoint}/{name}", found.dev)


async def attach_loop(file: str, size_bytes: int, block_bytes: int, read_only: bool) -> Loop:
    """Put a loop device with direct I/O on a served file, and check what came of it.

    Raises:
        AttachError: it did not come up as asked for. Nothing is left behind, or the text says what.
    """
    argv = ["losetup", "--find", "--show", "--partscan", "--direct-io=on", "--sector-size", str(block_bytes)]
    done = await _run([*argv, *(["--read-only"] if read_only else []), file])
    device = done.stdout.strip()
    if done.returncode or not device:
        await detach_all(file)
        raise AttachError(f"losetup could not make a block device: {done.stderr.strip() or 'no reason given'}")
    if not read_only:  # a loop device keeps the flag that it was protected with for somebody else (BLKROSET)
        await _run(["blockdev", "--setrw", device])
    problem = check_loop(device, file, size_bytes, block_bytes, read_only)
    if problem is not None:
        await detach_all(file)
        raise AttachError(f"{device} was made and taken back again: {problem}")
    folder = Path("/sys/block", os.path.basename(device))
    sequence = _value(folder / "diskseq")
    return Loop(device, _value(folder / "dev") or "", int(sequence) if sequence else None)


def check_loop(device: str, file: str, size_bytes: int, block_bytes: int, read_only: bool) -> str | None:
    """What is wrong with a loop device, from sysfs; None when it is as it has to be."""
    folder = Path("/sys/block", os.path.basename(device))
    if backing_file(device) != file:
        return f"it stands on {backing_file(device)!r}"
    if _value(folder / "loop/dio") != "1":
        return (
            "the kernel did not give it direct I/O, without which only one request is under way at a time "
            "and every block is cached twice"
        )
    if _value(folder / "size") != str(size_bytes // 512):
        return f"its size is {_value(folder / 'size')} sectors and not {size_bytes // 512}"
    if _value(folder / "queue/logical_block_size") != str(block_bytes):
        return f"its block size is {_value(folder / 'queue/logical_block_size')} and not {block_bytes}"
    if _value(folder / "ro") != str(int(read_only)):
        return "it is writable" if read_only else "it is read-only"
    return None


async def detach_all(file: str) -> None:
    """Take away every loop device that stands on `file`; those of others are not touched.

    Raises:
        RefusedError: one is in use. AttachError: the kernel did not let it go.
    """
    for device in loops_of(file):
        await detach_loop(device, file)


async def detach_loop(device: str, file: str) -> None:
    """Take the file from one loop device if nobody uses it, and wait until sysfs shows it.

    Raises:
        RefusedError: it is mounted, swapped on, built upon or opened exclusively; nothing was changed.
        AttachError: the kernel did not let it go.
    """
    done = await _run([sys.executable, "-I", "-S", detach.__file__, device, file])
    if done.returncode == 1:
        raise RefusedError(f"{device} is in use", code="busy", fix="unmount what is on it first")
    until = asyncio.get_running_loop().time() + _GONE
    while backing_file(device) == file:
        if done.returncode or asyncio.get_running_loop().time() > until:
            reason = done.stderr.strip() or "somebody has it open"
            raise AttachError(f"{device} still stands on {file}: {reason}")
        await asyncio.sleep(0.02)


async def unmount(mountpoint: str, dev: str | None) -> None:
    """Unmount a FUSE mount of ours and take its folder away; never lazily, never by force.

    Args:
        mountpoint: where it is.
        dev: its `0:N`; anything else that is mounted there is left alone.

    Raises:
        RefusedError: a file in it is open. AttachError: it is there still.
    """
    found = kernel.mounted_at(mountpoint)
    if found is not None and found.fstype.startswith("fuse") and dev in (None, found.dev):
        try:
            await asyncio.to_thread(run_helper, "umount", {"path": mountpoint}, DEADLINE)
        except HelperFailed as error:
            if error.errno == errno.EBUSY:
                fix = f"find out who has it open: fuser -vm {mountpoint}"
                raise RefusedError(f"a file in {mountpoint} is open", code="busy", fix=fix) from error
            raise AttachError(f"{mountpoint} could not be unmounted: {error}") from error
    found = kernel.mounted_at(mountpoint)
    if found is not None:
        raise AttachError(f"{mountpoint} is still mounted")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(mountpoint)


async def connection_gone(dev: str) -> bool:
    """Wait until the kernel has forgotten a FUSE connection; False if it did not within a few seconds.

    It lives on while a copy of the mount is in another namespace or a process has its /dev/fuse open.
    """
    path = kernel.abort_path(dev)
    if path is None:
        return True
    until = asyncio.get_running_loop().time() + _GONE
    while os.path.exists(path):
        if asyncio.get_running_loop().time() > until:
            return False
        await asyncio.sleep(0.02)
    return True


async def abort(attachment: Attachment) -> bool:
    """End a FUSE connection so that everybody who waits for it gets an error. True if the kernel took it."""
    if attachment.mount_dev is None:
        return True
    if kernel.abort(kernel.abort_path(attachment.mount_dev)):
        return True
    found = kernel.mounted_at(attachment.mountpoint)
    if found is None or found.dev != attachment.mount_dev:
        return True
    # Without fusectl a forced unmount does the same; it fails with EBUSY while the loop device is there.
    with contextlib.suppress(MooringError):
        await _run(["umount", "--force", "--no-canonicalize", "--internal-only", attachment.mountpoint])
    return False


async def take_away(attachment: Attachment) -> list[str]:
    """Remove what is left of a disk that nothing serves any more; what was done, in words.

    Raises:
        RefusedError: the device is in use; nothing was removed. AttachError: something did not go.
    """
    evidence: list[str] = []
    for device in loops_of(attachment.file):
        await detach_loop(device, attachment.file)
        evidence.append(f"{device} no longer stands on {attachment.file} (sysfs)")
    await unmount(attachment.mountpoint, attachment.mount_dev)
    evidence.append(f"{attachment.mountpoint} is not mounted (mountinfo)")
    return evidence


def loops_of(file: str) -> list[str]:
    """The loop devices that stand on one file."""
    return [device for device, found in loops_below(os.path.dirname(file)).items() if found == file]


async def _run(argv: list[str]) -> Finished:
    return await asyncio.to_thread(run, argv, DEADLINE)


def _value(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
