"""Mounts of every mount namespace that can be read, from mountinfo (proc_pid_mountinfo(5)); no path is ever touched."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from initiator.host import sysfs
from initiator.model import BlockNode, Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    mount_id: int
    parent_id: int
    dev: str
    """`major:minor`; an anonymous number for btrfs, overlay, tmpfs and others without a device of their own."""
    root: str
    mountpoint: str
    options: str
    """Of this mount: `rw,relatime`."""
    propagation: str
    """The optional fields: `shared:1 master:2`, empty for a private mount."""
    fstype: str
    source: str
    super_options: str
    """Of the file system behind it."""
    namespace: str | None = None
    """None for the reader's own namespace, else the inode of the other one."""
    namespace_pid: int | None = None
    """A process in that namespace, where there is one."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written through this mount."""
        return "ro" in self.options.split(",") or "ro" in self.super_options.split(",")


Pinned = Callable[[str], bytes]
"""Gives the mountinfo of a namespace from the file that pins it; raises OSError or ValueError where it cannot."""

_ESCAPED = re.compile(r"\\([0-7]{3})")
_NAMESPACE = re.compile(r"mnt:\[(\d+)\]")


def unescape(text: str) -> str:
    r"""Undoes the kernel's octal escapes (`\040` for a space) in mountinfo, swaps and exports."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


@functools.lru_cache(maxsize=64)
def parse_mountinfo(text: str, namespace: str | None = None, pid: int | None = None) -> tuple[Mount, ...]:
    """Reads a whole mountinfo file. Remembered: of most namespaces the next reading finds what the last one found.

    Raises:
        ValueError: a line is not as the kernel writes it; nothing is guessed.
    """
    return tuple(_parse_line(line, namespace, pid) for line in text.split("\n") if line)


def _parse_line(line: str, namespace: str | None, pid: int | None) -> Mount:
    fields = line.split(" ")
    try:
        dash = fields.index("-", 6)
        fstype, source, super_options = fields[dash + 1 : dash + 4]
        return Mount(
            mount_id=int(fields[0]),
            parent_id=int(fields[1]),
            dev=fields[2],
            root=unescape(fields[3]),
            mountpoint=unescape(fields[4]),
            options=fields[5],
            propagation=" ".join(fields[6:dash]),
            fstype=unescape(fstype),
            source=unescape(source),
            super_options=unescape(super_options),
            namespace=namespace,
            namespace_pid=pid,
        )
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a line of mountinfo: {line!r}") from error


def read_mounts(
    root: Path = Path("/"), *, threads: bool = False, pinned: Pinned | None = None
) -> tuple[tuple[Mount, ...], tuple[Problem, ...]]:
    """Reads the mounts of every namespace, the reader's own first, each namespace once.

    Args:
        root: Where `proc` is.
        threads: Look at every thread, not only at every process: a thread can have a namespace of its own. Slower.
        pinned: How to read a namespace that a file keeps alive and no process is in. Without it such a namespace
            is a Problem.

    Returns:
        The mounts, and what could not be read. A process that ends while it is read is neither.
    """
    proc = f"{sysfs.base(root)}/proc"
    own = sysfs.read_link(f"{proc}/self/ns/mnt")
    problems: list[Problem] = []
    found: list[Mount] = []
    try:
        found += parse_mountinfo(os.fsdecode(sysfs.read_bytes(f"{proc}/self/mountinfo")))
    except (OSError, ValueError) as error:
        problems.append(_problem("the own mount namespace", error))
    others, unnamed = _namespaces(proc, threads)
    others.pop(own or "", None)
    if own is None:
        problems.append(Problem("mounts", "the own mount namespace", "its identity cannot be read"))
    for link, members in sorted(others.items()):
        found += _one_namespace(proc, link, members, problems)
    found += _unnamed_namespaces(proc, unnamed, {mount.mount_id for mount in found}, problems)
    found += _pinned_namespaces(found, {own, *others}, pinned, problems)
    problems += _hidden_processes(found)
    return tuple(found), tuple(problems)


def _problem(subject: str, error: Exception) -> Problem:
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return Problem("mounts", subject, reason)


def _namespaces(proc: str, threads: bool) -> tuple[dict[str, list[str]], list[str]]:
    """Every mount namespace with the processes (`PID` or `PID/task/TID`) in it; and those that do not tell theirs."""
    found: dict[str, list[str]] = {}
    unnamed: list[str] = []
    for pid in sysfs.names(proc):
        if not pid.isdigit():
            continue
        tasks = sysfs.names(f"{proc}/{pid}/task") if threads else ()
        for task in (pid, *(f"{pid}/task/{thread}" for thread in tasks if thread != pid)):
            try:
                found.setdefault(os.readlink(f"{proc}/{task}/ns/mnt"), []).append(task)
            except OSError as error:
                if error.errno in sysfs.REFUSED:
                    unnamed.append(task)
                elif error.errno not in sysfs.GONE:
                    raise
    return found, unnamed


def _unnamed_namespaces(proc: str, tasks: list[str], known: set[int], problems: list[Problem]) -> list[Mount]:
    """Mounts of processes whose namespace may not be asked for, though their mountinfo may be read.

    The kernel gives every mount of every namespace its own id. So one id tells whether a namespace is new.
    """
    found: list[Mount] = []
    refused = 0
    for task in tasks:
        path = f"{proc}/{task}/mountinfo"
        try:
            with open(path, "rb", buffering=0) as lines:
                first = lines.read(24).split(b" ")[0]
            if not first or (first.isdigit() and int(first) in known):
                continue
            pid = int(task.split("/")[0])
            mounts = parse_mountinfo(os.fsdecode(sysfs.read_bytes(path)), f"pid:{pid}", pid)
        except OSError as error:
            refused += error.errno in sysfs.REFUSED
            continue
        except ValueError as error:
            problems.append(_problem(f"namespace of process {task}", error))
            continue
        if not any(mount.mountpoint == "/" for mount in mounts):
            problems.append(Problem("mounts", f"namespace of process {task}", "it may have a changed root"))
        known |= {mount.mount_id for mount in mounts}
        found += mounts
    if refused:
        reason = "the mounts of other users' processes can only be read by root"
        problems.append(Problem("mounts", f"{refused} processes", reason))
    return found


def _one_namespace(proc: str, link: str, members: list[str], problems: list[Problem]) -> tuple[Mount, ...]:
    """The mounts of another namespace, through a process whose root is the namespace's root.

    mountinfo leaves out what cannot be reached from the root of the process whose file it is.
    """
    members.sort(key=lambda member: (sysfs.read_link(f"{proc}/{member}/root") != "/", int(member.split("/")[0])))
    failure: Exception = FileNotFoundError(errno.ENOENT, "all its processes ended")
    for member in members:
        changed_root = sysfs.read_link(f"{proc}/{member}/root") != "/"
        try:
            text = os.fsdecode(sysfs.read_bytes(f"{proc}/{member}/mountinfo"))
            mounts = parse_mountinfo(text, _inode(link), int(member.split("/")[0]))
        except OSError as error:
            if error.errno in sysfs.REFUSED:
                failure = error
            continue
        except ValueError as error:
            failure = error
            continue
        if sysfs.read_link(f"{proc}/{member}/ns/mnt") != link:
            continue  # the process ended or moved while its file was read
        if changed_root:
            problems.append(Problem("mounts", f"namespace {link}", "only a process with a changed root is in it"))
        return mounts
    if not isinstance(failure, FileNotFoundError):
        problems.append(_problem(f"namespace {link}", failure))
    return ()


def _pinned_namespaces(
    mounts: Iterable[Mount], known: set[str | None], pinned: Pinned | None, problems: list[Problem]
) -> list[Mount]:
    """Mounts of namespaces that only a bind-mounted nsfs file keeps alive, as `ip netns` and snapd leave them."""
    found: list[Mount] = []
    files = {mount.root: mount for mount in mounts if mount.fstype == "nsfs" and mount.root.startswith("mnt:")}
    for link, mount in sorted(files.items()):
        if link in known:
            continue
        if pinned is None or mount.namespace is not None:
            reason = f"no process is in it; {mount.mountpoint} keeps it alive"
            problems.append(Problem("mounts", f"namespace {link}", reason))
            continue
        try:
            found += parse_mountinfo(os.fsdecode(pinned(mount.mountpoint)), _inode(link))
        except (OSError, ValueError) as error:
            problems.append(_problem(f"namespace {link}", error))
    return found


def _hidden_processes(mounts: Iterable[Mount]) -> list[Problem]:
    if os.geteuid() == 0:
        return []
    own = (
        mount for mount in mounts if mount.namespace is None and mount.fstype == "proc" and mount.mountpoint == "/proc"
    )
    if any("hidepid=" in mount.super_options and "hidepid=off" not in mount.super_options for mount in own):
        return [Problem("mounts", "/proc", "it hides other users' processes (hidepid)")]
    return []


def _inode(link: str) -> str:
    found = _NAMESPACE.fullmatch(link)
    return found[1] if found else link


def on_devices(mounts: Iterable[Mount], devs: set[str]) -> tuple[Mount, ...]:
    """The mounts of the file systems on these devices, in every namespace."""
    return tuple(mount for mount in mounts if mount.dev in devs)


def below(mounts: Iterable[Mount], tops: Iterable[Mount]) -> tuple[Mount, ...]:
    """Every mount that hangs below one of `tops` in the same namespace; each has to go before its parent can."""
    children: dict[tuple[str | None, int], list[Mount]] = {}
    for mount in mounts:
        if mount.mount_id != mount.parent_id:
            children.setdefault((mount.namespace, mount.parent_id), []).append(mount)
    found: dict[tuple[str | None, int], Mount] = {}
    waiting = list(tops)
    while waiting:
        top = waiting.pop()
        for child in children.get((top.namespace, top.mount_id), ()):
            if (child.namespace, child.mount_id) not in found:
                found[child.namespace, child.mount_id] = child
                waiting.append(child)
    return tuple(found.values())


def finder(mounts: Iterable[Mount]) -> Callable[[str], Mount | None]:
    """Gives a function that finds the mount in the own namespace through which an absolute path without links leads.

    It decides by text alone, and costs as much as the path has folders, however many mounts there are.
    """
    # of two mounts at one place the later one lies on top
    at = {mount.mountpoint: mount for mount in mounts if mount.namespace is None}

    def find(path: str) -> Mount | None:
        while path not in at and path != "/" and path:
            path = path.rpartition("/")[0] or "/"
        return at.get(path)

    return find


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount of one path; see `finder`."""
    return finder(mounts)(path)


def is_under(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or inside it; both absolute."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def real_devices(
    mounts: Iterable[Mount], btrfs: Mapping[str, tuple[str, ...]], nodes: Iterable[BlockNode]
) -> dict[str, tuple[str, ...]]:
    """Which block devices (`major:minor`) stand behind each mount's device number.

    Args:
        mounts: Any mounts.
        btrfs: For each device that is part of a mounted btrfs, all devices of that file system (see
            `initiator.host.block.read_btrfs`): its mounts show an anonymous number instead of a device.
        nodes: The block devices: a map or logical volume is mounted by its name (`/dev/mapper/…`), which the kernel
            does not call it by elsewhere.

    Returns:
        By mountinfo's device number; a file system without a device has no entry.
    """
    found: dict[str, tuple[str, ...]] = {}
    named = {f"mapper/{node.dm_name}": node.kname for node in nodes if node.dm_name} if btrfs else {}
    for mount in mounts:
        if mount.fstype == "btrfs":
            name = mount.source.removeprefix("/dev/")
            kname = named.get(name, name.replace("/", "!"))
            if kname in btrfs:
                found[mount.dev] = btrfs[kname]
        elif not mount.dev.startswith("0:"):
            found[mount.dev] = (mount.dev,)
    return found
