"""The dashboard as a person uses it, without a terminal: keys in, the screen out."""

from __future__ import annotations

import dataclasses
import functools
import gc
import pathlib
import random
from collections.abc import Sequence

import pytest
from textual.widgets import Input

from initiator.errors import MooringError
from initiator.model import Disk
from tests.tui import samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.app import AppOptions
from tui.screens.help import HelpScreen
from tui.screens.main import MainScreen
from tui.themes import DARK, LIGHT
from tui.words import Line
from tui.world import Row


def cursor(bench: Bench) -> str | None:
    return bench.app.main.table.cursor


async def test_the_first_screen_shows_everything_at_once(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        text = bench.text()
        for expected in (
            "quay",
            "2 targets · 6 sessions · 3 disks · 6 paths · 2 volumes",
            "PRACTICE",
            "✓ live",
            "✓ all 6 paths work",
            "harbour",
            "/run/mooring/practice/data",
            "127.0.0.2:3260",
            "12% used",
            "62 µs",
            "path data@127.0.0.2:3260 failed",
            "r remove",
        ):
            assert expected in text, expected


async def test_there_is_a_screen_before_there_is_data(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, wait=False) as bench:
        bench.source.held.clear()
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        assert "Mooring" in bench.text() or "reading" in bench.text()
        bench.source.held.set()


async def test_the_window_is_arranged_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each change of a class of the screen Textual works out the styles of every widget anew."""
    updates = 0
    honest = MainScreen.update_node_styles

    def counting(screen: MainScreen, animate: bool = True) -> None:
        nonlocal updates
        updates += 1
        honest(screen, animate)

    monkeypatch.setattr(MainScreen, "update_node_styles", counting)
    async with dashboard(tmp_path, size=(160, 48), view="overview") as bench:
        main = bench.app.main
        assert main.has_class("-overview", "-detail", "-below", "-wired")
        assert updates <= 1  # Textual's own, when the screen comes
        updates = 0
        await bench.pilot.press("3")
        assert main.has_class("-detail")
        assert not main.has_class("-overview")
        assert updates == 1


async def test_garbage_is_searched_for_from_the_first_screen_on(tmp_path: pathlib.Path) -> None:
    gc.disable()
    try:
        async with dashboard(tmp_path):
            assert gc.isenabled()
    finally:
        gc.enable()


async def test_the_cursor_stays_on_its_thing_when_rows_come_above_it(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("down", "down", "down", "down", "down")
        assert cursor(bench) == "engine:d:logs"
        base = samples.practice()
        extra = samples.disk("archive", "harbour", 5, 64, base.disks[0].state, 7, None)
        grown = dataclasses.replace(base, disks=(extra, *base.disks))
        await bench.tell(grown)
        await until(lambda: any(row.key == "engine:d:archive" for row in bench.app.main.table.rows))
        assert cursor(bench) == "engine:d:logs"
        selected = bench.app.main.selected
        assert selected is not None
        assert isinstance(selected.item, Disk)
        assert selected.item.name == "logs"


async def test_when_its_thing_goes_the_cursor_takes_the_next_and_says_so(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("down", "down", "down", "down", "down")
        base = samples.practice()
        gone = dataclasses.replace(
            base,
            disks=tuple(d for d in base.disks if d.name != "logs"),
            paths=tuple(p for p in base.paths if p.disk != "engine:d:logs"),
        )
        await bench.tell(gone)
        await until(lambda: cursor(bench) == f"sessions:{samples.IQN}:harbour")
        await until(lambda: "Sessions of this host with" in bench.text())


async def test_a_pulled_cable_is_on_the_screen(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.tell(samples.practice(pulled=samples.PORTALS[1]))
        await until(lambda: "data lost 1 of 2 paths 12 s ago" in bench.text())
        assert bench.text().count("✗ failed") >= 6


async def test_branches_open_and_close(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        table = bench.app.main.table
        before = len(table.rows)
        await bench.pilot.press("down", "left")
        await until(lambda: len(table.rows) == before - 3)
        await bench.pilot.press("enter")
        await until(lambda: len(table.rows) == before)
        await bench.pilot.press("down", "left")
        await until(lambda: cursor(bench) == "engine:d:data")
        await bench.pilot.press("minus")
        await until(lambda: len(table.rows) == 8)
        await bench.pilot.press("asterisk")
        await until(lambda: len(table.rows) == before)


async def test_moving_keys(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        table = bench.app.main.table
        await bench.pilot.press("end")
        assert table.position == len(table.rows) - 1
        await bench.pilot.press("home", "j", "j", "k")
        assert table.position == 1
        await bench.pilot.press("pagedown")
        await until(lambda: (table.position or 0) > 5)
        await bench.pilot.press("pageup", "up", "up")
        assert table.position == 0


async def test_the_filter_narrows_while_it_is_typed_and_escape_ends_it(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.practice(pulled=samples.PORTALS[1])) as bench:
        await bench.pilot.press("slash", *"vault")
        await until(lambda: "harbour" not in bench.text())
        assert "rows" in bench.text()
        await bench.pilot.press("enter")
        await until(lambda: bench.app.main.table.has_focus)
        assert bench.app.main.query_one("#filterbar").display, "a filter in force is always to be seen"
        await bench.pilot.press("escape")
        await until(lambda: "harbour" in bench.text())
        assert not bench.app.main.query_one("#filterbar").display
        assert bench.app.main.query_one("#filter", Input).value == ""


async def test_a_filter_that_fits_nothing_says_so_and_does_no_harm(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("slash", *"zzzz", "enter")
        await until(lambda: "nothing fits" in bench.text())
        assert cursor(bench) is None
        await bench.pilot.press("r", "enter", "left", "down", "pagedown")
        assert isinstance(bench.app.screen, MainScreen)
        await bench.pilot.press("escape")
        await until(lambda: cursor(bench) is not None)


async def test_next_problem_walks_through_what_is_wrong(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.practice(pulled=samples.PORTALS[1])) as bench:
        await bench.pilot.press("minus")
        seen = []
        for _ in range(4):
            await bench.pilot.press("n")
            seen.append(cursor(bench))
        assert seen == ["engine:d:data", "engine:d:logs", "engine:d:vault", "engine:d:data"]


async def test_panes_take_the_keys(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        focused = []
        for key in ("tab", "tab", "tab", "shift+tab"):
            await bench.pilot.press(key)
            await bench.pilot.pause()
            focused.append(bench.app.focused.id if bench.app.focused else None)
        assert focused == ["detail", "events", "tree", "events"]


async def test_the_details_follow_the_cursor_and_can_be_hidden(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("down")
        await until(lambda: "naa.6d0011c0ffee" in bench.text())
        await bench.pilot.press("d")
        await until(lambda: "naa.6d0011c0ffee" not in bench.text())
        await bench.pilot.press("d")
        await until(lambda: "naa.6d0011c0ffee" in bench.text())


async def test_80_columns_show_the_tree_and_the_details_in_its_place(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, size=(80, 24)) as bench:
        text = bench.text()
        assert "/run/mooring/practice/data" in text
        assert "127.0.0.2:3260" in text
        assert "Events" in text
        assert "q quit" in text
        await bench.pilot.press("down", "d")
        await until(lambda: "naa.6d0011c0ffee" in bench.text())
        assert "lighthouse" not in bench.text()
        await bench.pilot.press("escape")
        await until(lambda: "lighthouse" in bench.text())


async def test_a_window_that_is_too_small_says_what_is_needed(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, size=(80, 24)) as bench:
        await bench.pilot.press("end")
        here = cursor(bench)
        await bench.pilot.resize_terminal(50, 12)
        await until(lambda: "Mooring needs 60x16; this window is 50x12." in bench.text())
        await bench.pilot.resize_terminal(80, 20)
        await until(lambda: "Events" in bench.text())
        assert cursor(bench) == here
        assert "links" in bench.text(), "the cursor's row is in sight after the resize"


async def test_pause_holds_the_screen_and_says_so(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("p")
        await until(lambda: "PAUSED" in bench.text())
        await bench.tell(samples.practice(pulled=samples.PORTALS[1]))
        assert "✗ failed  " not in bench.text()
        await bench.pilot.press("r")
        await until(lambda: "The screen is paused" in bench.text())
        await bench.pilot.press("p")
        await until(lambda: "data lost 1 of 2 paths" in bench.text())


async def test_old_data_is_visibly_old_and_not_acted_on(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("down")
        bench.source.held.clear()
        bench.source.hurry()
        bench.tick.at += 12.0
        await until(lambda: "12 s old" in bench.text())
        assert "no new data" in bench.text()
        await bench.pilot.press("r")
        await until(lambda: "12 s old: nothing is changed" in bench.text())
        bench.source.held.set()


async def test_a_host_that_cannot_be_read_is_told_with_the_reason(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.source.failure = MooringError("the engine did not answer within 5 s")
        bench.source.hurry()
        await until(lambda: "no new data: the engine did not answer within 5 s" in bench.text())


@pytest.mark.parametrize(
    ("options", "root", "word"),
    [(AppOptions(), False, "not root"), (AppOptions(read_only=True), True, "--read-only")],
)
async def test_read_only_says_so_and_why(tmp_path: pathlib.Path, options: AppOptions, root: bool, word: str) -> None:
    async with dashboard(tmp_path, options=options, root=root) as bench:
        assert "READ-ONLY" in bench.text()
        await bench.pilot.press("down", "r")
        await until(lambda: word in bench.text())
        assert isinstance(bench.app.screen, MainScreen)


async def test_a_host_without_iscsi_is_welcomed(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.empty(), options=AppOptions(), root=False) as bench:
        text = bench.text()
        assert "Welcome aboard" in text
        assert "mooring practice" in text
        await until(lambda: "You are not root" in bench.text())
        await bench.tell(samples.practice())
        await until(lambda: "harbour" in bench.text())
        assert "Welcome" not in bench.text()
        await until(lambda: bench.app.main.table.has_focus)


async def test_help_explains_the_selected_thing_first(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, size=(120, 60)) as bench:
        await bench.pilot.press("down", "question_mark")
        await until(lambda: isinstance(bench.app.screen, HelpScreen))
        await until(lambda: "A block device of this host" in bench.flow())
        await bench.listen()
        await bench.pilot.press("escape")
        await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_the_palette_pulls_a_cable_in_practice(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("ctrl+p")
        await until(lambda: "Pull the cable of 127.0.0.2" in bench.text())
        await bench.pilot.press(*"pull127.0.0.2")
        await until(lambda: "Pull the cable of 127.0.0.1" not in bench.text())
        await until(lambda: "Pull the cable of 127.0.0.2" in bench.text())
        await bench.pilot.press("enter")
        await until(lambda: bench.faults == [("cut", ("127.0.0.2:3260",))])
        await until(lambda: "cut holds now" in bench.text())


async def test_the_palette_has_no_faults_outside_practice(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, options=AppOptions()) as bench:
        await bench.pilot.press("ctrl+p")
        await until(lambda: "Next problem" in bench.text())
        assert "cable" not in bench.text()
        assert not bench.app.can_practice


async def test_light_and_dark(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        assert bench.app.theme == DARK.name
        await bench.pilot.press("t")
        assert bench.app.theme == LIGHT.name
        table = bench.app.main.table
        await bench.pilot.pause()
        strip = table.render_line(2)
        style = next(segment.style for segment in strip if segment.style is not None)
        assert style.bgcolor is not None
        assert style.bgcolor.triplet is not None
        assert min(style.bgcolor.triplet) > 200


async def test_ascii_terminals_get_ascii(tmp_path: pathlib.Path) -> None:
    async with dashboard(
        tmp_path, samples.practice(pulled=samples.PORTALS[1]), options=AppOptions(ascii=True, practice=True)
    ) as bench:
        await bench.pilot.press("down")
        assert bench.text().isascii()
        assert "x failed" in bench.text()
        for key, word in (("f1", "Take the selected disk"), ("r", "Unmount"), ("ctrl+p", "Pull the cable")):
            await bench.pilot.press(key)
            await until(lambda: not isinstance(bench.app.screen, MainScreen))
            await until(functools.partial(lambda wanted: wanted in bench.text(), word))
            assert bench.text().isascii(), key
            await bench.listen()
            await bench.pilot.press("escape")
            await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_a_picture_is_saved_in_the_current_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with dashboard(tmp_path) as bench:
        await bench.pilot.press("S")
        await until(lambda: list(tmp_path.glob("mooring-*.svg")))
        await until(lambda: "Saved mooring-" in bench.text())


async def test_a_picture_can_be_all_that_is_wanted(tmp_path: pathlib.Path) -> None:
    picture = tmp_path / "first.svg"
    async with dashboard(tmp_path, options=AppOptions(screenshot=picture)) as bench:
        await until(lambda: picture.exists() and not bench.app.is_running)
        assert "harbour" in picture.read_text()
    assert bench.app.return_value == 0


async def test_the_mouse_moves_the_cursor_and_presses_keys(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await bench.pilot.click("#tree", offset=(8, 6))
        await until(lambda: cursor(bench) == "engine:d:logs")
        before = len(bench.app.main.table.rows)
        await bench.pilot.click("#tree", offset=(8, 6))
        await until(lambda: len(bench.app.main.table.rows) == before - 2)
        at = bench.text().splitlines()[-1].index("pause")
        await bench.pilot.click("#keys", offset=(at, 0))
        await until(lambda: "PAUSED" in bench.text())


async def test_quitting_is_immediate_even_while_a_reading_hangs(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.source.held.clear()
        bench.source.hurry()
        await bench.pilot.press("q")
        await until(lambda: not bench.app.is_running)
        bench.source.held.set()
    assert bench.app.return_value == 0


async def test_two_thousand_rows_are_formatted_only_where_they_are_seen(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.large(), events=()) as bench:
        await bench.pilot.press("asterisk")
        table = bench.app.main.table
        await until(lambda: len(table.rows) > 2_000)
        formatted: list[str] = []
        honest = table._cells

        def counting(row: Row, widths: Sequence[int]) -> Sequence[Line]:
            formatted.append(row.key)
            return honest(row, widths)

        table._cells = counting
        await bench.tell(samples.changed(samples.large(), 0.1, random.Random(1)))
        await bench.pilot.pause()
        assert len(set(formatted)) <= table.visible_rows
