"""What all workers see, put together into one report: a pure function of their reports and of what is attached."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from initiator.engine import attached
from initiator.engine.attached import Attachment
from initiator.engine.report import EngineReport
from initiator.engine.selector import DEFAULT_SELECTOR
from initiator.model import (
    Disk,
    DiskState,
    Event,
    Map,
    MapState,
    Path,
    PathState,
    Session,
    SessionState,
    Source,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One worker's part."""

    report: EngineReport
    attachment: Attachment | None = None
    working: bool = True
    """False while the worker is silent or being replaced: its report is old then."""
    beat: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    selector: str = DEFAULT_SELECTOR


@dataclasses.dataclass(frozen=True, slots=True)
class Remains:
    """A disk that no worker serves."""

    attachment: Attachment
    state: DiskState
    reason: str
    device: str | None
    dev: str | None = None


_REPLACED = "the process that serves it does not answer and is being replaced"
_WORKING = (PathState.ACTIVE, PathState.STANDBY)


def merge(seen: Iterable[Seen], remains: Iterable[Remains], events: Iterable[Event], now: float) -> EngineReport:
    """One report of everything. An attached disk shows only the paths of its own worker."""
    workers = [_outdated(each) if not each.working else each for each in seen]
    held = {each.attachment.disk for each in workers if each.attachment is not None}
    sessions = [session for each in workers for session in each.report.sessions]
    disks: dict[str, Disk] = {}
    paths: list[Path] = []
    maps: list[Map] = []
    for each in workers:
        own = each.attachment.disk if each.attachment is not None else None
        for disk in each.report.disks:
            if disk.id not in held and disk.id in disks:
                disks[disk.id] = _joined(disks[disk.id], disk)
            elif disk.id not in held:
                disks[disk.id] = disk
        found = [path for path in each.report.paths if path.disk == own or path.disk not in held]
        if each.attachment is not None:
            mine = [path for path in found if path.disk == own]
            described = next((disk for disk in each.report.disks if disk.id == own), None)
            disk, multipath = _attached(each, each.attachment, described, mine)
            disks[disk.id] = disk
            maps.append(multipath)
            found = [dataclasses.replace(path, map=multipath.id) if path.disk == own else path for path in found]
        paths += found
    for left in remains:
        if left.attachment.disk not in held:
            disks[left.attachment.disk] = _left(left, disks.get(left.attachment.disk))
    return EngineReport(
        taken_at=now,
        sessions=tuple(sorted(sessions, key=_by_id)),
        disks=tuple(sorted(_named(disks), key=_by_id)),
        paths=tuple(sorted(paths, key=_by_id)),
        maps=tuple(sorted(maps, key=_by_id)),
        events=tuple(events),
    )


def _by_id(item: Session | Disk | Path | Map) -> str:
    return item.id


def _outdated(each: Seen) -> Seen:
    """A report of a worker that is gone: nothing in it works now."""
    last = each.report
    fresh = dataclasses.replace(
        last,
        sessions=tuple(
            dataclasses.replace(session, state=SessionState.FAILED, reason=_REPLACED, connections=())
            for session in last.sessions
        ),
        paths=tuple(
            dataclasses.replace(path, state=PathState.FAILED, in_use=False, reason=_REPLACED) for path in last.paths
        ),
    )
    return dataclasses.replace(each, report=fresh)


def _joined(one: Disk, other: Disk) -> Disk:
    """The same disk, seen by two workers."""
    return dataclasses.replace(one, paths=tuple(sorted({*one.paths, *other.paths})))


def _attached(each: Seen, attachment: Attachment, described: Disk | None, paths: list[Path]) -> tuple[Disk, Map]:
    identity = attachment.disk.removeprefix("engine:d:")
    working = [path for path in paths if path.state in _WORKING]
    # A session over which the disk is not seen is one path less than there should be, not one path fewer to count.
    carrying = {path.session for path in paths}
    blind = [session.name for session in each.report.sessions if session.id not in carrying]
    state, health = DiskState.ATTACHED, MapState.OK
    if not working:
        state, health = DiskState.NO_PATH, MapState.NO_PATH
    elif len(working) < len(paths) + len(blind):
        state, health = DiskState.DEGRADED, MapState.DEGRADED
    if attachment.offline:
        state = DiskState.OFFLINE
    base = described if described is not None else from_unit(attachment)
    ids = tuple(sorted(path.id for path in paths))
    disk = dataclasses.replace(
        base,
        name=attachment.name,
        state=state,
        device=attachment.device,
        dev=attachment.dev,
        diskseq=attachment.diskseq,
        paths=ids,
        map=f"engine:m:{identity}",
        size_bytes=attachment.unit.size_bytes,
        read_only=attachment.unit.read_only,
        unflushed=each.beat.get("unflushed", base.unflushed),
        reason=_reason(base.reason, blind) if each.working else _REPLACED,
    )
    multipath = Map(
        id=f"engine:m:{identity}",
        name=attachment.name,
        state=health,
        source=Source.ENGINE,
        wwid=attachment.unit.wwid,
        device=attachment.device,
        disk=attachment.disk,
        paths=ids,
        active=len(working),
        total=len(paths) + len(blind),
        policy=f"ALUA state, then {each.selector}",
        queueing="waits for a path for a limited time, then fails",
    )
    return disk, multipath


def _reason(reason: str | None, blind: list[str]) -> str | None:
    return reason or (f"it is not seen over {', '.join(blind)}" if blind else None)


def from_unit(attachment: Attachment) -> Disk:
    """What is known of a disk without asking its target."""
    return attachment.unit.as_disk(attachment.disk, attachment.name, attachment.target or None)


def _left(left: Remains, described: Disk | None) -> Disk:
    """A disk whose device nobody serves, though its target may still be seen over a session."""
    base = described if described is not None else from_unit(left.attachment)
    return dataclasses.replace(
        base,
        name=left.attachment.name,
        state=left.state,
        reason=left.reason,
        device=left.device,
        dev=left.dev,
    )


def _named(disks: Mapping[str, Disk]) -> list[Disk]:
    """Every disk with a name of its own; attached ones keep theirs."""
    free = (DiskState.AVAILABLE,)
    taken = {disk.name for disk in disks.values() if disk.state not in free}
    named: list[Disk] = []
    for disk in sorted(disks.values(), key=_by_id):
        if disk.state in free:
            name = disk.name or attached.default_name(disk.target or "", disk.lun or 0)
            number = 2
            while name in taken:
                name = f"{disk.name}-{number}"
                number += 1
            taken.add(name)
            disk = dataclasses.replace(disk, name=name)
        named.append(disk)
    return named
