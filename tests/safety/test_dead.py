"""Giving up a disk that no path reaches any more: its own route, with its own words, and only when it is dead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from safety.findings import Level, blocks
from safety.journal import Outcome, read
from safety.plan import Options, Plan, make
from safety.scope import Scope, disks, path
from tests.safety.removals import begin, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simworld import Crash
from tests.safety.test_removal_kernel import planned, run

__all__ = ["quick_disk"]

ABANDON = Options(abandon=True)


def dead(*, portals: int = 2, mapped: bool = True, group: bool = False) -> SimKernel:
    world = SimKernel(portals, mapped=mapped, group=group)
    world.die()
    return world


def abandoned(world: SimKernel, wanted: Scope | None = None) -> Plan:
    snapshot = world.snapshot()
    scope = wanted or disks(snapshot.disks[0])
    return make(snapshot, world.facts(snapshot, scope.on(snapshot)), scope, ABANDON)


WORLDS: dict[str, Callable[[], SimKernel]] = {
    "single path": lambda: dead(portals=1, mapped=False),
    "a map that queues": dead,
    "a map with LVM": lambda: dead(group=True),
}


def test_a_dead_disk_cannot_be_removed_in_the_ordinary_way() -> None:
    made = planned(dead())
    assert {"no-path", "session-failed", "path-not-running", "queueing"} <= {one.code for one in blocks(made.findings)}
    assert made.words == "mpatha"


@pytest.mark.parametrize("which", WORLDS)
def test_it_is_given_up_with_words_of_its_own_and_nothing_is_left(tmp_path: Path, which: str) -> None:
    world = WORLDS[which]()
    made = abandoned(world)
    assert not made.blocked, made.findings
    assert made.lossy
    assert made.words == f"lose {made.name}"
    warned = {one.code for one in made.findings if one.level is Level.WARN}
    assert {"lost", "no-path", "session-failed"} <= warned
    journal = begin(tmp_path, made)
    assert run(journal, world) is Outcome.DONE, last(journal)
    assert (world.mounted, world.lanes, world.sids, world.active) == ([], {}, {}, False)
    assert not any(claim.open for claim in world.claims)
    assert "What it had not written before is lost" in last(journal).text
    assert any("could not be written back" in record.text for record in read(journal))


@pytest.mark.parametrize("state", ["running", "blocked"])
def test_what_lives_or_may_come_back_is_not_given_up(state: str) -> None:
    world = dead()
    world.lanes["1:0:0:0"]["state"] = state
    assert "not-dead" in {one.code for one in blocks(abandoned(world).findings)}
    assert "not-dead" in {one.code for one in blocks(abandoned(SimKernel()).findings)}


def test_a_path_that_comes_back_to_life_stops_it(tmp_path: Path) -> None:
    world = dead()
    journal = begin(tmp_path, abandoned(world))
    unmount = world.unmount

    def alive(mountpoint: str, deadline: float) -> None:
        unmount(mountpoint, deadline)
        world.lanes["2:0:0:0"]["state"] = "running"

    world.unmount = alive  # type: ignore[method-assign]
    assert run(journal, world) is Outcome.STOPPED
    assert last(journal).data["code"] == "alive"
    assert len(world.lanes) == 2
    assert not any(call.startswith(("delete", "logout")) for call in world.calls)


def test_a_dead_path_of_a_map_that_goes_on_is_taken_away_without_a_loss(tmp_path: Path) -> None:
    world = SimKernel()
    world.lanes["2:0:0:0"]["state"] = "transport-offline"
    snapshot = world.snapshot()
    scope = path(snapshot, next(each for each in snapshot.paths if each.name == "2:0:0:0"))
    assert blocks(planned(world, scope).findings)
    made = abandoned(world, scope)
    assert not made.blocked, made.findings
    assert not made.lossy
    written = world.written
    journal = begin(tmp_path, made)
    assert run(journal, world) is Outcome.DONE, last(journal)
    assert world.joined(world.disks[0]) == ["sdb"]
    assert (list(world.sids), world.lost, world.written) == ([1], 0, written)


def test_after_a_death_anywhere_it_is_completed(tmp_path: Path) -> None:
    world = dead()
    run(begin(tmp_path, abandoned(world)), world)
    for name in ("die_before", "die_after"):
        for number in range(1, len(world.calls) + 1):
            again = dead()
            journal = begin(tmp_path, abandoned(again))
            setattr(again, name, number)
            with pytest.raises(Crash):
                run(journal, again)
            again.process_died()
            assert run(journal, again) is Outcome.DONE, (name, number, last(journal))
            assert (again.lanes, again.sids) == ({}, {})
