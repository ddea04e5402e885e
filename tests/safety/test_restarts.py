"""The machine is restarted in the middle of a removal of a kernel disk, or of its undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from safety.journal import Outcome
from tests.safety.removals import begin, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simworld import Crash
from tests.safety.test_removal_kernel import WORLDS, assert_back, planned, remove, run, world_calls

__all__ = ["quick_disk"]


def test_after_a_restart_undo_logs_in_and_mounts_again(tmp_path: Path) -> None:
    world = SimKernel(group=True)
    written = world.written
    path = begin(tmp_path, planned(world))
    world.die_after = world_calls(tmp_path, "defer")
    with pytest.raises(Crash):
        run(path, world)
    world.process_died()
    world.restart()
    assert run(path, world, boot="boot-2") is Outcome.STOPPED
    assert "That everything had been flushed is not proven" in last(path).text
    assert run(path, world, back=True, boot="boot-2") is Outcome.UNDONE, last(path)
    assert_back(world, written, SimKernel(group=True))


def test_after_a_restart_undo_logs_in_where_nothing_had_been_mounted_or_logged_out(tmp_path: Path) -> None:
    """Only the start-up had been set: for that the session was not logged in at boot."""
    world = SimKernel()
    world.mounted = []
    path = begin(tmp_path, planned(world))
    world.die_before = 3
    with pytest.raises(Crash):
        run(path, world)
    assert world.calls == ["startup 1 manual", "startup 2 manual", "claim /dev/dm-3"]
    world.process_died()
    world.restart()
    assert run(path, world, back=True, boot="boot-2") is Outcome.UNDONE, last(path)
    assert sorted(world.lanes) == ["1:0:0:0", "2:0:0:0"]
    assert world.joined(world.disks[0]) == ["sdb", "sdc"]
    assert set(world.records.values()) == {"automatic"}


@pytest.mark.parametrize("which", ["single path", "map", "map and LVM and swap"])
def test_a_restart_in_the_middle_of_an_undo_takes_away_what_was_back_already(tmp_path: Path, which: str) -> None:
    died = 0
    for number in range(1, 30):
        world = WORLDS[which]()
        written = world.written
        _, path = remove(tmp_path, world)
        world.die_after = len(world.calls) + number
        try:
            run(path, world, back=True)
        except Crash:
            died += 1
        else:
            break
        world.process_died()
        world.restart()
        assert run(path, world, back=True, boot="boot-2") is Outcome.UNDONE, (number, last(path))
        assert_back(world, written, WORLDS[which]())
    assert died >= 3
