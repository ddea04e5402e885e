"""The block devices of the kernel and how they stand on each other, from sysfs; no device is opened.

Read again and again for much less than the first time: a device is known by the inode of its link in /sys/class/block
and is read anew when something that is followed has changed (`initiator.host.lifetimes`), when its size has, when a
device was put on it or taken off it, while it is young, and otherwise in turn. What has not changed is the same object
as before; if nothing at all has, so is the whole tuple.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from initiator.host import attributes, lifetimes, sysfs
from initiator.host.attributes import number, text
from initiator.host.blocklinks import BlockLink, BlockLinks
from initiator.host.lifetimes import Looks
from initiator.host.watched import Descriptors, Follower, in_turn
from initiator.model import BlockNode, Problem

TURN = 16
"""How many devices are read anew in one reading without a reason. A host with fewer is read whole each time."""
_YOUNG = 32
"""In how many readings a device that came later is looked at each time: what will stand on it comes soon after it."""
_FILES = tuple(lifetimes.BLOCK)
_LOOKS = lifetimes.looks(lifetimes.BLOCK)
_LOOKS_AT_LOOP = lifetimes.looks({**lifetimes.BLOCK, **lifetimes.LOOP})
_LOOKS_AT_HELD = Looks()
_SECTOR_BYTES = 512
_EVENT = re.compile(rb"^(MAJOR|MINOR|DEVTYPE|DISKSEQ)=(.*)$", re.MULTILINE)
_DM_PART = re.compile(r"part\d+-")
_DM_KINDS = {"mpath-": "mpath", "LVM-": "lvm", "CRYPT-": "crypt"}
_NAMED = re.compile(r"(loop|md|bcache|zram|ram|drbd|nbd)_?d?\d+")
_PLAIN = ("sd", "vd", "nvme", "hd", "sr")
"""Devices that stand on no other block device."""
_STACKED = re.compile(r"(dm-|md|bcache)\d")
"""Devices whose members change while they exist."""


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

    own: _Own
    raw: Mapping[str, bytes]


class BlockReader:
    """Reads the block devices of one host again and again.

    Args:
        root: Where `sys` and `proc` are.
        turn: How many devices are read anew without a reason.
        descriptors: How many files may be kept open.
    """

    def __init__(self, root: Path = Path("/"), turn: int = TURN, descriptors: Descriptors | None = None) -> None:
        self._base = sysfs.base(root)
        self._listing = BlockLinks(root)
        self._turn = turn
        self._next = 0
        self._next_stacked = 0
        self._watch = Follower(descriptors)
        self._unwatched: list[str] = []
        self._followed: dict[str, Looks] = {}
        self._links: Mapping[str, BlockLink] = {}
        self._known: dict[str, _Known] = {}
        self._young: dict[str, int] = {}
        self._stacked: list[str] = []
        self._partitions = b""
        self._torn: dict[str, Problem] = {}
        self._last: tuple[BlockNode, ...] = ()
        self._stirred = False

    @property
    def links(self) -> Mapping[str, BlockLink]:
        """What the last reading found in /sys/class/block; the same mapping as before if nothing has come or gone."""
        return self._listing.last

    def stir(self) -> None:
        """The kernel has told that something happened to some block device: the next reading reads all stacked ones."""
        self._stirred = True

    def read(self, full: bool = False) -> tuple[tuple[BlockNode, ...], tuple[Problem, ...]]:
        """The devices, sorted by name, and what could not be read. A device that goes away meanwhile is neither.

        Args:
            full: Read every device, whatever is remembered.
        """
        try:
            links = self._listing.read()
        except PermissionError as error:
            return (), (Problem("block", "/sys/class/block", error.strerror or "cannot be read"),)
        if links is None:
            return (), (Problem("block", "/sys/class/block", "No such file or directory"),)
        first = not self._links
        stirred, self._stirred = self._stirred, False
        due = self._changed() | self._resized()
        listed = links is not self._links
        if listed:
            due |= self._come_and_gone(links, first)
        due |= links.keys() if full else self._in_turn(stirred)
        if len(self._known) < len(links):
            due |= links.keys() - self._known.keys()  # it could not be read, or not yet
        changed = listed
        for kname in attributes.in_order(due, links):
            changed = self._look_at(kname, links[kname].place) or changed
        if changed:
            self._known = {kname: self._known[kname] for kname in sorted(self._known)}
            self._stacked = [kname for kname in self._known if _STACKED.match(kname)]
            self._last = self._joined()
            self._refollow()
        return self._last, tuple(self._torn[kname] for kname in sorted(self._torn))

    def _changed(self) -> set[str]:
        """The known devices of which something that is followed has changed. A first reading keeps nothing open."""
        for kname in self._unwatched:
            if (known := self._known.get(kname)) is not None:
                self._watch.follow(kname, self._links[kname].place, self._followed[kname], known.raw)
        self._unwatched.clear()
        return self._watch.changed()

    def _refollow(self) -> None:
        """Follows more of a device that nothing holds than of one that is held."""
        before, self._followed = self._followed, {node.kname: _followed(node) for node in self._last}
        others = [kname for kname, names in self._followed.items() if before.get(kname) is not names]
        self._watch.forget(others)
        self._unwatched += others

    def _resized(self) -> set[str]:
        """The devices whose line in /proc/partitions is another one than last time."""
        data = attributes.read_whole(f"{self._base}/proc/partitions") or b""
        before, self._partitions = self._partitions, data
        if data == before or not before:
            return set()
        fresh = set(data.split(b"\n")) - set(before.split(b"\n"))
        return {os.fsdecode(fields[3]) for line in fresh if len(fields := line.split()) == 4}

    def _come_and_gone(self, links: Mapping[str, BlockLink], first: bool) -> set[str]:
        """Takes over a new listing; gives the devices that have to be read for it."""
        due = {kname for kname, link in links.items() if self._links.get(kname) != link}
        gone = {kname for kname, link in self._links.items() if links.get(kname) != link}
        self._watch.forget(gone)
        if gone:  # what stood on them has lost a member
            due.update(holder for node in self._last if node.kname in gone for holder in node.holders)
        for kname in gone:
            known = self._known.pop(kname, None)
            due.update(known.own.slaves if known is not None else ())
            self._young.pop(kname, None)
            self._torn.pop(kname, None)
            self._followed.pop(kname, None)
        if not first:
            self._young |= dict.fromkeys(due & links.keys(), _YOUNG)  # whole stacks go at once
        self._links = links
        return due

    def _in_turn(self, stirred: bool) -> set[str]:
        """The devices that are read without anything that speaks for it."""
        due, self._next = in_turn(list(self._known), self._next, self._turn)
        for kname in list(self._young):
            self._young[kname] -= 1
            if self._young[kname] <= 0:
                del self._young[kname]
        due |= self._young.keys()
        return due | self._restacked(stirred)

    def _restacked(self, stirred: bool) -> set[str]:
        """The stacked devices that have other members than they had: a map gets a path, a volume group a disk."""
        if stirred:
            return set(self._stacked)
        stacked = [kname for kname in self._stacked if kname in self._known]
        names, self._next_stacked = in_turn(stacked, self._next_stacked, self._turn)
        asked = {
            kname
            for kname in names
            if sysfs.names(f"{self._links[kname].place}/slaves") != self._known[kname].own.slaves
        }
        for kname in self._young:
            for holder in sysfs.names(f"{self._links[kname].place}/holders"):
                known = self._known.get(holder)
                if known is not None and kname not in known.own.slaves:
                    asked.add(holder)
        return asked

    def _listed(self, kname: str, folder: str) -> tuple[str, ...]:
        return sysfs.names(f"{self._links[kname].place}/{folder}")

    def _look_at(self, kname: str, place: str) -> bool:
        """Reads one device; gives whether it is another one than it was."""
        if self._torn:
            self._torn.pop(kname, None)
        before = self._known.get(kname)
        found = _read(kname, place, before)
        if found is None:
            if os.path.lexists(f"{place}/dev"):
                self._torn[kname] = Problem("block", kname, "its device number cannot be read")
            self._watch.forget({kname})
            self._followed.pop(kname, None)
            return self._known.pop(kname, None) is not None
        if found is before:
            return False
        if before is not None and before.own == found.own:
            before.raw = found.raw
            return False
        self._known[kname] = found
        return True

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

    def close(self) -> None:
        """Closes what is kept open."""
        self._watch.close()


def read_block(root: Path = Path("/")) -> tuple[tuple[BlockNode, ...], tuple[Problem, ...]]:
    """Reads every block device once; whoever reads more than once keeps a `BlockReader`."""
    return BlockReader(root).read()


def _read(kname: str, place: str, before: _Known | None) -> _Known | None:
    """One device; None where it is going away, `before` where it is what it was."""
    plain = kname.startswith(_PLAIN)
    raw = attributes.read_raw(place, _FILES if plain else _FILES + _more(kname))
    if not raw:
        return None
    if plain and before is not None and before.raw == raw:
        return before
    event = dict(_EVENT.findall(raw.get("uevent", b"")))
    major, minor = number(event.get(b"MAJOR")), number(event.get(b"MINOR"))
    dev = f"{major}:{minor}" if major is not None and minor is not None else sysfs.read_text(f"{place}/dev")
    if dev is None:
        return None
    diskseq = number(event.get(b"DISKSEQ"))
    if diskseq is None and b"MAJOR" not in event:
        diskseq = sysfs.read_int(f"{place}/diskseq")
    partition = event.get(b"DEVTYPE") == b"partition" or (not event and os.path.lexists(f"{place}/partition"))
    parent = os.path.basename(os.path.dirname(place)) if partition else None
    sectors, read_only = number(raw.get("size")), number(raw.get("ro"))
    dm_uuid = text(raw.get("dm/uuid"))
    own = _Own(
        kname=kname,
        dev=dev,
        kind="part" if parent else "disk" if plain else _kind(kname, dm_uuid),
        size_bytes=None if sectors is None else sectors * _SECTOR_BYTES,
        read_only=None if read_only is None else bool(read_only),
        slaves=() if plain or parent else sysfs.names(f"{place}/slaves"),
        parent=parent,
        backing_file=text(raw.get("loop/backing_file")),
        dm_name=text(raw.get("dm/name")),
        dm_uuid=dm_uuid,
        diskseq=diskseq,
    )
    return _Known(own, raw)


def _more(kname: str) -> tuple[str, ...]:
    return tuple(lifetimes.STACKED if kname.startswith("dm-") else lifetimes.LOOP if kname.startswith("loop") else ())


def _followed(node: BlockNode) -> Looks:
    if node.holders and node.kname.startswith(_PLAIN):
        return _LOOKS_AT_HELD
    return _LOOKS_AT_LOOP if node.kname.startswith("loop") else _LOOKS


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
