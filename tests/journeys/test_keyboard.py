"""A mounted disk removed by keyboard alone, as a person would; and terminals that die."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.journeys.host import MOORING, disk_named, listing, mooring, mounts, must, practice, until
from tests.journeys.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


def fill(point: Path) -> dict[str, str]:
    """Write some files; returns their digests by name."""
    digests = {}
    for number in range(8):
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


def the(info: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(disk for disk in info["disks"] if disk["name"] == name)
    return found


def test_a_disk_is_removed_by_keyboard_and_every_byte_is_there(tmp_path: Path) -> None:
    with practice() as info:
        data = the(info, "data")
        wanted = fill(Path(data["mountpoint"]))
        with Terminal(MOORING) as terminal:
            terminal.wait("data")
            terminal.type("/")
            terminal.write("data")
            terminal.type("Enter")
            terminal.wait("volumes/data")
            terminal.type("r")
            terminal.wait("Go on")
            assert data["mountpoint"] in mounts()
            confirm(terminal, "data")
            terminal.wait("safe to pull", seconds=40)
            shown = time.monotonic()
            until(lambda: time.monotonic() > shown + 0.5)
            terminal.type("Escape")
            terminal.wait(lambda screen: "safe to pull" not in screen)
            terminal.type("q")
            terminal.wait("exit code 0")
        assert data["mountpoint"] not in mounts()
        assert [session for session in listing()["sessions"] if "data" in session["name"]] == []
        check_backing(Path(data["file"]), wanted, tmp_path / "check")


def confirm(terminal: Terminal, name: str) -> None:
    """From the plan to the running removal. A dialog ignores keys for its first 300 ms, so that is waited for."""
    terminal.wait("Go on")
    shown = time.monotonic()
    until(lambda: time.monotonic() > shown + 0.5)
    terminal.type("Tab", "Enter")
    terminal.wait("To go on, type its name")
    shown = time.monotonic()
    until(lambda: time.monotonic() > shown + 0.5)
    terminal.write(name)
    terminal.type("Enter")


@pytest.mark.parametrize("end", ["kill the program", "kill the terminal", "hang up"])
def test_the_disk_lives_on_when_the_dashboard_dies(end: str) -> None:
    with practice() as info:
        point = Path(the(info, "data")["mountpoint"])
        with Terminal(MOORING) as terminal:
            terminal.wait("vault")
            shell = psutil.Process(terminal.pid())
            program = next(child for child in shell.children(recursive=True) if "mooring" in " ".join(child.cmdline()))
            if end == "kill the program":
                program.kill()
                terminal.wait("exit code 137")
            elif end == "hang up":
                program.send_signal(signal.SIGHUP)
                terminal.wait("exit code")
            else:
                terminal.kill()
                until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE, what="the end")
        (point / "after").write_bytes(b"still here" * 1000)
        os.sync()
        assert (point / "after").read_bytes() == b"still here" * 1000
        assert disk_named("data")["state"] == "attached"
        must("remove", "data", "--confirm", "data", "--watch", "0.3")


def test_closing_the_dashboard_during_a_removal_does_not_stop_it() -> None:
    with practice():
        with Terminal(MOORING) as terminal:
            terminal.wait("data")
            terminal.type("/")
            terminal.write("data")
            terminal.type("Enter", "r")
            confirm(terminal, "data")
            terminal.wait("Claim")
            shell = psutil.Process(terminal.pid())
            programs = [child for child in shell.children(recursive=True) if "mooring" in " ".join(child.cmdline())]
            terminal.kill()
            assert programs
            until(lambda: not any(program.is_running() for program in programs), what="the end of the dashboard")
        gone = until(
            lambda: [d for d in listing()["disks"] if d["name"] == "data"] == [], seconds=30, what="the removal"
        )
        assert gone
        assert mooring("resume").code == 2  # nothing is unfinished
