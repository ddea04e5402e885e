"""What becomes of data when the cable is pulled under a mounted volume: shown for real on the bare practice disk.

A volume is made on it, one file is written and synced, another one is written as programs write: into memory, to go to
the disk later. Then the device loses its disk, as it does when somebody logs out under a mount. What is left of the two
files is read back from the disk afterwards; nothing here is told that was not measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path

from initiator import places
from initiator.engine import kernel
from initiator.engine.client import EngineClient
from initiator.errors import MooringError, RefusedError
from initiator.host.run import run
from initiator.model import DiskState
from initiator.practice import config as configs
from initiator.practice import making, volumes
from initiator.practice.making import Say
from initiator.practice.record import Kind, Recorder
from initiator.practice.volumes import Device

DISK = "logs"
LETTER_BYTES = 16 << 20
_KEPT = "This was synced before the cable was pulled.\n"
_DEADLINE_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """What came of it.

    Attributes:
        synced_kept: Whether the file that was synced is whole.
        written: Bytes that a program had written and was told "done" for.
        arrived: How many of them the disk has.
        said: What `sync` answered after the cable was pulled.
    """

    synced_kept: bool
    written: int
    arrived: int
    said: str

    def __str__(self) -> str:
        kept = "whole" if self.synced_kept else "lost"
        return (
            f"The file that was synced is {kept}. Of the letter {self.written} bytes were written and reported as done;"
            f" {self.arrived} are on the disk. The first word of it came afterwards, to whoever asked: {self.said}."
        )


def disaster(book: Recorder, say: Say, engine: EngineClient | None = None) -> Loss:
    """Lose data on the practice disk `logs`; afterwards it is bare and attached again, as it was.

    Raises:
        RefusedError: there is no range with that disk attached and unmounted.
        MooringError: a part of it went wrong; `mooring practice stop` ends what is left.
    """
    client = engine or EngineClient()
    found = book.load()
    if found is None or not found.config or not Path(found.config).exists():
        raise RefusedError("there is no practice range", code="not-running", fix="mooring practice")
    built = configs.load(Path(found.config))
    disk = built.disk(DISK)
    device = volumes.identify(disk, client)
    point = Path(found.folder) / "volumes" / DISK
    if kernel.mounted_at(str(point)) is not None:
        raise RefusedError(f"something is mounted at {point}", code="mounted", fix="mooring practice stop")
    say(f"making a volume on {DISK} ({device.path}) and mounting it at {point}")
    volumes.make_filesystem(device, DISK)
    _mount(book, device, point)
    letter = _write(point, say)
    said = _pull(disk.name, point, say)
    _unmount(book, point)
    device = _attach_again(book, built, client, say)
    _mount(book, device, point)
    loss = _count(point, letter, said)
    _unmount(book, point)
    _make_bare(disk, device)
    return loss


def _mount(book: Recorder, device: Device, point: Path) -> None:
    book.add(Kind.FOLDER, str(point.parent))
    book.add(Kind.FOLDER, str(point))
    point.mkdir(mode=0o755, parents=True, exist_ok=True)
    book.add(Kind.MOUNT, str(point), device=device.path, dev=device.dev, disk=DISK)
    volumes.mount(device, point)
    book.done(Kind.MOUNT, str(point))


def _unmount(book: Recorder, point: Path) -> None:
    done = run(["umount", str(point)], _DEADLINE_S)
    if kernel.mounted_at(str(point)) is not None:
        raise MooringError(f"{point} cannot be unmounted: {done.stderr.strip()}", code="practice-volume")
    book.forget(Kind.MOUNT, str(point))


def _write(point: Path, say: Say) -> bytes:
    say("writing a file and syncing it: this one is on the disk")
    kept = point / "kept"
    _must(["tee", str(kept)], _KEPT, f"write {kept}")
    _must(["sync", "-f", str(point)], None, f"sync {point}")
    say(f"writing a letter of {LETTER_BYTES >> 20} MiB: the program is told “done”, the kernel writes it later")
    line = hashlib.sha256(b"letter").hexdigest() + "\n"
    text = (line * (LETTER_BYTES // len(line) + 1))[:LETTER_BYTES]
    _must(["tee", str(point / "letter")], text, f"write {point / 'letter'}")
    return text.encode()


def _pull(name: str, point: Path, say: Say) -> str:
    """Take the disk from under the volume, as a logout does, and ask for a sync."""
    say("logging out under the mounted volume")
    mount = kernel.mounted_at(str(places.runtime_dir() / "disks" / name))
    if mount is None or not kernel.abort(kernel.abort_path(mount.dev)):
        raise MooringError(f"the device of {name} cannot be cut off", code="practice-volume")
    done = run(["sync", "-f", str(point)], _DEADLINE_S)
    said = " ".join(done.stderr.split()).rpartition(": ")[2] or f"exit code {done.returncode}"
    say(f"sync answers: {said}")
    return said


def _attach_again(book: Recorder, built: configs.RangeConfig, client: EngineClient, say: Say) -> Device:
    wwid = built.disk(DISK).wwid
    end = time.monotonic() + _DEADLINE_S
    while not (dead := [d.id for d in client.snapshot().disks if d.wwid == wwid and d.state is DiskState.DEAD]):
        if time.monotonic() > end:
            raise MooringError(f"the engine does not notice that {DISK} is cut off", code="practice-volume")
        time.sleep(0.05)
    client.call("cleanup", timeout=_DEADLINE_S, disk=dead[0])
    say("plugging the cable in again")
    making.attach_one(book, built, DISK, client)
    return volumes.identify(built.disk(DISK), client)


def _count(point: Path, letter: bytes, said: str) -> Loss:
    kept = run(["cat", str(point / "kept")], _DEADLINE_S).stdout == _KEPT
    found = run(["cat", str(point / "letter")], _DEADLINE_S).stdout.encode()
    return Loss(kept, len(letter), len(letter) if found == letter else _same(found, letter), said)


def _same(found: bytes, letter: bytes) -> int:
    """How many bytes of the letter are what they should be."""
    return sum(a == b for a, b in zip(found, letter, strict=False))


def _make_bare(disk: configs.DiskConfig, device: Device) -> None:
    """The disk begins with its token again, and with no file system."""
    argv = ["dd", f"of={device.path}", f"bs={volumes.TOKEN_BYTES}", "count=1", "oflag=direct", "status=none"]
    _must(argv, volumes.token(disk).decode(), f"clear {device.path}")


def _must(argv: list[str], text: str | None, what: str) -> None:
    done = run(argv, _DEADLINE_S, input=text)
    if done.returncode:
        raise MooringError(f"{what}: {' '.join(done.stderr.split())[:300]}", code="practice-volume")
