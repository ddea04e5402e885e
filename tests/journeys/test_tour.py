"""The guided tour, all six lessons of it, as a person takes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.journeys.host import MOORING, listing, take_down, until
from tests.journeys.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

HARBOUR = "iqn.2026-11.io.mooring.practice:harbour"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """The tour with its own range. Whatever a failed test left of both is taken away."""
    opened = Terminal([*MOORING, "tour"])
    yield opened
    # Not what it has started: the target and the engine outlive it, until its range is taken down.
    programs = [child for child in opened.children() if "tour" in child.cmdline()]
    opened.kill()
    until(lambda: not any(program.is_running() for program in programs), seconds=90, what="the end of the tour")
    take_down({"disks": []})


def begin(terminal: Terminal, number: int) -> None:
    """The next lesson."""
    terminal.type(">")
    terminal.wait(f"Lesson {number} of 6")


def look_around(terminal: Terminal) -> None:
    terminal.type("4", "Down")
    terminal.wait("2/3 Press 5")
    terminal.type("5")
    terminal.wait("3/3 Press ?")
    terminal.type("?")
    terminal.wait("Esc closes")
    terminal.leave("Esc closes")
    terminal.wait("A disk is what its WWID says")


def pull_a_cable(terminal: Terminal) -> None:
    terminal.order("Pull the cable of 127.0.0.2")
    terminal.wait("2/3 Press 5", seconds=60)
    terminal.type("5")
    while "3/3" not in terminal.text():
        terminal.type("Down")
    terminal.order("Plug in the cable of 127.0.0.2")
    terminal.wait("The disks were degraded, not lost", seconds=90)


def make_the_disaster(terminal: Terminal) -> None:
    terminal.order("Make the disaster happen on logs")
    terminal.wait("A program had written 16777216 bytes", seconds=120)


def remove(terminal: Terminal) -> None:
    terminal.type("4")
    terminal.find("vault")
    terminal.type("r")
    terminal.confirm("vault")
    terminal.wait("vault is safe to pull", seconds=90)
    terminal.leave("safe to pull")
    terminal.wait("Every byte is with the target now")


def follow_the_advice(terminal: Terminal) -> None:
    terminal.order("Let a program sit in the volume of data")
    terminal.wait("sits in the volume of data")
    terminal.find("data")
    terminal.type("r")
    terminal.wait("data cannot be removed now")
    terminal.leave("data cannot be removed now")
    terminal.order("End the program that sits in a volume")
    terminal.wait("the program has ended")
    terminal.type("r")
    terminal.wait("Go on")
    terminal.leave("Go on")
    terminal.wait("On a real host you would have stopped the program")


def drain(terminal: Terminal) -> None:
    terminal.type("2", "Home", "r")
    terminal.wait(f"Nothing stands against removing {HARBOUR}")
    terminal.confirm(HARBOUR)
    terminal.wait("safe to pull", seconds=90)
    terminal.leave("safe to pull")
    terminal.wait("No session of this host to that target remains")


def test_all_six_lessons(terminal: Terminal) -> None:
    terminal.wait("Lesson 1 of 6", seconds=90)
    for number, lesson in enumerate(
        (look_around, pull_a_cable, make_the_disaster, remove, follow_the_advice, drain), start=1
    ):
        if number > 1:
            begin(terminal, number)
        lesson(terminal)
    assert [disk["name"] for disk in listing()["disks"] if disk["device"]] == []
    terminal.type(">")
    terminal.wait("The tour is over")
    terminal.type("q")
    terminal.wait("the practice range is gone", seconds=90)
    terminal.wait("exit code 0")
