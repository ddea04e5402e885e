"""Orders to the kernel's initiator from the dashboard: who may, what is asked first, and what is said afterwards."""

from __future__ import annotations

import pathlib

import pytest
from textual.widgets import Button

from initiator.errors import MooringError
from initiator.host.nodes import NodeRecord
from initiator.model import Portal, TcpInfo
from tests.tui import samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.actions import BY_ID, Context, kernel_sessions, why_not
from tui.backends import TcpLater
from tui.keytable import KeyTable
from tui.screens.main import MainScreen
from tui.screens.order import OrderScreen, RecordsScreen
from tui.store import Store
from tui.world import Row

CARRYING, IDLE, ENGINE = "kernel:s:1", "kernel:s:2", "engine:s:vault-127.0.0.1"
TARGET = f"target:{samples.IQN}:harbour"
RECORDS = tuple(
    NodeRecord(f"{samples.IQN}:{name}", Portal("192.0.2.7"), "default", f"/etc/iscsi/nodes/{name}", {
        "node.startup": "manual", "node.session.auth.authmethod": "CHAP", "node.session.auth.username": "keeper",
    })
    for name in ("attic", "cellar")
)  # fmt: skip


def row(key: str) -> Row:
    store = Store()
    store.apply(samples.kernel(), (), 0.0)
    store.open_all(True)
    found = store.row(key)
    assert found is not None
    return found


def reason(action: str, key: str, carried: tuple[str, ...] = ()) -> str:
    return why_not(BY_ID[action], Context(row(key), "", False, False, 0.5, carried))


def test_which_sessions_a_row_stands_for() -> None:
    assert [session.id for session in kernel_sessions(row(TARGET))] == [CARRYING, IDLE]
    assert [session.id for session in kernel_sessions(row(IDLE))] == [IDLE]
    assert kernel_sessions(row(ENGINE)) == ()
    assert kernel_sessions(row("kernel:d:data")) == ()


@pytest.mark.parametrize(
    ("action", "key", "word"),
    [
        ("rescan", TARGET, ""),
        ("rescan", IDLE, ""),
        ("rescan", ENGINE, "session of the kernel"),
        ("rescan", "kernel:d:data", "session of the kernel"),
        ("startup", IDLE, ""),
        ("startup", TARGET, "Move the cursor to a session"),
        ("startup", ENGINE, "Mooring's own engine"),
        ("logout", IDLE, ""),
        ("logout", ENGINE, ""),
        ("logout", "links", "Move the cursor to a session"),
        ("login", "links", ""),
    ],
)
def test_what_can_be_ordered_where(action: str, key: str, word: str) -> None:
    found = reason(action, key)
    assert word in found
    assert bool(word) == bool(found)


def test_a_session_that_carries_a_disk_is_not_logged_out() -> None:
    assert "It carries data: to log out is to pull its cable" in reason("logout", CARRYING, ("data",))


def test_a_session_without_a_record_has_no_startup() -> None:
    found = row(IDLE)
    bare = found._replace(item=samples.session("data", "harbour", samples.PORTALS[0]))
    assert "engine" in why_not(BY_ID["startup"], Context(bare, "", False, False, 0.5))
    import dataclasses

    by_hand = found._replace(item=dataclasses.replace(kernel_sessions(found)[0], details={}))
    assert "no node record" in why_not(BY_ID["startup"], Context(by_hand, "", False, False, 0.5))


async def open_order(bench: Bench, key: str, *keys: str) -> OrderScreen:
    bench.app.store.open_all(True)
    bench.app.main.table.update(bench.app.store.rows)
    bench.app.main.table.cursor = key
    await bench.pilot.press(*keys)
    await until(lambda: isinstance(bench.app.screen, OrderScreen))
    screen = bench.app.screen
    assert isinstance(screen, OrderScreen)
    await bench.pilot.pause()
    await bench.listen()
    return screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_startup_is_chosen_by_keyboard(tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async with dashboard(tmp_path, samples.kernel(), size=size) as bench:
        await open_order(bench, IDLE, "s")
        text = bench.text()
        assert "says: automatic" in bench.flow()
        labels = [str(button.label) for button in bench.app.screen.query(Button)]
        assert labels == ["Cancel", "manual", "onboot"]
        assert all(label in text for label in labels)
        await bench.pilot.press("right", "enter")
        await until(lambda: "startup is done" in bench.text())
        assert bench.kernel.given == [("startup", IDLE, "manual")]
        assert bench.app.screen.has_class("-good")
        await bench.listen()
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_cancel_is_under_the_enter_key(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel()) as bench:
        for key, action in ((IDLE, "o"), (IDLE, "s"), (TARGET, "R")):
            await open_order(bench, key, action)
            await bench.pilot.press("enter")
            await until(lambda: isinstance(bench.app.screen, MainScreen))
        assert bench.kernel.given == []


async def test_a_failed_order_says_why_and_the_way_out(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel(), size=(80, 24)) as bench:
        bench.kernel.failure = MooringError("logout of session 2: the session is in use", fix="journalctl -u iscsid")
        await open_order(bench, IDLE, "o")
        assert "it comes back at the next boot" in bench.flow()
        await bench.pilot.press("right", "enter")
        await until(lambda: "the session is in use" in bench.flow())
        assert "journalctl -u iscsid" in bench.flow()
        assert bench.app.screen.has_class("-bad")
        assert bench.kernel.given == [("logout", IDLE)]


async def test_closing_the_dialog_does_not_lose_the_answer(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel()) as bench:
        bench.kernel.answers.clear()
        await open_order(bench, TARGET, "R")
        await bench.pilot.press("right", "enter")
        await until(lambda: "Waiting for iscsiadm" in bench.flow())
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        bench.kernel.answers.set()
        await until(lambda: "rescan is done" in bench.text())
        assert bench.kernel.given == [("rescan", CARRYING, IDLE)]


async def test_the_key_on_the_wrong_row_says_why(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel()) as bench:
        bench.app.store.open_all(True)
        bench.app.main.table.update(bench.app.store.rows)
        bench.app.main.table.cursor = CARRYING
        await bench.pilot.press("o")
        await until(lambda: "It carries data" in bench.text())
        assert isinstance(bench.app.screen, MainScreen)
        assert bench.kernel.given == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_login_begins_with_the_records(tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async with dashboard(tmp_path, samples.empty(), size=size) as bench:
        bench.kernel.records = RECORDS
        await bench.pilot.press("i")
        await until(lambda: isinstance(bench.app.screen, RecordsScreen))
        await until(lambda: "cellar" in bench.text())
        assert "192.0.2.7:3260" in bench.text()
        assert isinstance(bench.app.focused, KeyTable)
        await bench.listen()
        await bench.pilot.press("down", "enter")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.pilot.pause()
        assert "as keeper (CHAP)" in bench.flow()
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: "login is done" in bench.text())
        assert bench.kernel.given == [("login", RECORDS[1].target, "192.0.2.7:3260")]


async def test_no_records_says_how_to_make_some(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel(), size=(80, 24)) as bench:
        await bench.pilot.press("i")
        await until(lambda: "mooring discover PORTAL" in bench.flow())
        await bench.listen()
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        assert bench.kernel.given == []


def test_tcp_is_imported_beside_the_first_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    from initiator.host import sockets

    known = {(40_000, "192.0.2.7", 3260): TcpInfo("established", 62)}
    monkeypatch.setattr(sockets, "kernel_connections", lambda: known)
    tcp = TcpLater()
    first = tcp()
    assert tcp._importing is not None
    tcp._importing.join(10)
    assert first == {}
    assert tcp() == known
