"""File systems on practice disks: prove which device is ours, make ext4 on it, mount it, put sample files there.

A file system is made only on a device that passes three tests: the engine reports it under the WWID of our own
configuration, sysfs agrees about what it is, and a token that was written into our backing file is read back through
the device. Everything that can hang in the kernel runs in a child with a deadline.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from initiator.engine.client import EngineClient
from initiator.errors import MooringError, RefusedError
from initiator.host.run import Finished, run
from initiator.practice.config import DiskConfig

MOUNTED = ("data", "vault")
"""The disks of the standard range that get a file system; `logs` stays bare."""

TOKEN_BYTES = 4096
_DEADLINE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """The block device of a practice disk, as sysfs describes it.

    Attributes:
        path: `/dev/loop3`.
        dev: `major:minor`.
        diskseq: The kernel's serial number of the disk; None before Linux 5.15.
        backing: What the loop device is made of.
    """

    path: str
    dev: str
    diskseq: int | None
    backing: str
    size_bytes: int

    def details(self) -> dict[str, str | int | None]:
        """For the record."""
        return {"device": self.path, "dev": self.dev, "diskseq": self.diskseq, "backing": self.backing}


def describe(path: str, root: Path = Path("/")) -> Device:
    """What sysfs says of a loop device now.

    Raises:
        RefusedError: it is no loop device, or it has no backing file.
    """
    folder = root / "sys/block" / Path(path).name
    try:
        return Device(
            path=path,
            dev=_read(folder / "dev"),
            diskseq=int(_read(folder / "diskseq")) if (folder / "diskseq").exists() else None,
            backing=_read(folder / "loop/backing_file"),
            size_bytes=int(_read(folder / "size")) * 512,
        )
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} is not an attached loop device: {error}", code="identity") from error


def identify(disk: DiskConfig, engine: EngineClient, root: Path = Path("/")) -> Device:
    """The block device that the engine made of this very disk.

    Raises:
        RefusedError: the engine does not report exactly one device with the disk's WWID, or sysfs contradicts.
    """
    found = [item for item in engine.snapshot().disks if item.wwid == disk.wwid and item.device is not None]
    if len(found) != 1 or found[0].device is None:
        raise RefusedError(f"the engine reports {len(found)} devices for {disk.name} ({disk.wwid})", code="identity")
    device = describe(found[0].device, root)
    if device.size_bytes != disk.size_bytes or (found[0].dev is not None and found[0].dev != device.dev):
        raise RefusedError(f"{device.path} is not what the engine says about {disk.name}", code="identity")
    return device


def token(disk: DiskConfig) -> bytes:
    """What a fresh backing file begins with: printable, and bound to the disk's uuid."""
    line = f"mooring practice disk {disk.name} {disk.uuid}\n".encode()
    return (line * (TOKEN_BYTES // len(line) + 1))[:TOKEN_BYTES]


def write_token(disk: DiskConfig) -> None:
    """Mark a fresh backing file.

    Raises:
        RefusedError: something has been written there already.
    """
    fd = os.open(disk.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if any(os.pread(fd, TOKEN_BYTES, 0)):
            raise RefusedError(f"{disk.path} is not a fresh backing file", code="identity")
        os.pwrite(fd, token(disk), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def prove(disk: DiskConfig, device: Device) -> None:
    """Read the token back through the block device.

    Raises:
        RefusedError: something else is there: this is not the disk that was just made.
    """
    argv = ["dd", f"if={device.path}", f"bs={TOKEN_BYTES}", "count=1", "iflag=direct", "status=none"]
    if run(argv, _DEADLINE_S).stdout.encode("utf-8", "surrogateescape") != token(disk):
        text = f"{device.path} does not hold what was written into {disk.path}: no file system is made on it"
        raise RefusedError(text, code="identity")


def make_filesystem(device: Device, label: str) -> None:
    """ext4 with everything initialised now, so that nothing is written behind the user's back later."""
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _must(run(["mkfs.ext4", "-q", "-E", options, "-L", label, device.path], _DEADLINE_S), f"mkfs.ext4 {device.path}")


def mount(device: Device, point: Path) -> None:
    """Mount without device nodes and set-uid programs."""
    argv = ["mount", "-t", "ext4", "-o", "nodev,nosuid", device.path, str(point)]
    _must(run(argv, _DEADLINE_S), f"mount {device.path} on {point}")


def fill(point: Path, name: str) -> None:
    """Put a few files with checksums on a volume and see them on stable storage."""
    for file, content in _samples(name).items():
        command = ["tee", str(point / file)]
        _must(run(command, _DEADLINE_S, input=content), f"write {point / file}")
    _must(run(["sync", "-f", str(point)], _DEADLINE_S), f"sync {point}")


def _samples(name: str) -> dict[str, str]:
    log = "".join(f"{number:06d} the tide at {name} is {hash_of(name, number)}\n" for number in range(20_000))
    letter = "This volume belongs to a practice range. Pull its cable, remove it, break it: nothing of yours is here.\n"
    files = {"README": letter, "tides.log": log}
    sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {file}\n" for file, text in files.items())
    return {**files, "SHA256SUMS": sums}


def hash_of(name: str, number: int) -> str:
    """A repeatable piece of text, so that a file is not one block of zeroes."""
    return hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:32]


def _must(finished: Finished, what: str) -> None:
    if finished.returncode:
        words = " ".join(finished.stderr.split())[:300]
        raise MooringError(f"{what}: {words or finished.returncode}", code="practice-volume")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
