"""What changed between two snapshots, in sentences for a person."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TypeVar

from initiator.model import (
    Disk,
    DiskState,
    Event,
    Link,
    LinkState,
    Map,
    MapState,
    Path,
    PathState,
    Session,
    SessionState,
    Severity,
    Snapshot,
    Source,
    Volume,
    VolumeState,
)
from initiator.names import clean

Item = TypeVar("Item", Session, Disk, Path, Map, Volume, Link)
_Change = tuple[str, str, str, Severity]


def diff(old: Snapshot, new: Snapshot) -> tuple[Event, ...]:
    """The events that lead from `old` to `new`, by kind of thing and id; none if nothing changed.

    Counters, sizes and latencies are no events. What nobody answers for is not said to have vanished: while the engine
    is silent, its sessions, disks, paths and maps are left out of the comparison, and the kernel's own while those
    cannot be read.
    """
    found: list[_Change] = []
    if old.engine != new.engine:
        found.append(_engine(old, new))
    kept = _comparable(old, new)
    if kept:
        found += _compare(_of(old.sessions, kept), _of(new.sessions, kept), _session)
        found += _compare(_of(old.disks, kept), _of(new.disks, kept), lambda was, now: _disk(was, now, new.volumes))
        found += _compare(_of(old.maps, kept), _of(new.maps, kept), _map)
        disks = {disk.id: disk.name for disk in (*old.disks, *new.disks)}
        staying = {disk.id for disk in new.disks}
        sources = {disk.id: disk.source for disk in (*old.disks, *new.disks)}
        before, after = ([path for path in each if sources.get(path.disk) in kept] for each in (old.paths, new.paths))
        found += _compare(before, after, lambda was, now: _path(was, now, disks, staying))
    if not _failed(new, "mounts"):
        found += _compare(*_same_mounts(_on_disks(old), _on_disks(new)), _volume)
    if not _failed(new, "links"):
        found += _compare(old.links, new.links, _link)
    return tuple(Event(new.taken_at, kind, subject, clean(text), severity) for kind, subject, text, severity in found)


def _comparable(old: Snapshot, new: Snapshot) -> frozenset[Source]:
    """Whose sessions and disks both snapshots know."""
    kept = set()
    if "running" in (old.engine, new.engine) and not _failed(old, "engine") and not _failed(new, "engine"):
        kept.add(Source.ENGINE)
    if not _failed(old, "iscsi") and not _failed(new, "iscsi"):
        kept.add(Source.KERNEL)
    return frozenset(kept)


_Sourced = TypeVar("_Sourced", Session, Disk, Map)


def _of(items: Iterable[_Sourced], sources: Container[Source]) -> list[_Sourced]:
    return [item for item in items if item.source in sources]


def _failed(snapshot: Snapshot, source: str) -> bool:
    return any(problem.source == source for problem in snapshot.problems)


def _engine(old: Snapshot, new: Snapshot) -> _Change:
    if new.engine == "running":
        return "engine", "engine", "The engine answers.", Severity.NOTE
    if new.engine == "not running":
        held = any(disk.device for disk in old.disks if disk.source is Source.ENGINE)
        text = "The engine has ended, and disks were attached to it." if held else "The engine has ended."
        return "engine", "engine", text, Severity.BAD if held else Severity.NOTE
    return "engine", "engine", f"The engine does not answer: {new.engine}", Severity.BAD


def _compare(
    old: Iterable[Item], new: Iterable[Item], say: Callable[[Item | None, Item | None], _Change | None]
) -> Iterator[_Change]:
    before = {item.id: item for item in old}
    after = {item.id: item for item in new}
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is not now and (change := say(was, now)) is not None:
            yield change


def _why(reason: str | None) -> str:
    return f": {reason}" if reason else "."


def _moved(what: str, item: Session | Disk | Map, good: tuple[str, ...], bad: tuple[str, ...]) -> _Change:
    severity = Severity.BAD if item.state in bad else Severity.NOTE if item.state in good else Severity.WARN
    reason = None if isinstance(item, Map) else item.reason
    return "state", item.id, f"{what} {item.name} is {item.state}{_why(reason)}", severity


def _session(was: Session | None, now: Session | None) -> _Change | None:
    if now is None:
        assert was is not None
        ended = was.state is SessionState.LOGGED_OUT
        return "vanished", was.id, f"Session {was.name} is gone.", Severity.NOTE if ended else Severity.WARN
    if was is None:
        return "appeared", now.id, f"Session {now.name} to {now.target} has appeared: {now.state}.", Severity.NOTE
    if was.state is not now.state:
        good = (SessionState.LOGGED_IN, SessionState.LOGGED_OUT, SessionState.LOGGING_IN)
        return _moved("Session", now, good, (SessionState.FAILED, SessionState.FREE))
    if now.reconnects > was.reconnects:
        return "state", now.id, f"Session {now.name} was lost and has come back.", Severity.WARN
    return None


def _disk(was: Disk | None, now: Disk | None, volumes: Iterable[Volume]) -> _Change | None:
    if now is None:
        assert was is not None
        safe = was.state in (DiskState.AVAILABLE, DiskState.OFFLINE)
        return "vanished", was.id, f"Disk {was.name} is gone.", Severity.NOTE if safe else Severity.BAD
    if was is None:
        return "appeared", now.id, f"Disk {now.name} has appeared: {now.state}.", Severity.NOTE
    if was.state is not now.state:
        good = (DiskState.AVAILABLE, DiskState.ATTACHED, DiskState.OFFLINE)
        return _moved("Disk", now, good, (DiskState.NO_PATH, DiskState.DEAD))
    if was.size_bytes != now.size_bytes and None not in (was.size_bytes, now.size_bytes):
        text = f"Disk {now.name} has changed its size from {was.size_bytes} to {now.size_bytes} bytes."
        return "state", now.id, text, Severity.WARN
    if now.read_only and was.read_only is False:
        if any(now.id in volume.disks and volume.look for volume in volumes):
            text = f"Disk {now.name} is taken for read-only while somebody looks into it."
            return "state", now.id, text, Severity.NOTE
        return "state", now.id, f"Disk {now.name} has become read-only.", Severity.BAD
    return None


def _map(was: Map | None, now: Map | None) -> _Change | None:
    if was is None or now is None:
        return None  # it comes and goes with its disk, which has been said
    if was.state is not now.state and now.state is MapState.SUSPENDED:
        return _moved("Map", now, (), ())
    return None


_WORKING = (PathState.ACTIVE, PathState.STANDBY)


def _path(was: Path | None, now: Path | None, disks: Mapping[str, str], staying: Container[str]) -> _Change | None:
    if now is None:
        assert was is not None
        working = was.state in _WORKING and was.disk in staying
        return "vanished", was.id, f"Path {was.name} is gone.", Severity.WARN if working else Severity.NOTE
    where = f"Path {now.name} to disk {disks.get(now.disk, now.disk)}"
    if was is None:
        return "appeared", now.id, f"{where} has appeared: {now.state}.", Severity.NOTE
    if was.state is now.state:
        if was.access is not now.access:
            return "state", now.id, f"{where} is now {now.access}, it was {was.access}.", Severity.NOTE
        return None
    if now.state is PathState.FAILED:
        return "state", now.id, f"{where} has failed{_why(now.reason)}", Severity.BAD
    if now.state in _WORKING and was.state not in _WORKING:
        return "state", now.id, f"{where} has come back: {now.state}.", Severity.NOTE
    severity = Severity.WARN if now.state is PathState.UNKNOWN else Severity.NOTE
    return "state", now.id, f"{where} is {now.state}{_why(now.reason)}", severity


def _on_disks(snapshot: Snapshot) -> Iterable[Volume]:
    """Only what stands on a disk of a session: a host mounts and unmounts much that has nothing to do with iSCSI."""
    return (volume for volume in snapshot.volumes if volume.disks)


def _same_mounts(old: Iterable[Volume], new: Iterable[Volume]) -> tuple[list[Volume], list[Volume]]:
    """Both sides without those whose mount id went to another mount; the kernel gives a free number out again at once.

    Such a pair becomes one that vanished and one that appeared, under ids of their own.
    """
    import dataclasses

    before = {volume.id: volume for volume in old}
    after = []
    for volume in new:
        was = before.get(volume.id)
        if was is not None and (was.dev, was.mountpoint, was.root) != (volume.dev, volume.mountpoint, volume.root):
            before[was.id] = dataclasses.replace(was, id=f"{was.id} ")
        after.append(volume)
    return list(before.values()), after


def _volume(was: Volume | None, now: Volume | None) -> _Change | None:
    if now is None:
        assert was is not None
        return "vanished", was.id.strip(), f"Volume {_volume_name(was)} was unmounted.", Severity.NOTE
    if was is None:
        return "appeared", now.id, f"Volume {_volume_name(now)} was mounted.", Severity.NOTE
    if was.state is not now.state:
        if now.state is VolumeState.READ_ONLY:
            return "state", now.id, f"Volume {_volume_name(now)} has become read-only.", Severity.BAD
        return "state", now.id, f"Volume {_volume_name(now)} is {now.state} again.", Severity.NOTE
    if was.mountpoint != now.mountpoint:
        return "state", now.id, f"Volume {now.name} has moved from {was.mountpoint} to {now.mountpoint}.", Severity.NOTE
    return None


def _volume_name(volume: Volume) -> str:
    at = "" if volume.name == volume.mountpoint else f" at {volume.mountpoint}"
    return f"{volume.name}{at}" + (f" in namespace {volume.namespace}" if volume.namespace else "")


def _link(was: Link | None, now: Link | None) -> _Change | None:
    if now is None:
        assert was is not None
        return "vanished", was.id, f"Link {was.name} is gone.", Severity.WARN
    if was is None:
        return "appeared", now.id, f"Link {now.name} has appeared: {now.state}.", Severity.NOTE
    if was.state is not now.state:
        if now.state is LinkState.DOWN:
            why = "no carrier" if now.carrier is False else "switched off"
            return "state", now.id, f"Link {now.name} is down: {why}.", Severity.BAD
        return "state", now.id, f"Link {now.name} is {now.state}.", Severity.NOTE
    for what, before, after in (("speed", was.speed_mbps, now.speed_mbps), ("MTU", was.mtu, now.mtu)):
        if before != after and None not in (before, after):
            return "state", now.id, f"Link {now.name} has changed its {what} from {before} to {after}.", Severity.WARN
    if None not in (was.carrier_changes, now.carrier_changes) and was.carrier_changes != now.carrier_changes:
        return "state", now.id, f"Link {now.name} has lost its carrier and found it again.", Severity.WARN
    return None
