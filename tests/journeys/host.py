"""The commands of Mooring as a person or a script runs them, and what the kernel says afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from initiator.engine.client import EngineClient
from initiator.model import PathState
from initiator.practice import range as ranges
from tui.commands.common import snapshot
from tui.export import snapshot_json

MOORING = [str(Path(sys.executable).with_name("mooring"))]


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def mooring(*words: str, stdin: bytes = b"", seconds: float = 90.0) -> Ran:
    """Run one command to its end."""
    done = subprocess.run([*MOORING, *words], input=stdin, capture_output=True, timeout=seconds, check=False)
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def must(*words: str, code: int = 0, seconds: float = 90.0) -> Ran:
    """Run one command that has to end with this exit code."""
    ran = mooring(*words, seconds=seconds)
    assert ran.code == code, f"mooring {' '.join(words)}: exit code {ran.code}\n{ran.out}\n{ran.err}"
    return ran


def listing() -> dict[str, Any]:
    """What `mooring list --json` prints, without the start of a process."""
    return snapshot_json(snapshot())


def disk_named(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(disk for disk in listing()["disks"] if disk["name"] == name)
    return found


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "it") -> Any:
    """Wait for a condition; returns what it gave and how long it took is for the caller to measure.

    Looking may be dear (a whole reading of the host): it is not to take the time of what is waited for.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        assert now < end, f"{what} did not happen within {seconds} s"
        time.sleep(max(0.02, now - began))


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def attached_loops(folder: Path) -> list[str]:
    """Loop devices whose backing file lies below a folder."""
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return [path.parts[3] for path in files if path.read_text().startswith(str(folder))]


@contextmanager
def practice() -> Iterator[dict[str, Any]]:
    """A headless practice range; at the end whatever of it still stands is taken down."""
    info: dict[str, Any] = {"disks": []}
    try:
        info = must("practice", "--headless", "--json").json()
        yield info
    finally:
        take_down(info)


def take_down(info: dict[str, Any]) -> None:
    """End the range of these folders, and the engine."""
    for disk in info["disks"]:  # what a failed test left sitting in a mount would keep the range up
        if disk["mountpoint"]:
            subprocess.run(["fuser", "-k", "-M", "-m", disk["mountpoint"]], capture_output=True, check=False)
    stopped = mooring("practice", "stop")
    mooring("engine", "stop")
    assert stopped.code == 0, f"the range did not stop:\n{stopped.err}"


class Harbour:
    """A practice range that several tests share: each finds its disks where it wants them, and no fault in force."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info
        self.portals: list[str] = info["portals"]

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Have this test's commands work on the range, not on folders of its own."""
        for name in FOLDERS:
            patch.setenv(f"MOORING_{name.upper()}_DIR", str(self.folder / name))

    def disk(self, name: str) -> dict[str, Any]:
        """What the range made."""
        found: dict[str, Any] = next(disk for disk in self.info["disks"] if disk["name"] == name)
        return found

    def bring(self, name: str, *, called: str = "") -> None:
        """Have a disk of the target without CHAP attached, with its volume mounted if it has one."""
        disk, wanted = self.disk(name), called or name
        attached = [found for found in listing()["disks"] if found["device"]]
        for found in attached:
            if (found["wwid"] == disk["wwid"]) != (found["name"] == wanted):  # another test gave out its name
                must("remove", found["name"], "--confirm", found["name"], "--watch", "0.2")
        if not any(found["wwid"] == disk["wwid"] and found["name"] == wanted for found in attached):
            portals = [word for portal in self.portals for word in ("--portal", portal)]
            must("attach", disk["target"], "--lun", str(disk["lun"]), *portals, "--as", wanted)
        if disk["mountpoint"] and not called and disk["mountpoint"] not in mounts():
            subprocess.run(["mount", disk_named(name)["device"], disk["mountpoint"]], check=True)

    def take(self, name: str) -> None:
        """Have a disk not attached."""
        wwid = self.disk(name)["wwid"]
        for found in listing()["disks"]:
            if found["wwid"] == wwid and found["device"]:
                must("remove", found["name"], "--confirm", found["name"], "--watch", "0.2")

    def settle(self) -> None:
        """End every fault, and wait until every path works again."""
        ranges.fault("clear")
        until(lambda: not failed_paths(), seconds=60, what="the recovery of every path")


FOLDERS = ("runtime", "state", "config")


@contextmanager
def harbour() -> Iterator[Harbour]:
    """A range in folders of its own, which outlive those of a single test. Costs seconds, so a module has one."""
    folder = Path(tempfile.mkdtemp(prefix="mooring-j-"))
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        Harbour(folder, {"portals": []}).use(patch)
        with practice() as info:
            yield Harbour(folder, info)
    left = [line for line in mounts().splitlines() if f" {folder}/" in line]
    assert left == [], f"the range left mounts behind: {left}"
    shutil.rmtree(folder, ignore_errors=True)


def failed_paths() -> int:
    """How many paths of the engine do not work; asked of the engine itself, which takes no new process."""
    engine = EngineClient()
    return sum(path.state is PathState.FAILED for path in engine.snapshot().paths) if engine.running() else 0


def fill(point: Path, count: int = 8) -> dict[str, str]:
    """Write some files of a megabyte, which nobody syncs; returns their digests by name."""
    digests = {}
    for number in range(count):
        data = os.urandom(1 << 20)
        (point / f"file-{number}").write_bytes(data)
        digests[f"file-{number}"] = hashlib.sha256(data).hexdigest()
    return digests


def check_backing(file: Path, wanted: dict[str, str], point: Path) -> None:
    """The backing file is a clean file system that holds every byte."""
    check = subprocess.run(["e2fsck", "-fn", str(file)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    point.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", str(file), str(point)], check=True)
    try:
        for name, digest in wanted.items():
            assert hashlib.sha256((point / name).read_bytes()).hexdigest() == digest
    finally:
        subprocess.run(["umount", str(point)], check=True)
