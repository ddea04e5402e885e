"""The process that helpers are forked from."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator.host import nursery as nursery_
from initiator.host import run as run_
from initiator.host.helper import NURSERY
from initiator.host.mounts import read_mounts
from initiator.host.nursery import Nursery, children_of, name_of
from initiator.host.run import CannotRun, Helper, HelperFailed, run_helper, waiting_children
from initiator.host.volumes import Sizes
from tests.until import until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def pid_of(helper: Helper) -> int:
    helper.call("statvfs", {"mounts": []}, 10)
    (pid,) = set(children_of(os.getpid())) - OTHERS
    return pid


OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children that other tests of this process have left."""
    run_helper("statvfs", {"mounts": []}, 10)
    OTHERS.clear()
    OTHERS.update(children_of(os.getpid()))


def nursery() -> int:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (pid,) = [int(each) for each in found if name_of(int(each)) == NURSERY]
    return pid


def handles(pid: int) -> dict[int, str]:
    return {int(each.name): os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}


@pytest.mark.parametrize("number", [3, 4, 9, 200])
def test_a_helper_has_its_descriptors_by_their_numbers_and_no_others(folder: int, number: int, tmp_path: Path) -> None:
    wanted = fcntl.fcntl(folder, fcntl.F_DUPFD_CLOEXEC, 300)
    kept = os.dup(number) if number_is_open(number) else None
    os.dup2(wanted, number, inheritable=False)
    try:
        with Helper((number, wanted)) as helper:
            has = handles(pid_of(helper))
    finally:
        os.close(wanted)
        if kept is None:
            os.close(number)
        else:
            os.dup2(kept, number, inheritable=False)
            os.close(kept)
    assert has.pop(number) == has.pop(wanted) == str(tmp_path)
    assert has.pop(0) == has.pop(1)
    assert has == {2: "/dev/null"}


def number_is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def test_a_claim_is_neither_in_the_nursery_nor_in_another_helper(folder: int, tmp_path: Path) -> None:
    with Helper((folder,)) as one, Helper() as other:
        one.call("flock", {"fd": folder}, 10)
        other.call("statvfs", {"mounts": []}, 10)
        holders = [pid for pid in (*children_of(os.getpid()), nursery()) if str(tmp_path) in handles(pid).values()]
        assert len(holders) == 1
        os.kill(holders[0], signal.SIGKILL)
    again = os.open(tmp_path, os.O_RDONLY)
    os.close(folder)
    try:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.dup2(again, folder)
        os.close(again)


async def test_after_its_death_there_is_another(folder: int) -> None:
    with Helper() as kept:
        kept.call("statvfs", {"mounts": []}, 10)
        before = nursery()
        os.kill(before, signal.SIGKILL)
        assert kept.call("statvfs", {"mounts": []}, 10).value is None, "helpers do not need it"
        run_helper("fsync", {"fd": folder}, 10, pass_fds=(folder,))
    assert nursery() != before


