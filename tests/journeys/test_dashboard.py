"""The dashboard among what comes in between: refusals, lost cables, swapped disks, crowds, and what was.

One practice range serves all of it; each journey finds its disks where it wants them.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initiator.model import PathState
from initiator.practice import range as ranges
from initiator.recording import Moment, Recording
from tests.journeys.crowd import COUNT
from tests.journeys.host import (
    MOORING,
    Harbour,
    check_backing,
    disk_named,
    failed_paths,
    fill,
    listing,
    mounts,
    until,
)
from tests.journeys.terminal import Terminal, inside

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


def works(screen: str) -> bool:
    """Whether every path works; for a minute after a loss the dashboard calls that settling."""
    return re.search(r"all \d+ paths work|it came back \d+ s ago and settles", screen) is not None


def misses(screen: str) -> bool:
    return "lost 1 of 2 paths" in screen


def lost(moment: Moment) -> bool:
    return any(path.state is PathState.FAILED for path in moment.snapshot.paths)


def record(shore: Harbour, tape: Path) -> tuple[float, float]:
    """Record a cable that is pulled and plugged in again; gives the seconds at which paths went, and came back."""
    with Terminal([*MOORING, "record", str(tape)]) as terminal:
        terminal.wait("Ctrl+C ends it")
        ranges.fault("cut", [shore.portals[1]])
        until(failed_paths, what="the loss")
        gone = time.monotonic()
        until(lambda: time.monotonic() > gone + 2, what="something to see in the replay")
        shore.settle()
        until(lambda: not lost(list(Recording(tape).moments())[-1]), what="the recovery in the recording")
        terminal.type("C-c")
        terminal.wait("exit code 0")
    moments = list(Recording(tape).moments())
    went = next(moment.at for moment in moments if lost(moment))
    came = next(moment.at for moment in moments if moment.at > went and not lost(moment))
    return went - moments[0].at, came - moments[0].at


def test_a_recording_is_opened_and_walked_through(shore: Harbour, tmp_path: Path) -> None:
    shore.bring("data")
    tape = tmp_path / "tape"
    went, came = record(shore, tape)
    with Terminal([*MOORING, "replay", str(tape)]) as terminal:
        assert "REPLAY" in terminal.wait(works)
        terminal.wait(misses)
        terminal.type("p")
        terminal.wait("PAUSED")
        terminal.find("data")
        terminal.type("r")
        assert "Replay: this is what" in terminal.wait("Cannot remove now")
        terminal.type("p")
        terminal.wait(lambda screen: works(screen) and not misses(screen))
        terminal.type("q")
        terminal.wait("exit code 0")
    for at, seen in ((came, works), (went, misses)):
        with Terminal([*MOORING, "replay", str(tape), "--from", f"{math.floor(at * 100) / 100:.2f}"]) as terminal:
            screen = terminal.wait(lambda screen: works(screen) or misses(screen))
            assert seen(screen), f"at {at:.2f} s of the recording:\n{screen}"
            terminal.type("q")
            terminal.wait("exit code 0")
    assert disk_named("data")["state"] == "attached"


def test_a_disk_is_found_by_its_label_among_two_thousand_and_removed(shore: Harbour, tmp_path: Path) -> None:
    """The disk, its file system and label, the dashboard and the removal are real; the 2,000 others are made up.

    They stand beside the real disks in what the dashboard shows (`tests.journeys.crowd`); the plan and the removal
    read the host itself.
    """
    shore.bring("logs")
    device, point = disk_named("logs")["device"], shore.folder / "ledger"
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-L", "ledger-2026", device], check=True)
    subprocess.run(["mount", device, str(point)], check=True)
    wanted = fill(point)
    with Terminal([sys.executable, "-m", "tests.journeys.crowd"]) as terminal:
        terminal.wait("disks")
        terminal.type("4")
        terminal.wait("lun0000")
        terminal.type("/")
        terminal.write("label:ledger")
        terminal.wait(f"{COUNT + 1:,} rows")
        terminal.write("-2026")
        terminal.wait(lambda screen: re.search(r" 1 row *$", screen, re.MULTILINE) is not None)
        terminal.type("Enter", "r")
        screen = terminal.wait("Go on")
        assert "Nothing stands against removing logs" in screen
        terminal.confirm("logs")
        terminal.wait("logs is safe to pull", seconds=60)
        terminal.leave("safe to pull")
        terminal.wait("nothing fits", seconds=60)  # an alert about what goes may lie over it for a while
        terminal.type("q")
        terminal.wait("exit code 0")
    assert str(point) not in mounts()
    check_backing(Path(shore.disk("logs")["file"]), wanted, tmp_path / "check")


def test_a_refused_removal_and_its_advice_on_a_small_screen(shore: Harbour, tmp_path: Path) -> None:
    """A shell sits in the volume: the dialog names it, the person leaves the shell, looks again, and removes."""
    vault = shore.disk("vault")
    wanted = fill(Path(vault["mountpoint"]))
    shell = Terminal(["env", "-C", vault["mountpoint"], "PS1=here ", "sh"], width=80, height=24)
    with shell, Terminal(MOORING, width=80, height=24) as terminal:
        shell.wait("here")
        terminal.wait("vault")
        terminal.find("vault")
        terminal.type("r")
        screen = terminal.wait("cannot be removed now: 1 reason")
        assert "Go on" not in screen
        (who,) = shell.children()
        assert f"sh (process {who.pid}) uses the disk" in screen
        assert f"end process {who.pid}, or let it leave" in screen
        shell.write("exit")
        shell.type("Enter")
        shell.wait("exit code 0")
        terminal.hear()
        terminal.type("Tab", "Tab", "Enter")  # past "End processes", which is not for a shell that somebody types in
        terminal.wait("Nothing stands against removing vault")
        terminal.confirm("vault")
        terminal.wait("vault is safe to pull", seconds=60)
        terminal.leave("safe to pull")
        terminal.type("q")
        terminal.wait("exit code 0")
    assert vault["mountpoint"] not in mounts()
    check_backing(Path(vault["file"]), wanted, tmp_path / "check")


def test_a_cable_is_pulled_while_a_removal_runs(shore: Harbour, tmp_path: Path) -> None:
    """Every answer of the target comes late, so that the unmount has much to write when one of two cables goes."""
    shore.bring("data")
    data, (pulled, left) = shore.disk("data"), shore.portals
    with Terminal(MOORING) as terminal:
        terminal.wait("data")
        terminal.find("data")
        terminal.type("r")
        terminal.wait("Go on")
        wanted = fill(Path(data["mountpoint"]), 16)
        for portal in shore.portals:
            ranges.fault("delay", [portal, "200"])
        terminal.confirm("data")
        terminal.wait("now       Unmount")
        ranges.fault("cut", [pulled])
        ranges.fault("delay", [left, "0"])
        terminal.wait("data is safe to pull", seconds=90)
        terminal.leave("safe to pull")
        terminal.type("9")
        terminal.wait("connection lost")
        terminal.type("0")
        screen = terminal.wait("removed")
        assert "data" in screen
        terminal.type("q")
        terminal.wait("exit code 0")
    assert data["mountpoint"] not in mounts()
    assert not any(disk["device"] for disk in listing()["disks"] if disk["wwid"] == data["wwid"])
    check_backing(Path(data["file"]), wanted, tmp_path / "check")


def test_a_disk_that_is_swapped_under_the_dialog(shore: Harbour) -> None:
    """Somebody takes away what was read as `logs` and gives its name to another disk: that one stays as it is."""
    shore.take("data")
    shore.bring("logs")
    with Terminal(MOORING) as terminal:
        terminal.wait("logs")
        terminal.find("logs")
        terminal.type("r")
        terminal.wait("Go on")
        terminal.hear()
        terminal.type("Tab", "Enter")
        terminal.wait("type its name")
        shore.take("logs")
        shore.bring("data", called="logs")
        terminal.write("logs")
        terminal.type("Enter")
        screen = terminal.wait("Something changed since you read the plan. Nothing was done.")
        assert "logs is not as it was now: device was /dev/loop" in inside(screen, "Remove logs")
        assert "Go on" not in screen
        terminal.leave("Something changed")
        terminal.type("q")
        terminal.wait("exit code 0")
    swapped = disk_named("logs")
    assert (swapped["wwid"], swapped["state"]) == (shore.disk("data")["wwid"], "attached")
