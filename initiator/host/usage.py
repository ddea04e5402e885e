"""Who uses a block device, or a file system on it: processes, and the kernel itself.

The answer is worth as much as its blind spots are small. So every namespace and every thread is looked at, the kernel's
numbers count and never a path's text, and what cannot be read is a Problem of the source `usage`: who asks whether a
disk may go has to take it for a use.

One thing is told apart. A process may have more rights than root has here (a supervisor outside of a container, a
process confined by a security module) and refuse to be looked at for good. Such a process is a Problem of the source
`openers`. What it may hold comes out all the same when the disk is taken down: a file makes the unmount fail with
EBUSY, and an open device keeps a loop device bound after LOOP_CLR_FD.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from initiator.errors import MooringError
from initiator.host import block, blockreader, mounts, sysfs
from initiator.host.helper_calls import loop_status, pinned_mounts
from initiator.host.mounts import Mount
from initiator.host.run import CannotRun, Helper, HelperFailed, Stuck
from initiator.model import BlockNode, Problem, Swap

_DEADLINE = 10.0
_MOST_STUCK = 3
_NOWHERE = "0:0"
_UNBOUND = (errno.ENXIO, errno.ENODEV, errno.ENOENT)
_DEAD_SERVER = (errno.ENOTCONN, errno.ECONNABORTED)  # before the question; while it was waiting for the answer
_CAN_HANG = ("nfs", "cifs", "smb", "9p", "ceph", "afs", "gfs2", "ocfs2", "lustre", "glusterfs")
_WITH_SYSFS = ("ext4", "xfs", "f2fs", "nilfs2", "erofs")
"""File systems that have a folder `/sys/fs/TYPE/KNAME` for as long as they are alive, mounted or not."""


class Kind(enum.StrEnum):
    """How a process uses a disk."""

    FILE = "file"
    """An open file or folder."""
    CWD = "cwd"
    ROOT = "root"
    EXE = "exe"
    MAP = "map"
    """A mapped file or device."""
    DEVICE = "device"
    """The block device itself is open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opener:
    """One use by one process; at most ten of a kind are listed for each process."""

    pid: int
    comm: str
    user: str
    what: str
    """`fd 5`, `cwd`, `root`, `exe`, `map`."""
    path: str
    """As the kernel prints it; in another mount namespace, or after a lazy unmount, not a path of this one."""
    kind: Kind


