"""The views as a person walks through them in a real terminal, on a host without iSCSI and on a practice range."""

from __future__ import annotations

import signal

import pytest

from tests.journeys.host import MOORING, Harbour, listing, until
from tests.journeys.terminal import Terminal
from tui.views.catalogue import VIEWS

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


def test_the_first_start_on_a_host_without_iscsi() -> None:
    with Terminal(MOORING, width=80, height=24) as terminal:
        terminal.wait("Welcome aboard")
        terminal.type("6")
        terminal.wait("Speed")
        terminal.type("0")
        terminal.wait("No removal has been made on this host")
        terminal.type("D")
        terminal.wait("Asks an array which targets it offers")
        terminal.leave("Asks an array")
        until(lambda: at_home(terminal), what="the first page again")
        terminal.type("q")
        terminal.wait("exit code 0")


def test_every_view_without_colour_and_without_utf_8(shore: Harbour) -> None:
    env = {"NO_COLOR": "1", "LC_ALL": "C"}
    with Terminal([*MOORING, "--ascii"], width=80, height=24, env=env) as terminal:
        terminal.wait("logs")
        for view in VIEWS:
            terminal.type(view.key)
            screen = terminal.wait(lambda screen, view=view: f"{view.key} {view.short}" in screen)  # type: ignore[misc]
            assert screen.isascii()
        terminal.type("4")
        terminal.wait("not mounted")
        terminal.type("w")
        terminal.wait("portal")
        terminal.type("Escape")
        terminal.wait("not mounted")
        terminal.type("q")
        terminal.wait("exit code 0")


def at_home(terminal: Terminal) -> bool:
    """Whether the first page is there; if not, go there: a key right behind Escape is one with Alt to a terminal."""
    if "Welcome aboard" in terminal.text():
        return True
    terminal.type("1")
    return False


def test_a_hang_up_in_the_middle_of_a_removal_and_coming_back_to_it(shore: Harbour) -> None:
    with Terminal(MOORING) as terminal:
        terminal.wait("vault")
        terminal.find("vault")
        terminal.type("r")
        terminal.confirm("vault")
        terminal.wait("Claim")
        terminal.program().send_signal(signal.SIGHUP)
        terminal.wait("exit code")
    with Terminal(MOORING) as terminal:
        terminal.wait("logs")
        until(lambda: [d for d in listing()["disks"] if d["name"] == "vault"] == [], seconds=60, what="the removal")
        terminal.leave("Unfinished removals")
        terminal.type("1", "0")
        terminal.wait("removed", seconds=60)
        terminal.wait("vault is safe to pull")
        terminal.type("q")
        terminal.wait("exit code 0")
