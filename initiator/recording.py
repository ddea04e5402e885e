"""A recording of one host: its snapshots with what happened, in a file that can be looked at later.

A gzip file of JSON lines. The first says what it is; each other one is a frame: everything, or only what has changed
since the frame before. Each frame is flushed, so that a recording that was cut off can be read up to there.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from initiator import model
from initiator.errors import BadInputError, MooringError
from initiator.fabric import Fabric, Neighbour, Nic, Route, TargetPort
from initiator.model import BlockNode, Disk, Event, Link, Map, Session, Snapshot, Volume
from initiator.names import clean

FORMAT = 1
EVERY = 300
"""Each so many frames one has everything, so that a seek does not begin at the start."""
_LONGEST = 256 << 20
"""Bytes of one frame; a host with ten thousand paths needs a tenth of it."""
_Keyed = TypeVar("_Keyed", Session, Disk, model.Path, Map, Volume, Link)


class RecordingError(MooringError):
    """A file is no recording, or cannot be written."""

    code = "recording"


class Head(msgspec.Struct, frozen=True, tag_field="mooring", tag="recording"):
    """The first line."""

    format: int
    host: str
    began: float
    """Unix time."""


class Fabrics(msgspec.Struct, frozen=True):
    """A `Fabric` without keys that JSON does not have."""

    nics: dict[str, Nic]
    routes: tuple[tuple[str, str, Route], ...]
    neighbours: dict[str, Neighbour]
    ports: dict[str, TargetPort]


class Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """One look at the host."""

    at: float
    """Unix time."""
    snapshot: Snapshot
    """Everything, or (not `whole`) only what is new or has changed."""
    whole: bool = False
    gone: tuple[str, ...] = ()
    """The ids of what is not there any more, and names of block devices."""
    events: tuple[Event, ...] = ()
    fabric: Fabrics | None = None
    """Where it differs from the frame before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """One frame, put together again."""

    at: float
    snapshot: Snapshot
    fabric: Fabric
    events: tuple[Event, ...]


# --- differences ---


