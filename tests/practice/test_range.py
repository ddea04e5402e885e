"""A whole range: made, used, broken, ended. Removal of its disks by the sequence is tested in tests/journeys."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from initiator.engine.client import EngineClient, EngineError
from initiator.errors import BadInputError, RefusedError
from initiator.model import DiskState, SessionState
from initiator.practice import range as ranges
from initiator.practice import sitter
from initiator.practice.control import NotRunningError
from initiator.practice.disaster import disaster
from initiator.practice.process import TargetProcess
from initiator.practice.range import RangeInfo
from initiator.practice.record import Kind, Recorder, RecordError


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def end_engine() -> None:
    """The engine of this test's folders ends by itself when it is asked and holds nothing."""
    client = EngineClient()
    if client.running():
        client.call("stop", timeout=15.0)
        until(lambda: not client.running(), "the end of the engine")


def end_target() -> None:
    """End the target whatever happened, so that no process outlives the test."""
    with contextlib.suppress(RecordError):
        found = ranges.record()
        process = TargetProcess.of(found) if found else None
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(5.0)


def the_target() -> TargetProcess:
    found = ranges.record()
    assert found is not None
    process = TargetProcess.of(found)
    assert process is not None
    return process


@pytest.fixture
def sessions(own_folders: Path) -> Iterator[RangeInfo]:
    """A range without block devices."""
    info = ranges.start(own_folders / "range", attach=False)
    try:
        yield info
    finally:
        end_target()
        end_engine()


def test_a_range_of_sessions(sessions: RangeInfo) -> None:
    assert [disk.name for disk in sessions.disks] == ["data", "logs", "vault"]
    assert len(sessions.targets) == len(sessions.portals) == 2
    assert sessions.chap == ((sessions.targets[1], "keeper"),)
    assert ranges.running()
    assert ranges.leftovers() == ()
    report = EngineClient().snapshot()
    assert len(report.sessions) == 4
    assert {session.state for session in report.sessions} == {SessionState.LOGGED_IN}
    assert {disk.wwid for disk in report.disks} == {disk.wwid for disk in sessions.disks}
    assert ranges.attached() == ()
    assert ranges.current() == sessions
    with pytest.raises(RefusedError) as raised:
        ranges.start()
    assert raised.value.code == "practice-running"
    assert [fault.name for fault in ranges.faults()][:2] == ["cut", "plug"]
    assert ranges.fault("delay", [str(sessions.portals[0]), "5"]).endswith("answers 5 ms late")
    found = ranges.status()
    assert [portal["delay_ms"] for portal in found["portals"]] == [5, 0]  # type: ignore[attr-defined]
    with pytest.raises(BadInputError, match="did you mean 'delay'"):
        ranges.fault("dealy", ["1", "5"])
    assert len(ranges.log_out()) == 4
    ranges.stop_target()
    assert ranges.remove_folder() == ()
    assert ranges.record() is None
    assert not sessions.folder.exists()
    assert not ranges.running()
    with pytest.raises(NotRunningError):
        ranges.fault("clear")


def test_a_killed_target_is_named_and_cleaned_up(sessions: RangeInfo) -> None:
    assert sessions.pid is not None
    os.kill(sessions.pid, signal.SIGKILL)
    until(lambda: not ranges.running(), "the end of the target")
    left = ranges.leftovers()
    assert {item.kind for item in left} == {Kind.FILE, Kind.FOLDER}
    assert any("data.img is still there" in item.text for item in left)
    with pytest.raises(RefusedError, match="left things behind") as raised:
        ranges.start()
    assert raised.value.code == "leftovers"
    assert ranges.cleanup_dead() == ()
    ranges.log_out()
    ranges.stop_target()
    assert ranges.remove_folder() == ()
    assert ranges.leftovers() == ()
    assert not sessions.folder.exists()


