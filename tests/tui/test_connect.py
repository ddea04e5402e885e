"""Discovering, logging in with CHAP, attaching, the menu and the clipboard: as a person does it, on fake orders."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib

import pytest
from textual import events
from textual.widgets import Input

from initiator.errors import BadInputError, MooringError
from initiator.host import openiscsi
from initiator.host.iscsiadm import Iscsiadm
from initiator.host.nodes import read_records
from initiator.model import DiskState, Portal, Snapshot, Source
from initiator.practice.target import Target
from tests.engine.engines import Engine, real_engine
from tests.host.fakeiscsiadm import TARGET, FakeIscsiadm
from tests.host.kerneltree import KernelTree
from tests.practice.conftest import LOCKED, SECRET, THEIR_SECRET, target
from tests.tui import samples
from tests.tui.fakes import Bench, FakeConnector, dashboard
from tests.until import until
from tui import orders
from tui.app import AppOptions
from tui.connecting import Chap, Connector, Offer, Offers
from tui.keytable import KeyTable
from tui.screens.connect import ConnectScreen
from tui.screens.main import MainScreen
from tui.screens.menu import MenuScreen
from tui.screens.order import OrderScreen
from tui.via import Choice

__all__ = ["real_engine", "target"]


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
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await until(lambda: "logs in to iqn.2026-11.io.array:two at 192.0.2.1:3260 as keeper (CHAP)" in bench.flow())
        await bench.listen()
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, ConnectScreen))
        assert len(connector(bench).given) == 1, "Cancel is under the Enter key"
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: "Logged in to iqn.2026-11.io.array:two" in bench.flow())
        assert connector(bench).given[1:] == [("login", "iqn.2026-11.io.array:two", chap)]


async def test_a_click_that_was_meant_for_the_form_logs_in_to_nothing(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await form(bench)
        await bench.click("#portal")
        assert bench.app.focused is bench.app.screen.query_one("#portal"), "a form that was seen is clicked"
        await bench.pilot.press(*"192.0.2.9", "enter")
        await until(lambda: "offers 2 targets" in bench.flow())
        for _ in range(2):
            await bench.click("#offers", 3, 1)
        await bench.mouse(events.MouseDown, "#offers", 3, 1)
        await bench.listen()
        await bench.mouse(events.MouseUp, "#offers", 3, 1)
        assert isinstance(bench.app.screen, ConnectScreen), "one click began in the deaf moment"
        await bench.click("#offers", 3, 1)
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        assert len(connector(bench).given) == 1, "a click on a target only asks"
        await bench.listen()
        await bench.click("#choice-0")
        await until(lambda: "Logged in to iqn.2026-11.io.array:one" in bench.flow())


async def test_what_holds_the_mouse_lets_it_go_in_the_deaf_moment(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await form(bench)
        await bench.mouse(events.MouseDown, "#portal", 3, 0)
        field = bench.app.screen.query_one("#portal", Input)
        assert bench.app.mouse_captured is field
        bench.app.screen.deafen()  # type: ignore[attr-defined]
        await bench.mouse(events.MouseUp, "#portal", 3, 0)
        assert bench.app.mouse_captured is None


async def test_a_discovery_says_what_it_has_left_on_this_host(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, size=(80, 24)) as bench:
        await form(bench)
        assert "it makes a node record of each new target" in bench.flow()
        connector(bench).new_records = ("automatic", "automatic")
        await bench.pilot.press(*"192.0.2.9", "enter")
        await until(lambda: "2 new node records, start-up automatic: the next boot logs in with 2." in bench.flow())
        assert "mooring startup TARGET manual" in bench.flow()
        assert "192.0.2.9:3260" in bench.app.screen.query_one("#offers", KeyTable).render_line(1).text, "it is in sight"


async def test_it_says_so_too_when_its_dialog_was_closed_meanwhile(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await form(bench)
        connector(bench).answers.clear()
        connector(bench).new_records = ("manual",)
        await bench.pilot.press(*"192.0.2.9", "enter")
        await until(lambda: "Closing this does not stop it" in bench.flow())
        await bench.pilot.press("escape")
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        connector(bench).answers.set()
        await until(lambda: "1 new node record, start-up manual." in bench.toasts())


HERE, THERE = Choice(Source.KERNEL, "it is here"), Choice(Source.ENGINE, "no open-iscsi")


@pytest.mark.parametrize(
    ("choice", "records", "at_boot", "words"),
    [
        (THERE, (), 0, "Nothing is kept of the answer."),
        (HERE, (), 0, "open-iscsi had a node record of each already."),
        (HERE, ("manual",), 0, "open-iscsi made 1 new node record, start-up manual."),
        (HERE, ("unknown", "manual"), 0, "open-iscsi made 2 new node records, start-up manual, unknown."),
        (HERE, ("onboot", "manual"), 1, "start-up manual, onboot: the next boot logs in with 1. To prevent that: moor"),
    ],
)
def test_what_a_discovery_keeps_in_words(choice: Choice, records: tuple[str, ...], at_boot: int, words: str) -> None:
    offers = Offers(choice, Portal("192.0.2.1"), (Offer("iqn.2026-11.io.array:one", Portal("192.0.2.1")),), records)
    assert offers.at_boot == at_boot
    assert words in offers.kept()


def test_the_order_says_who_logs_in(tmp_path: pathlib.Path) -> None:
    offer, chap, array = (
        Offer("iqn.2026-11.io.array:one", Portal("192.0.2.1")),
        Chap("keeper", "secret"),
        FakeConnector(),
    )
    for choice, who in ((HERE, "open-iscsi logs in"), (THERE, "Mooring's engine logs in")):
        order = orders.connect(offer, Offers(choice, offer.portal, (offer,)), chap, array)
        assert order.about[0].startswith(f"{who} to iqn.2026-11.io.array:one at 192.0.2.1:3260 as keeper (CHAP)")
        assert "secret" not in repr(order.about)
        order.choices[0].run()
    assert array.given == [("login", offer.target, chap)] * 2


def test_a_discovery_through_open_iscsi_counts_its_new_records(
    own_folders: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = KernelTree(own_folders / "host")
    tool = FakeIscsiadm(tree)
    lock = own_folders / "lock"
    monkeypatch.setattr(openiscsi, "why_not", lambda: "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("initiator.host.iscsiadm.Iscsiadm", lambda: Iscsiadm(tree.root, tool, euid=0, lock=lock))
    monkeypatch.setattr("initiator.host.nodes.read_records", lambda: read_records(tree.root))
    tree.record(TARGET, "10.9.1.2,3260,1")
    first = Connector().discover("10.9.1.2", Chap())
    assert [(offer.target, str(offer.portal)) for offer in first.found] == [
        (TARGET, "10.9.1.2:3260"),
        (TARGET, "[fd09:1::2]:3260"),
    ]
    assert (first.via.source, first.new_records) == (Source.KERNEL, ("manual",)), "one of the two was there before"
    assert Connector().discover("10.9.1.2", Chap()).new_records == ()


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


def test_whole_credentials_are_fine_and_nothing_of_them_may_be_missing() -> None:
    Chap().check()
    for whole in (Chap("keeper", "secret"), Chap("keeper", "secret", "array", "other")):
        whole.check()
        for field in dataclasses.fields(whole):
            if getattr(whole, field.name):
                with pytest.raises(BadInputError):
                    dataclasses.replace(whole, **{field.name: ""}).check()


async def test_both_sides_prove_themselves_through_the_engine(
    target: Target, real_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openiscsi, "why_not", lambda: "this kernel has no iSCSI")
    array, portal = Connector(), str(target.config.portals[0])
    with pytest.raises(MooringError, match="does not accept our CHAP"):
        await asyncio.to_thread(array.discover, portal, Chap("keeper", SECRET, "harbour", THEIR_SECRET))
    found = await asyncio.to_thread(array.discover, portal, Chap("keeper", SECRET))
    assert found.via.source is Source.ENGINE, "it tells its targets to everybody, and only wants to know who logs in"
    offer = next(each for each in found.found if each.target == LOCKED)
    for chap, reason in (
        (Chap("keeper", SECRET, "harbour", "a secret it does not have"), "target"),
        (Chap("keeper", "a wrong secret of ours", "harbour", THEIR_SECRET), "secret"),
    ):
        with pytest.raises(MooringError, match=reason):
            await asyncio.to_thread(array.login, offer, chap)
        assert real_engine.client.snapshot().sessions == ()
    told = await asyncio.to_thread(array.login, offer, Chap("keeper", SECRET, "harbour", THEIR_SECRET))
    assert told.startswith(f"Logged in to {LOCKED}")
    (session,) = real_engine.client.snapshot().sessions
    assert (session.chap_user, session.details["chap_user_in"]) == ("keeper", "harbour")
    await asyncio.to_thread(real_engine.end)  # while the target, which lives in this loop, can answer its logout


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
