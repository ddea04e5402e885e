"""A removal by keyboard: the plan, the name, the progress, and every way in which it must not begin."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from textual import events
from textual.widgets import Button, Input

from initiator.errors import MooringError, OutcomeUnknownError
from safety.findings import Finding, Level
from safety.journal import Journal, Kind, Mark, Outcome, Reader, Record, Unfinished, boot_id
from tests.tui import fakes, samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.app import AppOptions
from tui.policy import Policy
from tui.screens.main import MainScreen
from tui.screens.progress import ProgressScreen, SecretScreen, UnfinishedScreen
from tui.screens.removal import ConfirmScreen, PlanScreen


def focused(bench: Bench) -> str | None:
    return bench.app.focused.id if bench.app.focused else None


async def open_plan(bench: Bench, key: str = "engine:d:data") -> PlanScreen:
    """Ask for the removal of a disk, wait for its plan, and let the deaf moment pass."""
    bench.app.main.table.cursor = key
    await bench.pilot.press("r")
    await until(lambda: isinstance(bench.app.screen, PlanScreen))
    screen = bench.app.screen
    assert isinstance(screen, PlanScreen)
    await until(lambda: screen.plan is not None)
    await until(lambda: "Steps 8" in bench.text())
    await bench.listen()
    return screen


async def open_confirm(bench: Bench) -> ConfirmScreen:
    """As far as the field for the name."""
    await open_plan(bench)
    await bench.pilot.press("right", "enter")
    await until(lambda: isinstance(bench.app.screen, ConfirmScreen))
    screen = bench.app.screen
    assert isinstance(screen, ConfirmScreen)
    await until(lambda: focused(bench) == "name")
    await bench.listen()
    return screen


async def open_progress(bench: Bench) -> Journal:
    """As far as the progress; gives the journal to write on."""
    await open_confirm(bench)
    await bench.pilot.press(*"data", "enter")
    await until(lambda: isinstance(bench.app.screen, ProgressScreen))
    await bench.listen()
    return Journal.open(bench.remover.folder / "removal.jsonl", boot=boot_id(), now=lambda: samples.NOW)


async def test_the_whole_way_by_keyboard(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            (plan,) = bench.remover.started
            assert plan.name == "data"
            fakes.run_by(journal, os.getpid())
            fakes.walk(journal, plan, until_step="flush")
            await until(lambda: "▶ now       Have the target write its cache" in bench.text())
            assert "✓ proven    Unmount /run/mooring/practice/data" in bench.text()
            fakes.walk(journal, plan)
            fakes.end(journal, Outcome.DONE, "Safe to pull: both cables of data.")
            await until(lambda: "Safe to pull: both cables of data." in bench.text())
        assert bench.app.screen.has_class("-good")
        await bench.listen()
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_a_dead_disk_is_given_up_only_with_words_of_its_own(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        gone = Finding(Level.BLOCK, "no-path", "d", "No path of the disk works.", "failed", "bring a path back")
        bench.remover.findings = (gone,)
        await open_plan(bench)
        await bench.listen()
        await bench.pilot.click("#give-up")
        await until(lambda: "Nothing stands against removing data" in bench.text())
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: "type these words: lose data" in bench.text())
        assert "What was not written yet is LOST" in " ".join(bench.text().split())
        await bench.listen()
        await bench.pilot.press(*"data", "enter")
        assert bench.remover.started == []
        await bench.pilot.press(*["backspace"] * 4, *"lose", "space", *"data", "enter")
        await until(lambda: isinstance(bench.app.screen, ProgressScreen))
        assert [plan.lossy for plan in bench.remover.started] == [True]


async def test_cancel_has_the_focus_and_enter_changes_nothing(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_plan(bench)
        assert focused(bench) == "cancel"
        await bench.pilot.press("enter", "enter", "enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))
        assert bench.remover.started == []


async def test_keys_of_the_first_moment_are_thrown_away(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("r")
        await until(lambda: isinstance(bench.app.screen, PlanScreen))
        await until(lambda: "Steps 8" in bench.text())
        await bench.pilot.press("right", "enter", "escape", *"data")
        assert isinstance(bench.app.screen, PlanScreen)
        assert focused(bench) == "cancel"
        bench.tick.at += 0.29
        await bench.pilot.press("escape")
        assert isinstance(bench.app.screen, PlanScreen)
        bench.tick.at += 0.02
        await bench.pilot.press("escape")
        await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_a_blocked_plan_shows_why_and_offers_no_way_on(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.remover.findings = (fakes.BLOCK,)
        await open_plan(bench)
        text = bench.text()
        assert "data cannot be removed now: 1 reason." in text
        assert "bash (process 4711) uses /run/mooring/practice/data." in text
        assert "seen: /proc/4711/cwd" in text
        assert "leave that folder or end the process" in text
        assert not bench.app.screen.query_one("#go-on", Button).display
        await bench.pilot.press("right", "right", "enter")
        assert not isinstance(bench.app.screen, ConfirmScreen)
        assert bench.remover.started == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (150, 75)])
async def test_an_alert_leaves_the_buttons_of_a_dialog_to_be_seen(
    tmp_path: pathlib.Path, size: tuple[int, int]
) -> None:
    async with dashboard(tmp_path, size=size) as bench:
        await open_plan(bench)
        bench.app.notify("Disk logs is at risk: a path of it has come back and settles", title="Alert")
        await until(lambda: "Disk logs is at risk" in bench.text())
        for button in ("Cancel", "Go on"):
            assert button in bench.text()
        await bench.pilot.press("right", "enter")
        await until(lambda: isinstance(bench.app.screen, ConfirmScreen))
        await until(lambda: "Disk logs is at risk" in bench.text())
        for button in ("Cancel", "  Remove  "):
            assert button in bench.text()


async def test_a_blocked_plan_can_be_looked_at_again(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.remover.findings = (fakes.BLOCK,)
        screen = await open_plan(bench)
        bench.remover.findings = ()
        await bench.pilot.press("right", "enter")
        await until(lambda: screen.plan is not None and not screen.plan.blocked)
        await until(lambda: "Nothing stands against removing data" in bench.text())
        assert focused(bench) == "cancel"


async def test_a_plan_that_cannot_be_made_says_why(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.remover.failure = MooringError("the engine did not answer", fix="mooring engine status")
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("r")
        await until(lambda: "No plan could be made: the engine did not answer" in bench.text())
        assert "→ mooring engine status" in bench.text()
        assert not bench.app.screen.query_one("#go-on", Button).display


async def test_only_the_very_name_removes(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_confirm(bench)
        for typed in ("", "dat", "Data", "data "):
            bench.app.screen.query_one("#name", Input).value = ""
            await bench.pilot.press(*["space" if key == " " else key for key in typed], "enter")
            assert isinstance(bench.app.screen, ConfirmScreen), typed
            assert bench.app.screen.query_one("#remove", Button).disabled
        assert bench.remover.started == []
        await until(lambda: "That is not its name. It is called data." in bench.text())


async def test_pasting_the_name_is_blocked(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_confirm(bench)
        bench.app.post_message(events.Paste("data"))
        await until(lambda: "pasting is switched off here" in bench.text())
        assert bench.app.screen.query_one("#name", Input).value == ""
        bench.app.copy_to_clipboard("data")
        await bench.pilot.press("ctrl+v")
        assert bench.app.screen.query_one("#name", Input).value == ""


async def test_what_changed_meanwhile_is_shown_and_nothing_begins(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_confirm(bench)
        base = samples.practice()
        swapped = tuple(
            dataclasses.replace(d, wwid="naa.600140500000000000000000000000ff") if d.name == "data" else d
            for d in base.disks
        )
        bench.source.snapshot = dataclasses.replace(base, disks=swapped)
        await bench.pilot.press(*"data", "enter")
        await until(lambda: isinstance(bench.app.screen, PlanScreen))
        await until(lambda: "Something changed since you read the plan. Nothing was done." in bench.text())
        assert "naa.600140500000000000000000000000ff" in bench.text()
        assert bench.remover.started == []
        assert focused(bench) == "cancel"


async def test_a_disk_that_is_gone_meanwhile_is_told(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_confirm(bench)
        bench.remover.failure = MooringError("There is no disk engine:d:data.")
        await bench.pilot.press(*"data", "enter")
        await until(lambda: "The removal was not started" in bench.text())
        assert bench.remover.started == []


async def test_the_tree_behind_a_dialog_stands_still(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_plan(bench)
        rows = bench.app.main.table.rows
        await bench.tell(samples.practice(pulled=samples.PORTALS[1]))
        assert bench.app.main.table.rows is rows
        await bench.pilot.press("escape")
        await until(lambda: "lost 1 of 2 paths" in bench.text())


async def test_hiding_the_progress_stops_nothing_and_it_can_be_found_again(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, os.getpid())
            await until(lambda: "Hide" in bench.text())
            entry = Unfinished(journal.path, "data", ("key",), samples.NOW, True, "It is under way.")
            bench.remover.waiting = (entry,)
            await bench.pilot.press("enter")
            await until(lambda: isinstance(bench.app.screen, MainScreen))
            await until(lambda: "u unfinished" in bench.text())
            await bench.pilot.press("u")
            await until(lambda: isinstance(bench.app.screen, UnfinishedScreen))
            await bench.listen()
            assert focused(bench) == "later"
            await bench.pilot.press("tab", "enter")
            await until(lambda: isinstance(bench.app.screen, ProgressScreen))
            await until(lambda: "Removing data." in bench.text())


async def test_a_stopped_removal_offers_to_go_on_or_back(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, os.getpid())
            fakes.walk(journal, bench.remover.started[0], until_step="offline")
            journal.append(Kind.STEP, "it is busy", step="offline", mark=Mark.FAILED)
            fakes.end(journal, Outcome.STOPPED, "The gate did not close.", "resume, or undo")
            await until(lambda: "The gate did not close." in bench.text())
            assert bench.app.screen.has_class("-bad")
            await bench.listen()
            assert focused(bench) == "close"
            bench.app.screen.query_one("#resume", Button).press()
            await until(lambda: bench.remover.resumed == [journal.path])
            fakes.run_by(journal, os.getpid(), "resume")
            await until(lambda: "Removing data." in bench.text())
            fakes.end(journal, Outcome.STOPPED, "Busy again.", "undo")
            await until(lambda: "Busy again." in bench.text())
            bench.app.screen.query_one("#undo", Button).press()
            await until(lambda: bench.remover.undone == [(journal.path,)])
            fakes.run_by(journal, os.getpid(), "undo")
            fakes.end(journal, Outcome.UNDONE, "data is back as it was.")
            await until(lambda: "data is back as it was." in bench.text())
            assert not bench.app.screen.query_one("#undo", Button).display


async def test_one_that_takes_long_to_begin_again_is_not_called_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it waits two minutes for its first word, on however slow a machine."""
    monkeypatch.setattr("tui.screens.progress.PATIENCE_S", 0.0)
    fails = threading.Event()
    polls: list[Reader] = []
    poll = Reader.poll

    def counted(reader: Reader) -> list[Record]:
        polls.append(reader)
        return poll(reader)

    def start(journal: pathlib.Path) -> None:
        assert fails.wait(30)
        raise OutcomeUnknownError("The runner has written nothing.", fix="look at its log")

    with subprocess.Popen(["true"]) as first:
        pass
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, first.pid)
            fakes.end(journal, Outcome.STOPPED, "The gate did not close.", "resume, or undo")
            await until(lambda: "The gate did not close." in bench.text())
            monkeypatch.setattr(bench.remover, "resume", start)
            monkeypatch.setattr(Reader, "poll", counted)
            bench.app.screen.query_one("#resume", Button).press()
            await until(lambda: not bench.app.screen.query_one("#resume", Button).display)
            before = len(polls)
            await until(lambda: len(polls) > before + 3, what="the journal to be looked into")
            await bench.pilot.pause()
            assert "The runner is gone." not in bench.text()
            assert not bench.app.screen.query_one("#resume", Button).display
            fails.set()
            await until(lambda: "The runner has written nothing. look at its log" in bench.text())
            assert "The runner is gone." in bench.text()
            assert bench.app.screen.query_one("#resume", Button).display