@dataclasses.dataclass(frozen=True, slots=True)
class LoopUse:
    """A loop device and what it stands on."""

    kname: str
    dev: str
    file: str
    on: str
    """`major:minor` of the block device, or of the file system that holds the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class KernelUse:
    """Something that the kernel keeps in use without any process."""

    kind: str
    """`nfs`, `lio`, `nvme`, `scst`, `overlay`."""
    name: str
    path: str
    """An absolute path: a folder or file, or the node of a block device."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """One reading of everything that can use a disk."""

    devs: frozenset[str] = frozenset()
    """The devices that were asked for, all that stands on them, and the device numbers of the file systems there."""
    openers: tuple[Opener, ...] = ()
    mounts: tuple[Mount, ...] = ()
    """All mounts of all namespaces, threads' own ones included; see `initiator.host.mounts.on_devices`."""
    loops: tuple[LoopUse, ...] = ()
    """All loop devices of the host, whatever they stand on."""
    superblocks: tuple[str, ...] = ()
    """Kernel names of devices in `devs` with a living file system, whether a mount of it is seen or not."""
    hidden: tuple[str, ...] = ()
    """Those of `superblocks` of which no mount is seen: unmounted lazily, or mounted out of sight."""
    kernel: tuple[KernelUse, ...] = ()
    """All exports, targets and overlays of the host: compare the path."""
    swaps: tuple[Swap, ...] = ()
    filesystem_devs: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Block devices behind the device numbers of mountinfo; they differ for btrfs."""
    problems: tuple[Problem, ...] = ()

    @property
    def mounts_here(self) -> tuple[Mount, ...]:
        """The mounts of the file systems on `devs`."""
        return mounts.on_devices(self.mounts, set(self.devs))


def read_usage(
    root: Path,
    devs: Collection[str],
    *,
    bare: Collection[str] = (),
    ignore: Collection[int] = (),
    deadline: float = _DEADLINE,
) -> Usage:
    """Looks for every use of some block devices and of what stands on them.

    Args:
        root: Where `proc` and `sys` are.
        devs: `major:minor` of the devices; partitions, holders and loop devices above them are added.
        bare: Devices of which only openers of them and of their partitions matter: paths that a map can do without.
        ignore: Processes that may use them: the engine that serves the disk, the caller's own claims.
        deadline: Seconds that looking at one process may take.
    """
    live = root == Path("/")
    nodes, block_problems = blockreader.read_block(root)
    rows, mount_problems = mounts.read_mounts(root, threads=True, pinned=pinned_mounts if live else None)
    swaps, swap_problems = block.read_swaps(root, nodes, rows)
    loops, loop_problems = _loops(nodes, rows, devs, live)
    behind = mounts.real_devices(rows, block.read_btrfs(root), nodes)
    wanted = closure(nodes, devs, loops, behind)
    alone = {node.kname for node in nodes if node.dev in bare}
    opened = wanted.union(bare, (node.dev for node in nodes if node.parent in alone))
    generic = generic_devices(root, (node.kname for node in nodes if node.dev in opened))
    openers, opener_problems = _openers(root, opened | generic, rows, ignore, deadline)
    kernel, kernel_problems = _kernel_uses(sysfs.base(root), rows)
    alive = living_superblocks(root, [node.kname for node in nodes if node.dev in wanted])
    seen = {dev for row in rows for dev in behind.get(row.dev, ())}
    return Usage(
        devs=wanted,
        openers=openers,
        mounts=rows,
        loops=loops,
        superblocks=alive,
        hidden=tuple(node.kname for node in nodes if node.kname in alive and node.dev not in seen),
        kernel=kernel,
        swaps=swaps,
        filesystem_devs=behind,
        problems=(
            *block_problems,
            *mount_problems,
            *swap_problems,
            *loop_problems,
            *opener_problems,
            *kernel_problems,
        ),
    )


def closure(
    nodes: Iterable[BlockNode], devs: Iterable[str], loops: Iterable[LoopUse], behind: dict[str, tuple[str, ...]]
) -> frozenset[str]:
    """`devs`, all devices that stand on them, and the numbers of the file systems there; until nothing new comes.

    A loop device can stand on a file of a btrfs that stands on a partition.
    """
    graph = block.Graph(nodes, {loop.dev: loop.on for loop in loops})
    found = frozenset(devs)
    while True:
        grown = graph.above(found)
        grown |= {number for number, under in behind.items() if grown.intersection(under)}
        if grown == found:
            return found
        found = grown


def generic_devices(root: Path, knames: Iterable[str]) -> frozenset[str]:
    """The SCSI generic nodes (sg, bsg) of block devices, as `cmajor:minor`: whoever has one open can write, too."""
    folders = [f"{sysfs.base(root)}/sys/class/block/{kname}/device" for kname in knames]
    places = [f"{folder}/{kind}" for folder in folders for kind in ("scsi_generic", "bsg")]
    numbers = (sysfs.read_text(f"{place}/{name}/dev") for place in places for name in sysfs.names(place))
    return frozenset(f"c{number.strip()}" for number in numbers if number)


def living_superblocks(root: Path, knames: Iterable[str]) -> tuple[str, ...]:
    """Those of `knames` that carry a living file system, in whichever namespace it is mounted, or in none.

    Only file systems that show themselves in /sys/fs are seen; an exclusive open sees the others.
    """
    folder = f"{sysfs.base(root)}/sys/fs"
    btrfs = {name for uuid in sysfs.names(f"{folder}/btrfs") for name in sysfs.names(f"{folder}/btrfs/{uuid}/devices")}
    return tuple(
        kname
        for kname in knames
        if kname in btrfs or any(os.path.lexists(f"{folder}/{fstype}/{kname}") for fstype in _WITH_SYSFS)
    )


def _loops(
    nodes: Iterable[BlockNode], rows: tuple[Mount, ...], own: Collection[str], live: bool
) -> tuple[tuple[LoopUse, ...], tuple[Problem, ...]]:
    """What the loop devices stand on: asked from the kernel, since a file's name may lead elsewhere.

    Not asked are the disks that this is about, and loop devices on FUSE files: the kernel would ask their server.
    """
    every = tuple(nodes)
    by_name = block.loops_in(every, rows)
    find = mounts.finder(rows)
    known = {mount.dev for mount in rows}
    found = []
    problems = []
    for node in every:
        if not node.backing_file:
            continue
        on = by_name.get(node.dev)
        holder = find(node.backing_file)
        in_fuse = holder is not None and holder.fstype.startswith("fuse")
        if live and node.dev not in own and not node.backing_dev and not in_fuse:
            try:
                kernel_says = loop_status(f"/dev/{node.kname}")
            except MooringError as error:
                number = getattr(error, "errno", None)
                if number in _UNBOUND:
                    continue  # it was detached meanwhile
                if number in _DEAD_SERVER:
                    on = _NOWHERE  # the file of a FUSE server that has died; no file system on a device says this
                else:
                    problems.append(Problem("usage", node.kname, f"what it stands on is not known: {error}"))
            else:
                # a btrfs subvolume has a number that no mount shows; then the name has to do
                on = kernel_says if kernel_says in known or on is None else on
        if on is None:
            problems.append(Problem("usage", node.kname, f"nobody knows where its file {node.backing_file} is"))
        else:
            found.append(LoopUse(node.kname, node.dev, node.backing_file, on))
    return tuple(found), tuple(problems)


def _openers(
    root: Path, wanted: frozenset[str], rows: tuple[Mount, ...], ignore: Collection[int], deadline: float
) -> tuple[tuple[Opener, ...], tuple[Problem, ...]]:
    table = {row.mount_id: (row.dev, row.mountpoint, row.fstype.startswith(_CAN_HANG)) for row in rows}
    skip = list(ignore)
    found: list[Opener] = []
    refused: list[tuple[int, str]] = []
    problems: list[Problem] = []
    for _ in range(_MOST_STUCK):
        current: tuple[int, str] = (0, "")
        arguments = {"root": sysfs.base(root), "wanted": list(wanted), "mounts": table, "skip": skip}
        with Helper() as helper:
            try:
                for kind, pid, comm, *rest in helper.stream("openers", arguments, deadline, each=True):
                    if kind == "at":
                        skip += [current[0]] if current[0] else []
                        current = (pid, comm)
                    elif kind == "use":
                        user, use, what, path = rest
                        found.append(Opener(pid, comm, user, what, path, Kind(use)))
                    else:
                        refused.append((pid, comm))
            except Stuck as stuck:
                who = f"process {current[0]} ({current[1]})"
                problems.append(Problem("usage", who, f"looking at it hangs: {stuck}"))
                skip.append(current[0])
                continue
            except (HelperFailed, CannotRun) as error:
                problems.append(Problem("usage", "processes", str(error)))
        break
    else:
        problems.append(Problem("usage", "processes", "looking at them hangs again and again; the rest is not known"))
    return tuple(found), (*problems, *_refusals(refused))


def _refusals(refused: list[tuple[int, str]]) -> Iterator[Problem]:
    if os.geteuid() == 0:
        for pid, comm in refused:
            yield Problem(
                "openers", f"process {pid} ({comm})", "it has rights that we have not, and cannot be examined"
            )
    elif refused:
        yield Problem("usage", f"{len(refused)} processes", "other users' processes can only be examined by root")


def _kernel_uses(base: str, rows: Iterable[Mount]) -> tuple[tuple[KernelUse, ...], tuple[Problem, ...]]:
    found: list[KernelUse] = []
    problems: list[Problem] = []
    for table in ("/proc/fs/nfsd/exports", "/var/lib/nfs/etab"):
        found += (KernelUse("nfs", path, path) for path in _exports(base, table, problems))
    configfs = f"{base}/sys/kernel/config"
    for hba in _folder(f"{configfs}/target/core", problems):
        for name in _folder(hba, problems):
            found += (KernelUse("lio", os.path.basename(name), _node(base, path)) for path in _lio_paths(name))
    for subsystem in _folder(f"{configfs}/nvmet/subsystems", problems):
        for namespace in _folder(f"{subsystem}/namespaces", problems):
            if path := sysfs.read_text(f"{namespace}/device_path"):
                found.append(KernelUse("nvme", os.path.basename(subsystem), _node(base, path)))
    for device in _folder(f"{base}/sys/kernel/scst_tgt/devices", problems):
        if text := sysfs.read_text(f"{device}/filename"):
            found.append(KernelUse("scst", os.path.basename(device), _node(base, text.splitlines()[0])))
    found += _overlays(rows)
    return tuple(dict.fromkeys(found)), tuple(problems)


def _exports(base: str, table: str, problems: list[Problem]) -> Iterator[str]:
    try:
        text = os.fsdecode(sysfs.read_bytes(base + table))
    except OSError as error:
        if error.errno not in sysfs.GONE:
            problems.append(Problem("usage", table, error.strerror or "cannot be read"))
        return
    for line in text.splitlines():
        if line.startswith("/"):
            yield mounts.unescape(line.split()[0])


def _folder(path: str, problems: list[Problem]) -> tuple[str, ...]:
    """The entries with their path; an absent folder is empty, an unreadable one a Problem."""
    try:
        return tuple(f"{path}/{name}" for name in sorted(os.listdir(path)))
    except OSError as error:
        if error.errno not in sysfs.GONE:
            problems.append(Problem("usage", path, error.strerror or "cannot be read"))
        return ()


def _node(base: str, path: str) -> str:
    """The device node that a name in /dev leads to: exports are usually made by names that stay, as by-id ones."""
    if not path.startswith("/dev/"):
        return path
    return os.path.realpath(base + path).removeprefix(os.path.realpath(base or "/").rstrip("/"))


def _lio_paths(folder: str) -> Iterator[str]:
    """The file or device of one LIO backstore; `info` has it even when nobody has filled in `udev_path`.

    It says `File: /name  Size: …` or `iBlock device: sda  UDEV PATH: /name  readonly: …`.
    """
    if path := sysfs.read_text(f"{folder}/udev_path"):
        yield path
    info = (sysfs.read_text(f"{folder}/info") or "").split()
    for word, after in itertools.pairwise(info):
        if word in ("File:", "PATH:", "device:") and after != "UDEV":
            yield after if after.startswith("/") else f"/dev/{after}"


def _overlays(rows: Iterable[Mount]) -> Iterator[KernelUse]:
    """The folders that overlay mounts are made of; a mount below one of them cannot go before the overlay."""
    for row in rows:
        if row.fstype != "overlay":
            continue
        options = (option.partition("=") for option in row.super_options.split(","))
        for key, _, value in options:
            if key.rstrip("+") in ("lowerdir", "upperdir", "workdir", "datadir"):
                for path in value.split(":"):
                    if path.startswith("/"):
                        yield KernelUse("overlay", row.mountpoint, path)
