"""Names that act on a careless screen, in every place where a string from outside is shown."""

from __future__ import annotations

import dataclasses
import pathlib
import unicodedata

import pytest
from textual.command import CommandList

from initiator.model import Event, Severity
from safety.findings import Finding, Level
from safety.journal import Journal, Kind, Mark, Outcome, boot_id
from safety.past import Past, Shelf
from tests.tui import fakes, samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.app import MooringApp
from tui.screens.main import MainScreen
from tui.screens.progress import ProgressScreen
from tui.screens.removal import ConfirmScreen, PlanScreen
from tui.views.catalogue import VIEWS
from tui.words import say

IDS = ["markup", "path", "escape", "bidi", "wide", "lines", "long", "shell", "c1", "action"]
EVIL = pytest.mark.parametrize("evil", samples.EVIL, ids=IDS)


def segments(app: MooringApp) -> list[str]:
    return [segment.text for strip in app.screen._compositor.render_strips() for segment in strip]


def assert_harmless(bench: Bench) -> None:
    """Nothing on the screen controls the terminal, and no line is longer than the screen."""
    for text in segments(bench.app):
        for character in text:
            assert unicodedata.category(character) not in ("Cc", "Cf"), repr(text)
    width = bench.app.size.width
    for strip in bench.app.screen._compositor.render_strips():
        assert strip.cell_length == width, strip.text
    assert bench.app.is_running


def past(folder: pathlib.Path) -> Past:
    """A removal that was done."""
    plan = fakes.plan(samples.practice())
    with fakes.begin(folder / "done.jsonl", plan) as journal:
        fakes.run_by(journal, 1)
        fakes.walk(journal, plan)
        fakes.end(journal, Outcome.DONE, "data is safe to pull")
    return Shelf(folder).look()[0]


@EVIL
async def test_every_row_and_page_is_harmless(tmp_path: pathlib.Path, evil: str) -> None:
    event = Event(samples.NOW, "state", "x", f"{evil} happened", Severity.BAD)
    async with dashboard(tmp_path, samples.hostile(evil), events=(event,)) as bench:
        await bench.pilot.press("asterisk")
        table = bench.app.main.table
        kinds = set()
        for row in list(table.rows):
            if row.kind not in kinds:
                kinds.add(row.kind)
                table.cursor = row.key
                await bench.pilot.pause()
                assert_harmless(bench)
        assert len(kinds) == 8
        bench.remover.done = (dataclasses.replace(past(tmp_path), name=evil, said=evil, host=evil, wwid=evil),)
        for view in VIEWS:
            await bench.pilot.press(view.key)
            await until(lambda view=view: bench.app.store.view is view)  # type: ignore[misc]
            await until(lambda view=view: table.rows, what=view.id)  # type: ignore[misc]
            assert_harmless(bench)
            await bench.pilot.press("w", "L", "L", "backspace")
            await bench.pilot.pause()
            assert_harmless(bench)
        bench.app.main.jump("view:tree")
        table.cursor = "engine:d:data"
        await bench.pilot.pause()
        shown = say(evil).replace(" ", "")[:12]
        assert shown in bench.text().replace(" ", ""), "data is shown, and shown as it is"


@EVIL
async def test_a_removal_of_it_is_harmless(tmp_path: pathlib.Path, evil: str) -> None:
    finding = Finding(Level.WARN, "warn", evil, f"{evil} text", f"{evil} seen", f"{evil} fix")
    async with dashboard(tmp_path, samples.hostile(evil), size=(100, 50)) as bench:
        bench.remover.findings = (finding,)
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("r")
        await until(lambda: isinstance(bench.app.screen, PlanScreen))
        await until(lambda: "Steps 8" in bench.flow() or "Nothing stands" in bench.flow())
        assert_harmless(bench)
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: isinstance(bench.app.screen, ConfirmScreen))
        await bench.pilot.pause()
        assert_harmless(bench)
        screen = bench.app.screen
        assert isinstance(screen, ConfirmScreen)
        assert screen.wanted == say(f"{evil}0").strip()
        screen.dismiss(True)
        await until(lambda: isinstance(bench.app.screen, ProgressScreen))
        with Journal.open(tmp_path / "removal.jsonl", boot=boot_id()) as journal:
            journal.append(Kind.STEP, evil, step="claim", mark=Mark.FAILED)
            journal.append(Kind.NOTE, evil)
            fakes.end(journal, Outcome.STOPPED, f"Stopped: {evil}", evil)
        await until(lambda: "Stopped:" in bench.flow())
        assert_harmless(bench)


@pytest.mark.parametrize("evil", [samples.EVIL[0], samples.EVIL[1], samples.EVIL[9]], ids=["markup", "path", "action"])
async def test_the_palette_and_toasts_show_names_as_they_are(tmp_path: pathlib.Path, evil: str) -> None:
    async with dashboard(tmp_path, samples.hostile(evil)) as bench:
        await bench.pilot.press("ctrl+p", *"vanish")
        await until(lambda: "vanish" in bench.flow())
        await until(lambda: f"Let {evil}0 vanish" in bench.flow())
        await bench.pilot.press("escape")
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        bench.app._played(f"{evil} is cut")
        await until(lambda: f"{evil} is cut" in bench.flow())
        assert bench.app.is_running


@EVIL
async def test_the_palette_gives_reasons_with_names_as_they_are(tmp_path: pathlib.Path, evil: str) -> None:
    reasons = (
        ("volumes", "look", f"look into {say(f'/mnt/{evil}')}."),
        ("sessions", "log out", f"It carries {say(f'{evil}0')}: to log out is to pull its cable."),
    )
    async with dashboard(tmp_path, samples.hostile(evil)) as bench:
        for view, words, reason in reasons:
            bench.app.main.jump(f"view:{view}")
            await until(lambda: bench.app.main.table.at_cursor is not None)
            await bench.pilot.press("ctrl+p")
            await until(lambda: helps(bench), what="all commands")
            assert_harmless(bench)
            await bench.pilot.press(*words)
            await until(lambda reason=reason: any(reason in each for each in helps(bench)), what=reason)  # type: ignore[misc]
            await bench.pilot.pause()
            assert_harmless(bench)
            await bench.pilot.press("escape")
            await until(lambda: isinstance(bench.app.screen, MainScreen))


def helps(bench: Bench) -> list[str]:
    """What the palette offers, with what it says of that."""
    return [str(option.prompt) for found in bench.app.screen.query(CommandList) for option in found.options]


async def test_a_filter_of_brackets_is_a_filter(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, samples.hostile("[/dev/sda]")) as bench:
        bench.app.main.do_filter()
        await bench.pilot.press(*"[/dev")
        await until(lambda: "[/dev" in bench.text())
        assert bench.app.is_running