def test_a_start_that_fails_leaves_nothing(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("initiator.practice.process.MODULE", "initiator.practice.no_such_module")
    with pytest.raises(Exception, match="its log says why"):
        ranges.start(own_folders / "range", attach=False)
    assert ranges.record() is None
    assert not (own_folders / "range").exists()


# --- with block devices -------------------------------------------------------------------------------------


def take_down(info: RangeInfo) -> None:
    """What the removal sequence does, in short and without its proofs: for tests only."""
    client = EngineClient()
    for disk in info.disks:
        if disk.mountpoint and os.path.ismount(disk.mountpoint):
            subprocess.run(["umount", disk.mountpoint], check=True, timeout=60)
    for attached in ranges.attached():
        subprocess.run(["losetup", "-d", str(attached.device)], check=True, timeout=60)
        until(lambda disk=attached.id: offline(client, disk), "the detached loop device")  # type: ignore[misc]
    ranges.log_out()
    ranges.stop_target()
    assert ranges.remove_folder() == ()
    end_engine()


def offline(client: EngineClient, disk: str) -> bool:
    """Take a disk offline; False while the kernel has not let go of its loop device."""
    try:
        client.call("offline", timeout=60.0, disk=disk)
    except EngineError as error:
        if error.code != "attached":
            raise
        return False
    return True


@pytest.fixture
def own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the standard one, which a range beside this one could take while the target is dead."""
    monkeypatch.setattr("initiator.practice.process.STANDARD_PORT", 0)


@pytest.fixture
def whole(own_folders: Path) -> Iterator[RangeInfo]:
    """A range with everything."""
    said: list[str] = []
    info = ranges.start(own_folders / "range", say=said.append)
    assert any("making an ext4 file system on data" in text for text in said)
    try:
        yield info
    finally:
        if ranges.record() is not None:
            ranges.cleanup_dead()
            take_down(info)


@pytest.mark.root
@pytest.mark.timeout(180)
def test_the_whole_range(whole: RangeInfo) -> None:
    report = EngineClient().snapshot()
    assert len(report.paths) == 6
    assert {disk.state for disk in report.disks if disk.device} == {DiskState.ATTACHED}
    assert [bool(disk.mountpoint) for disk in whole.disks] == [True, False, True]
    for disk in whole.disks:
        assert disk.device is not None
        assert Path(disk.device).is_block_device()
        if disk.mountpoint:
            sums = subprocess.run(
                ["sha256sum", "--check", "--quiet", "SHA256SUMS"],
                cwd=disk.mountpoint, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert sums.returncode == 0, sums
            label = subprocess.run(["e2label", disk.device], capture_output=True, text=True, timeout=30, check=True)
            assert label.stdout.strip() == disk.name
    for refused in (ranges.stop_target, ranges.remove_folder):
        with pytest.raises(RefusedError):
            refused()
    assert ranges.running()
    file = Path(whole.disks[0].file)
    take_down(whole)
    assert not file.exists()


@pytest.mark.root
@pytest.mark.timeout(180)
def test_what_was_not_synced_is_lost_and_a_sitter_is_found_and_ended(whole: RangeInfo) -> None:
    book = ranges.recorder()
    for _ in range(2):  # it leaves the disk as it found it
        loss = disaster(book, lambda text: None)
        assert loss.synced_kept
        assert loss.arrived < loss.written == 16 << 20
        assert "Input/output error" in loss.said
        logs = next(disk for disk in EngineClient().snapshot().disks if disk.name == "logs")
        assert (logs.state, logs.volumes) == (DiskState.ATTACHED, ())
    pid = sitter.sit(book, "data")
    assert os.readlink(f"/proc/{pid}/cwd") == whole.disks[0].mountpoint
    with pytest.raises(RefusedError, match="sits"):
        sitter.sit(book, "vault")
    assert sitter.rise(book)
    assert not Path(f"/proc/{pid}").exists()
    assert not sitter.rise(book)
    with pytest.raises(BadInputError, match="no volume") as refused:
        sitter.sit(book, "logs")
    assert refused.value.fix == "there is: data, vault"


@pytest.mark.root
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("own_port")
def test_a_killed_target_under_mounted_disks_is_started_again(whole: RangeInfo) -> None:
    mountpoint = Path(str(whole.disks[0].mountpoint))
    (mountpoint / "before").write_text("before")
    subprocess.run(["sync", "-f", str(mountpoint)], check=True, timeout=60)
    assert whole.pid is not None
    os.kill(whole.pid, signal.SIGKILL)
    until(lambda: not ranges.running(), "the end of the target")
    left = {(item.kind, item.name) for item in ranges.leftovers()}
    assert {(Kind.MOUNT, str(mountpoint)), (Kind.ATTACH, "data"), (Kind.ATTACH, "logs")} <= left
    with pytest.raises(RefusedError):
        ranges.stop_target()
    assert ranges.cleanup_dead() == ("the practice target was started again",)
    assert the_target().pid != whole.pid
    until(lambda: {disk.state for disk in ranges.attached()} == {DiskState.ATTACHED}, "the paths", 60)
    (mountpoint / "after").write_text("after")
    subprocess.run(["sync", "-f", str(mountpoint)], check=True, timeout=60)
    assert (mountpoint / "before").read_text() == "before"


@pytest.mark.root
@pytest.mark.timeout(180)
def test_dead_disks_of_a_killed_engine_are_taken_away(whole: RangeInfo, own_folders: Path) -> None:
    status = EngineClient().call("status")
    pids = [worker["pid"] for worker in status["workers"]]
    for pid in (status["pid"], *pids):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not EngineClient().running(), "the end of the engine")
    assert ranges.attached() == ()  # nobody says that they are attached, and yet they are
    for refused in (ranges.stop_target, ranges.remove_folder):
        with pytest.raises(RefusedError):
            refused()
    dead = {item.name for item in ranges.leftovers() if item.dead}
    assert ranges.running()
    assert dead == set()  # while the target runs nothing is a leftover
    done = ranges.cleanup_dead()
    assert ranges.attached() == ()
    assert any(text.startswith("umount ") for text in done)
    for disk in whole.disks:
        assert not (disk.mountpoint and os.path.ismount(disk.mountpoint))
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not any(text.startswith(str(own_folders)) for text in backing)


@pytest.mark.root
@pytest.mark.timeout(180)
def test_a_start_that_fails_half_way_can_be_stopped(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("not today", code="identity")

    monkeypatch.setattr("initiator.practice.volumes.prove", refuse)
    with pytest.raises(RefusedError) as raised:
        ranges.start(own_folders / "range")
    assert (raised.value.code, raised.value.fix) == ("identity", "mooring practice stop")
    assert ranges.running()
    info = ranges.current()
    assert info is not None
    assert [disk.name for disk in info.disks if disk.device] == ["data", "logs", "vault"]
    assert not any(disk.mountpoint for disk in info.disks)
    take_down(info)
    assert ranges.record() is None


@pytest.mark.root
@pytest.mark.timeout(180)
def test_an_attach_that_fails_leaves_nothing(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = EngineClient.call

    def call(self: EngineClient, method: str, timeout: float | None = None, **params: object) -> object:
        if method == "attach":
            raise RefusedError("no loop devices here", code="attach")
        return real(self, method, timeout, **params)

    monkeypatch.setattr(EngineClient, "call", call)
    with pytest.raises(RefusedError, match="no loop devices"):
        ranges.start(own_folders / "range")
    assert ranges.record() is None
    assert not (own_folders / "range").exists()
    end_engine()


@pytest.mark.root
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("own_port")
@pytest.mark.parametrize("kind", [Kind.PROCESS, Kind.ATTACH, Kind.MOUNT])
def test_a_start_that_is_killed_is_found_and_ended(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Killed at the worst moment: the thing is made, and nobody has written down that it is."""
    real = Recorder.done

    def die(self: Recorder, what: Kind, name: str, **details: str | int | None) -> None:
        if what is kind:
            raise KeyboardInterrupt
        real(self, what, name, **details)

    monkeypatch.setattr(Recorder, "done", die)
    with pytest.raises(KeyboardInterrupt):
        ranges.start(own_folders / "range")
    monkeypatch.setattr(Recorder, "done", real)
    until(ranges.running, "the target, which may still be starting")
    os.kill(the_target().pid, signal.SIGKILL)
    until(lambda: not ranges.running(), "the end of the target")
    left = {(item.kind, item.name) for item in ranges.leftovers()}
    assert ((Kind.ATTACH, "data") in left) is (kind is not Kind.PROCESS)
    assert any(what is Kind.MOUNT for what, _ in left) is (kind is Kind.MOUNT)
    ranges.cleanup_dead()
    info = ranges.current()
    assert info is not None
    if kind is not Kind.PROCESS:
        until(lambda: {disk.state for disk in ranges.attached()} == {DiskState.ATTACHED}, "the paths", 60)
    take_down(info)
    assert ranges.leftovers() == ()
    assert not info.folder.exists()
