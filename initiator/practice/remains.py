"""What a killed practice range left behind: find it, say it precisely, take away what is proved dead.

Only things of the record are looked at, and the kernel's state is believed, not the record: a device number that now
belongs to somebody else is not ours any more.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from pathlib import Path

from initiator.engine.client import EngineClient
from initiator.errors import MooringError, RefusedError
from initiator.host.run import run
from initiator.model import Disk, DiskState
from initiator.practice.process import TargetProcess
from initiator.practice.record import Kind, Record, Thing, boot_id
from initiator.practice.volumes import describe

_DEADLINE_S = 10.0
_CLEANUP_S = 30.0
_ADOPTION_S = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that is still there.

    Attributes:
        name: A path, a disk's name, a target's name.
        text: What remains, in one sentence fit for the screen.
        dead: True when nothing serves it any more, so that `cleanup_dead` may take it away.
        fix: The command that takes it away.
    """

    kind: Kind
    name: str
    text: str
    dead: bool
    fix: str


@dataclasses.dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo, as far as it matters here."""

    point: str
    dev: str
    source: str


def mounts(root: Path = Path("/")) -> tuple[Mounted, ...]:
    """The mounts of our own namespace, in the order in which they were made (proc(5), mountinfo)."""
    found = []
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        source = fields[fields.index("-") + 2]
        found.append(Mounted(_plain(fields[4]), fields[2], _plain(source)))
    return tuple(found)


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def find(record: Record, engine: EngineClient) -> tuple[Leftover, ...]:
    """Everything of the record that is still there, in the order in which it has to go."""
    found: list[Leftover] = []
    if record.boot == boot_id():
        found += _mounted(record, engine)
        found += _attached(record, engine)
        process = TargetProcess.of(record)
        if process is not None:
            text = f"the practice target still runs (process {process.pid})"
            found.append(Leftover(Kind.PROCESS, "target", text, False, "mooring practice stop"))
    for thing in (*record.of(Kind.FILE), *record.of(Kind.FOLDER)):
        if os.path.lexists(thing.name):
            text = f"the {thing.kind} {thing.name} is still there"
            found.append(Leftover(thing.kind, thing.name, text, False, "mooring practice stop"))
    return tuple(found)


def refuse_mounted(record: Record) -> None:
    """Say no while anything is mounted at or below the folder of the range.

    Raises:
        RefusedError: naming the mount.
    """
    inside = record.folder.rstrip("/") + "/"
    for mount in mounts():
        if mount.point.startswith(inside) or mount.point == record.folder:
            text = f"{mount.source} is still mounted on {mount.point}"
            raise RefusedError(text, code="mounted", fix="mooring practice stop")


def refuse_attached(record: Record) -> None:
    """Say no while a block device of the range is still there, whatever the engine says or does not say.

    Raises:
        RefusedError: naming the disk.
    """
    for thing in record.of(Kind.ATTACH) if record.boot == boot_id() else ():
        if _same_device(thing):
            text = f"disk {thing.name} is still attached as {thing.text('device')}"
            raise RefusedError(text, code="attached", fix=f"mooring remove {thing.name}")


def _mounted(record: Record, engine: EngineClient) -> list[Leftover]:
    found = []
    now = {mount.point: mount for mount in reversed(mounts())}
    for thing in reversed(record.of(Kind.MOUNT)):
        mount = now.get(thing.name)
        if mount is not None and mount.dev == thing.text("dev"):
            disk = thing.text("disk")
            attach = record.find(Kind.ATTACH, disk)
            dead = attach is not None and _is_dead(attach, engine)
            what = "; nothing serves it any more" if dead else ""
            text = f"the volume {mount.point} of disk {disk} is still mounted from {mount.source}{what}"
            fix = "mooring practice stop" if dead else f"mooring remove {disk}"
            found.append(Leftover(Kind.MOUNT, thing.name, text, dead, fix))
    return found


def _attached(record: Record, engine: EngineClient) -> list[Leftover]:
    found = []
    for thing in reversed(record.of(Kind.ATTACH)):
        device = thing.text("device") if _same_device(thing) else _device_by_engine(thing, engine)
        if not device:
            continue
        dead = _is_dead(thing, engine)
        what = "but nothing serves it any more" if dead else "and may still be served"
        text = f"disk {thing.name} is still attached as {device}, {what}"
        fix = "mooring practice stop" if dead else f"mooring remove {thing.name}"
        found.append(Leftover(Kind.ATTACH, thing.name, text, dead, fix))
    return found


def _device_by_engine(attach: Thing, engine: EngineClient) -> str:
    """The device of a disk whose attaching began but did not get into the record; empty where the engine has none."""
    if attach.done:
        return ""
    try:
        disk = _reported(attach, engine)
    except MooringError:
        return ""
    return "" if disk is None else disk.device or ""


def _same_device(attach: Thing) -> bool:
    """True if the recorded loop device still is what it was: same number, same disk, same backing file."""
    if not attach.text("device"):
        return False
    try:
        device = describe(attach.text("device"))
    except RefusedError:
        return False
    return device.details() == {key: attach.details.get(key) for key in device.details()}


def _is_dead(attach: Thing, engine: EngineClient) -> bool:
    """True only if nothing can serve the disk any more; "not known" is False.

    A running engine says so itself. Without one, the FUSE file below the loop device has to answer "not connected"
    (ENOTCONN); a child asks, with a deadline, because a frozen server makes the question hang.
    """
    try:
        if engine.running():
            return _state(attach, engine) is DiskState.DEAD
        asked = run(["stat", "--file-system", os.path.dirname(attach.text("backing"))], _DEADLINE_S)
    except MooringError:
        return False
    return asked.returncode != 0 and asked.stderr.strip().endswith("Transport endpoint is not connected")


def _state(attach: Thing, engine: EngineClient) -> DiskState | None:
    """What the engine says of a recorded disk; None where it knows none."""
    disk = _reported(attach, engine)
    return None if disk is None else disk.state


def _reported(attach: Thing, engine: EngineClient) -> Disk | None:
    disks = engine.snapshot().disks
    return next((disk for disk in disks if disk.wwid == attach.text("wwid") and disk.device is not None), None)


def present(record: Record) -> tuple[Thing, ...]:
    """The recorded disks whose block device is still there and the same, or of which that is not known."""
    if record.boot != boot_id():
        return ()
    return tuple(thing for thing in record.of(Kind.ATTACH) if not thing.done or _same_device(thing))


def cleanup_dead(record: Record, engine: EngineClient) -> tuple[str, ...]:
    """Unmount and take away the disks that nothing serves any more. Never lazy, never forced.

    The engine is started for it if it does not run: it knows what it has left itself, and its workers may still live.
    """
    left = present(record)
    if not left:
        return ()
    engine.ensure()
    done: list[str] = []
    for attach in left:
        if _settled(attach, engine) is not DiskState.DEAD:
            continue
        recorded = {thing.name for thing in record.of(Kind.MOUNT) if thing.text("dev") == attach.text("dev")}
        points = [m.point for m in reversed(mounts()) if m.point in recorded and m.dev == attach.text("dev")]
        disk = _reported(attach, engine)
        if disk is not None and all(_done(["umount", point], done) for point in points):
            answer = engine.call("cleanup", timeout=_CLEANUP_S, disk=disk.id)
            done += [f"{attach.name}: {text}" for text in answer["evidence"]]
    return tuple(done)


def _settled(attach: Thing, engine: EngineClient) -> DiskState | None:
    """The state of a disk, after a fresh engine has waited for the workers of the last one."""
    deadline = time.monotonic() + _ADOPTION_S
    while (state := _state(attach, engine)) is DiskState.UNKNOWN and time.monotonic() < deadline:
        time.sleep(0.1)
    return state


def _done(argv: list[str], log: list[str]) -> bool:
    finished = run(argv, _DEADLINE_S)
    ok = finished.returncode == 0
    log.append(" ".join(argv) if ok else f"{' '.join(argv)}: {' '.join(finished.stderr.split())}")
    return ok


def remove_files(record: Record) -> tuple[str, ...]:
    """Delete the recorded files, then the recorded folders if they are empty; returns what had to stay, and why."""
    kept = []
    deepest_first = sorted(record.of(Kind.FOLDER), key=lambda thing: thing.name.count("/"), reverse=True)
    for thing in (*record.of(Kind.FILE), *deepest_first):
        remove = os.unlink if thing.kind is Kind.FILE else os.rmdir
        try:
            remove(thing.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            kept.append(f"{thing.name}: {error.strerror}")
    return tuple(kept)
