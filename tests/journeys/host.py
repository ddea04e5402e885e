"""The commands of Mooring as a person or a script runs them, and what the kernel says afterwards."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    found: dict[str, Any] = must("list", "--json").json()
    return found


def disk_named(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(disk for disk in listing()["disks"] if disk["name"] == name)
    return found


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "it") -> Any:
    """Wait for a condition; returns what it gave and how long it took is for the caller to measure."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


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
        for disk in info["disks"]:  # what a failed test left sitting in a mount would keep the range up
            if disk["mountpoint"]:
                subprocess.run(["fuser", "-k", "-M", "-m", disk["mountpoint"]], capture_output=True, check=False)
        stopped = mooring("practice", "stop")
        mooring("engine", "stop")
        assert stopped.code == 0, f"the range did not stop:\n{stopped.err}"
