"""What puts the data itself at risk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from initiator.model import Severity, Source
from initiator.names import clean
from safety.advice.rule import Answer, Family, Hit, Host, Unsure

FAMILY = Family("data")

_DAY = 86400.0
_UNITS = (("days", _DAY), ("hours", 3600.0), ("minutes", 60.0))
_FOR_SEVERAL = ("gfs2", "ocfs2")
"""File systems that several hosts mount at once, as they are meant to."""


@FAMILY.rule(
    "shared-lun",
    Severity.BAD,
    "A disk is mounted here while another host is registered with it",
    "ext4, XFS and the like belong to one host at a time. A second host that mounts the same disk, even for reading,"
    " destroys it. Registered keys (persistent reservations) say that another host has this disk in use, or had.",
    "find that host before anything else. A member of a cluster that fences by reservations keeps its key: removing it"
    " would fence it. If the host has nothing to do with this disk any more, remove its key there (sg_persist --out"
    " --register, or mpathpersist) and unmap the LUN from it on the storage",
)
def shared_lun(host: Host) -> Iterator[Answer]:
    """Registrations of other initiators with disks that have a mounted file system."""
    mounted = {key for volume in host.volumes if volume.fstype not in _FOR_SEVERAL for key in volume.disks}
    names = {session.initiator for session in host.snapshot.sessions}
    if host.facts.initiator is not None:
        names.add(host.facts.initiator.name)
    for disk in host.disks:
        if disk.id not in mounted:
            continue
        asked = host.facts.registrations
        if asked is None or disk.id not in asked:
            yield Unsure(disk.name, host.not_asked(disk))
            continue
        others = {each.initiator for each in asked[disk.id] if each.initiator is not None} - names
        unnamed = [f"{each.key:#x}" for each in asked[disk.id] if each.initiator is None]
        if others:
            yield Hit(disk.name, f"registered: {', '.join(map(clean, sorted(others)))}", about=disk.id)
        elif unnamed:
            yield Unsure(disk.name, f"the target does not tell whose the keys {', '.join(unnamed)} are")


@FAMILY.rule(
    "write-cache",
    Severity.NOTE,
    "The storage keeps writes in a cache before they are safe",
    "An acknowledged write may only be in the array's memory. That is fine where a battery or flash backs it, and loses"
    " data where nothing does. Programs that call fsync, and Mooring's removal, flush it.",
    "ask the storage's maker whether the cache survives a loss of power; if not, switch it off there",
)
def write_cache(host: Host) -> Iterator[Answer]:
    """The caching mode page, as the kernel read it."""
    for disk in host.disks:
        if disk.device is None:
            continue
        if disk.write_cache is None:
            yield Unsure(disk.name, "its caching mode page was not read")
        elif disk.write_cache:
            yield Hit(disk.name, "write cache enabled (WCE)", about=disk.id)


@FAMILY.rule(
    "digests-off",
    Severity.WARN,
    "A path with errors, one a day or more, has no digests",
    "A link that damages packets is caught by TCP's checksum most of the time; what slips through is written to the"
    " disk. CRC32C digests catch it, and cost next to nothing on today's processors. Errors are counted"
    " from when the device appeared: one a day, on the whole, is more than an accident.",
    "iscsiadm -m node -T TARGET -o update -n node.conn[0].iscsi.DataDigest -v CRC32C,None (HeaderDigest too), then log"
    " in again, one path after the other; and replace the cable",
)
def digests_off(host: Host) -> Iterator[Answer]:
    """Errors of the links under each session, and time-outs of its paths, by how often they come.

    The kernel counts them for as long as the device is there, which may be years: a number alone says nothing of today.
    """
    timed_out = defaultdict(list)
    for path in host.snapshot.paths:
        if path.timeouts:
            timed_out[path.session].append(_Trouble(path.id, path.name, path.timeouts, "time-out"))
    for session in host.snapshot.sessions:
        if session.details.get("transport") == "iser":
            continue  # its transport has checks of its own and takes no digests
        digests = [each.data_digest for each in session.connections]
        link = host.links.get(session.link or "")
        real = host.below(link) if link is not None else ()
        troubles = [_Trouble(each.id, each.name, each.rx_errors, "receive error") for each in real if each.rx_errors]
        troubles += timed_out[session.id]
        ages = host.facts.ages or {}
        often = [each.told(ages[each.key]) for each in troubles if each.key in ages and each.often(ages[each.key])]
        undated = [each.told(None) for each in troubles if each.key not in ages]
        if not digests or None in digests:
            if session.source is Source.KERNEL or often or undated:
                yield Unsure(session.name, "whether it has digests is not known")
        elif "None" in digests and often:
            yield Hit(session.name, f"DataDigest None; {', '.join(often)}", about=session.id)
        elif "None" in digests and undated:
            yield Unsure(session.name, f"whether its errors are of today; {', '.join(undated)}")


class _Trouble(NamedTuple):
    """Errors that the kernel has counted of one device."""

    key: str
    name: str
    errors: int
    what: str

    def often(self, age: float) -> bool:
        """Whether there was one a day or more, over all the time that the device is there."""
        return self.errors * _DAY >= age

    def told(self, age: float | None) -> str:
        number = f"{self.name}: {self.errors:,} {self.what}{'' if self.errors == 1 else 's'}"
        if age is None:
            return f"{number}, nobody knows since when"
        unit, seconds = next(((word, each) for word, each in _UNITS if age >= 2 * each), ("seconds", 1.0))
        return f"{number} since it appeared {age / seconds:.0f} {unit} ago"
