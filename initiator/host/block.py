"""The block devices of the kernel and how they stand on each other, from sysfs; no device is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from initiator.host import mounts as mounts_
from initiator.host import sysfs
from initiator.model import BlockNode, Problem, Swap

_SECTOR = 512
_DM_PART = re.compile(r"part\d+-")
_DM_KINDS = {"mpath-": "mpath", "LVM-": "lvm", "CRYPT-": "crypt"}
_NAMED_KINDS = ("loop", "md", "bcache", "zram", "ram", "drbd", "nbd")


def read_block(root: Path = Path("/")) -> tuple[tuple[BlockNode, ...], tuple[Problem, ...]]:
    """Reads every block device with its holders, slaves and partitions.

    Returns:
        The devices, sorted by name, and what could not be read. A device that goes away meanwhile is neither.
    """
    folder = f"{sysfs.base(root)}/sys/class/block"
    try:
        knames = sorted(os.listdir(folder))
    except OSError as error:
        return (), (Problem("block", "/sys/class/block", error.strerror or "cannot be read"),)
    nodes: list[BlockNode] = []
    problems: list[Problem] = []
    partitions: dict[str, list[str]] = {}
    for kname in knames:
        node = _read_node(folder, kname)
        if node is None:
            if os.path.lexists(f"{folder}/{kname}/dev"):
                problems.append(Problem("block", kname, "its device number cannot be read"))
            continue
        nodes.append(node)
        if node.parent is not None:
            partitions.setdefault(node.parent, []).append(kname)
    return _finished(nodes, partitions), tuple(problems)


def _read_node(folder: str, kname: str) -> BlockNode | None:
    place = f"{folder}/{kname}"
    event = sysfs.read_pairs(f"{place}/uevent")
    dev = f"{event['MAJOR']}:{event['MINOR']}" if "MAJOR" in event and "MINOR" in event else None
    dev = dev or sysfs.read_text(f"{place}/dev")
    if dev is None:
        return None
    sectors = sysfs.read_int(f"{place}/size")
    read_only = sysfs.read_int(f"{place}/ro")
    parent = None
    if event.get("DEVTYPE") == "partition" or os.path.lexists(f"{place}/partition"):
        parent = os.path.basename(os.path.dirname(os.path.realpath(place)))
    is_dm = kname.startswith("dm-")
    dm_uuid = sysfs.read_text(f"{place}/dm/uuid") if is_dm else None
    diskseq = event.get("DISKSEQ") or sysfs.read_text(f"{place}/diskseq")
    return BlockNode(
        kname=kname,
        dev=dev,
        kind="part" if parent else _kind(kname, dm_uuid),
        size_bytes=None if sectors is None else sectors * _SECTOR,
        read_only=None if read_only is None else bool(read_only),
        holders=sysfs.names(f"{place}/holders"),
        slaves=() if parent else sysfs.names(f"{place}/slaves"),
        parent=parent,
        backing_file=sysfs.read_text(f"{place}/loop/backing_file") if kname.startswith("loop") else None,
        dm_name=sysfs.read_text(f"{place}/dm/name") if is_dm else None,
        dm_uuid=dm_uuid,
        diskseq=int(diskseq) if diskseq and diskseq.isdigit() else None,
    )


def _kind(kname: str, dm_uuid: str | None) -> str:
    if kname.startswith("dm-"):
        uuid = dm_uuid or ""
        if _DM_PART.match(uuid):
            return "part"
        return next((kind for prefix, kind in _DM_KINDS.items() if uuid.startswith(prefix)), "dm")
    return next((kind for kind in _NAMED_KINDS if re.fullmatch(rf"{kind}_?d?\d+", kname)), "disk")


def _finished(nodes: list[BlockNode], partitions: Mapping[str, list[str]]) -> tuple[BlockNode, ...]:
    """Adds what only the whole set tells: the partitions of a disk, and the device a loop device stands on."""
    import dataclasses

    by_path = {f"/dev/{node.kname.replace('!', '/')}": node.dev for node in nodes}
    by_path |= {f"/dev/mapper/{node.dm_name}": node.dev for node in nodes if node.dm_name}
    return tuple(
        dataclasses.replace(
            node,
            partitions=tuple(sorted(partitions.get(node.kname, ()))),
            backing_dev=by_path.get(node.backing_file) if node.backing_file else None,
        )
        if node.kname in partitions or node.backing_file
        else node
        for node in nodes
    )


def read_btrfs(root: Path = Path("/")) -> dict[str, tuple[str, ...]]:
    """For each kernel name of a device in a mounted btrfs: the `major:minor` of all its devices."""
    found: dict[str, tuple[str, ...]] = {}
    folder = f"{sysfs.base(root)}/sys/fs/btrfs"
    for uuid in sysfs.names(folder):
        members = sysfs.names(f"{folder}/{uuid}/devices")
        devs = tuple(dev for name in members if (dev := sysfs.read_text(f"{folder}/{uuid}/devices/{name}/dev")))
        found |= dict.fromkeys(members, devs)
    return found


def read_swaps(
    root: Path, nodes: Iterable[BlockNode], mounts: Iterable[mounts_.Mount]
) -> tuple[tuple[Swap, ...], tuple[Problem, ...]]:
    """Reads the swap areas that are switched on (proc_swaps(5)), each with the device it is on or in."""
    try:
        lines = os.fsdecode(sysfs.read_bytes(f"{sysfs.base(root)}/proc/swaps")).splitlines()[1:]
        rows = [(line.split()[0], line.split()[1], int(line.split()[3])) for line in lines if line]
    except OSError as error:
        return (), (Problem("swaps", "/proc/swaps", error.strerror or "cannot be read"),)
    except (ValueError, IndexError):
        return (), (Problem("swaps", "/proc/swaps", "a line is not as the kernel writes it"),)
    by_name = {node.kname.replace("!", "/"): node.dev for node in nodes}
    by_name |= {f"mapper/{node.dm_name}": node.dev for node in nodes if node.dm_name}
    find = mounts_.finder(mounts)
    swaps = []
    for escaped, kind, used_kib in rows:
        path = mounts_.unescape(escaped)
        if kind == "partition":
            dev = by_name.get(path.removeprefix("/dev/"))
        else:
            holder = find(path.removesuffix(" (deleted)"))
            dev = holder.dev if holder else None
        swaps.append(Swap(path, kind, used_kib * 1024, dev))
    return tuple(swaps), ()


def loops_in(nodes: Iterable[BlockNode], mounts: Iterable[mounts_.Mount]) -> dict[str, str]:
    """For each loop device: the `major:minor` of what it stands on, a block device or the file system of its file.

    Decided by the name that the kernel prints; a file that is deleted, or hidden, or in another mount namespace may be
    missed. `initiator.host.usage` asks the kernel instead.
    """
    find = mounts_.finder(mounts)
    found = {}
    for node in nodes:
        if node.backing_dev:
            found[node.dev] = node.backing_dev
        elif node.backing_file and (holder := find(node.backing_file.removesuffix(" (deleted)"))):
            found[node.dev] = holder.dev
    return found


class Graph:
    """Which device stands on which; made once and asked for many devices.

    Args:
        nodes: The block devices.
        loops: What each loop device stands on, from `loops_in`, for loop devices made of files.
    """

    def __init__(self, nodes: Iterable[BlockNode], loops: Mapping[str, str] | None = None) -> None:
        every = tuple(nodes)
        by_name = {node.kname: node.dev for node in every}
        self._on_top = {
            node.dev: [by_name[name] for name in (*node.partitions, *node.holders) if name in by_name] for node in every
        }
        under = {node.dev: node.backing_dev for node in every if node.backing_dev} | dict(loops or {})
        for loop, dev in under.items():
            self._on_top.setdefault(dev, []).append(loop)

    def above(self, devs: Iterable[str]) -> frozenset[str]:
        """All devices that stand on `devs`, themselves included: partitions, holders, loop devices.

        Args:
            devs: `major:minor` numbers to begin with; also the numbers of file systems.
        """
        found: set[str] = set()
        waiting = list(devs)
        while waiting:
            dev = waiting.pop()
            if dev not in found:
                found.add(dev)
                waiting += self._on_top.get(dev, ())
        return frozenset(found)


def above(nodes: Iterable[BlockNode], devs: Iterable[str], loops: Mapping[str, str] | None = None) -> frozenset[str]:
    """All devices that stand on `devs`, themselves included; see `Graph`."""
    return Graph(nodes, loops).above(devs)
