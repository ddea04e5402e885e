"""The runner killed at every step, on a real disk of the real engine: resumable, undoable, no byte lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.host import MOORING, Harbour, disk_named, listing, mooring, mounts, must, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

WATCH = ("--watch", "0.2")
STEPS = (
    *("identify", "lock", "unmount-1", "claim", "fsync", "flush"),
    *("detach", "release", "offline", "logout-1", "logout-2", "watch"),
)
AT = pytest.mark.parametrize("step", STEPS)


class Disk:
    """The practice disk `data`, with contents that are known."""

    def __init__(self, shore: Harbour) -> None:
        shore.bring("data")
        self._shore = shore
        self.point = Path(shore.disk("data")["mountpoint"])
        data = os.urandom(4 << 20)
        (self.point / "payload").write_bytes(data)
        self.digest = hashlib.sha256(data).digest()

    def check(self) -> None:
        """It is attached and mounted where it was, and holds what it held."""
        assert str(self.point) in mounts()
        assert hashlib.sha256((self.point / "payload").read_bytes()).digest() == self.digest
        assert disk_named("data")["state"] == "attached"

    def bring_back(self) -> None:
        """Attach and mount again by hand after a completed removal."""
        self._shore.bring("data")


@contextlib.contextmanager
def killed_at(step: str, state: Path) -> Iterator[None]:
    """A removal of `data` whose runner is killed as soon as its journal says that the step has started."""
    before = set((state / "journal").glob("*.jsonl"))
    command = [*MOORING, "remove", "data", "--confirm", "data", *WATCH]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    runner, size = None, 0
    while time.monotonic() < end and started.poll() is None:
        time.sleep(0.0005)  # looking without a break would take the time of what is to be killed
        path = next((path for path in (state / "journal").glob("*.jsonl") if path not in before), None)
        if path is None or path.stat().st_size == size:
            continue
        size = path.stat().st_size
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                runner = record["data"].get("pid", runner) if record["kind"] == "run" else runner
                if record["step"] == step and runner is not None:
                    with contextlib.suppress(ProcessLookupError):  # it has done the rest already
                        os.kill(runner, signal.SIGKILL)
                    started.wait(30)
                    yield
                    return
    started.wait(30)
    yield


def test_the_plan_has_the_steps_that_are_tried(shore: Harbour) -> None:
    shore.bring("data")
    assert [step["id"] for step in must("plan", "data", "--json").json()["steps"]] == list(STEPS)


@AT
def test_undo_after_a_kill(shore: Harbour, step: str) -> None:
    disk = Disk(shore)
    with killed_at(step, shore.folder / "state"):
        pass
    ran = mooring("undo", "data")
    if ran.code == 2:  # so early that nothing was begun, or so late that it was done
        if not disk_is_there():
            disk.bring_back()
    else:
        assert ran.code == 0, ran.err
    disk.check()


@AT
def test_resume_after_a_kill(shore: Harbour, step: str) -> None:
    disk = Disk(shore)
    with killed_at(step, shore.folder / "state"):
        pass
    ran = mooring("resume", "data")
    if ran.code == 2 and disk_is_there():
        must("remove", "data", "--confirm", "data", *WATCH)
    else:
        assert ran.code in (0, 2), ran.err
    assert str(disk.point) not in mounts()
    assert not disk_is_there()
    disk.bring_back()
    disk.check()


def disk_is_there() -> bool:
    found = [disk for disk in listing()["disks"] if disk["name"] == "data"]
    return bool(found) and found[0]["device"] is not None


def test_the_engine_killed_under_a_mounted_disk(shore: Harbour) -> None:
    """Supervisor first: the workers bring it back. Then a worker: the supervisor does, and a write in between waits."""
    disk = Disk(shore)
    supervisor = must("engine", "status", "--json").json()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: mooring("engine", "status", "--json").json().get("pid", supervisor) != supervisor, what="a new one")
    until(lambda: disk_is_there() and disk_named("data")["state"] == "attached", what="the disk's report")
    disk.check()
    workers = must("engine", "status", "--json").json()["workers"]
    worker = next(one["pid"] for one in workers if one["attached"] and "harbour" in one["target"])
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(disk.point / "written")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"going\n"
    os.kill(worker, signal.SIGKILL)
    out, err = writer.communicate(timeout=60)
    assert writer.returncode == 0, err.decode()
    assert hashlib.sha256((disk.point / "written").read_bytes()).hexdigest() == out.decode().strip()
    disk.check()


WRITER = """
import hashlib, os, sys
digest = hashlib.sha256()
with open(sys.argv[1], "wb", buffering=0) as file:
    for number in range(200):
        data = os.urandom(64 << 10)
        file.write(data); os.fsync(file.fileno()); digest.update(data)
        if number == 20:
            print("going", flush=True)
print(digest.hexdigest())
"""
