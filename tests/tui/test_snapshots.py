"""Pictures of the main screens.

After a wanted change: `pytest tests/tui/test_snapshots.py --snapshot-update`, and look at what came out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Awaitable, Callable, Sequence

import pytest
import textual
from pytest_textual_snapshot import SVGImageExtension
from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot
from textual.widgets import Button, Input

from initiator.engine.prober import Found
from initiator.model import Event, Snapshot
from safety.journal import Journal, Kind, Mark, Outcome, boot_id
from safety.past import Past, Shelf
from tests.tui import fakes, samples
from tests.tui.fakes import Parts, assemble, screen_text
from tests.until import until
from tui.app import AppOptions
from tui.config import Config, Dashboard
from tui.feed import Judged, Probed
from tui.screens.progress import ProgressScreen
from tui.screens.removal import ConfirmScreen, PlanScreen
from tui.themes import THEMES as THEME_NAMES
from tui.views.catalogue import VIEWS

MADE_WITH = "8.2.8"
"""The pictures hold exactly with this version of Textual, which is the one that continuous checks pin."""

pytestmark = pytest.mark.skipif(
    textual.__version__ != MADE_WITH,
    reason=f"pictures were made with Textual {MADE_WITH}, this is {textual.__version__}",
)

Compare = Callable[..., bool]
Script = Callable[[Parts, "Pilot[int]"], Awaitable[None]]

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
THEMES = pytest.mark.parametrize("light", [False, True], ids=["dark", "light"])

WAVE = (0.9, 1.0, 1.2, 1.1, 0.95, 1.0, 2.1, 1.3, 1.0, 0.9, 1.05, 1.15, 1.0, 0.85, 1.0, 1.4, 1.1, 1.0, 0.95, 1.0)


def history(parts: Parts, snapshot: Snapshot) -> None:
    """Twenty seconds of latencies."""
    for factor in WAVE:
        paths = tuple(
            dataclasses.replace(p, latency_us=None if p.latency_us is None else p.latency_us * factor)
            for p in snapshot.paths
        )
        parts.app.store._remember(dataclasses.replace(snapshot, paths=paths))


def picture(
    compare: Compare,
    folder: pathlib.Path,
    size: tuple[int, int],
    script: Script,
    snapshot: Snapshot | None = None,
    options: AppOptions | None = None,
    root: bool = True,
    events: Sequence[Event] = samples.EVENTS,
) -> bool:
    """Play a script on a dashboard, then compare the screen with the picture of it."""
    shown = snapshot or samples.practice()
    # One reading only: a second one would add a sample to each sparkline, or not, as the scheduler likes.
    once = dataclasses.replace(options or AppOptions(practice=True), interval=1e9)
    parts = assemble(folder, shown, options=once, root=root, events=events)

    async def play(pilot: Pilot[int]) -> None:
        await fakes.ready(parts.app)
        history(parts, shown)
        await script(parts, pilot)
        parts.app.main.show_data()
        await pilot.pause()

    return compare(parts.app, terminal_size=size, run_before=play)


async def look(parts: Parts, pilot: Pilot[int]) -> None:
    parts.app.main.table.cursor = "engine:d:data"


async def look_at_path(parts: Parts, pilot: Pilot[int]) -> None:
    parts.app.main.table.cursor = "engine:p:data-127.0.0.1"


async def plan(parts: Parts, pilot: Pilot[int]) -> None:
    await look(parts, pilot)
    await pilot.press("r")
    await until(lambda: isinstance(parts.app.screen, PlanScreen) and "Steps 8" in screen_text(parts.app))
    parts.tick.at += 1


async def confirm(parts: Parts, pilot: Pilot[int]) -> None:
    await plan(parts, pilot)
    parts.app.screen.query_one("#go-on", Button).press()
    await until(lambda: isinstance(parts.app.screen, ConfirmScreen) and parts.app.screen.is_up)
    parts.app.screen.query_one("#name", Input).cursor_blink = False
    parts.tick.at += 1
    await pilot.press("d", "a")


async def progress(parts: Parts, pilot: Pilot[int]) -> Journal:
    await confirm(parts, pilot)
    await pilot.press("t", "a", "enter")
    await until(lambda: isinstance(parts.app.screen, ProgressScreen))
    journal = Journal.open(parts.remover.folder / "removal.jsonl", boot=boot_id(), now=lambda: samples.NOW)
    fakes.run_by(journal, os.getpid())
    return journal


def themed(light: bool) -> Config:
    return Config(Dashboard(theme="light" if light else "dark"))


@THEMES
@SIZES
def test_all_is_well(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int], light: bool) -> None:
    assert picture(snap_compare, tmp_path, size, look, options=AppOptions(practice=True, config=themed(light)))


@THEMES
@SIZES
def test_a_cable_is_pulled(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int], light: bool) -> None:
    pulled = samples.practice(pulled=samples.PORTALS[1])
    assert picture(snap_compare, tmp_path, size, look, pulled, AppOptions(config=themed(light)))


def test_a_path_in_detail(snap_compare: Compare, tmp_path: pathlib.Path) -> None:
    assert picture(snap_compare, tmp_path, (120, 50), look_at_path)


def test_a_probed_path_in_detail(snap_compare: Compare, tmp_path: pathlib.Path) -> None:
    async def look_at_probed(parts: Parts, pilot: Pilot[int]) -> None:
        said = [*["ok"] * 14, "silent", *["ok"] * 5]
        answers = tuple(
            Found(
                samples.NOW - 10 + number / 2,
                "kernel:s:1",
                "127.0.0.1:3260",
                state,
                "silent for 0.6 s" if state == "silent" else None,
                rtt_us=210.0 * WAVE[number] if state == "ok" else None,
                ready_us=330.0 if state == "ok" else None,
                access="active/optimized" if state == "ok" else None,
            )
            for number, state in enumerate(said)
        )
        parts.app.store.judged = Judged(probed={"kernel:s:1": Probed(answers, alone=True)})
        parts.app.main.table.cursor = "kernel:p:1"

    assert picture(snap_compare, tmp_path, (120, 50), look_at_probed, samples.kernel())


@SIZES
def test_a_host_without_iscsi(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def nothing(parts: Parts, pilot: Pilot[int]) -> None:
        pass

    assert picture(snap_compare, tmp_path, size, nothing, samples.empty(), AppOptions(), root=False, events=())


@SIZES
def test_help(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def ask(parts: Parts, pilot: Pilot[int]) -> None:
        await look(parts, pilot)
        await pilot.press("question_mark")
        await until(lambda: "A block device of this host" in screen_text(parts.app))

    assert picture(snap_compare, tmp_path, size, ask)


@SIZES
def test_the_plan_of_a_removal(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    assert picture(snap_compare, tmp_path, size, plan)


@SIZES
def test_a_refused_removal(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def refused(parts: Parts, pilot: Pilot[int]) -> None:
        parts.remover.findings = (fakes.BLOCK, fakes.NOTE)
        await look(parts, pilot)
        await pilot.press("r")
        await until(lambda: "cannot be removed now" in screen_text(parts.app))

    assert picture(snap_compare, tmp_path, size, refused)


@SIZES
def test_typing_the_name(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    assert picture(snap_compare, tmp_path, size, confirm)


@SIZES
def test_a_removal_under_way(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def under_way(parts: Parts, pilot: Pilot[int]) -> None:
        with await progress(parts, pilot) as journal:
            fakes.walk(journal, parts.remover.started[0], until_step="flush")
            parts.wall.at += 1.4
            await until(lambda: "▶ now       Have the target write" in screen_text(parts.app))

    assert picture(snap_compare, tmp_path, size, under_way)


@SIZES
def test_safe_to_pull(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def done(parts: Parts, pilot: Pilot[int]) -> None:
        with await progress(parts, pilot) as journal:
            fakes.walk(journal, parts.remover.started[0])
            text = (
                "data is safe to pull: unmounted, flushed, offline and logged out on every path. Nothing else uses lo."
            )
            fakes.end(journal, Outcome.DONE, text)
            await until(lambda: "data is safe to pull" in screen_text(parts.app))

    assert picture(snap_compare, tmp_path, size, done)


@SIZES
def test_stopped_part_way(snap_compare: Compare, tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async def stopped(parts: Parts, pilot: Pilot[int]) -> None:
        with await progress(parts, pilot) as journal:
            fakes.walk(journal, parts.remover.started[0], until_step="offline")
            journal.append(Kind.STEP, "a command is still in flight", step="offline", mark=Mark.FAILED)
            fakes.end(journal, Outcome.STOPPED, "The gate did not close within 60 s.", "resume, or undo")
            await until(lambda: "The gate did not close" in screen_text(parts.app))

    assert picture(snap_compare, tmp_path, size, stopped)


def test_plain_ascii(snap_compare: Compare, tmp_path: pathlib.Path) -> None:
    pulled = samples.practice(pulled=samples.PORTALS[1])
    assert picture(snap_compare, tmp_path, (80, 24), look, pulled, AppOptions(ascii=True))


def test_no_colour(snap_compare: Compare, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    pulled = samples.practice(pulled=samples.PORTALS[1])
    assert picture(snap_compare, tmp_path, (80, 24), look, pulled)


async def test_every_view(snapshot: SnapshotAssertion, tmp_path: pathlib.Path) -> None:
    """One start of the dashboard, a picture of each view in both sizes and both themes."""
    pulled = samples.practice(pulled=samples.PORTALS[1])
    parts = assemble(tmp_path, pulled, options=AppOptions(practice=True, interval=1e9), view="overview")
    parts.remover.done = past(tmp_path)
    pictures = snapshot.use_extension(SVGImageExtension)
    app = parts.app
    async with app.run_test(size=(120, 40)) as pilot:
        await fakes.ready(app)
        history(parts, pulled)
        for size in ((120, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            for theme in ("dark", "light"):
                app.theme = THEME_NAMES[theme]
                for view in VIEWS:
                    await pilot.press(view.key)
                    await until(lambda view=view: app.store.view is view and app.main.table.rows)  # type: ignore[misc]
                    app.main.show_data()
                    await pilot.pause()
                    assert app.export_screenshot() == pictures(name=f"{view.id}-{size[0]}x{size[1]}-{theme}")


def past(folder: pathlib.Path) -> tuple[Past, ...]:
    """A removal that was done, and one that was refused."""
    plan_ = fakes.plan(samples.practice())
    for name, outcome, said in (
        ("one", Outcome.DONE, "data is safe to pull: unmounted, flushed, offline and logged out on every path."),
        ("two", Outcome.REFUSED, "bash (process 4711) uses /run/mooring/practice/data."),
    ):
        with fakes.begin(folder / f"{name}.jsonl", plan_) as journal:
            fakes.run_by(journal, 1)
            if outcome is Outcome.DONE:
                fakes.walk(journal, plan_)
            fakes.end(journal, outcome, said)
    return tuple(dataclasses.replace(found, path=pathlib.Path(found.path.name)) for found in Shelf(folder).look())
