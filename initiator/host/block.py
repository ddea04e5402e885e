"""What stands on block devices and beside them: btrfs over several devices, swap, loop devices, the graph of it all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from initiator.host import mounts as mounts_
from initiator.host import sysfs
from initiator.model import BlockNode, Problem, Swap


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
    if not rows:
        return (), ()
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
