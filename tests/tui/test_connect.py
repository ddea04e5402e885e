"""Discovering, logging in with CHAP, attaching, the menu and the clipboard: as a person does it, on fake orders."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from textual.widgets import Input

from initiator.errors import BadInputError, MooringError
from initiator.model import DiskState, Snapshot
from tests.tui import samples
from tests.tui.fakes import Bench, FakeConnector, dashboard
from tests.until import until
from tui.app import AppOptions
from tui.connecting import Chap
from tui.keytable import KeyTable
from tui.screens.connect import ConnectScreen
from tui.screens.main import MainScreen
from tui.screens.menu import MenuScreen
from tui.screens.order import OrderScreen


def connector(bench: Bench) -> FakeConnector:
    found = bench.app.backends.connector
    assert isinstance(found, FakeConnector)
    return found


async def form(bench: Bench) -> None:
    await bench.pilot.press("D")
    await until(lambda: isinstance(bench.app.screen, ConnectScreen))
    await bench.listen()


async def test_from_an_address_to_a_session_with_mutual_chap(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await form(bench)
        await bench.pilot.press(*"192.0.2.9", "tab", *"keeper", "tab", *"secret-of-ours", "tab", *"array", "tab")
        await bench.pilot.press(*"secret-of-theirs")
        assert "secret-of" not in bench.text(), "a secret is never on the screen"
        await bench.pilot.press("enter")
        await until(lambda: "192.0.2.9:3260 offers 2 targets (via the kernel's initiator" in bench.flow())
        chap = Chap("keeper", "secret-of-ours", "array", "secret-of-theirs")
        assert connector(bench).given == [("discover", "192.0.2.9", chap)]
        assert "secret" not in repr(chap)
        assert bench.app.screen.query_one("#secret", Input).value == ""
        await bench.pilot.press("down", "enter")
        assert len(connector(bench).given) == 1, "deaf for the first moment"
        await bench.listen()
        await bench.pilot.press("down", "enter")
        await until(lambda: "Logged in to iqn.2026-11.io.array:two" in bench.flow())
        assert connector(bench).given[1] == ("login", "iqn.2026-11.io.array:two", chap)


async def test_a_refused_discovery_says_why_and_keeps_what_was_typed(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        connector(bench).failure = MooringError("nothing listens on port 3260 there", fix="look at the address")
        await form(bench)
        await bench.pilot.press(*"192.0.2.9", "enter")
        await until(lambda: "nothing listens on port 3260 there" in bench.flow())
        assert "look at the address" in bench.flow()
        assert bench.app.screen.query_one("#portal", Input).value == "192.0.2.9"


async def test_nothing_is_discovered_in_read_only_mode(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, options=AppOptions(read_only=True)) as bench:
        await bench.pilot.press("D")
        await until(lambda: "--read-only" in bench.text())
        assert isinstance(bench.app.screen, MainScreen)


@pytest.mark.parametrize(
    ("chap", "word"),
    [
        (Chap("keeper"), "both a name and a secret"),
        (Chap("", "secret"), "both a name and a secret"),
        (Chap("keeper", "secret", "array"), "the target's name and its secret"),
        (Chap("", "", "array", "secret"), "mutual CHAP needs CHAP"),
    ],
)
def test_halves_of_credentials_are_complained_about(chap: Chap, word: str) -> None:
    with pytest.raises(BadInputError, match=word):
        chap.check()


def test_whole_credentials_are_fine() -> None:
    Chap().check()
    Chap("keeper", "secret").check()
    Chap("keeper", "secret", "array", "other").check()


def available() -> Snapshot:
    base = samples.practice()
    loose = dataclasses.replace(base.disks[1], state=DiskState.AVAILABLE, device=None)
    return dataclasses.replace(base, disks=(base.disks[0], loose, base.disks[2]))


async def test_an_available_disk_is_attached_after_asking(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, available()) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("a")
        await until(lambda: "not attached yet" in bench.flow())
        bench.app.main.table.cursor = "engine:d:logs"
        await bench.pilot.press("a")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.listen()
        await bench.pilot.press("enter")
        assert connector(bench).given == [], "Cancel is under the Enter key"
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        await bench.pilot.press("a")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.listen()
        await bench.pilot.press("tab", "enter")
        await until(lambda: "attached as /dev/loop7" in bench.flow())
        assert connector(bench).given == [("attach", f"{samples.IQN}:harbour", 1)]


async def test_the_menu_lists_what_can_be_done_first_and_says_why_the_rest_cannot(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("space")
        await until(lambda: isinstance(bench.app.screen, MenuScreen))
        await bench.listen()
        table = bench.app.screen.query_one("#actions", KeyTable)
        reasons = [bool(row.reason) for row in table.rows]
        assert reasons == sorted(reasons)
        assert reasons[0] is False
        assert "disk data" in bench.text()
        names = [row.key for row in table.rows]
        assert names[0] == "remove"
        table.cursor = "wiring"
        await bench.pilot.press("enter")
        await until(lambda: "127.0.0.2:3260" in bench.text() and bench.app.main.has_class("-wired"))


async def test_a_right_click_opens_the_menu_of_what_is_under_it(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.click("#tree", offset=(8, 6), button=3)
        await until(lambda: isinstance(bench.app.screen, MenuScreen))
        assert "disk logs" in bench.text()


async def test_what_identifies_a_thing_is_copied(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("y")
        await until(lambda: "Copied" in bench.text())
        wwid = samples.practice().disks[0].wwid
        assert bench.app.clipboard == wwid
