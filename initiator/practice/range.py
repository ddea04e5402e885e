"""`mooring practice`: make a range, say what it is, find what a killed one left behind.

Everything here blocks and is meant for a command line or a worker thread. Each thing is written to the record
(`record.py`) before it is made. Removing an attached disk is not done here: that is the business of the removal
sequence, for practice disks as for real ones. The order of a clean end is therefore:

    remove every disk in `attached()` by the removal sequence -> `log_out()` -> `stop_target()` -> `remove_folder()`
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from initiator import places
from initiator.engine.client import EngineClient
from initiator.errors import MooringError, RefusedError
from initiator.model import Disk, DiskState, Portal
from initiator.practice import config as configs
from initiator.practice import control, making, remains
from initiator.practice import faults as table
from initiator.practice.making import Say
from initiator.practice.process import TargetProcess
from initiator.practice.record import Kind, Record, Recorder


@dataclasses.dataclass(frozen=True, slots=True)
class RangeDisk:
    """One disk of the range, and where it went. `device` and `mountpoint` are None where there is none."""

    name: str
    wwid: str
    size_bytes: int
    target: str
    lun: int
    file: str
    device: str | None = None
    mountpoint: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RangeInfo:
    """What a range has made.

    Attributes:
        folder: Holds the backing files, the configuration with the CHAP secret (mode 0600), the log, the volumes.
        pid: The target process.
        chap: Names of the targets that ask for CHAP, and the user that they expect.
        notes: What was left out, and why.
    """

    folder: Path
    pid: int | None
    portals: tuple[Portal, ...]
    targets: tuple[str, ...]
    disks: tuple[RangeDisk, ...]
    chap: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


# --- what is there -------------------------------------------------------------------------------------------------


def recorder() -> Recorder:
    """The record of this user's range."""
    return Recorder(places.runtime_dir() / "practice.json")


def record() -> Record | None:
    """What the record says, or None where no range was made."""
    return recorder().load()


def control_socket() -> Path:
    """Where a running target listens for orders."""
    return places.runtime_dir() / "practice.sock"


def running() -> bool:
    """True while the target process of the record lives and answers."""
    found = record()
    if found is None or not TargetProcess.alive_in(found):
        return False
    try:
        control.ask(control_socket(), "status", timeout=2.0)
    except MooringError:
        return False
    return True


def current() -> RangeInfo | None:
    """What the range of the record is, whether or not it still lives; None where there is no record."""
    found = record()
    if found is None or not Path(found.config).exists():
        return None
    return _info(found, configs.load(Path(found.config)))


def attached(engine: EngineClient | None = None) -> tuple[Disk, ...]:
    """The disks of this range that the engine has as block devices now: each has to be removed by the sequence."""
    found = record()
    client = engine or EngineClient()
    if found is None or not client.running():
        return ()
    wwids = {thing.text("wwid") for thing in found.of(Kind.ATTACH)}
    return tuple(
        disk
        for disk in client.snapshot().disks
        if disk.wwid in wwids and disk.device is not None and disk.state is not DiskState.DEAD
    )


def leftovers() -> tuple[remains.Leftover, ...]:
    """What a range that is not running any more left behind; empty while one is running or none was made."""
    found = record()
    if found is None or running():
        return ()
    return remains.find(found, EngineClient())


# --- faults --------------------------------------------------------------------------------------------------------


def faults() -> tuple[table.Fault, ...]:
    """The table of faults: each with `name`, `args`, `usage` and an explanation, `text`."""
    return table.FAULTS


def fault(name: str, args: Sequence[str] = ()) -> str:
    """Give the running range a fault and return one sentence that says what holds now.

    Raises:
        BadInputError: no such fault, portal, disk or value; the text offers the nearest.
        NotRunningError: no range is running.
        PracticeError: the fault cannot be had now, with the reason.
    """
    table.find(name)
    return str(control.ask(control_socket(), "fault", name=name, args=list(args)))


def status() -> dict[str, object]:
    """What the running target says of itself: portals, disks, sessions and the faults in force."""
    answer = control.ask(control_socket(), "status")
    return dict(answer)


# --- make ----------------------------------------------------------------------------------------------------------


def start(folder: Path | None = None, *, attach: bool | None = None, say: Say = lambda text: None) -> RangeInfo:
    """Make a range: the target, sessions over both portals, and when root the disks with two volumes.

    Args:
        folder: An empty or missing folder to make it in; None for a fresh temporary one.
        attach: False leaves out block devices and volumes; None means "when root".
        say: Told each step in one sentence.

    Raises:
        RefusedError: a range is running (`practice-running`), one left things behind (`leftovers`), or the folder is
            not empty.
        MooringError: a step failed. What was made until then is taken away at once, unless a disk is attached
            already: then it stays in the record, and `mooring practice stop` ends it.
    """
    with _only_one():
        _refuse_second()
        book = recorder()
        base = making.make_folder(book, folder)
        notes = [] if os.geteuid() == 0 else ["not root: sessions only, no block device and no volume"]
        wanted = os.geteuid() == 0 if attach is None else attach
        try:
            built = making.serve(book, base, control_socket(), say)
            engine = EngineClient()
            engine.ensure()
            if wanted:
                making.attach(book, built, engine, say)
                making.make_volumes(book, built, engine, say)
            else:
                making.log_in(book, built, engine, say)
        except MooringError as error:
            _give_up()
            if record() is not None:
                error.fix = error.fix or "mooring practice stop"
            raise
        found = record()
        assert found is not None, "the record was just written"
        return dataclasses.replace(_info(found, built), notes=tuple(notes))


