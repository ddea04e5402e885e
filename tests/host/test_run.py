"""Children with a deadline."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from initiator.engine.attached import backing_file
from initiator.errors import MooringError, OutcomeUnknownError
from initiator.host import run as run_
from initiator.host.run import CannotRun, Helper, HelperFailed, Stuck, run, run_helper, still_stuck
from tests.host.conftest import RealDisk, need_root, sh
from tests.host.hanging import HangingMount
from tests.until import until


def test_a_program_runs_to_its_end_without_a_shell() -> None:
    done = run(["printf", "%s", "$HOME; echo"], 10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "$HOME; echo", "")
    assert 0 < done.seconds < 10


def test_its_answer_is_kept_whatever_it_is() -> None:
    done = run(["sh", "-c", "cat; echo oops >&2; printf '\\377'; exit 3"], 10, input="in")
    assert (done.returncode, done.stdout, done.stderr) == (3, "in\udcff", "oops\n")


def test_it_inherits_nothing_but_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORING_SECRET", "harbour")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = run(["sh", "-c", "env; pwd; cat /proc/self/stat; ls /proc/self/fd"], 10, env={"EXTRA": "1"})
    assert "harbour" not in done.stdout
    assert "LC_ALL=C\n" in done.stdout
    assert "EXTRA=1\n" in done.stdout
    assert "\n/\n" in done.stdout, "it works in the root folder, so that it holds no mount"


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CannotRun, match="no-such-program cannot be run") as failure:
        run(["no-such-program"], 10)
    assert "no-such-program" in failure.value.fix


async def test_a_program_that_takes_too_long_is_killed_with_its_children() -> None:
    with pytest.raises(Stuck, match=r"hangs in .* and was killed") as failure:
        run(["sh", "-c", "sleep 1000 & wait"], 2.0)
    stuck = failure.value
    assert isinstance(stuck, OutcomeUnknownError)
    assert stuck.wchan
    assert not stuck.left_behind
    assert 2.0 <= stuck.seconds < 10
    assert not still_stuck(stuck.pid)
    await until(lambda: not _group(stuck.pid), what="all its children to end")


def _group(leader: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(entry.parent.name)
    return found


def test_input_and_output_of_any_size_do_not_block() -> None:
    text = "x" * 3_000_000
    assert run(["cat"], 20, input=text).stdout == text


def test_a_helper_starts_quickly() -> None:
    run_helper("statvfs", {"mounts": []}, 10)
    best = min(_timed() for _ in range(10))
    assert best < 0.1, f"a call into a fresh helper took {best * 1000:.0f} ms"


def _timed() -> float:
    started = time.perf_counter()
    run_helper("statvfs", {"mounts": []}, 10)
    return time.perf_counter() - started


def test_a_helper_tells_the_kernels_error() -> None:
    with pytest.raises(HelperFailed, match=r"syncfs: .* \(ENOENT\)") as failure:
        run_helper("syncfs", {"path": "/no/such/folder"}, 10)
    assert failure.value.errno == errno.ENOENT
    assert failure.value.operation == "syncfs"
    assert isinstance(failure.value, MooringError)


def test_a_helper_that_breaks_is_an_error_and_no_hang() -> None:
    with pytest.raises(HelperFailed, match="ended early"):
        run_helper("no-such-operation", {}, 10)
    with pytest.raises(HelperFailed, match="ended early"):
        run_helper("fsync", {"nonsense": 1}, 10)


def test_a_kept_helper_goes_on_after_an_error_and_after_its_end() -> None:
    with Helper() as helper:
        for _ in range(2):
            with pytest.raises(HelperFailed):
                helper.call("syncfs", {"path": "/no/such/folder"}, 10)
        with pytest.raises(HelperFailed, match="ended early"):
            helper.call("no-such-operation", {}, 10)
        assert helper.call("statvfs", {"mounts": []}, 10).value is None


@pytest.mark.parametrize("each", [False, True])
def test_a_deadline_can_be_for_each_part_of_a_stream(monkeypatch: pytest.MonkeyPatch, each: bool) -> None:
    """On a clock that goes on with every look at it, the whole takes long and no part does."""
    with Helper() as helper:
        helper.start()
        monkeypatch.setattr(run_, "time", types.SimpleNamespace(monotonic=itertools.count().__next__))
        parts = helper.stream("openers", {"root": "", "wanted": [], "mounts": {}, "skip": []}, 4.0, each=each)
        with contextlib.nullcontext() if each else pytest.raises(Stuck):
            assert {kind for kind, *_ in parts} >= {"at"}


def test_a_stream_that_is_not_read_to_its_end_does_not_spoil_the_next_call() -> None:
    with Helper() as helper:
        stream = helper.stream("openers", {"root": "", "wanted": [], "mounts": {}, "skip": []}, 10)
        next(stream)
        stream.close()
        assert helper.call("statvfs", {"mounts": []}, 10).value is None


def test_a_descriptor_goes_down_and_another_comes_up(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with file.open() as opened:
        assert run_helper("fsync", {"fd": opened.fileno()}, 10, pass_fds=(opened.fileno(),)).fds == ()
    with pytest.raises(HelperFailed) as failure:
        run_helper("open_excl", {"path": str(file / "no")}, 10, want_fds=1)
    assert failure.value.errno == errno.ENOTDIR


def test_a_missing_descriptor_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HelperFailed, match="0 descriptors came instead of 1"):
        run_helper("syncfs", {"path": str(tmp_path)}, 10, want_fds=1)


def test_where_a_process_sleeps_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    assert run_.where_it_sleeps(7, str(tmp_path)) == ""
    (tmp_path / "7/wchan").write_text("0")
    assert run_.where_it_sleeps(7, str(tmp_path)) == ""
    (tmp_path / "7/wchan").write_text("request_wait_answer")
    assert run_.where_it_sleeps(7, str(tmp_path)) == "request_wait_answer"
    (tmp_path / "7/stack").write_text("[<0>] fuse_simple_request+0x1/0x2\n[<0>] other+0x3/0x4\n")
    assert run_.where_it_sleeps(7, str(tmp_path)) == "fuse_simple_request"


@pytest.mark.root
def test_an_exclusive_open_keeps_everybody_else_from_mounting(disk: RealDisk) -> None:
    claim = run_helper("open_excl", {"path": disk.device}, 10, want_fds=1)
    try:
        assert f"{os.major(claim.value)}:{os.minor(claim.value)}" == disk.dev
        assert os.fstat(claim.fds[0]).st_rdev == claim.value
        assert not os.get_inheritable(claim.fds[0])
        with pytest.raises(HelperFailed) as failure:
            run_helper("mount", {"source": disk.device, "target": str(disk.mountpoint), "fstype": "ext4"}, 10)
        assert failure.value.errno == errno.EBUSY
    finally:
        os.close(claim.fds[0])
    disk.mount()
    with pytest.raises(HelperFailed) as failure:
        run_helper("open_excl", {"path": disk.device}, 10, want_fds=1)
    assert failure.value.errno == errno.EBUSY


@pytest.mark.root
def test_mount_sync_and_unmount(disk: RealDisk) -> None:
    target = str(disk.mountpoint)
    run_helper("mount", {"source": disk.device, "target": target, "fstype": "ext4", "data": "errors=remount-ro"}, 10)
    assert "errors=remount-ro" in Path("/proc/self/mountinfo").read_text()
    (disk.mountpoint / "file").write_text("x")
    run_helper("syncfs", {"path": target}, 10)
    with (disk.mountpoint / "file").open(), pytest.raises(HelperFailed) as failure:
        run_helper("umount", {"path": target}, 10)
    assert failure.value.errno == errno.EBUSY, "an open file is never unmounted under"
    run_helper("umount", {"path": target}, 10)
    assert not (disk.mountpoint / "file").exists()


@pytest.mark.root
async def test_a_loop_device_is_asked_and_cleared(disk: RealDisk) -> None:
    on, device = run_helper("loop_status", {"device": disk.device}, 10).value
    assert (on, device) == (os.stat(disk.image).st_dev, 0)
    second = sh("losetup", "--find", "--show", disk.device)
    try:
        _, device = run_helper("loop_status", {"device": second}, 10).value
        assert device == os.stat(disk.device).st_rdev
        handle = os.open(second, os.O_RDONLY)
        run_helper("loop_clear", {"fd": handle}, 10, pass_fds=(handle,))
        os.close(handle)
        await until(lambda: backing_file(second) != disk.device, what="the loop device to be given up")
    finally:
        if backing_file(second) == disk.device:  # and not another test's already
            sh("losetup", "-d", second)


@pytest.mark.root
async def test_a_child_that_cannot_be_killed_is_left_behind_and_said_to_be(tmp_path: Path) -> None:
    need_root()
    with HangingMount(tmp_path) as mount:
        with pytest.raises(Stuck, match="cannot be killed and was left behind") as failure:
            run_helper("syncfs", {"path": str(tmp_path)}, 4.0)
        assert mount.asked.is_set()
        assert failure.value.left_behind
        assert "fuse" in failure.value.wchan or "request_wait" in failure.value.wchan
        assert still_stuck(failure.value.pid)
        assert failure.value.fix
    await until(lambda: not still_stuck(failure.value.pid), what="the child to come back when the file system gives up")


def test_a_helper_that_only_sleeps_is_killed(tmp_path: Path) -> None:
    """Opening a FIFO waits for somebody who writes."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Stuck, match="was killed") as failure:
        run_helper("namespace_mounts", {"path": str(tmp_path / "fifo")}, 2.0)
    assert not failure.value.left_behind
    assert not still_stuck(failure.value.pid)


