"""The journal of one removal: append-only JSON lines, on stable storage before and after each step.

The journal is the only interface between the runner and everything else. Whoever shows the progress of a removal
follows the file; whoever continues or takes back a removal starts from it. A line that was cut short by a crash is
the last one and is not counted; anything else that cannot be read makes the journal unfit to act on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from initiator.errors import MooringError
from initiator.stable import sync_folder

SCHEMA = 1
_LIMIT = 16 * 1024 * 1024
"""Bytes of the longest journal that is read: one removal makes some tens of kilobytes."""


class JournalError(MooringError):
    """The journal cannot be written or read; the removal stops before the step that needed it."""

    code = "journal"
    fix = "Look at the journal file and the space on its file system, then resume or undo the removal."


class Kind(enum.StrEnum):
    """What a record is about."""

    PLAN = "plan"
    """The first record: the whole plan."""
    RUN = "run"
    """A runner began to work on this journal."""
    STEP = "step"
    NOTE = "note"
    END = "end"
    """A runner ended in good order and says how."""


class Mark(enum.StrEnum):
    """What happened to a step. The last mark of a step is its state."""

    STARTED = "started"
    VERIFIED = "verified"
    FAILED = "failed"
    STUCK = "stuck"
    UNDOING = "undoing"
    UNDONE = "undone"


class Outcome(enum.StrEnum):
    """How a runner ended."""

    DONE = "done"
    REFUSED = "refused"
    """A guard said no, and nothing was changed."""
    STOPPED = "stopped"
    """Stopped part-way; the journal can be resumed or undone."""
    UNKNOWN = "unknown"
    """Something was begun and nobody can say whether it happened."""
    UNDONE = "undone"
    """Everything is back as it was."""


EXIT: Mapping[Outcome, int] = MappingProxyType(
    {Outcome.DONE: 0, Outcome.UNDONE: 0, Outcome.REFUSED: 3, Outcome.STOPPED: 4, Outcome.UNKNOWN: 6}
)
"""Exit code of the runner, and of the command that waits for it, by outcome."""

FINAL = frozenset({Outcome.DONE, Outcome.UNDONE, Outcome.REFUSED})
"""Outcomes after which nothing is left to resume or to undo."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal."""

    number: int
    at: float
    """Unix time."""
    boot: str
    """Boot id of the kernel under which it was written: names of devices mean nothing under another one."""
    kind: Kind
    text: str = ""
    step: str | None = None
    mark: Mark | None = None
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_line(self) -> bytes:
        """The record as one line of ASCII, with its line feed."""
        fields = {**dataclasses.asdict(self), "schema": SCHEMA}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """The inverse of `to_line`.

        Raises:
            JournalError: the line is not a record.
        """
        try:
            fields = json.loads(line)
            if fields["schema"] != SCHEMA:
                raise JournalError(f"the journal has format {fields['schema']!r}; this Mooring reads {SCHEMA}.")
            mark = fields["mark"]
            return cls(
                number=int(fields["number"]),
                at=float(fields["at"]),
                boot=str(fields["boot"]),
                kind=Kind(fields["kind"]),
                text=str(fields["text"]),
                step=fields["step"],
                mark=None if mark is None else Mark(mark),
                data=dict(fields["data"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"not a journal record: {error!r}") from error

    @property
    def outcome(self) -> Outcome | None:
        """How the runner ended, for a record of kind `end`."""
        return Outcome(self.data["outcome"]) if self.kind is Kind.END else None


def boot_id(root: Path = Path("/")) -> str:
    """The id of this boot of the kernel."""
    return (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Journal:
    """A journal opened for writing. Use `create` or `open`; close it with a `with` statement.

    Attributes:
        path: The file.
        records: What is in it, in order.
        boot: Id of this boot of the kernel.
    """

    def __init__(self, path: Path, fd: int, records: list[Record], size: int, boot: str, now: Callable[[], float]):
        self.path = path
        self.records = records
        self._fd = fd
        self._size = size
        self.boot = boot
        self._now = now

    @property
    def rebooted(self) -> bool:
        """Whether the machine was restarted since the first record: names of devices and sessions mean nothing now."""
        return bool(self.records) and self.records[0].boot != self.boot

    @classmethod
    def create(cls, path: Path, *, boot: str, now: Callable[[], float] = time.time) -> Journal:
        """Make a new, empty journal with mode 0600, and make its directory entry durable.

        Raises:
            JournalError: the file exists already or cannot be made.
        """
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error
        journal = cls(path, fd, [], 0, boot, now)
        try:
            journal._sync()
            _sync_folder(path.parent)
        except JournalError:
            os.close(fd)
            raise
        return journal

    @classmethod
    def open(cls, path: Path, *, boot: str, now: Callable[[], float] = time.time) -> Journal:
        """Open a journal to go on writing; a last line that was cut short is cut off.

        Raises:
            JournalError: it cannot be read, is damaged before its last line, or belongs to somebody else.
        """
        records, good = _read(path)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                os.close(fd)
                raise JournalError(f"{path} is not a private file of this user; it is not used.")
            os.ftruncate(fd, good)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error
        return cls(path, fd, records, good, boot, now)

    def append(
        self,
        kind: Kind,
        text: str = "",
        *,
        step: str | None = None,
        mark: Mark | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Record:
        """Write one record and return when it is on stable storage.

        Raises:
            JournalError: it could not be written whole; the file is as it was before.
        """
        number = self.records[-1].number + 1 if self.records else 0
        record = Record(number, self._now(), self.boot, kind, text, step, mark, dict(data or {}))
        line = record.to_line()
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise JournalError(f"{self.path}: {error.strerror}") from error
        self._sync()
        self._size += len(line)
        self.records.append(record)
        return record

    def close(self) -> None:
        """Close the file. Calling it twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be made durable: {error.strerror}") from error


def read(path: Path) -> tuple[Record, ...]:
    """The records of a journal; a last line that was cut short is not counted.

    Raises:
        JournalError: it cannot be read, or is damaged before its last line.
    """
    return tuple(_read(path)[0])


class Reader:
    """Reads a journal that somebody else is writing, piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._number = 0

    def poll(self) -> list[Record]:
        """The records that are new since the last call; never waits.

        Raises:
            JournalError: the file cannot be read, or is damaged.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_LIMIT)
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}") from error
        records, used = _parse(data, self.path, self._number)
        self._offset += used
        self._number += len(records)
        return records


def follow(
    path: Path, *, wait: Callable[[float], object] = time.sleep, alive: Callable[[Record], bool] | None = None
) -> Iterator[Record]:
    """All records from the first on, waiting for more until the runner ended or died.

    Args:
        path: The journal.
        wait: Called with a number of seconds whenever there is nothing new.
        alive: Says of a `run` record whether that runner still lives; the default looks for the process.

    Yields:
        Each record once. If the last one is not of kind `end`, the runner died: the removal can be resumed or undone.

    Raises:
        JournalError: the file cannot be read, or is damaged.
    """
    reader, lives = Reader(path), alive or runner_alive
    run: Record | None = None
    while True:
        # Asked before reading: what a runner wrote in its last moment is still seen below.
        dead = run is not None and not lives(run)
        records = reader.poll()
        for record in records:
            run = record if record.kind is Kind.RUN else run
            yield record
        if records and records[-1].kind is Kind.END:
            return
        if not records:
            if dead:
                return
            wait(0.05)


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """A removal that was begun and neither completed nor taken back."""

    path: Path
    disk: str
    """Name of the disk, or of whatever is removed, as the person knew it; empty if the journal cannot say."""
    keys: tuple[str, ...]
    """`Plan.keys`: what it has locked; empty if the journal cannot say."""
    since: float
    """Unix time of the first record."""
    running: bool
    """True while its runner lives."""
    reason: str
    """Where it stands, in one sentence."""


def unfinished(folder: Path, *, alive: Callable[[Record], bool] | None = None) -> list[Unfinished]:
    """The removals in `folder` that wait for `resume` or `undo`, or are under way; oldest first.

    A journal whose runner died before it changed anything is not listed. One that cannot be read is: nobody knows
    what it holds.
    """
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            records = read(path)
        except JournalError as error:
            found.append(Unfinished(path, "", (), 0.0, False, f"The journal cannot be read: {error}"))
            continue
        entry = _unfinished(path, records, alive or runner_alive)
        if entry is not None:
            found.append(entry)
    return sorted(found, key=lambda entry: entry.since)


def _unfinished(path: Path, records: tuple[Record, ...], alive: Callable[[Record], bool]) -> Unfinished | None:
    if not records:
        return None
    last = records[-1]
    if last.outcome in FINAL:
        return None
    runs = [record for record in records if record.kind is Kind.RUN]
    running = bool(runs) and last.kind is not Kind.END and alive(runs[-1])
    plan = records[0].data
    changing = set(plan.get("changing", ()))
    begun = any(record.step in changing for record in records)
    if not begun and not running:
        return None
    name = str(plan.get("plan", {}).get("name", ""))
    keys = tuple(str(key) for key in plan.get("keys", ()))
    reason = last.text if last.kind is Kind.END else ("It is under way." if running else "Its runner died.")
    return Unfinished(path, name, keys, records[0].at, running, reason)


def runner_alive(run: Record) -> bool:
    """Whether the process that wrote this `run` record still lives."""
    if run.boot != boot_id():
        return False
    started = process_start(int(run.data.get("pid", 0)))
    return started is not None and started == run.data.get("started")


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _read(path: Path) -> tuple[list[Record], int]:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from error
    if len(data) > _LIMIT:
        raise JournalError(f"{path} is larger than any journal; it is not read.")
    return _parse(data, path, 0)


def _parse(data: bytes, path: Path, number: int) -> tuple[list[Record], int]:
    """Whole records at the start of `data`, and how many bytes they take."""
    records: list[Record] = []
    used = 0
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            record = Record.from_line(line)
        except JournalError as error:
            raise JournalError(f"{path}: line {number + 1} is damaged: {error}") from error
        if record.number != number:
            raise JournalError(f"{path}: record {record.number} stands where {number} was expected.")
        records.append(record)
        number += 1
        used += len(line)
    return records, used


def _sync_folder(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        raise JournalError(f"{folder}: {error.strerror}") from error
