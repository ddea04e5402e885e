"""The block devices read again and again: the same as `initiator.host.block.read_block` gives, for much less.

A device is known by the inode of its link in /sys/class/block. It is read anew when it is new or young, when something
was put on it or taken off it, when its size has changed, and otherwise in turn. What has not changed is the same object
as before; if nothing at all has, so is the whole tuple.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from initiator.host import attributes, sysfs
from initiator.host.attributes import number, text
from initiator.model import BlockNode, Problem

TURN = 128
"""How many devices are read anew in one reading without a reason. A host with fewer is read whole each time."""
_YOUNG = 32
"""In how many readings a new device is looked at each time: what will stand on it comes soon after it."""
_FILES = ("uevent", "size", "ro")
_STACKED = ("dm/name", "dm/uuid")
_LOOP = ("loop/backing_file",)
_SECTOR_BYTES = 512
_DM_PART = re.compile(r"part\d+-")
_DM_KINDS = {"mpath-": "mpath", "LVM-": "lvm", "CRYPT-": "crypt"}
_NAMED = re.compile(r"(loop|md|bcache|zram|ram|drbd|nbd)_?d?\d+")
_PLAIN = ("sd", "vd", "nvme", "hd", "sr")
"""Devices that stand on no other block device."""


class _Own(NamedTuple):
    """What a device says of itself."""

    kname: str
    dev: str
    kind: str
    size_bytes: int | None
    read_only: bool | None
    slaves: tuple[str, ...]
    parent: str | None
    backing_file: str | None
    dm_name: str | None
    dm_uuid: str | None
    diskseq: int | None


@dataclasses.dataclass(slots=True)
class _Known:
    """One device as it was read last."""

    inode: int
    readings: int
    own: _Own


class BlockReader:
    """Reads the block devices of one host again and again.

    Args:
        root: Where `sys` and `proc` are.
        turn: How many devices are read anew without a reason.
    """

    def __init__(self, root: Path = Path("/"), turn: int = TURN) -> None:
        self._base = sysfs.base(root)
        self._folder = f"{self._base}/sys/class/block"
        self._turn = turn
        self._next = 0
        self._known: dict[str, _Known] = {}
        self._sizes: dict[bytes, bytes] = {}
        self._last: tuple[BlockNode, ...] = ()

    def read(self, full: bool = False) -> tuple[tuple[BlockNode, ...], tuple[Problem, ...]]:
        """The devices, sorted by name, and what could not be read.

        Args:
            full: Read every device, whatever is remembered.
        """
        try:
            links = attributes.entries(self._folder)
        except PermissionError as error:
            return (), (Problem("block", "/sys/class/block", error.strerror or "cannot be read"),)
        if links is None:
            return (), (Problem("block", "/sys/class/block", "No such file or directory"),)
        if full:
            self._known.clear()
        before = self._known
        self._known = {}
        problems: list[Problem] = []
        due = self._due(links, before)
        changed = before.keys() != links.keys()
        for kname in sorted(links):
            known = before.get(kname)
            if known is None or known.inode != links[kname] or kname in due or known.readings < _YOUNG:
                own = self._read(kname)
                if own is None:
                    if os.path.lexists(f"{self._folder}/{kname}/dev"):
                        problems.append(Problem("block", kname, "its device number cannot be read"))
                    changed = True
                    continue
                same = known is not None and known.inode == links[kname] and known.own == own
                changed = changed or not same
                known = _Known(links[kname], known.readings + 1 if known is not None and same else 0, own)
            self._known[kname] = known
        if changed or len(self._last) != len(self._known):
            self._last = self._joined()
        return self._last, tuple(problems)

    def _due(self, links: Mapping[str, int], before: Mapping[str, _Known]) -> set[str]:
        """Which known devices have to be read anew."""
        names = list(links)
        if len(names) <= self._turn:
            return set(names)
        start = self._next % len(names)
        due = set(names[start : start + self._turn])
        self._next = start + self._turn
        for kname, known in before.items():
            if links.get(kname) != known.inode:
                due.update(known.own.slaves)
        due.update(self._resized())
        return due

    def _resized(self) -> Iterable[str]:
        """The devices whose line in /proc/partitions is another one than last time."""
        data = attributes.read_whole(f"{self._base}/proc/partitions") or b""
        lines = {fields[3]: fields[2] for line in data.split(b"\n") if len(fields := line.split()) == 4}
        before, self._sizes = self._sizes, lines
        return [os.fsdecode(name) for name, size in lines.items() if before.get(name) != size] if before else ()

    def _read(self, kname: str) -> _Own | None:
        """One device; None where it is going away."""
        place = f"{self._folder}/{kname}"
        plain = kname.startswith(_PLAIN)
        more = _STACKED if kname.startswith("dm-") else _LOOP if kname.startswith("loop") else ()
        raw = attributes.read_raw(place, (*_FILES, *more))
        if not raw:
            return None
        event = _pairs(raw.get("uevent", b""))
        dev = f"{event['MAJOR']}:{event['MINOR']}" if "MAJOR" in event and "MINOR" in event else None
        dev = dev or sysfs.read_text(f"{place}/dev")
        if dev is None:
            return None
        sectors, read_only = number(raw.get("size")), number(raw.get("ro"))
        dm_uuid = text(raw.get("dm/uuid"))
        diskseq = event.get("DISKSEQ") or (None if "MAJOR" in event else sysfs.read_text(f"{place}/diskseq"))
        parent = None
        if event.get("DEVTYPE") == "partition" or (not event and os.path.lexists(f"{place}/partition")):
            parent = os.path.basename(os.path.dirname(sysfs.read_link(place) or "")) or None
        return _Own(
            kname=kname,
            dev=dev,
            kind="part" if parent else _kind(kname, dm_uuid),
            size_bytes=None if sectors is None else sectors * _SECTOR_BYTES,
            read_only=None if read_only is None else bool(read_only),
            slaves=() if plain or parent else sysfs.names(f"{place}/slaves"),
            parent=parent,
            backing_file=text(raw.get("loop/backing_file")),
            dm_name=text(raw.get("dm/name")),
            dm_uuid=dm_uuid,
            diskseq=int(diskseq) if diskseq and diskseq.isdigit() else None,
        )

    def _joined(self) -> tuple[BlockNode, ...]:
        """Adds partitions, what loop devices stand on, and holders: the kernel links both ends of each in one go."""
        every = [known.own for known in self._known.values()]
        partitions: dict[str, list[str]] = {}
        holders: dict[str, list[str]] = {}
        by_path: dict[str, str] = {}
        for own in every:
            by_path[f"/dev/{own.kname.replace('!', '/')}"] = own.dev
            if own.dm_name:
                by_path[f"/dev/mapper/{own.dm_name}"] = own.dev
            if own.parent is not None:
                partitions.setdefault(own.parent, []).append(own.kname)
            for slave in own.slaves:
                holders.setdefault(slave, []).append(own.kname)
        before = {node.kname: node for node in self._last}
        return tuple(
            [
                _node(own, holders.get(own.kname), partitions.get(own.kname), by_path, before.get(own.kname))
                for own in every
            ]
        )


def _node(
    own: _Own,
    holders: list[str] | None,
    partitions: list[str] | None,
    by_path: Mapping[str, str],
    before: BlockNode | None,
) -> BlockNode:
    node = BlockNode(
        kname=own.kname,
        dev=own.dev,
        kind=own.kind,
        size_bytes=own.size_bytes,
        read_only=own.read_only,
        holders=tuple(sorted(holders)) if holders else (),
        slaves=own.slaves,
        partitions=tuple(partitions) if partitions else (),
        parent=own.parent,
        backing_file=own.backing_file,
        backing_dev=by_path.get(own.backing_file) if own.backing_file else None,
        dm_name=own.dm_name,
        dm_uuid=own.dm_uuid,
        diskseq=own.diskseq,
    )
    return before if before is not None and before == node else node


def _kind(kname: str, dm_uuid: str | None) -> str:
    if not kname.startswith("dm-"):
        named = _NAMED.fullmatch(kname)
        return named[1] if named else "disk"
    if _DM_PART.match(dm_uuid or ""):
        return "part"
    return next((kind for prefix, kind in _DM_KINDS.items() if (dm_uuid or "").startswith(prefix)), "dm")


def _pairs(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line)
