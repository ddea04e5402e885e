"""The child that takes the risk: one process, forked for operations that can hang in the kernel.

Whoever needs such an operation calls `initiator.host.run.run_helper` or keeps an `initiator.host.run.Helper`. The
parent of all helpers, `nursery`, imports this file alone in `python -I -S`. It takes only the standard library, and
that where it is needed: its start-up time is part of the first call.

What goes over its standard input and output (one Unix socket) is marshal: both ends are the same interpreter and the
same user, and marshal costs no import. A request is `(operation, arguments)`; answers are frames of four bytes length
and `(kind, value)`, where kind is `more`, `done` or `error`; descriptors travel with the frame of `done` (SCM_RIGHTS).
"""

from __future__ import annotations

import errno
import marshal
import os
import sys

TYPE_CHECKING = False  # typing costs 6 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn

NURSERY = "mooring-nursery"
"""What the parent of helpers is called; the kernel keeps 15 characters."""
HELPER = "mooring-helper"
"""What a helper is called."""


class Done:
    """The last value of an operation and the descriptors that go with it."""

    def __init__(self, value: Any, fds: tuple[int, ...] = ()) -> None:
        self.value = value
        self.fds = fds


def open_excl(path: str, read_only: bool = True) -> Done:
    """Opens a block device so that nobody can mount, swap on or build on it while the descriptor lives.

    EBUSY means that somebody already does. O_NONBLOCK: an open must not wait for a medium.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    handle = os.open(path, access | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)
    return Done(os.stat(handle).st_rdev, (handle,))


def fsync(fd: int) -> None:
    """Writes back what is dirty and has the device flush its cache; the only call that reports write-back errors."""
    os.fsync(fd)


def flock(fd: int) -> None:
    """Takes the lock that keeps udev away from a whole disk; EWOULDBLOCK when somebody has it."""
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def syncfs(path: str) -> None:
    """Writes back the whole file system that is mounted at `path`; errors are those since the last call.

    A file can be a mount point, too.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _libc("syncfs", handle)
    finally:
        os.close(handle)


def umount(path: str) -> None:
    """Unmounts what is on top at `path`. Never lazily and never by force: EBUSY is the answer that matters."""
    _libc("umount2", os.fsencode(path), _UMOUNT_NOFOLLOW)


def umount_in(pid: int, namespace: str, path: str) -> None:
    """As `syncfs` and `umount`, in the mount namespace that a process is in, if it is the one with this inode."""
    handle = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if str(os.fstat(handle).st_ino) != "".join(each for each in namespace if each.isdigit()):
            raise OSError(errno.ESTALE, f"process {pid} is in another mount namespace by now")
        _libc("setns", handle, _CLONE_NEWNS)  # its root and current folder are those of the namespace now
    finally:
        os.close(handle)
    syncfs(path)
    umount(path)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Mounts; for taking back an unmount."""
    options = os.fsencode(data) if data else None
    _libc("mount", os.fsencode(source), os.fsencode(target), os.fsencode(fstype), _ulong(flags), options)


def look(source: str, target: str, fstype: str, data: str, device: int, sequence: int | None) -> bool:
    """Mounts read-only, on a device that the kernel was told to write nothing to before (BLKROSET); tells if it was so.

    `ro` alone does write: ext4 removes orphans when it is mounted, and notes in its superblock what it finds broken.
    EBUSY: somebody uses the device; the kernel's mount alone would join a read-only mount that nobody sees.
    """
    os.close(_node(source, device, sequence, os.O_EXCL))
    handle = _node(source, device, sequence)
    try:
        was = _protect(handle)
        try:
            mount(source, target, fstype, _LOOKING, data)
        except OSError:
            if not was:
                _protect(handle, False)
            raise
        return was
    finally:
        os.close(handle)


def look_away(source: str, device: int, sequence: int | None) -> None:
    """Lets the device be written to again."""
    handle = _node(source, device, sequence)
    try:
        _protect(handle, False)
    finally:
        os.close(handle)


def read_at(path: str, offset: int, length: int) -> bytes:
    """Bytes of a device."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(handle, length, offset)
    finally:
        os.close(handle)


def swapoff(path: str) -> None:
    """Switches a swap area off; the kernel reads back what is in it, which can take long."""
    _libc("swapoff", os.fsencode(path))


