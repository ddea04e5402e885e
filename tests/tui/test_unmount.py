"""Unmounting a volume from the dashboard and the command line: what is meant, what is said, and when it cannot be."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from textual.widgets import Button, Input

from initiator.errors import BadInputError
from initiator.model import Snapshot
from safety.journal import Journal, Outcome, boot_id
from safety.scope import Reach, Scope, volume
from tests.tui import fakes, samples
from tests.tui.fakes import Bench, dashboard
from tests.until import until
from tui.actions import BY_ID, Context, why_not
from tui.commands.removal import describe
from tui.find import find_volume
from tui.policy import Policy
from tui.progress import Progress
from tui.screens.progress import ProgressScreen
from tui.screens.removal import ConfirmScreen, PlanScreen, can_be_given_up
from tui.views.view import row
from tui.world import Item, Kind

HERE = "/run/mooring/practice/data"


def context(item: Item | None, kind: Kind = Kind.VOLUME) -> Context:
    return Context(row(kind, item) if item is not None else None, "", stale=False, paused=False, age_s=0.5)


def data(snapshot: Snapshot) -> int:
    return next(number for number, each in enumerate(snapshot.volumes) if each.mountpoint == HERE)


def test_a_volume_is_found_by_whatever_it_is_called() -> None:
    seen = samples.practice()
    found = seen.volumes[data(seen)]
    named = dataclasses.replace(found, label="TEA", uuid="1-2")
    seen = dataclasses.replace(seen, volumes=(named, *(each for each in seen.volumes if each is not found)))
    for text in (HERE, "TEA", "1-2", found.id, found.device):
        assert find_volume(seen, text) == Scope(Reach.VOLUME, (found.id,), HERE)


def test_what_is_no_mounted_volume_of_an_iscsi_disk_is_refused_with_what_there_is() -> None:
    seen = samples.practice()
    with pytest.raises(BadInputError, match="is called '/nowhere'") as none:
        find_volume(seen, "/nowhere")
    assert HERE in none.value.fix
    with pytest.raises(BadInputError) as near:
        find_volume(seen, HERE[:-1])
    assert near.value.fix == f"did you mean {HERE!r}?"
    local = dataclasses.replace(seen.volumes[0], mountpoint="/home", disks=())
    with pytest.raises(BadInputError, match="not on an iSCSI disk"):
        find_volume(dataclasses.replace(seen, volumes=(local,)), "/home")
    away = dataclasses.replace(seen.volumes[0], mountpoint="/in", namespace="4026")
    with pytest.raises(BadInputError, match="another mount namespace only"):
        find_volume(dataclasses.replace(seen, volumes=(away,)), "/in")
    twins = tuple(dataclasses.replace(each, label="SAME") for each in seen.volumes[:2])
    with pytest.raises(BadInputError, match="more than one volume") as many:
        find_volume(dataclasses.replace(seen, volumes=twins), "SAME")
    assert all(each.id in many.value.fix for each in twins)


def test_two_mounts_of_one_file_system_are_one_volume() -> None:
    seen = samples.practice()
    found = dataclasses.replace(seen.volumes[0], label="TEA")
    second = dataclasses.replace(found, id="volume:999", mountpoint="/srv")
    scope = find_volume(dataclasses.replace(seen, volumes=(found, second)), "TEA")
    assert scope.reach is Reach.VOLUME


def test_only_a_volume_that_this_host_has_mounted_can_be_unmounted() -> None:
    seen = samples.practice()
    unmount, found = BY_ID["unmount"], seen.volumes[0]
    assert why_not(unmount, context(found)) == ""
    assert "Move the cursor to a volume" in why_not(unmount, context(None))
    assert "Move the cursor to a volume" in why_not(unmount, context(seen.disks[0], Kind.DISK))
    assert "another mount namespace" in why_not(unmount, context(dataclasses.replace(found, namespace="1")))
    assert "not on an iSCSI disk" in why_not(unmount, context(dataclasses.replace(found, disks=())))
    forbidden = dataclasses.replace(context(found), policy=Policy({"unmount": "Ask the storage team."}))
    assert "storage team" in why_not(unmount, forbidden)
    assert why_not(unmount, dataclasses.replace(context(found), read_only="Only looking.")) == "Only looking."


def test_the_plan_in_words_says_that_the_disk_stays() -> None:
    seen = samples.practice()
    wanted = volume(seen.volumes[data(seen)])
    told = describe(fakes.volume_plan(seen, wanted)).splitlines()
    assert told[0] == f"Unmounting the volume {HERE}"
    assert told[1].endswith("stays attached")
    against = describe(fakes.volume_plan(seen, wanted, (fakes.BLOCK,)))
    assert against.endswith("This cannot be unmounted now. Nothing was changed.")
    silent = dataclasses.replace(fakes.BLOCK, code="no-path")
    assert can_be_given_up(fakes.plan(seen, findings=(silent,)))
    assert not can_be_given_up(fakes.volume_plan(seen, wanted, (silent,)))


async def open_plan(bench: Bench) -> PlanScreen:
    await bench.pilot.press("7")
    seen = bench.remover.source.snapshot
    await until(lambda: bench.app.main.table.at_cursor is not None)
    bench.app.main.table.cursor = seen.volumes[data(seen)].id
    await bench.pilot.press("U")
    await until(lambda: isinstance(bench.app.screen, PlanScreen) and "Steps 4" in bench.text())
    screen = bench.app.screen
    assert isinstance(screen, PlanScreen)
    await bench.listen()
    return screen


async def test_a_volume_is_unmounted_by_keyboard_and_offered_back(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        await open_plan(bench)
        await until(lambda: f"Unmount {HERE}" in bench.flow())
        assert f"Nothing stands against unmounting {HERE}" in bench.flow()
        await bench.pilot.press("right", "enter")
        await until(lambda: isinstance(bench.app.screen, ConfirmScreen))
        await bench.listen()
        await until(lambda: "its cable is not safe to pull" in bench.flow())
        assert str(bench.app.screen.query_one("#remove", Button).label) == "Unmount"
        bench.app.screen.query_one("#name", Input).value = HERE
        await bench.pilot.press("enter")
        await until(lambda: isinstance(bench.app.screen, ProgressScreen))
        (plan,) = bench.remover.started
        assert plan.scope.reach is Reach.VOLUME
        with Journal.open(bench.remover.folder / "removal.jsonl", boot=boot_id(), now=lambda: samples.NOW) as journal:
            fakes.run_by(journal, 1)
            fakes.walk(journal, plan)
            fakes.end(journal, Outcome.DONE, f"{HERE} is unmounted.")
        await until(lambda: f"{HERE} is unmounted" in bench.flow() and "Undo" in bench.flow())
        assert str(bench.app.screen.query_one("#box").border_title) == f"Unmounting of {HERE}"
        assert "Resume" not in bench.flow()


async def test_a_volume_in_use_offers_no_way_on(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path) as bench:
        bench.remover.findings = (fakes.BLOCK,)
        screen = await open_plan(bench)
        await until(lambda: f"{HERE} cannot be unmounted now" in bench.flow())
        assert f"{HERE} cannot be unmounted now" in bench.flow()
        assert not screen.query_one("#go-on", Button).display
        assert screen.query_one("#end-users", Button).display


def test_progress_calls_it_by_its_name(tmp_path: pathlib.Path) -> None:
    seen = samples.practice()
    plan = fakes.volume_plan(seen, volume(seen.volumes[data(seen)]))
    with fakes.begin(tmp_path / "one.jsonl", plan) as journal:
        progress = Progress()
        progress.take(journal.records)
        assert progress.headline()[0].startswith(f"Unmounting {HERE}")
        fakes.end(journal, Outcome.STOPPED, "")
        progress.take(journal.records[-1:])
        assert progress.headline()[0] == f"The unmounting of {HERE} stopped part-way."
