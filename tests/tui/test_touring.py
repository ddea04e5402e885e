"""The tour, the settings and the policy on the dashboard."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from initiator.practice.disaster import Loss
from tests.tui import samples
from tests.tui.fakes import dashboard
from tests.until import until
from tui.actions import ACTIONS
from tui.app import AppOptions
from tui.config import Config, Dashboard, Host, Mistake
from tui.policy import CHANGING, EVERYTHING, Policy, named
from tui.touring import Touring
from tui.tricks import LESSONS
from tui.words import ASCII


async def test_a_lesson_goes_on_by_what_the_person_does(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, size=(80, 24)) as bench:
        await bench.pilot.press("T")
        assert "Lesson 1 of 6" in bench.text()
        assert "1/3" in bench.text()
        await bench.pilot.press("4", "down")
        await until(lambda: "2/3" in bench.text(), what="the task of the path")
        await bench.pilot.press("5", "down")
        await until(lambda: "3/3" in bench.text(), what="the task of the words")
        await bench.pilot.press("question_mark")
        await bench.listen()
        await bench.pilot.press("escape")
        await until(lambda: "A disk is what its WWID says" in bench.flow(), what="what there was to learn")
        await bench.pilot.press("greater_than_sign")
        await bench.tell(samples.practice(pulled=samples.PORTALS[1]))
        await until(lambda: "3/3" in bench.text(), what="the pulled cable and its path under the cursor")
        await bench.pilot.press("less_than_sign", "T")
        assert "Lesson" not in bench.text()


async def test_the_disaster_of_a_lesson_is_told_with_its_figures(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard(tmp_path) as bench:
        loss = Loss(True, 16_777_216, 4096, "Input/output error")
        backends = dataclasses.replace(bench.app.backends, fault=lambda name, args: loss)
        monkeypatch.setattr(bench.app, "backends", backends)
        await bench.pilot.press("T", "greater_than_sign", "greater_than_sign")
        bench.app.play(LESSONS[0])
        await until(lambda: "4096 of them are on the disk" in bench.flow(), what="the figures")


async def test_the_tour_needs_a_practice_range(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, options=AppOptions()) as bench:
        await bench.pilot.press("T")
        assert bench.app.touring is None
        await until(lambda: "mooring tour" in bench.text(), what="the way to it")


def test_the_lines_of_a_lesson_fit_any_width() -> None:
    touring = Touring(0.0)
    for _ in range(7):
        for width in (58, 78, 118):
            lines = touring.lines(width, ASCII)
            assert all(sum(len(piece.text) for piece in line) <= width for line in lines)
            assert all(piece.text.isascii() or "“" in piece.text for line in lines[:1] for piece in line)
        touring.move(1, 0.0, samples.practice())


async def test_settings_give_keys_a_mark_and_are_told_of_when_wrong(tmp_path: pathlib.Path) -> None:
    config = Config(
        dashboard=Dashboard(theme="terminal"), host=Host("PRODUCTION", "red"), keys={"pause": ("f8",), "help": ("/",)}
    )
    mistake = Mistake(pathlib.Path("config.toml"), 3, "theem is not known; did you mean theme?")
    options = AppOptions(practice=True, config=config, mistakes=(mistake,))
    async with dashboard(tmp_path, options=options) as bench:
        assert "PRODUCTION" in bench.text().splitlines()[0]
        assert "f8 pause" in bench.text()
        await until(lambda: "config.toml:3: theem is not known" in bench.flow(), what="the mistake")
        await bench.pilot.press("p")
        assert not bench.app.store.paused
        await bench.pilot.press("f8")
        assert bench.app.store.paused


async def test_what_the_policy_forbids_says_why(tmp_path: pathlib.Path) -> None:
    options = AppOptions(practice=True, policy=Policy({EVERYTHING: "A museum."}))
    async with dashboard(tmp_path, options=options) as bench:
        await bench.pilot.press("down", "r")
        await until(lambda: "A museum." in bench.flow(), what="the reason")
        assert len(bench.app.screen_stack) == 2


def test_a_policy_knows_every_action_that_changes_something() -> None:
    assert {named(action.id) for action in ACTIONS if action.changes} <= CHANGING