def swapon(path: str, flags: int = 0) -> None:
    """Switches a swap area on; for taking back a swapoff."""
    _libc("swapon", os.fsencode(path), flags)


def statvfs(mounts: list[tuple[str, int]], labels: tuple[int, ...] = ()) -> Iterator[Any]:
    """Size and free space of mounts, each answered as soon as it is known, so that a hang shows which one hangs.

    Args:
        mounts: Mount point and mount id. A mount that lies hidden under another one is left out, because a path leads
            to the one on top.
        labels: Ids of the mounts whose file system is to say its label, too.

    Yields:
        `(mount id, fragment bytes, blocks, free, available, label)`, or `(mount id, 0, 0, 0, 0, b"")` where there is
        no answer.
    """
    for path, mount_id in mounts:
        label = b""
        try:
            handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstatvfs(handle) if _mount_id(handle) == mount_id else None
                if found is not None and mount_id in labels:
                    label = _label(handle)
            finally:
                os.close(handle)
        except OSError:
            found = None
        if found is None:
            yield (mount_id, 0, 0, 0, 0, b"")
        else:
            size = found.f_frsize or found.f_bsize
            yield (mount_id, size, found.f_blocks, found.f_bfree, found.f_bavail, label)


def _label(handle: int) -> bytes:
    """The label that a mounted file system has in memory (FS_IOC_GETFSLABEL); empty where it does not tell."""
    import fcntl

    try:
        folder = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return fcntl.ioctl(folder, 0x81009431, bytes(256)).partition(b"\0")[0]
        finally:
            os.close(folder)
    except OSError:
        return b""