async def test_a_policy_forbids_to_go_on_and_back_too(tmp_path: pathlib.Path) -> None:
    policy = Policy({"resume": "Not alone.", "undo": "Phone 4711."})
    async with dashboard(tmp_path, options=AppOptions(practice=True, policy=policy)) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, os.getpid())
            fakes.end(journal, Outcome.STOPPED, "The gate did not close.", "resume, or undo")
            await until(lambda: "The gate did not close." in bench.text())
            for key, reason in (("#resume", "Not alone."), ("#undo", "Phone 4711.")):
                bench.app.screen.query_one(key, Button).press()
                await until(lambda reason=reason: reason in bench.text())  # type: ignore[misc]
            assert (bench.remover.resumed, bench.remover.undone) == ([], [])


async def test_the_secret_that_an_undo_needs_is_asked_for_and_not_shown(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, os.getpid(), "undo")
            fakes.end(journal, Outcome.STOPPED, "The target asks for a CHAP secret.", "undo again", "secret-needed")
            await until(lambda: "The target asks for a CHAP secret." in bench.text())
            bench.app.screen.query_one("#undo", Button).press()
            await until(lambda: isinstance(bench.app.screen, SecretScreen))
            await bench.listen()
            await bench.pilot.press(*"sesame42")
            assert "sesame42" not in bench.text()
            await bench.pilot.press("enter")
            await until(lambda: bench.remover.undone == [(journal.path, "sesame42")])


