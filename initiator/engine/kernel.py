"""What the engine asks of the kernel in its own process: mount(2), locked memory, the way out of a limited cgroup.

None of it can hang: a FUSE mount is made without asking its server, and everything else is about this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import resource
from pathlib import Path

from initiator.errors import MooringError, NotPermittedError
from initiator.host.mounts import Mount, parse_mountinfo

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_IO_FLUSHER = 57
_CONNECTIONS = "/sys/fs/fuse/connections"
_GROUP = "mooring-engine"

_libc = ctypes.CDLL(None, use_errno=True)


class AttachError(MooringError):
    """A disk could not be made a block device, or not be taken back; the text says what is left of it."""

    code = "attach"


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2).

    Raises:
        OSError: what the kernel said.
    """
    done = _libc.mount(
        os.fsencode(source), os.fsencode(target), os.fsencode(fstype), ctypes.c_ulong(flags), os.fsencode(data)
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def own_mounts() -> tuple[Mount, ...]:
    """The mounts of this process's namespace, from mountinfo: no file system is asked."""
    return parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def mounted_at(path: str) -> Mount | None:
    """The uppermost mount at exactly this path."""
    return next((found for found in reversed(own_mounts()) if found.mountpoint == path), None)


def ensure_fusectl() -> str | None:
    """The folder in which FUSE connections can be aborted, mounted if it was not; None where that is not permitted."""
    if mounted_at(_CONNECTIONS) is None:
        try:
            mount("fusectl", _CONNECTIONS, "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC, "")
        except OSError:
            return None
    return _CONNECTIONS


def abort_path(dev: str) -> str | None:
    """Where to write to end the FUSE connection of a mount, given its `major:minor` (0:N) from mountinfo."""
    folder = ensure_fusectl()
    return f"{folder}/{dev.partition(':')[2]}/abort" if folder is not None else None


def abort(path: str | None) -> bool:
    """End a FUSE connection: everything that waits for it gets an error. True if the kernel took it or it is gone."""
    if path is None:
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        os.write(handle, b"1")
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def need_root() -> None:
    """Refuse what only root can do.

    Raises:
        NotPermittedError: we are not root, or there is no /dev/fuse.
    """
    if os.geteuid() != 0:
        raise NotPermittedError(
            "a disk can only be attached by root: it takes a mount and a loop device",
            fix="run the engine as root, or use mooring read, write and image, which need no block device",
        )
    if not os.path.exists("/dev/fuse"):
        raise NotPermittedError("this kernel has no /dev/fuse", fix="modprobe fuse")


@dataclasses.dataclass(frozen=True, slots=True)
class Protection:
    """What keeps this process alive and awake while memory is short. A text says why one could not be had."""

    memory_locked: str
    oom: str
    io_flusher: str
    cgroup: str
    core_dumps: str = "off"


def protect() -> Protection:
    """Take what the kernel permits of it; nothing of this is worth failing for.

    - locked memory: the page that we would have to wait for may be written back through ourselves;
    - oom_score_adj: whoever kills us kills the disk;
    - PR_SET_IO_FLUSHER: allocations of ours do not start writeback;
    - a cgroup of our own: the limit of a terminal's slice would throttle us together with the writer we serve;
    - no core dumps: they hold secrets, and might be written to our own disk.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return Protection(
        cgroup=_own_cgroup(),
        oom=_write("/proc/self/oom_score_adj", "-1000"),
        io_flusher=_outcome(_libc.prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0)),
        memory_locked=_lock_memory(),
    )


def _lock_memory() -> str:
    """Lock everything, now and later; under a limit that would one day make an allocation fail, so not there."""
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        return "RLIMIT_MEMLOCK limits it"
    return _outcome(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE))


def _outcome(returned: int) -> str:
    return "yes" if returned == 0 else os.strerror(ctypes.get_errno())


def _write(path: str, text: str) -> str:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)
    except OSError as error:
        return error.strerror or "failed"
    return "yes"


def _own_cgroup() -> str:
    """Move this process to a memory cgroup directly below the root, where no limit is."""
    if os.geteuid() != 0:
        return "only root can"
    found = "there is no cgroup file system"
    for each in own_mounts():
        memory = each.fstype == "cgroup" and "memory" in each.super_options.split(",")
        if not (memory or each.fstype == "cgroup2") or each.root != "/":
            continue
        group = f"{each.mountpoint}/{_GROUP}"
        with contextlib.suppress(OSError):
            os.mkdir(group, 0o755)
        answer = _write(f"{group}/cgroup.procs", str(os.getpid()))
        if answer == "yes":
            found = group if memory or not found.startswith("/") else found
        elif not found.startswith("/"):
            found = answer
    return found
