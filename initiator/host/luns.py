"""The LUNs of the kernel's iSCSI sessions, of any device type, from sysfs; `initiator.host.iscsi` asks for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from initiator.host import attributes, lifetimes, sysfs
from initiator.host.attributes import Raw
from initiator.host.blocklinks import BlockLink
from initiator.host.watched import Descriptors, Follower, in_turn

_IDENTITY = ("inquiry", "wwid")
_CHANGING = tuple(name for name in lifetimes.LUN if name not in _IDENTITY)
_LOOKS = lifetimes.looks(lifetimes.LUN)
_LUN_PLACE = re.compile(r"/session(\d+)/target[^/]+/(\d+):(\d+):(\d+):(\d+)/")
_BLOCK_PLACE = re.compile(r"/session(\d+)/target[^/]+/(\d+:\d+:\d+:\d+)/block/[^/]+$")


class Lun(NamedTuple):
    """One logical unit as one session sees it."""

    hctl: str
    sid: int
    lun: int
    place: str
    """Its folder in /sys/devices."""
    fixed: Raw
    changing: Raw
    kname: str | None = None
    """Its block device; None for what has none, or not yet."""

    @property
    def state(self) -> str | None:
        """running, offline, transport-offline, blocked, quiesce, cancel, …"""
        return attributes.text(self.changing.get("state"))


class _Block(NamedTuple):
    """The block device of a LUN."""

    kname: str
    sid: int
    place: str
    """The folder of the LUN."""


@dataclasses.dataclass(slots=True)
class _Known:
    """What is remembered of one LUN."""

    inode: int
    place: str
    sid: int
    made: Lun | None = None


class LunReader:
    """Reads the LUNs of one host again and again.

    Args:
        folder: `/sys/class`, below the root.
        turn: How many are read whole in one reading without a reason.
        descriptors: How many files may be kept open.
    """

    def __init__(self, folder: str, turn: int, descriptors: Descriptors) -> None:
        self._class = folder
        self._turn = turn
        self._watch = Follower(descriptors)
        self._unwatched: list[str] = []
        self._links: Mapping[str, int] = {}
        self._block_links: Mapping[str, BlockLink] = {}
        self._known: dict[str, _Known] = {}
        self._of_session: dict[int, list[str]] = {}
        self._sids: set[int] = set()
        self._absent: set[str] = set()
        """Listed, but not there when they were read."""
        self._blocks: dict[str, tuple[BlockLink, tuple[str, _Block] | None]] = {}
        self._block_of: dict[str, _Block] = {}
        self._next = 0

    def changed(self) -> set[str]:
        """The addresses of known LUNs of which something that is followed has changed."""
        for hctl in self._unwatched:
            known = self._known.get(hctl)
            if known is not None and known.made is not None:
                self._watch.follow(hctl, known.place, _LOOKS, known.made.changing)
        self._unwatched.clear()
        return self._watch.changed()

    def read(
        self,
        links: Mapping[str, int],
        blocks: Mapping[str, BlockLink],
        sids: set[int],
        again: set[str],
        moved: Iterable[int],
        full: bool,
    ) -> list[Lun]:
        """All LUNs of the sessions `sids`.

        Args:
            links: What /sys/class/scsi_device has, with the inodes.
            blocks: What /sys/class/block has.
            sids: The sessions that there are.
            again: What `changed` gave before anything was read.
            moved: The sessions to which something happened.
            full: Read every attribute.
        """
        again = again.union(self._absent, *(self._of_session.get(sid, ()) for sid in moved))
        whole = set(links) if full else self._in_turn()
        moved_blocks = blocks is not self._block_links
        if moved_blocks:
            self._block_of = self._find_blocks(blocks)
            self._block_links = blocks
        if sids != self._sids:
            self._doubt(sids)
        if links != self._links:
            whole |= self._list(links, sids)
        if moved_blocks:
            whole.update(
                hctl
                for hctl, known in self._known.items()
                if known.made is not None and known.made.kname != self._kname(hctl)
            )
        for hctl in attributes.in_order(whole | again, self._known):
            known = self._known[hctl]
            if known.sid in sids:
                self._look_at(hctl, known, hctl in whole)
        return [known.made for known in self._known.values() if known.made is not None and known.sid in sids]

    def _in_turn(self) -> set[str]:
        due, self._next = in_turn(list(self._known), self._next, self._turn)
        return due

    def _look_at(self, hctl: str, known: _Known, whole: bool) -> None:
        before = known.made
        known.made = _read_lun(hctl, known, self._kname(hctl), whole or before is None)
        if known.made is None:
            self._absent.add(hctl)
        elif before is None:
            if hctl in self._absent:  # it was there before, and may be followed still
                self._absent.discard(hctl)
                self._watch.forget({hctl})
            self._unwatched.append(hctl)

    def _doubt(self, sids: set[int]) -> None:
        """Forgets which LUNs belong to sessions that are gone: the host number of one goes to the next session."""
        for hctl in [hctl for hctl, known in self._known.items() if known.sid >= 0 and known.sid not in sids]:
            self._watch.forget({hctl})
            del self._known[hctl]
            self._links = {}
        self._sids = sids

    def _list(self, links: Mapping[str, int], sids: set[int]) -> set[str]:
        """Takes over a new listing; gives what is new in it."""
        before, self._known = self._known, {}
        self._of_session = {}
        self._links = links
        for hctl, inode in links.items():
            known = before.get(hctl)
            if known is None or known.inode != inode:
                known = self._find(hctl, inode, sids)
            self._known[hctl] = known
            self._of_session.setdefault(known.sid, []).append(hctl)
        self._watch.forget({hctl for hctl, known in before.items() if self._known.get(hctl) is not known})
        self._absent &= self._known.keys()
        return {hctl for hctl, known in self._known.items() if before.get(hctl) is not known}

    def _find(self, hctl: str, inode: int, sids: set[int]) -> _Known:
        """Where a LUN is: beside its block device, which was listed a moment ago, else where its own link leads."""
        block = self._block_of.get(hctl)
        if block is not None and block.sid in sids:
            return _Known(inode, block.place, block.sid)
        place = _LUN_PLACE.search(sysfs.read_link(f"{self._class}/scsi_device/{hctl}") or "")
        return _Known(inode, f"{self._class}/scsi_device/{hctl}/device", int(place[1]) if place else -1)

    def _kname(self, hctl: str) -> str | None:
        block = self._block_of.get(hctl)
        return None if block is None else block.kname

    def _find_blocks(self, blocks: Mapping[str, BlockLink]) -> dict[str, _Block]:
        """The block device of each LUN, by its address."""
        seen, self._blocks = self._blocks, {}
        found = {}
        for name, link in blocks.items():
            entry = seen.get(name)
            if entry is None or entry[0] is not link:
                place = _BLOCK_PLACE.search(link.place)
                entry = (link, place and (place[2], _Block(name, int(place[1]), link.place[: place.end(2)])))
            self._blocks[name] = entry
            if entry[1] is not None:
                hctl, block = entry[1]
                found[hctl] = block
        return found

    def close(self) -> None:
        """Closes what is kept open."""
        self._watch.close()


def _read_lun(hctl: str, known: _Known, kname: str | None, whole: bool) -> Lun | None:
    """Reads a LUN, or of a known one only what is not its identity."""
    before = known.made
    counters = () if kname else tuple(lifetimes.COUNTED)
    if before is not None and not whole:
        changing = attributes.read_raw(known.place, (*_CHANGING, *counters))
        if changing is None:
            return None
        fixed = before.fixed
    else:
        raw = attributes.read_raw(known.place, (*lifetimes.LUN, *counters))
        if not raw:
            return None
        fixed = {name: raw.pop(name) for name in _IDENTITY if name in raw}
        if "inquiry" not in fixed:
            fixed |= attributes.read_raw(known.place, lifetimes.OLD_LUN) or {}
        if before is not None and before.fixed == fixed:
            fixed = before.fixed
        changing = raw
    if before is not None and before.changing == changing and before.fixed is fixed and before.kname == kname:
        return before
    return Lun(hctl, known.sid, int(hctl.rpartition(":")[2]), known.place, fixed, changing, kname)