async def test_an_undo_that_needs_the_targets_secret_too_asks_for_both(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            fakes.run_by(journal, os.getpid(), "undo")
            fakes.end(journal, Outcome.STOPPED, "They prove to each other.", "undo again", "secrets-needed")
            await until(lambda: "They prove to each other." in bench.text())
            bench.app.screen.query_one("#undo", Button).press()
            await until(lambda: isinstance(bench.app.screen, SecretScreen))
            await bench.listen()
            await bench.pilot.press(*"sesame42", "enter")
            assert isinstance(bench.app.screen, SecretScreen)
            await bench.pilot.press(*"barley43", "enter")
            await until(lambda: bench.remover.undone == [(journal.path, "sesame42", "barley43")])


async def test_a_runner_that_dies_is_noticed(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
                fakes.run_by(journal, child.pid)
                fakes.walk(journal, bench.remover.started[0], until_step="unmount-1")
                await until(lambda: "▶ now       Unmount" in bench.text())
                child.kill()
            await until(lambda: "The runner is gone." in bench.text())
            assert "? not known Unmount" in bench.text()
            assert bench.app.screen.query_one("#resume", Button).display


async def test_a_damaged_journal_is_told_and_does_no_harm(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        with await open_progress(bench) as journal:
            with journal.path.open("ab") as file:
                file.write(b"not a record\n")
            await until(lambda: "not a journal record" in bench.flow())
            await bench.pilot.press("escape")
            await until(lambda: isinstance(bench.app.screen, MainScreen))


async def test_removals_that_wait_are_offered_at_the_start(tmp_path: pathlib.Path) -> None:
    entry = Unfinished(tmp_path / "old.jsonl", "vault", ("key",), samples.NOW - 60, False, "Its runner died.")
    with fakes.begin(entry.path, fakes.plan(samples.practice(), "engine:d:vault")):
        pass
    async with dashboard(tmp_path, waiting=(entry,), wait=False) as bench:
        await until(lambda: isinstance(bench.app.screen, UnfinishedScreen))
        await until(lambda: "vault stopped part-way, begun 11:05:40" in bench.text())
        assert "Its runner died." in bench.text()
        await bench.listen()
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, MainScreen))


@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
async def test_the_dialogs_are_usable_in_small_windows(tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    async with dashboard(tmp_path, size=size) as bench:
        bench.app.main.table.cursor = "engine:d:data"
        await bench.pilot.press("r")
        await until(lambda: "Nothing stands against removing data" in bench.text())
        await until(lambda: "Go on" in bench.text())
        await bench.listen()
        await bench.pilot.press(*["pagedown"] * 5, "down")
        await until(lambda: "Watch that nothing comes back" in bench.text())
        await bench.pilot.press("right", "enter")
        await until(lambda: "To go on, type its name: data" in bench.text())
        await until(lambda: bench.app.screen.query_one("#remove", Button).region.height == 1)
