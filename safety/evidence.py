"""Reads the facts that the guards need, at the edge: usage, the system's own ground, memory, other removals."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

from initiator import places as folders
from initiator.errors import MooringError
from initiator.host import agents, hostfiles, sysfs
from initiator.host import mounts as mounts_
from initiator.host.helper import HELPER
from initiator.host.mounts import Mount
from initiator.host.services import Automount
from initiator.host.usage import KernelUse, Kind, Opener, Usage, read_usage
from initiator.model import Problem, Source
from safety.facts import UDEV, Entry, Facts, Memory, Other, SystemUse, User
from safety.facts_kernel import KernelFacts
from safety.identity import Identity
from safety.journal import process_start
from safety.places import journal_dir, open_removals
from safety.scope import Extent
from safety.world import Unreadable

_HOW = {
    Kind.FILE: "open file",
    Kind.CWD: "current folder",
    Kind.ROOT: "root folder",
    Kind.EXE: "program",
    Kind.MAP: "mapped file",
    Kind.DEVICE: "open device",
}
_LOOKS = 4
_PASSING_S = 0.15
_LETS_GO_S = {**dict.fromkeys(UDEV, 15.0), HELPER: 3.0}
"""Seconds for which those are waited for who let go of a device by themselves. A helper of another Mooring opens every
loop device, to ask what it stands on, and has two seconds for it."""
_SYSTEM = ("/", "/usr", "/etc", "/var", "/boot", "/boot/efi", "/run", "/lib", "/bin", "/sbin")


def read_facts(root: Path, extent: Extent, *, own_journal: Path | None = None) -> Facts:
    """One reading of everything that can use the disks of a removal.

    Args:
        root: Where `proc` and `sys` are.
        extent: What is removed; a disk without a device number has no uses on this host, and who uses one that only
            loses paths does not matter.
        own_journal: The journal of the asking runner, which is no other removal, and whose claims are no use.
    """
    kernel, kernel_problems = _kernel(root, extent)
    claims = own_journal is not None
    usage = _settled_usage(root, *_devices(extent, kernel), claims=claims)
    others, journal_problems = _others(extent, own_journal)
    live = root == Path("/")
    told: list[Problem] = []
    found = Facts(
        mounts=usage.mounts,
        looks=folders.looked_into(mount.mountpoint for mount in usage.mounts),
        users=tuple(_user(one, live) for one in _foreign(usage, claims=claims)),
        loops=usage.loops,
        superblocks=usage.superblocks,
        exports=_exports(usage),
        system=tuple(_system(usage.mounts, live)),
        memory=read_memory(root),
        others=others,
        entries=_read(root, _entries, "entries", "fstab and crypttab", told),
        automounts=_read(root, _automounts, "units", "systemd's automounts", told),
        cluster=_read(root, agents.read_cluster, "cluster", "Pacemaker's configuration", told),
        filesystem_devs=usage.filesystem_devs,
        permitted=os.geteuid() == 0,
        kernel=kernel,
    )
    return dataclasses.replace(found, problems=(*usage.problems, *journal_problems, *kernel_problems, *told))


def read_openers(root: Path, devs: set[str]) -> tuple[User, ...]:
    """Who has one of these devices or a partition of it open, but this process for its claims.

    Args:
        root: Where `proc` and `sys` are.
        devs: `major:minor`.

    Raises:
        Unreadable: of some process this cannot be told.
    """
    usage = _settled_usage(root, set(), devs, claims=True)
    hidden = [each for each in usage.problems if each.source in ("usage", "openers")]
    if hidden:
        text = f"It is not known whether the disk is in use: {hidden[0].subject}: {hidden[0].reason}."
        raise Unreadable(text, fix="resume, or undo")
    return tuple(_user(one, root == Path("/")) for one in _foreign(usage, claims=True))


T = TypeVar("T")


def _read(
    root: Path, read: Callable[[Path], tuple[T, ...]], source: str, subject: str, problems: list[Problem]
) -> tuple[T, ...]:
    """One reading of what brings disks back; a problem where it cannot be had."""
    try:
        return read(root)
    except OSError as error:
        problems.append(Problem(source, subject, error.strerror or str(error)))
    except (MooringError, ElementTree.ParseError) as error:
        problems.append(Problem(source, subject, str(error)))
    return ()


def _entries(root: Path) -> tuple[Entry, ...]:
    mounts = [Entry("/etc/fstab", one.spec, one.mountpoint, one.options) for one in hostfiles.read_fstab(root)]
    return (*mounts, *(Entry("/etc/crypttab", one.spec, one.name) for one in agents.read_crypttab(root)))


def _automounts(root: Path) -> tuple[Automount, ...]:
    return agents.read_automounts() if root == Path("/") else ()


def _kernel(root: Path, extent: Extent) -> tuple[KernelFacts | None, tuple[Problem, ...]]:
    """What only disks and sessions of the kernel's initiator have."""
    held = {part.disk.source for part in extent.parts} | {session.source for session in extent.sessions}
    if Source.KERNEL not in held:
        return None, ()
    from safety import evidence_kernel

    return evidence_kernel.read_kernel_facts(root, extent)