class Unscheduled(subprocess.Popen[bytes]):
    """A child that a busy host does not let die before it has been waited for so many times."""

    times = 0

    def wait(self, timeout: float | None = None) -> int:
        self.times -= 1
        if self.times >= 0:
            raise subprocess.TimeoutExpired("sleep", timeout or 0.0)
        return super().wait(10)


@pytest.mark.parametrize(
    ("times", "asleep", "waits", "left"), [(3, False, 4, False), (3, True, 1, True), (1000, False, 4, True)]
)
def test_one_that_was_killed_is_given_up_soon_only_where_it_sleeps_uninterruptibly(
    monkeypatch: pytest.MonkeyPatch, times: int, asleep: bool, waits: int, left: bool
) -> None:
    """It had a second, and the clock goes on with every look at it."""
    monkeypatch.setattr(run_, "time", types.SimpleNamespace(monotonic=itertools.count(step=0.25).__next__))
    monkeypatch.setattr(run_, "_uninterruptible", lambda pid: asleep)
    with Unscheduled(["sleep", "1000"], start_new_session=True) as child:
        child.times = times
        stuck = run_._give_up(child, "sleep", -1.0)
        waited, child.times = times - child.times, 0
    assert waited == waits
    assert stuck.left_behind is left
    assert ("was killed" in str(stuck)) is not left
    assert not still_stuck(child.pid)


def test_who_sleeps_uninterruptibly_is_known_by_its_state(tmp_path: Path) -> None:
    assert not run_._uninterruptible(7, str(tmp_path)), "it is gone"
    (tmp_path / "7").mkdir()
    for state in "RSZTD":
        (tmp_path / "7/stat").write_text(f"7 (D) S) {state} 1 7 7 0")
        assert run_._uninterruptible(7, str(tmp_path)) is (state == "D")


def test_two_threads_can_run_helpers_of_their_own() -> None:
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(run([sys.executable, "-c", "print(1)"], 20).stdout))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["1\n"] * 4