def test_a_forked_process_has_its_own() -> None:
    run_helper("statvfs", {"mounts": []}, 10)
    mine = nursery()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_helper("statvfs", {"mounts": []}, 10)
            os.write(write, str(nursery()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read) as told:
        its = int(told.read())
    assert os.waitpid(child, 0)[1] == 0
    assert its != mine
    run_helper("statvfs", {"mounts": []}, 10)
    assert nursery() == mine


async def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os, sys; from initiator.host.run import run_helper; run_helper('statvfs', {'mounts': []}, 10); "
        "print(*open(f'/proc/self/task/{os.getpid()}/children'), flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pids = [int(each) for each in child.stdout.readline().split()]
        assert NURSERY in [name_of(pid) for pid in pids]
        child.kill()
    await until(lambda: not any(name_of(pid) for pid in pids), what="the nursery's end")


def test_many_threads_are_served(folder: int) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                run_helper("fsync", {"fd": folder}, 20, pass_fds=(folder,))
        except (HelperFailed, CannotRun) as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_one_that_cannot_be_started_is_an_error_and_not_tried_for_ever() -> None:
    tries = []

    def start(channel: int) -> subprocess.Popen[bytes]:
        tries.append(channel)
        return subprocess.Popen(["true"], stdin=channel)

    broken = Nursery(start)
    with pytest.raises(OSError, match=r"ended|reset|pipe"):
        broken.bear(0, ())
    assert len(tries) == 2


def living() -> set[int]:
    """The helpers that are not only waited for by their nursery."""
    stats = {pid: Path(f"/proc/{pid}/stat").read_text() for pid in children_of(os.getpid())}
    return {pid for pid, stat in stats.items() if stat.rpartition(")")[2].split()[0] != "Z"}


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_start_obeys_the_callers_deadline_and_what_is_born_late_ends(folder: int, tmp_path: Path) -> None:
    before = nursery()
    with stopped(before):
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(CannotRun, match=r"within 0\.2 s"):
                run_helper("fsync", {"fd": folder}, 0.2, pass_fds=(folder,))
            assert time.monotonic() - started < 5, "the nursery is given 20 s, but not to this caller"
    run_helper("fsync", {"fd": folder}, 20, pass_fds=(folder,))
    assert nursery() == before, "it was only slow"
    await until(lambda: not living() - OTHERS, what="the end of the helper that nobody waited for")


async def test_one_that_waits_for_another_thread_obeys_its_deadline(folder: int) -> None:
    def ask() -> None:
        with contextlib.suppress(CannotRun):
            run_helper("statvfs", {"mounts": []}, 3.0)

    with stopped(nursery()):
        other = threading.Thread(target=ask)
        other.start()
        await until(run_._nursery._lock.locked, what="the other thread to ask")
        started = time.monotonic()
        with pytest.raises(CannotRun, match=r"within 0\.1 s"):
            run_helper("fsync", {"fd": folder}, 0.1, pass_fds=(folder,))
        assert time.monotonic() - started < 2.5
        other.join()


async def test_one_that_is_silent_for_too_long_is_ended(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery_, "PATIENCE", 0.1)
    before = nursery()
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(CannotRun):
        run_helper("statvfs", {"mounts": []}, 0.3)

    def is_gone() -> bool:
        run_helper("fsync", {"fd": folder}, 20, pass_fds=(folder,))
        return not name_of(before)

    await until(is_gone, what="its end, which the next order collects")
    assert nursery() != before


class Slow(subprocess.Popen[bytes]):
    """A nursery that does not end while anybody waits for it."""

    def wait(self, timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("sleep", timeout or 0.0)


def test_one_that_ends_late_is_collected_by_the_next_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery_, "PATIENCE", 0.0)
    started: list[Slow] = []

    def start(channel: int) -> subprocess.Popen[bytes]:
        started.append(Slow(["sleep", "1000"], stdin=channel))
        return started[-1]

    silent = Nursery(start)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            silent.bear(0, (), 0.01)
        os.waitid(os.P_PID, started[-1].pid, os.WEXITED | os.WNOWAIT)
    first, second = started
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, None)
    silent.close()
    assert second.poll() == -signal.SIGKILL


def test_sizes_are_not_known_without_a_helper_and_it_is_said_why() -> None:
    sizes = Sizes(deadline=0.1)
    (root,) = [mount for mount in read_mounts()[0] if mount.mountpoint == "/" and mount.namespace is None]
    with stopped(nursery()):
        found, problems = sizes.read([root])
    assert found == {}
    assert [(each.source, each.reason) for each in problems] == [("sizes", "no helper process was there within 0.05 s")]
    sizes.close()


def test_what_waits_is_told_of_helpers_and_not_of_their_nursery() -> None:
    with Helper() as helper:
        pid = pid_of(helper)
        told = waiting_children(os.getpid())
    assert f"process {pid} in " in told
    assert f"process {nursery()} in" not in told