def _refuse_second() -> None:
    if running():
        raise RefusedError("a practice range is already running", code="practice-running", fix="mooring practice stop")
    if left := leftovers():
        listed = "; ".join(item.text for item in left)
        raise RefusedError(
            f"an earlier range left things behind: {listed}", code="leftovers", fix="mooring practice stop"
        )
    recorder().end()


def _give_up() -> None:
    """After a failed start: take away what needs no removal sequence. The first refusal ends it."""
    with contextlib.suppress(MooringError):
        log_out()
        stop_target()
        remove_folder()


# --- end -----------------------------------------------------------------------------------------------------------


def log_out(engine: EngineClient | None = None) -> tuple[str, ...]:
    """End the engine's sessions to this range that carry no attached disk; returns their names.

    The engine itself refuses the logout of a session with an attached disk, and that refusal is passed on.
    """
    found = record()
    client = engine or EngineClient()
    if found is None or not client.running():
        return ()
    built = configs.load(Path(found.config))
    targets = {target.name for target in built.targets}
    portals = {(portal.host, portal.port) for portal in built.portals}
    names = []
    for session in client.snapshot().sessions:
        if session.target in targets and (session.portal.host, session.portal.port) in portals:
            client.call("logout", timeout=20.0, session=session.id)
            names.append(session.name)
    return tuple(names)


def stop_target(engine: EngineClient | None = None) -> None:
    """End the target process of the record and see it gone.

    Raises:
        RefusedError: a disk of the range is still attached (`attached`), or the engine does not say (`unknown`).
    """
    found = record()
    if found is None:
        return
    try:
        held = attached(engine)
    except MooringError as error:
        raise RefusedError(f"whether a practice disk is attached is not known: {error}", code="unknown") from error
    if held:
        names = ", ".join(disk.name for disk in held)
        raise RefusedError(f"still attached: {names}", code="attached", fix=f"mooring remove {held[0].name}")
    remains.refuse_mounted(found)
    remains.refuse_attached(found)
    process = TargetProcess.of(found)
    if process is not None:
        process.stop(control_socket())
    recorder().forget(Kind.PROCESS, "target")


def remove_folder() -> tuple[str, ...]:
    """Delete what the record says was made in the folder, then the record; returns what was kept as not ours.

    Raises:
        RefusedError: the target still runs, or a volume of the range is still mounted.
    """
    found = record()
    if found is None:
        return ()
    if TargetProcess.of(found) is not None:
        raise RefusedError("the practice target still runs", code="practice-running", fix="mooring practice stop")
    remains.refuse_mounted(found)
    kept = remains.remove_files(found)
    recorder().end()
    return kept


def cleanup_dead() -> tuple[str, ...]:
    """After something was killed: make what is left fit for the removal sequence, or take it away.

    A dead target is started again if the engine still serves disks of the range, so that they can be removed without
    loss. Mounts and devices of the record that nothing serves any more are taken away.

    Returns:
        What was done, one sentence each. What could not be proved dead is left alone; `leftovers` still names it.
    """
    found = record()
    if found is None:
        return ()
    done = []
    if remains.present(found) and TargetProcess.of(found) is None and Path(found.config).exists():
        making.serve_again(recorder(), found, control_socket())
        done.append("the practice target was started again")
    return (*done, *remains.cleanup_dead(found, EngineClient()))


# --- small ---------------------------------------------------------------------------------------------------------


def _info(found: Record, built: configs.RangeConfig) -> RangeInfo:
    disks = []
    for target in built.targets:
        for lun, name in sorted(target.luns.items()):
            disk = built.disk(name)
            attach = found.find(Kind.ATTACH, name)
            point = next((thing.name for thing in found.of(Kind.MOUNT) if thing.text("disk") == name), None)
            device = attach.text("device") or None if attach else None
            disks.append(RangeDisk(name, disk.wwid, disk.size_bytes, target.name, lun, disk.path, device, point))
    process = TargetProcess.of(found)
    return RangeInfo(
        folder=Path(found.folder),
        pid=process.pid if process else None,
        portals=built.portals,
        targets=tuple(target.name for target in built.targets),
        disks=tuple(disks),
        chap=tuple((target.name, target.chap.user) for target in built.targets if target.chap),
    )


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Hold the lock of `start`: two starts at once would both find no record."""
    with open(places.runtime_dir() / "practice.lock", "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError("another `mooring practice` is starting", code="practice-running") from error
        yield
