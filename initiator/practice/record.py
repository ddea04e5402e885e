"""The record of a practice range: what it is about to make, on stable storage before it is made.

A range that is killed leaves targets, disks and mounts behind. Only what stands in the record is ever touched by a
later clean-up, and only after the kernel's own state agrees with the record.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from initiator.errors import MooringError
from initiator.stable import sync_folder

SCHEMA = 1
Detail = str | int | None


class RecordError(MooringError):
    """The record cannot be read, so nobody knows what a range has made."""

    code = "practice-record"


class Kind(enum.StrEnum):
    """The sorts of thing that a range makes, in the order in which it makes them."""

    FOLDER = "folder"
    FILE = "file"
    PROCESS = "process"
    SESSIONS = "sessions"
    ATTACH = "attach"
    FILESYSTEM = "filesystem"
    MOUNT = "mount"


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """One thing that was made, or was about to be made when the record ends with it.

    Attributes:
        name: A path, a disk's name or a target's name.
        done: False while nobody has written down that the making ended.
    """

    kind: Kind
    name: str
    done: bool = False
    details: Mapping[str, Detail] = dataclasses.field(default_factory=dict)

    def text(self, key: str) -> str:
        """A detail as text, empty where it is not known."""
        value = self.details.get(key)
        return "" if value is None else str(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Everything that one range has made, in order."""

    folder: str
    config: str
    created_at: float
    boot: str
    things: tuple[Thing, ...] = ()

    def of(self, kind: Kind) -> tuple[Thing, ...]:
        """The things of one sort."""
        return tuple(thing for thing in self.things if thing.kind is kind)

    def find(self, kind: Kind, name: str) -> Thing | None:
        """The thing of that sort and name."""
        return next((thing for thing in self.of(kind) if thing.name == name), None)


def boot_id(root: Path = Path("/")) -> str:
    """What the kernel calls this boot; empty where it does not say."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Recorder:
    """The record file. Every change is on stable storage when the method returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, folder: Path, config: Path) -> Record:
        """Start a record; a record that exists is replaced, so look at it first."""
        record = Record(str(folder), str(config), time.time(), boot_id())
        self._save(record)
        return record

    def load(self) -> Record | None:
        """The record, or None where there is none.

        Raises:
            RecordError: it exists and cannot be understood.
        """
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if document["schema"] != SCHEMA:
                raise RecordError(f"{self.path}: written by another version of Mooring (schema {document['schema']!r})")
            things = tuple(
                Thing(Kind(item["kind"]), str(item["name"]), bool(item["done"]), dict(item["details"]))
                for item in document["things"]
            )
            return Record(
                str(document["folder"]),
                str(document["config"]),
                float(document["created_at"]),
                str(document["boot"]),
                things,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"{self.path}: the record of a practice range cannot be read ({type(error).__name__}: {error})",
                fix="look for mounts and loop devices of the range by hand, then delete the file",
            ) from error

    def add(self, kind: Kind, name: str, **details: Detail) -> None:
        """Write down that a thing is about to be made; one that stands there already is begun anew in its place."""
        record = self._have()
        fresh = Thing(kind, name, False, details)
        if record.find(kind, name) is None:
            self._save(dataclasses.replace(record, things=(*record.things, fresh)))
        else:
            self._replace(record, fresh)

    def done(self, kind: Kind, name: str, **details: Detail) -> None:
        """Write down that it was made, with what is known only now."""
        record = self._have()
        begun = record.find(kind, name) or Thing(kind, name)
        self._replace(record, dataclasses.replace(begun, done=True, details={**begun.details, **details}))

    def _replace(self, record: Record, fresh: Thing) -> None:
        key = (fresh.kind, fresh.name)
        things = tuple(fresh if (thing.kind, thing.name) == key else thing for thing in record.things)
        self._save(dataclasses.replace(record, things=things))

    def forget(self, kind: Kind, name: str) -> None:
        """Write down that it is gone."""
        record = self._have()
        kept = tuple(thing for thing in record.things if (thing.kind, thing.name) != (kind, name))
        self._save(dataclasses.replace(record, things=kept))

    def end(self) -> None:
        """Nothing is left: remove the record."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _have(self) -> Record:
        record = self.load()
        if record is None:
            raise RecordError(f"{self.path}: the record of the practice range has vanished")
        return record

    def _save(self, record: Record) -> None:
        document = {"schema": SCHEMA, **dataclasses.asdict(record)}
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync_folder(self.path.parent)
