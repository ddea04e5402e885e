"""A mounted disk removed by keyboard alone, as a person would; and terminals that die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.journeys.host import (
    MOORING,
    Harbour,
    check_backing,
    disk_named,
    fill,
    listing,
    mooring,
    mounts,
    must,
    until,
)
from tests.journeys.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


def test_a_disk_is_removed_by_keyboard_and_every_byte_is_there(shore: Harbour, tmp_path: Path) -> None:
    shore.bring("data")
    data = shore.disk("data")
    wanted = fill(Path(data["mountpoint"]))
    with Terminal(MOORING) as terminal:
        terminal.wait("data")
        terminal.find("data")
        terminal.wait("volumes/data")
        terminal.type("r")
        terminal.wait("Go on")
        assert data["mountpoint"] in mounts()
        terminal.confirm("data")
        terminal.wait("safe to pull", seconds=40)
        terminal.leave("safe to pull")
        terminal.type("q")
        terminal.wait("exit code 0")
    assert data["mountpoint"] not in mounts()
    assert [session for session in listing()["sessions"] if "data" in session["name"]] == []
    check_backing(Path(data["file"]), wanted, tmp_path / "check")


@pytest.mark.parametrize("end", ["kill the program", "kill the terminal", "hang up"])
def test_the_disk_lives_on_when_the_dashboard_dies(shore: Harbour, end: str) -> None:
    shore.bring("data")
    point = Path(shore.disk("data")["mountpoint"])
    with Terminal(MOORING) as terminal:
        terminal.wait("vault")
        program = terminal.program()
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


def test_closing_the_dashboard_during_a_removal_does_not_stop_it(shore: Harbour) -> None:
    shore.bring("data")
    with Terminal(MOORING) as terminal:
        terminal.wait("data")
        terminal.find("data")
        terminal.type("r")
        terminal.confirm("data")
        terminal.wait("Claim")
        program = terminal.program()
        terminal.kill()
        until(lambda: not program.is_running(), what="the end of the dashboard")
    wwid = shore.disk("data")["wwid"]
    until(
        lambda: not any(disk["device"] for disk in listing()["disks"] if disk["wwid"] == wwid),
        seconds=30,
        what="the removal",
    )
    until(lambda: mooring("resume").code == 2, what="the end of the runner, which leaves nothing unfinished")
