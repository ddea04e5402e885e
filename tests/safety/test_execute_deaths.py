"""A removal whose runner, engine or machine dies is resumed, or taken back, from its journal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safety.journal import Journal, Kind, Outcome, read
from tests.safety import scenes
from tests.safety.removals import Mortal, assert_back, assert_gone, begin, go, last, plan_for, quick_disk, remove
from tests.safety.simworld import ALL_MOUNTS, Crash, SimWorld

__all__ = ["quick_disk"]


def records_of_a_removal(folder: Path) -> int:
    folder.mkdir(parents=True)
    _, path = remove(folder, SimWorld(ALL_MOUNTS))
    return len(read(path)) - 1


def every_death(folder: Path) -> Iterator[tuple[str, Callable[[SimWorld], type[Journal]]]]:
    """Each place at which a runner can die: before and after each record, before and after each effect."""
    for number in range(1, records_of_a_removal(folder / "count") + 1):
        for after in (False, True):
            kind = type("Dying", (Mortal,), {"die_at": number, "die_after": after, "count": 0})
            yield f"record {number} {after}", lambda world, kind=kind: kind  # type: ignore[misc]
    for number in range(1, 14):
        for name in ("die_before", "die_after"):

            def prepare(world: SimWorld, name: str = name, number: int = number) -> type[Journal]:
                setattr(world, name, number)
                return Journal

            yield f"effect {number} {name}", prepare


def deaths(folder: Path) -> Iterator[tuple[str, SimWorld, Path, int]]:
    """Worlds in which the runner has died, each with its journal and the count of written bytes."""
    for name, prepare in every_death(folder):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        path = begin(folder, plan_for(world))
        kind = prepare(world)
        with pytest.raises(Crash):
            go(path, world, kind=kind)
        world.process_died()
        yield name, world, path, written


def test_after_a_death_anywhere_resume_completes_it(tmp_path: Path) -> None:
    count = 0
    for name, world, path, written in deaths(tmp_path):
        if last(path).kind is not Kind.END:
            assert go(path, world) is Outcome.DONE, name
        assert_gone(world, written)
        count += 1
    assert count == len(list(every_death(tmp_path / "again"))) >= 80


def test_after_a_death_anywhere_undo_brings_everything_back(tmp_path: Path) -> None:
    for name, world, path, written in deaths(tmp_path):
        assert go(path, world, back=True) is Outcome.UNDONE, name
        assert_back(world, written)


def test_an_undo_that_dies_can_be_undone_again(tmp_path: Path) -> None:
    _, donor = remove(tmp_path, SimWorld(ALL_MOUNTS))
    count = len(read(donor))
    for number in range(1, 2 * count):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        _, path = remove(tmp_path, world)
        kind = type("Dying", (Mortal,), {"die_at": number, "die_after": bool(number % 2), "count": 0})
        try:
            go(path, world, back=True, kind=kind)
        except Crash:
            world.process_died()
        assert go(path, world, back=True) is Outcome.UNDONE
        assert_back(world, written)


def test_two_deaths_and_a_resume(tmp_path: Path) -> None:
    first = range(2, 26, 3)
    for one in first:
        for two in range(1, 24, 5):
            world = SimWorld(ALL_MOUNTS)
            written = world.written
            path = begin(tmp_path, plan_for(world))
            for number in (one, two):
                kind = type("Dying", (Mortal,), {"die_at": number, "die_after": False, "count": 0})
                try:
                    go(path, world, kind=kind)
                except Crash:
                    world.process_died()
            if last(path).kind is not Kind.END:
                assert go(path, world) is Outcome.DONE
            assert_gone(world, written)


@pytest.mark.parametrize("number", range(1, 14))
def test_an_engine_that_was_killed_is_started_again_by_resume_and_undo(tmp_path: Path, number: int) -> None:
    for back in (False, True):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        path = begin(tmp_path, plan_for(world))

        def effect(name: str, world: SimWorld = world) -> None:
            if len(world.calls) == number:
                world.engine_state = "not running"
            SimWorld._effect(world, name)

        world._effect = effect  # type: ignore[method-assign]
        outcome = go(path, world)
        world._effect = functools.partial(SimWorld._effect, world)  # type: ignore[method-assign]
        if outcome is Outcome.REFUSED:
            assert len(world.mounted) == 2
            continue
        assert go(path, world, back=back) is (Outcome.UNDONE if back else Outcome.DONE)
        (assert_back if back else assert_gone)(world, written)


def test_after_an_undo_was_begun_only_the_undo_goes_on(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    _, path = remove(tmp_path, world)
    kind = type("Dying", (Mortal,), {"die_at": 12, "die_after": True, "count": 0})
    with pytest.raises(Crash):
        go(path, world, back=True, kind=kind)
    world.process_died()
    assert go(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "undo-begun"
    assert go(path, world, back=True) is Outcome.UNDONE


@pytest.mark.parametrize("number", range(1, 14))
def test_after_a_restart_names_mean_nothing_and_undo_starts_from_the_identity(tmp_path: Path, number: int) -> None:
    world = SimWorld(ALL_MOUNTS)
    path = begin(tmp_path, plan_for(world))
    world.die_after = number
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.restart()
    # Another disk has the old one's device name, sequence number and session ids now.
    neighbour = [scenes.session(1), scenes.session(2)]
    world.sessions += neighbour
    calls = len(world.calls)
    assert go(path, world, boot="boot-2") is Outcome.STOPPED
    assert last(path).data["code"] == "restarted"
    # the detach is the eighth; a runner that died in it may have died before it, and the device was anybody's then
    assert ("is proven" in last(path).text) is (number >= 9)
    assert world.calls[calls:] == []
    assert go(path, world, boot="boot-2", back=True) is Outcome.UNDONE
    assert {mount.mountpoint for mount in world.mounted} == {mount.mountpoint for mount in ALL_MOUNTS}
    assert neighbour[0] in world.sessions
    assert "engine logout" not in world.calls[calls:]


def test_a_restart_before_anything_was_changed_closes_the_journal(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    assert go(path, world, boot="boot-2") is Outcome.REFUSED
    assert world.calls == []
