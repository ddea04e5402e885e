"""Moving between the views: digits, jumps and the way back, sorting, moving sideways, a view that fails."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from typing import NoReturn

import pytest
from textual import events
from textual.widgets import Input

from initiator.model import Event, Link, LinkState, Severity
from tests.tui import samples
from tests.tui.fakes import Bench, assemble, dashboard, ready
from tests.until import until
from tui.memory import Memory
from tui.screens.removal import PlanScreen
from tui.themes import DARK
from tui.views.catalogue import VIEWS
from tui.views.storage import DISKS


def view(bench: Bench) -> str:
    return bench.app.store.view.id


def cursor(bench: Bench) -> str | None:
    return bench.app.main.table.cursor


async def test_digits_show_the_views_and_each_is_found_as_it_was_left(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="overview") as bench:
        for each in VIEWS:
            await bench.pilot.press(each.key)
            await until(lambda each=each: view(bench) == each.id)  # type: ignore[misc]
        await bench.pilot.press("4", "down", "5")
        assert cursor(bench) == "engine:p:data-127.0.0.1"
        await bench.pilot.press("4")
        assert cursor(bench) == "engine:d:logs"


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_a_view_a_filter_and_what_is_typed_into_it_may_come_in_one_packet(
    tmp_path: pathlib.Path, turns: int
) -> None:
    """Or in several, `turns` of the loop after one another: so much of the last one may still be on its way."""
    async with dashboard(tmp_path, view="overview") as bench:
        for key, character in (
            ("4", "4"),
            ("slash", "/"),
            ("ctrl+u", None),
            *zip("vault", "vault", strict=True),
            ("enter", "\r"),
            ("d", "d"),
        ):
            bench.app.post_message(events.Key(key, character))
            for _ in range(turns):
                await asyncio.sleep(0)
        await until(lambda: bench.app.store.place.text == "vault")
        assert view(bench) == "disks"
        await until(lambda: bench.app.focused is bench.app.main.table)
        assert cursor(bench) == "engine:d:vault"
        await until(lambda: not bench.app.main.has_class("-detail"))
        assert bench.app.theme == DARK.name


async def test_names_lead_on_and_backspace_comes_back(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="disks") as bench:
        await bench.pilot.press("enter")
        await until(lambda: bench.app.focused is not None and bench.app.focused.id == "detail")
        await bench.pilot.press("down", "down", "enter")
        await until(lambda: view(bench) == "paths")
        assert cursor(bench) == "engine:p:data-127.0.0.1"
        await bench.pilot.press("enter", "enter")
        await until(lambda: view(bench) == "disks")
        assert cursor(bench) == "engine:d:data"
        await bench.pilot.press("backspace")
        await until(lambda: view(bench) == "paths")
        await bench.pilot.press("backspace")
        await until(lambda: view(bench) == "disks")
        assert bench.app.main.trail == []


async def test_escape_leaves_the_details_and_then_goes_back(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="overview") as bench:
        await bench.pilot.press("down", "enter")
        await until(lambda: view(bench) == "disks")
        assert cursor(bench) == "engine:d:logs"
        await bench.pilot.press("enter")
        await until(lambda: bench.app.focused is not None and bench.app.focused.id == "detail")
        await bench.pilot.press("escape")
        await until(lambda: bench.app.main.table.has_focus)
        await bench.pilot.press("escape")
        await until(lambda: view(bench) == "overview")


async def test_an_event_leads_to_what_it_is_about(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="events") as bench:
        await bench.pilot.press("enter")
        await until(lambda: view(bench) == "disks")
        assert cursor(bench) == "engine:d:data"


async def test_a_jump_goes_past_a_filter_that_hides_the_thing(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="disks") as bench:
        await bench.pilot.press("slash", *"vault", "enter")
        await until(lambda: len(bench.app.main.table.rows) == 1)
        bench.app.main.jump("engine:d:data")
        await until(lambda: cursor(bench) == "engine:d:data")
        assert bench.app.main.query_one("#filter", Input).value == ""


async def test_what_is_gone_cannot_be_jumped_to(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="disks") as bench:
        bench.app.main.jump("engine:d:nowhere")
        await until(lambda: "not there any more" in bench.text())
        assert view(bench) == "disks"


VETH = Link("link:veth12", "veth12", LinkState.DOWN, "veth")
ELSEWHERE = dataclasses.replace(
    samples.volume("home", 9, 64, 0.5), mountpoint="/home", disks=(), name="home", device="/dev/sda1"
)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("link:veth12", "veth12 is neither"),
        ("volume:9", "/home is not on one"),
        ("engine:m:lost", "The disk of the map lost is not there"),
    ],
)
async def test_an_event_about_what_no_view_lists_leads_nowhere_and_says_why(
    tmp_path: pathlib.Path, subject: str, words: str
) -> None:
    base = samples.practice()
    lost = dataclasses.replace(base.maps[0], id="engine:m:lost", name="lost", disk="engine:d:lost")
    seen = dataclasses.replace(
        base, links=(*base.links, VETH), volumes=(*base.volumes, ELSEWHERE), maps=(*base.maps, lost)
    )
    events = (*samples.EVENTS, Event(samples.NOW, "state", subject, "something has happened", Severity.BAD))
    async with dashboard(tmp_path, seen, events=events, view="events") as bench:
        before = cursor(bench)
        await bench.pilot.press("enter")
        await until(lambda: words in bench.toasts())
        assert (view(bench), cursor(bench)) == ("events", before)
        assert bench.app.main.trail == []


async def test_the_way_back_to_what_is_gone_says_so(tmp_path: pathlib.Path) -> None:
    base = samples.practice()
    async with dashboard(tmp_path, base, view="disks") as bench:
        await bench.pilot.press("down", "down")
        assert cursor(bench) == "engine:d:vault"
        await bench.pilot.press("5")
        await until(lambda: view(bench) == "paths")
        await bench.tell(dataclasses.replace(base, disks=base.disks[:2]))
        await bench.pilot.press("backspace")
        await until(lambda: view(bench) == "disks")
        await until(lambda: "What the jump came from is not there any more" in bench.toasts())


async def test_a_volume_in_the_list_of_volumes_stands_for_its_disk(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, events=(), view="volumes") as bench:
        assert cursor(bench) == "volume:0"
        await bench.pilot.press("w")
        await until(lambda: "127.0.0.2:3260" in bench.text() and "/dev/loop0" in bench.text())
        await bench.pilot.press("escape", "r")
        await until(lambda: isinstance(bench.app.screen, PlanScreen))
        await until(lambda: "Remove data" in bench.text())


async def test_a_volume_on_several_disks_has_the_wiring_of_each_and_its_removal_names_them(
    tmp_path: pathlib.Path,
) -> None:
    base = samples.practice()
    both = dataclasses.replace(base.volumes[0], disks=("engine:d:data", "engine:d:logs"))
    seen = dataclasses.replace(base, volumes=(both, *base.volumes[1:]))
    async with dashboard(tmp_path, seen, events=(), view="volumes") as bench:
        await bench.pilot.press("w")
        await until(lambda: bench.text().count("127.0.0.2:3260") == 2)
        assert all(device in bench.text() for device in ("/dev/loop0", "/dev/loop1"))
        await bench.pilot.press("r")
        await until(lambda: "It is on several disks: data, logs." in bench.toasts())


async def test_a_click_on_a_tab_and_on_a_tile(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="overview") as bench:
        at = bench.text().splitlines()[1].index("Links")
        await bench.pilot.click("#views", offset=(at, 0))
        await until(lambda: view(bench) == "links")
        await bench.pilot.press("1")
        lines = bench.text().splitlines()
        row = next(number for number, line in enumerate(lines) if "Volumes" in line and number > 1)
        await bench.pilot.click("#summary", offset=(lines[row].index("Volumes"), row - 3))
        await until(lambda: view(bench) == "volumes")


async def test_a_header_sorts_and_that_is_remembered(tmp_path: pathlib.Path) -> None:
    memory = Memory(lambda: tmp_path)
    parts = assemble(tmp_path, view="disks")
    parts.app.memory = memory
    async with parts.app.run_test(size=(120, 40)) as pilot:
        await ready(parts.app)
        table = parts.app.main.table
        title = "".join(segment.text for segment in table.render_line(0))
        await pilot.click("#tree", offset=(title.index("Size"), 0))
        await until(lambda: [row.key for row in table.rows][-1] == "engine:d:data")
        await pilot.press("Z")
        await until(lambda: next(row.key for row in table.rows) == "engine:d:data")
    again = assemble(tmp_path, view="disks").app.store
    memory.recall(again.places)
    assert (again.place.sort, again.place.backwards) == ("Size", True)


def test_a_damaged_memory_is_no_reason_to_fail(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dashboard.json").write_text('{"disks": 7}')
    places = assemble(tmp_path).app.store.places
    Memory(lambda: tmp_path).recall(places)
    assert places["disks"].sort == DISKS.sort


async def test_the_columns_move_sideways_and_the_first_one_stays(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="disks", size=(80, 24)) as bench:
        assert "naa.6d0011c0ffee" not in bench.text()
        for _ in range(12):
            await bench.pilot.press("right")
        await until(lambda: "naa.6d0011c0ffee" in bench.text() and "PR000001" in bench.text())
        assert "vault" in bench.text(), "the name is still there"
        for _ in range(12):
            await bench.pilot.press("left")
        await until(lambda: "naa.6d0011c0ffee" not in bench.text() and bench.app.main.table.aside == 0)


async def test_a_view_that_fails_says_so_and_the_rest_lives(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise ZeroDivisionError("a defect")

    async with dashboard(tmp_path, view="disks") as bench:
        with monkeypatch.context() as patch:
            patch.setattr("tui.screens.main.detail.lines", broken)
            await bench.pilot.press("down")
            await until(lambda: "details cannot be shown: ZeroDivisionError" in bench.flow())
            assert "vault" in bench.text()
        await bench.pilot.press("down")
        await until(lambda: "cannot be shown" not in bench.text())
        faulty = dataclasses.replace(DISKS.columns[0], cell=broken)
        object.__setattr__(bench.app.store, "view", dataclasses.replace(DISKS, columns=(faulty, *DISKS.columns[1:])))
        bench.app.main.table.refresh()
        bench.app.main.show_data()
        await until(lambda: "Disks cannot be shown" in bench.text())
        await bench.pilot.press("5")
        await until(lambda: "127.0.0.2:3260" in bench.text())
        assert bench.app.is_running


async def test_the_rules_are_asked_when_their_view_is_shown(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("8")
        await until(lambda: "All paths of a disk leave through one link" in bench.text())
        assert "Anybody may log in" not in bench.text()
        await bench.pilot.press("down")
        await until(lambda: "Anybody may log in" in bench.text())
        await bench.pilot.press("down")
        await until(lambda: "no LLDP was heard" in bench.text())


async def test_ten_thousand_paths_sorted_by_their_latency(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.large(10_000), events=(), view="paths") as bench:
        bench.app.main.sort_by("Latency")
        table = bench.app.main.table
        await until(lambda: len(table.rows) == 10_000)
        await bench.pilot.press("end")
        await until(lambda: table.position == 9_999)
        assert "199 µs" in bench.text()