def _devices(extent: Extent, kernel: KernelFacts | None) -> tuple[set[str], set[str]]:
    """`major:minor` of the disks that leave the host with their paths, and of paths that go from disks that stay.

    Where only a volume is dismounted: of the devices that carry it; who uses the rest of its disk does not matter.
    """
    if extent.volume:
        return set(extent.volume), set()
    gone: set[str | None] = set()
    bare: set[str | None] = set()
    for part in extent.parts:
        paths = {path.dev for path in (kernel.of(part.paths) if kernel else ())}
        if part.whole:
            gone |= {part.disk.dev, *paths}
        else:
            bare |= paths
    return {dev for dev in gone if dev is not None}, {dev for dev in bare if dev is not None}


def _user(opener: Opener, live: bool) -> User:
    """Who uses it. Nobody is to end the first process, nor this one and those that it came from."""
    mine = {1, *_ancestors(os.getpid())}
    started = process_start(opener.pid) if live and opener.pid not in mine else None
    return User(opener.pid, opener.comm, _HOW[opener.kind], opener.path, started)


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        fields = (sysfs.read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0


def _is_checker(opener: Opener) -> bool:
    """multipathd has every path open to look whether it works; it lets go of a path that is deleted."""
    return opener.comm == "multipathd" and opener.kind is Kind.DEVICE


def _foreign(usage: Usage, *, claims: bool) -> tuple[Opener, ...]:
    """Without multipathd's checkers and, where this process is a runner, its claims."""
    own = os.getpid() if claims else None
    return tuple(
        one for one in usage.openers if not _is_checker(one) and not (one.pid == own and one.kind is Kind.DEVICE)
    )


def _settled_usage(root: Path, devs: set[str], bare: set[str], *, claims: bool) -> Usage:
    """Who uses the disk, but not who opens its device only in passing, as losetup and blkid do with every device.

    udev's workers hold a device for as long as its events take, which on a busy host are seconds, and a helper for as
    long as it is not let run.
    """
    began, looks = time.monotonic(), 0
    while True:
        usage, looks = read_usage(root, devs, bare=bare), looks + 1
        passing = [one for one in _foreign(usage, claims=claims) if one.kind is Kind.DEVICE]
        waited = time.monotonic() - began
        patient = all(waited < _LETS_GO_S.get(one.comm, 0.0) for one in passing)
        if not passing or (looks >= _LOOKS and not patient):
            return usage
        time.sleep(_PASSING_S)


def _exports(usage: Usage) -> tuple[KernelUse, ...]:
    """Overlays have a guard of their own, which looks at the mounts themselves."""
    return tuple(one for one in usage.kernel if one.kind != "overlay")


def _system(mounts: Iterable[Mount], live: bool) -> Iterator[SystemUse]:
    """The file systems without which this host, or Mooring, cannot run."""
    rows = tuple(mounts)
    needed = [(path, path) for path in _SYSTEM]
    if live:
        needed += [
            ("the Python that runs Mooring", sys.executable),
            ("the Python environment of Mooring", sys.prefix),
            ("the Python installation of Mooring", sys.base_prefix),
            ("Mooring itself", __file__),
            ("the folder of Mooring's journals", str(folders.state_dir())),
            ("the folder of Mooring's sockets", str(folders.runtime_dir())),
        ]
    for what, path in needed:
        for place in dict.fromkeys((path, os.path.realpath(path) if live else path)):
            found = mounts_.mount_of(place, rows)
            if found is not None:
                yield SystemUse(what, found.dev)


def _others(extent: Extent, own: Path | None) -> tuple[tuple[Other, ...], tuple[Problem, ...]]:
    keys = {Identity.of(part.disk).key() for part in extent.parts}
    try:
        entries = open_removals(journal_dir(), keys, but=own)
    except (MooringError, OSError) as error:
        return (), (Problem("journal", "the journals of other removals", str(error)),)
    return tuple(Other(entry.path.name, entry.running, entry.reason) for entry in entries), ()


def read_memory(root: Path) -> Memory | None:
    """Memory and its pressure (proc_meminfo(5), PSI); None where the kernel does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
        return Memory(sizes["MemTotal"], sizes["MemAvailable"], _stalled(root))
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _stalled(root: Path) -> float | None:
    try:
        first = (root / "proc/pressure/memory").read_text(encoding="ascii").splitlines()[0]
        return float(dict(word.split("=") for word in first.split()[1:])["avg10"])
    except (OSError, KeyError, ValueError, IndexError):
        return None
