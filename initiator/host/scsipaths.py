"""The paths of the kernel's iSCSI disks, one by one and straight from sysfs, for whoever is about to change them.

What a removal stands on is read here anew each time, without multipathd and without memory of earlier readings.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from initiator.host import attributes, kernelview, lifetimes, sysfs
from initiator.host.iscsi import KernelSession, SessionReader, Wanted
from initiator.host.luns import Lun
from initiator.model import Portal, Problem, holds_data


@dataclasses.dataclass(frozen=True, slots=True)
class ScsiPath:
    """One logical unit over one session."""

    hctl: str
    sid: int
    lun: int
    kind: str
    wwid: str | None
    """As the kernel writes it: `naa.…`."""
    state: str | None
    """running, offline, transport-offline, blocked, …"""
    kname: str | None
    dev: str | None
    diskseq: int | None
    size_bytes: int | None
    holders: tuple[str, ...] = ()

    @property
    def may_hold_data(self) -> bool:
        """Whether it is something that can be lost: all but the doors of an array."""
        return self.kname is not None or holds_data(self.kind)


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Counters of one path."""

    in_flight: int | None
    """Requests that the block layer has sent and that are not answered."""
    busy: int | None
    """Commands that the SCSI layer has sent and that are not answered."""
    ended: int | None
    """Reads, writes, discards and flushes that came to an end."""
    errors: int | None
    timeouts: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class ScsiSession:
    """One session of the kernel, as far as a removal needs it."""

    sid: int
    target: str
    portals: tuple[Portal, ...]
    """The portal that it was told to use and the one that it is at, each without its group tag."""
    interface: str
    state: str | None
    target_state: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Paths:
    """One reading."""

    sessions: tuple[ScsiSession, ...] = ()
    paths: tuple[ScsiPath, ...] = ()
    problems: tuple[Problem, ...] = ()


_WANTED = Wanted(
    session={name: lifetimes.SESSION[name] for name in ("targetname", "ifacename", "state", "target_state")},
    connection={
        name: lifetimes.CONNECTION[name] for name in ("address", "port", "persistent_address", "persistent_port")
    },
    iscsi_host={},
    scsi_host={"proc_name": lifetimes.SCSI_HOST["proc_name"]},
)
"""A removal looks some fifty times: what it does not ask for is a third of the files."""


def read_paths(root: Path = Path("/")) -> Paths:
    """Reads every session and every logical unit of the kernel's initiator."""
    found = SessionReader(root, wanted=_WANTED).read(full=True)
    base = sysfs.base(root)
    return Paths(
        sessions=tuple(_session(each) for each in sorted(found.sessions, key=lambda each: each.sid)),
        paths=tuple(_path(base, each) for each in sorted(found.luns, key=lambda each: _numbers(each.hctl))),
        problems=found.problems,
    )


def read_traffic(hctl: str, root: Path = Path("/")) -> Traffic | None:
    """Counters of one path; None if it is gone."""
    folder = f"{sysfs.base(root)}/sys/class/scsi_device/{hctl}/device"
    raw = attributes.read_raw(folder, ("device_busy", "ioerr_cnt", "iotmo_cnt"))
    names = sysfs.names(f"{folder}/block")
    if raw is None or not names:
        return None
    inflight = (sysfs.read_text(f"{folder}/block/{names[0]}/inflight") or "").split()
    words = (sysfs.read_text(f"{folder}/block/{names[0]}/stat") or "").split()
    # Documentation/block/stat.rst: requests ended of reads 0, writes 4, discards 11, flushes 15
    counted = [int(words[place]) for place in (0, 4, 11, 15) if place < len(words) and words[place].isdigit()]
    return Traffic(
        in_flight=sum(map(int, inflight)) if len(inflight) == 2 else None,
        busy=attributes.number(raw.get("device_busy")),
        ended=sum(counted) if counted else None,
        errors=attributes.number(raw.get("ioerr_cnt"), 16),
        timeouts=attributes.number(raw.get("iotmo_cnt"), 16),
    )


def _numbers(hctl: str) -> tuple[int, ...]:
    return tuple(int(part) for part in hctl.split(":") if part.isdigit())


def _session(found: KernelSession) -> ScsiSession:
    values = found.attributes
    first = found.connections[0].attributes if found.connections else {}
    places = (kernelview.portal(first, "persistent_"), kernelview.portal(first))
    return ScsiSession(
        sid=found.sid,
        target=kernelview.said(values.get("targetname")) or "unknown",
        portals=tuple(dict.fromkeys(Portal(place.host, place.port) for place in places if place is not None)),
        interface=values.get("ifacename", "default"),
        state=values.get("state"),
        target_state=values.get("target_state"),
    )


def _path(base: str, lun: Lun) -> ScsiPath:
    identity = kernelview.identity(lun.fixed)
    folder = f"{base}/sys/class/block/{lun.kname}"
    sequence = sysfs.read_pairs(f"{folder}/uevent").get("DISKSEQ", "") if lun.kname else ""
    sectors = sysfs.read_int(f"{folder}/size") if lun.kname else None
    return ScsiPath(
        hctl=lun.hctl,
        sid=lun.sid,
        lun=lun.lun,
        kind=identity.kind,
        wwid=identity.wwid,
        state=lun.state,
        kname=lun.kname,
        dev=sysfs.read_text(f"{folder}/dev") if lun.kname else None,
        diskseq=int(sequence) if sequence.isdigit() else None,
        size_bytes=None if sectors is None else sectors * 512,
        holders=sysfs.names(f"{folder}/holders") if lun.kname else (),
    )
