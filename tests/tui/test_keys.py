"""Keys that the settings change or take away: what still acts, and what the screen says of it."""

from __future__ import annotations

import pathlib

import pytest
from textual.command import CommandPalette

from tests.tui import samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.actions import ACTIONS, first_key, with_keys
from tui.app import AppOptions
from tui.config import Config
from tui.keytable import KeyTable
from tui.screens.help import HelpScreen
from tui.screens.main import MainScreen
from tui.screens.menu import MenuScreen
from tui.screens.order import OrderScreen

IDLE = "kernel:s:2"
"""A session that carries no disk."""


def given(**keys: tuple[str, ...]) -> AppOptions:
    return AppOptions(practice=True, config=Config(keys=keys))


def footer(bench: Bench) -> str:
    return bench.text().splitlines()[-1]


async def stand_on(bench: Bench, key: str) -> None:
    bench.app.store.open_all(True)
    bench.app.main.table.update(bench.app.store.rows)
    bench.app.main.table.cursor = key
    await bench.pilot.pause()


@pytest.mark.parametrize("name", ["remove", "menu", "wiring", "help", "quit"])
async def test_an_action_of_the_footer_without_a_key_is_left_out_of_it(tmp_path: pathlib.Path, name: str) -> None:
    label = next(action.label for action in ACTIONS if action.id == name)
    async with dashboard(tmp_path, options=given(**{name: ()})) as bench:
        bench.app.main.tell_age()
        await bench.pilot.pause()
        assert f" {label} " not in footer(bench)
        assert " filter " in footer(bench)


async def test_no_action_has_a_key_and_all_of_them_can_still_be_done(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, options=given(**{action.id: () for action in ACTIONS})) as bench:
        assert footer(bench).strip() == ""
        await bench.pilot.press("q", "question_mark", "space", "r")
        assert isinstance(bench.app.screen, MainScreen)
        bench.app.main.action_do("menu")
        await until(lambda: isinstance(bench.app.screen, MenuScreen))
        await bench.listen()
        bench.app.screen.query_one("#actions", KeyTable).cursor = "copy"
        await bench.pilot.press("enter")
        await until(lambda: "Copied" in bench.text())
        bench.app.main.action_do("keys")
        await until(lambda: isinstance(bench.app.screen, HelpScreen) and "Move the cursor" in bench.flow())
        assert "PgUp PgDn" in bench.text()
        assert "Leave; removals" not in bench.flow()
        bench.app.screen.dismiss(None)
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        await bench.pilot.press("ctrl+p", *"pause")
        await until(lambda: isinstance(bench.app.screen, CommandPalette) and "Hold the screen still" in bench.text())
        assert "Pause" in bench.text()
        assert "()" not in bench.text()


async def test_a_key_that_was_taken_away_does_nothing(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel(), options=given(logout=())) as bench:
        await stand_on(bench, IDLE)
        await bench.pilot.press("o")
        assert isinstance(bench.app.screen, MainScreen)
        bench.app.main.action_do("logout")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await until(lambda: "it comes back at the next boot" in bench.flow())


async def test_a_key_that_was_taken_away_can_be_given_to_another_action(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.kernel(), options=given(logout=(), startup=("o",))) as bench:
        await stand_on(bench, IDLE)
        await bench.pilot.press("s")
        assert isinstance(bench.app.screen, MainScreen)
        await bench.pilot.press("o")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await until(lambda: "says: automatic" in bench.flow())


async def test_the_menu_shows_the_keys_of_the_settings(tmp_path: pathlib.Path) -> None:
    options = given(menu=(" ",), wiring=("f8", "W"), copy=())
    async with dashboard(tmp_path, options=options) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("space")
        await until(lambda: isinstance(bench.app.screen, MenuScreen))
        rows = {row.key: first_key(row.action) for row in bench.app.screen.query_one("#actions", KeyTable).rows}
        assert (rows["wiring"], rows["copy"], rows["remove"]) == ("f8", "", "r")
        await until(lambda: any(" f8 " in line and "wiring" in line for line in bench.text().splitlines()))


def test_a_key_may_be_written_as_it_is_printed() -> None:
    found = {action.id: action.keys for action in with_keys({"menu": (" ",), "filter": ("/", ","), "pause": ()})}
    assert (found["menu"], found["filter"], found["pause"]) == (("space",), ("slash", "comma"), ())