def difference(before: Snapshot, now: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """What is new or changed in `now`, as a snapshot of only that; and what is gone."""
    gone: list[str] = []

    def fresh(old: Iterable[_Keyed], new: Iterable[_Keyed]) -> tuple[_Keyed, ...]:
        known = {each.id: each for each in old}
        kept = []
        for each in new:
            was = known.pop(each.id, None)
            if was is not each and was != each:
                kept.append(each)
        gone.extend(known)
        return tuple(kept)

    nodes = {node.kname: node for node in before.block}
    block = tuple(node for node in now.block if nodes.get(node.kname) != node)
    gone.extend(nodes.keys() - {node.kname for node in now.block})
    part = dataclasses.replace(
        now,
        sessions=fresh(before.sessions, now.sessions),
        disks=fresh(before.disks, now.disks),
        paths=fresh(before.paths, now.paths),
        maps=fresh(before.maps, now.maps),
        volumes=fresh(before.volumes, now.volumes),
        links=fresh(before.links, now.links),
        block=block,
    )
    return part, tuple(gone)


def join(before: Snapshot, part: Snapshot, gone: Iterable[str]) -> Snapshot:
    """The snapshot of which `part` and `gone` are the difference to `before`."""
    lost = frozenset(gone)

    def merged(old: Iterable[_Keyed], new: Iterable[_Keyed]) -> tuple[_Keyed, ...]:
        items = {each.id: each for each in old if each.id not in lost} | {each.id: each for each in new}
        return tuple(items[key] for key in sorted(items))

    return dataclasses.replace(
        part,
        sessions=merged(before.sessions, part.sessions),
        disks=merged(before.disks, part.disks),
        paths=merged(before.paths, part.paths),
        maps=merged(before.maps, part.maps),
        volumes=merged(before.volumes, part.volumes),
        links=merged(before.links, part.links),
        block=_blocks(before.block, part.block, lost),
    )


def _blocks(old: Iterable[BlockNode], new: Iterable[BlockNode], lost: frozenset[str]) -> tuple[BlockNode, ...]:
    items = {each.kname: each for each in old if each.kname not in lost} | {each.kname: each for each in new}
    return tuple(items[key] for key in sorted(items))


# --- writing ---


class Recorder:
    """Writes a new file, readable by its owner only: it tells much of a host.

    Raises:
        RecordingError: there is such a file already, or it cannot be made.
    """

    def __init__(self, path: Path, host: str, began: float) -> None:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise RecordingError(f"{path} exists already", fix="name a file that does not exist") from error
        except OSError as error:
            raise RecordingError(f"cannot make {path}: {error.strerror}") from error
        self._raw = os.fdopen(handle, "wb")
        self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", mtime=int(began))
        self._path = path
        self._before: Snapshot | None = None
        self._fabric: Fabric | None = None
        self._count = 0
        self._write(Head(FORMAT, host, began))

    def add(self, at: float, snapshot: Snapshot, fabric: Fabric, events: tuple[Event, ...]) -> None:
        """Writes one frame.

        Raises:
            RecordingError: it cannot be written (the disk is full).
        """
        whole = self._before is None or self._count % EVERY == 0
        part, gone = (snapshot, ()) if self._before is None or whole else difference(self._before, snapshot)
        changed = whole or fabric != self._fabric
        self._write(Frame(at, part, whole, gone, events, _flat(fabric) if changed else None))
        self._before, self._fabric = snapshot, fabric
        self._count += 1

    @property
    def frames(self) -> int:
        """How many there are."""
        return self._count

    def close(self) -> None:
        """Ends the file."""
        try:
            self._file.close()
        finally:
            self._raw.close()

    def _write(self, item: Head | Frame) -> None:
        try:
            self._file.write(_encode(item) + b"\n")
            self._file.flush(zlib.Z_SYNC_FLUSH)
        except OSError as error:
            raise RecordingError(f"cannot write {self._path}: {error.strerror}") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _encode(item: Head | Frame) -> bytes:
    try:
        return msgspec.json.encode(item)
    except UnicodeEncodeError:  # a name of a file or device that is no text; JSON has no place for it
        return msgspec.json.encode(_text(msgspec.to_builtins(item)))


def _text(item: Any) -> Any:
    if isinstance(item, str):
        return item.encode("utf-8", "replace").decode()
    if isinstance(item, dict):
        return {_text(key): _text(value) for key, value in item.items()}
    return [_text(each) for each in item] if isinstance(item, list | tuple) else item


def _flat(fabric: Fabric) -> Fabrics:
    routes = tuple((local, peer, route) for (local, peer), route in fabric.routes.items())
    return Fabrics(dict(fabric.nics), routes, dict(fabric.neighbours), dict(fabric.ports))


# --- reading ---


class Recording:
    """A file to look at; `moments` can be asked for again and again.

    Attributes:
        head: What it is of.
        cut: Why it ends before its end, after it was read; empty for a whole one.

    Raises:
        RecordingError: it is no recording of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cut = ""
        with self._open() as file:
            line = self._line(file)
        try:
            self.head = msgspec.json.decode(line or b"", type=Head)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{path} is no recording of Mooring", fix="see: mooring record FILE") from error
        if self.head.format != FORMAT:
            raise RecordingError(f"{path} was recorded by another version of Mooring (format {self.head.format})")

    def moments(self, since: float | None = None) -> Iterator[Moment]:
        """Every frame from the first one, or from Unix time `since`, in order."""
        decoder = msgspec.json.Decoder(Frame)
        snapshot: Snapshot | None = None
        fabric = Fabric()
        with self._open() as file:
            self._line(file)
            while (line := self._line(file)) is not None:
                try:
                    frame = decoder.decode(line)
                except msgspec.DecodeError as error:
                    self.cut = f"a frame cannot be understood: {clean(str(error), 120)}"
                    return
                if frame.whole or snapshot is None:
                    snapshot = frame.snapshot
                else:
                    snapshot = join(snapshot, frame.snapshot, frame.gone)
                if frame.fabric is not None:
                    fabric = _round(frame.fabric)
                if since is None or frame.at >= since:
                    yield Moment(frame.at, snapshot, fabric, frame.events)

    def _open(self) -> gzip.GzipFile:
        try:
            return gzip.GzipFile(self._path, "rb")
        except OSError as error:
            raise BadInputError(f"cannot read {self._path}: {error.strerror}") from error

    def _line(self, file: gzip.GzipFile) -> bytes | None:
        """The next whole line; None at the end, also at one that came too early."""
        try:
            line = file.readline(_LONGEST)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.cut = f"it was cut off: {error}"
            return None
        return line if line.endswith(b"\n") else None


def _round(flat: Fabrics) -> Fabric:
    routes = {(local, peer): route for local, peer, route in flat.routes}
    return Fabric(flat.nics, routes, flat.neighbours, flat.ports)
