"""What the engine has to know about an attached disk to find it again, and the file in which it is kept.

The file (`attached.json` in the runtime folder) holds no secrets. It is written before a thing is made and after it is
gone, so that the next engine recognises what a dead one left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from initiator.engine import report
from initiator.errors import BadInputError, MooringError
from initiator.model import Disk, DiskState, Portal, Source

FILE_NAME = "attached.json"
FOLDER_NAME = "disks"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """Who a logical unit is. Two units are the same only if all of `wwid`, `designators` and sizes agree."""

    lun: int
    wwid: str | None
    designators: tuple[str, ...]
    size_bytes: int
    block_bytes: int
    read_only: bool = False
    write_cache: bool | None = None
    thin: bool | None = None
    vendor: str | None = None
    product: str | None = None
    revision: str | None = None
    serial: str | None = None

    def as_disk(self, disk: str, name: str, target: str | None) -> Disk:
        """What is known of it without asking its target."""
        return Disk(
            id=disk,
            name=name,
            state=DiskState.UNKNOWN,
            source=Source.ENGINE,
            wwid=self.wwid,
            size_bytes=self.size_bytes or None,
            target=target,
            lun=self.lun,
            designators=self.designators,
            vendor=self.vendor,
            product=self.product,
            revision=self.revision,
            serial=self.serial,
            block_bytes=self.block_bytes or None,
            read_only=self.read_only,
            write_cache=self.write_cache,
            thin=self.thin,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Takeover:
    """What a worker is told that opens a disk in place of one that is gone."""

    unit: Unit
    """What was served, and has to be there again."""
    exposed: bool
    """Whether the kernel was told that writes are done which no flush has covered."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One session that a worker keeps: the number in its id, its portal, its ISID (twelve hexadecimal digits)."""

    number: int
    portal: Portal
    isid: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerConfig:
    """All that a worker needs to log in. It is handed over sockets only: it holds secrets."""

    key: int
    target: str
    initiator: str
    routes: tuple[Route, ...] = ()
    chap_user: str | None = None
    chap_secret: str | None = dataclasses.field(default=None, repr=False)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chap_target_user: str | None = None
    chap_target_secret: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Attachment:
    """One logical unit as a block device: a FUSE mount with one file, and a loop device on that file."""

    disk: str
    """The id of the disk in the model."""
    name: str
    target: str
    unit: Unit
    mountpoint: str
    file: str
    mount_dev: str | None = None
    """`0:N` of the mount; N is the number of its FUSE connection."""
    device: str | None = None
    dev: str | None = None
    diskseq: int | None = None
    offline: bool = False
    boot: str = ""
    """The boot in which it was made (boot_id): device numbers mean nothing in another one."""
    worker: int | None = None
    """Process id of the worker that served it last."""
    worker_started: int | None = None
    """Its start time in clock ticks since boot (/proc/PID/stat), as a process id may be used again."""


def check_name(name: str) -> str:
    """A name that can be a folder and be typed without quotes.

    Raises:
        BadInputError: it is not one.
    """
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be the name of a disk", fix="use up to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def default_name(target: str, lun: int) -> str:
    """What a disk is called that nobody named: the last part of the target's name, and the LUN."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", target.rpartition(":")[2] or target).strip("-._")[-48:]
    return f"{last or 'disk'}-lun{lun}"


def disk_id(wwid: str | None, target: str, lun: int) -> str:
    """The id of a disk of the engine; without an identity of its own it is its place that names it."""
    return f"engine:d:{wwid or f'{target}#{lun}'}"


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] != "Z" else None


def save(folder: Path, attachments: tuple[Attachment, ...]) -> None:
    """Write the list as `write` does."""
    write(folder / FILE_NAME, json.dumps({"schema": 1, "attached": report.to_json(attachments)}))


def write(path: Path, text: str) -> None:
    """Write a file, all of it or nothing, and have it on disk before this returns.

    Raises:
        OSError: its folder cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    os.replace(fresh, path)


def load(folder: Path) -> tuple[Attachment, ...]:
    """The list that the last engine wrote.

    Raises:
        MooringError: it cannot be read, so that nobody knows what was attached; code `bad-report`.
    """
    path = folder / FILE_NAME
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise MooringError(f"{path} cannot be read: {error}", code="bad-report", fix="look at it") from error
    found = data.get("attached", []) if isinstance(data, dict) else []
    return tuple(report.from_json(Attachment, each) for each in found)


def loops_below(folder: str) -> dict[str, str]:
    """Loop devices whose file is in `folder` or below: device node -> file, as sysfs says; no file is touched."""
    found: dict[str, str] = {}
    for name in os.listdir("/sys/block"):
        if name.startswith("loop") and (file := backing_file(f"/dev/{name}")) and file.startswith(f"{folder}/"):
            found[f"/dev/{name}"] = file
    return found


def backing_file(device: str) -> str | None:
    """The file that a loop device stands on now; None for a free one."""
    with contextlib.suppress(OSError):
        text = Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file").read_bytes()
        return os.fsdecode(text).rstrip("\n").removesuffix(" (deleted)") or None
    return None
