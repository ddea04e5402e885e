"""What the guards need to know beyond the snapshot, as plain values.

A field of `Facts` that could not be read leaves an entry in `problems`; a guard never takes an empty tuple for "no"
when the reader behind it had a problem.
"""

from __future__ import annotations

import dataclasses

from initiator.host.agents import Resource
from initiator.host.mounts import Mount
from initiator.host.services import Automount
from initiator.host.usage import KernelUse, LoopUse
from initiator.judgement import SETTLE
from initiator.model import Problem
from safety.facts_kernel import KernelFacts

UDEV = frozenset({"(udev-worker)", "systemd-udevd", "udevd"})
"""Names of the processes that udev works on events with; they let go of a device by themselves."""


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A process that uses a file system of the disk, or the disk itself."""

    pid: int
    command: str
    how: str
    """`open file`, `current folder`, `root folder`, `program`, `mapped file`, `open device`, …"""
    path: str
    started: int | None = None
    """Start time in clock ticks since boot: with it the process is known again. None: it is not to be ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class SystemUse:
    """Something that this host, or Mooring itself, cannot run without."""

    what: str
    dev: str
    """`major:minor` of the file system that holds it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A line of a file by which something is mounted, switched on or opened at boot."""

    file: str
    spec: str
    """`/dev/…`, `UUID=…`, `LABEL=…`."""
    name: str
    """The mount point, or the name of the mapping; `none` for swap."""
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """How much room the kernel has for writing back what is dirty."""

    total_bytes: int
    available_bytes: int
    stalled_percent: float | None = None
    """Share of the last ten seconds in which some task waited for memory (PSI); None where the kernel does not tell."""


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    """Another removal of the same disk."""

    journal: str
    running: bool
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """One reading of everything that can use a disk. Mounts are those of every namespace that can be read."""

    mounts: tuple[Mount, ...] = ()
    looks: frozenset[str] = frozenset()
    """Those of their mount points where Mooring mounted a volume only to look into it."""
    users: tuple[User, ...] = ()
    loops: tuple[LoopUse, ...] = ()
    superblocks: tuple[str, ...] = ()
    """Kernel names of devices with a living superblock (`/sys/fs/ext4/loop3`), whether a mount is seen or not."""
    exports: tuple[KernelUse, ...] = ()
    """What the kernel serves to other machines: `nfs`, `lio`, `nvme`, `scst`."""
    system: tuple[SystemUse, ...] = ()
    memory: Memory | None = None
    others: tuple[Other, ...] = ()
    entries: tuple[Entry, ...] = ()
    """fstab and crypttab."""
    automounts: tuple[Automount, ...] = ()
    """Units of systemd."""
    cluster: tuple[Resource, ...] = ()
    """What Pacemaker's configuration names."""
    filesystem_devs: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Block devices behind the device numbers of mountinfo, where they are not the same (btrfs)."""
    permitted: bool = True
    """True for root: nobody else can unmount, claim and detach."""
    problems: tuple[Problem, ...] = ()
    kernel: KernelFacts | None = None
    """What only a disk of the kernel's initiator has."""
    settle_s: float = SETTLE
    """Seconds that a path which came back has to hold before it is relied on."""