def namespace_mounts(path: str) -> bytes:
    """mountinfo of a mount namespace that no process is in, through the file that pins it.

    The descriptor on /proc is taken before the change: inside there may be no /proc at all.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _libc("setns", namespace, _CLONE_NEWNS)
    with open(os.open("self/mountinfo", os.O_RDONLY, dir_fd=proc), "rb") as table:
        return table.read()


def loop_status(device: str) -> tuple[int, int]:
    """Device number of the file system that holds a loop device's file, and of the block device it stands on (or 0).

    From LOOP_GET_STATUS64 (linux/loop.h): the kernel's own answer, true also when the file's name is gone, hidden
    or in another namespace.
    """
    import fcntl

    handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = fcntl.ioctl(handle, 0x4C05, bytes(232))
    finally:
        os.close(handle)
    # struct loop_info64 begins with lo_device, lo_inode, lo_rdevice, in the kernel's 32-bit encoding of a device number
    return int.from_bytes(status[:8], sys.byteorder), int.from_bytes(status[16:24], sys.byteorder)


def loop_clear(fd: int) -> None:
    """Takes the file from a loop device (LOOP_CLR_FD); while others have it open, this happens at the last close."""
    import fcntl

    fcntl.ioctl(fd, 0x4C01)


def openers(
    root: str, wanted: list[str], mounts: dict[int, tuple[str, str, bool]], skip: list[int]
) -> Iterator[tuple[object, ...]]:
    """Who uses a file system or a device: see `initiator.host.openers`, which lies beside this file."""
    from openers import scan  # type: ignore[import-not-found]

    found: Iterator[tuple[object, ...]] = scan(root, set(wanted), mounts, skip)
    return found


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        open_excl,
        fsync,
        flock,
        syncfs,
        umount,
        umount_in,
        mount,
        look,
        look_away,
        read_at,
        swapoff,
        swapon,
        statvfs,
        namespace_mounts,
        loop_status,
        loop_clear,
        openers,
    )
}
"""Everything a helper can do, by name."""


def _operation(name: str) -> Callable[..., Any]:
    """An operation of this file, or of those beside it, which only removals of kernel disks need."""
    if name in OPERATIONS:
        return OPERATIONS[name]
    import helper_dm  # type: ignore[import-not-found]
    import helper_scsi  # type: ignore[import-not-found]

    found: Callable[..., Any] = {**helper_scsi.OPERATIONS, **helper_dm.OPERATIONS}[name]
    return found


_UMOUNT_NOFOLLOW = 8
_LOOKING = 1 | 2 | 4 | 8  # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC
_CLONE_NEWNS = 0x20000


def _node(path: str, device: int, sequence: int | None, how: int = 0) -> int:
    """Opens a block device, if it still is the one with this number and BLKGETDISKSEQ (none before Linux 5.15)."""
    import fcntl

    handle = os.open(path, how | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        now: int | None = None
        try:
            now = int.from_bytes(fcntl.ioctl(handle, 0x80081280, bytes(8)), sys.byteorder)
        except OSError:
            sequence = None
        if os.fstat(handle).st_rdev != device or sequence not in (None, now):
            raise OSError(errno.ESTALE, f"{path} is another device by now")
    except OSError:
        os.close(handle)
        raise
    return handle


def _protect(handle: int, on: bool = True) -> bool:
    """Has the kernel take a device for read-only, or not (BLKROSET); tells what it was (BLKROGET)."""
    import fcntl

    was = fcntl.ioctl(handle, 0x125E, bytes(4)) != bytes(4)
    if was != on:
        fcntl.ioctl(handle, 0x125D, int(on).to_bytes(4, sys.byteorder))
    return was


def _ulong(value: int) -> Any:
    import ctypes

    return ctypes.c_ulong(value)


def _libc(function: str, *arguments: Any) -> None:
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount_id(handle: int) -> int | None:
    with open(f"/proc/self/fdinfo/{handle}", "rb") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith(b"mnt_id:")), None)


def _send(kind: str, value: Any, fds: tuple[int, ...] = ()) -> None:
    body = marshal.dumps((kind, value))
    frame = len(body).to_bytes(4, "little") + body
    sent = 0
    if fds:
        import socket

        with socket.socket(fileno=os.dup(1)) as channel:
            sent = socket.send_fds(channel, [frame], fds)
    while sent < len(frame):
        sent += os.write(1, frame[sent:])


def nursery() -> None:
    """Forks a helper for each request, until the other end of standard input closes.

    A request brings the helper's channel and the descriptors that it gets, and the numbers of the latter; the answer is
    the helper's process id and a descriptor of the process, or the error's number and text.
    """
    import _socket
    import array

    _be_called(NURSERY)
    channel = _socket.socket(fileno=0)
    room = _socket.CMSG_SPACE(253 * array.array("i").itemsize)  # the kernel passes no more at once (SCM_MAX_FD)
    while True:
        request, extra, _, _ = channel.recvmsg(1 << 16, room, _socket.MSG_CMSG_CLOEXEC)
        if not request:
            return
        handles = array.array("i", extra[0][2])
        born: tuple[int, ...] = ()
        try:
            pid = os.fork()
            if pid == 0:
                _live(handles, marshal.loads(request))
            born = (os.pidfd_open(pid),)
            answer: tuple[int, str] = (pid, "")
        except OSError as error:
            answer = (error.errno or errno.EAGAIN, error.strerror or str(error))
        for handle in handles:
            os.close(handle)
        channel.sendmsg([marshal.dumps(answer)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", born))])
        for handle in born:
            os.close(handle)
        _bury()


def _live(handles: Sequence[int], numbers: Sequence[int]) -> NoReturn:
    """A helper's whole life: with its descriptors in place, and none of the nursery's."""
    try:
        _be_called(HELPER)
        _settle((handles[0], *handles), (0, 1, *numbers))
        serve()
    finally:
        os._exit(0)


def _settle(handles: Sequence[int], numbers: Sequence[int]) -> None:
    import fcntl

    floor = max(*handles, *numbers) + 1
    moved = [fcntl.fcntl(handle, fcntl.F_DUPFD, floor) for handle in handles]
    for handle, number in zip(moved, numbers, strict=True):
        os.dup2(handle, number)
    kept = sorted({2, *numbers})
    for number, following in zip(kept, (*kept[1:], max(moved) + 1), strict=True):
        os.closerange(number + 1, following)


def _bury() -> None:
    """Collects the helpers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _be_called(name: str) -> None:
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def serve() -> None:
    """Answers requests until the other end of standard input and output closes."""
    requests = os.fdopen(0, "rb")
    while True:
        try:
            operation, arguments = marshal.load(requests)
        except EOFError:
            return
        try:
            result = _operation(operation)(**arguments)
            if hasattr(result, "__next__"):
                for part in result:
                    _send("more", part)
                result = Done(None)
            elif not isinstance(result, Done):
                result = Done(result)
        except OSError as error:
            _send("error", (error.errno or errno.EIO, error.strerror or str(error)))
            continue
        _send("done", result.value, result.fds)
        for handle in result.fds:
            os.close(handle)
