"""Removals of several disks, a path, a session and a target in a simulated kernel."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from initiator.errors import BadInputError
from initiator.model import PathState, Snapshot
from initiator.scsi.reservations import Registration
from safety.findings import Finding, Level, blocks
from safety.guards import check
from safety.journal import Outcome
from safety.plan import Plan
from safety.scope import Reach, Scope, disks, path, session, target
from safety.sequence import ORDER, Phase
from safety.steps import KINDS
from tests.safety.removals import last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import TARGET
from tests.safety.test_removal_kernel import assert_back, assert_gone, deaths, planned, remove, run

__all__ = ["quick_disk"]

Named = Callable[[Snapshot], Scope]


def both(snapshot: Snapshot) -> Scope:
    return disks(*snapshot.disks)


def second_path(snapshot: Snapshot) -> Scope:
    return path(snapshot, next(each for each in snapshot.paths if each.name == "2:0:0:0"))


def second_session(snapshot: Snapshot) -> Scope:
    return session(snapshot.sessions[1])


def whole_target(snapshot: Snapshot) -> Scope:
    return target(TARGET)


def link(snapshot: Snapshot) -> Scope:
    return Scope(Reach.LINK, ("link:lo",), "lo")


GONE: dict[str, tuple[Callable[[], SimKernel], Named]] = {
    "two disks with a file system each": (lambda: SimKernel(disks=2), both),
    "a group over two disks": (lambda: SimKernel(disks=2, group=True, swap=True), both),
    "a target with two single-path disks": (lambda: SimKernel(1, disks=2, mapped=False), whole_target),
}
STAYS: dict[str, tuple[Callable[[], SimKernel], Named]] = {
    "one path of a map": (SimKernel, second_path),
    "a session of two maps": (lambda: SimKernel(disks=2), second_session),
}


def test_all_disks_are_dismounted_before_the_first_is_claimed_and_so_on(tmp_path: Path) -> None:
    world = SimKernel(disks=2, group=True)
    written = world.written
    outcome, journal = remove(tmp_path, world, both(world.snapshot()))
    assert outcome is Outcome.DONE, last(journal)
    assert_gone(world, written)
    assert world.calls == [
        "startup 1 manual",
        "startup 2 manual",
        "syncfs /mnt/data",
        "umount /mnt/data",
        "vgchange --activate n vg",
        "claim /dev/dm-3",
        "claim /dev/dm-13",
        *("fsync", "defer", "hand over", "forget sdb", "forget sdc"),
        *("fsync", "defer", "hand over", "forget sde", "forget sdf"),
        *("fsync sdb", "synchronize sdb", "fsync sdc", "synchronize sdc"),
        *("fsync sde", "synchronize sde", "fsync sdf", "synchronize sdf"),
        *("offline sdb", "offline sdc", "offline sde", "offline sdf"),
        *("delete sdb", "delete sdc", "delete sde", "delete sdf"),
        "logout 1",
        "logout 2",
    ]
    assert last(journal).text.startswith("mpatha, mpathb are safe to pull")


def test_a_group_over_two_disks_forbids_to_take_one_and_names_both() -> None:
    found = {each.code: each for each in planned(SimKernel(disks=2, group=True)).findings}
    assert found["vg-spans"].level is Level.BLOCK
    assert found["vg-spans"].fix == "remove them together: mooring remove mpatha mpathb"
    assert not planned(SimKernel(disks=2, group=True), both(SimKernel(disks=2, group=True).snapshot())).blocked


def test_a_path_leaves_its_map_which_goes_on(tmp_path: Path) -> None:
    world = SimKernel()
    outcome, journal = remove(tmp_path, world, second_path(world.snapshot()))
    assert outcome is Outcome.DONE, last(journal)
    assert world.calls == [
        "startup 2 manual",
        "forget sdc",
        "claim paths",
        "fsync sdc",
        "synchronize sdc",
        "offline sdc",
        "delete sdc",
        "logout 2",
    ]
    assert world.joined(world.disks[0]) == ["sdb"]
    assert [mount.mountpoint for mount in world.mounted] == ["/mnt/data"]
    assert (list(world.sids), world.lost) == ([1], 0)
    assert "sdc is out of mpatha, which goes on over its other paths" in last(journal).text
    assert last(journal).data["free"] == ["portal 127.0.0.2:3260"]


def test_a_session_ends_and_its_disks_go_on_over_the_others(tmp_path: Path) -> None:
    world = SimKernel(disks=2)
    outcome, journal = remove(tmp_path, world, second_session(world.snapshot()))
    assert outcome is Outcome.DONE, last(journal)
    assert (list(world.sids), len(world.mounted), world.lost) == ([1], 2, 0)
    assert [world.joined(disk) for disk in world.disks] == [["sdb"], ["sde"]]


def test_a_target_is_drained(tmp_path: Path) -> None:
    world = SimKernel(disks=2)
    written = world.written
    outcome, journal = remove(tmp_path, world, target(TARGET))
    assert outcome is Outcome.DONE, last(journal)
    assert_gone(world, written)
    assert f"No session of this host to {TARGET} remains." in last(journal).text
    assert "link lo" in last(journal).data["free"]


def test_the_other_hosts_of_a_drained_target_are_told(tmp_path: Path) -> None:
    world = SimKernel()
    other = Registration(0x2, "iqn.2026-11.example:other")
    world.registrations = ((world.snapshot().disks[0].id, (other,)),)
    outcome, journal = remove(tmp_path, world, target(TARGET))
    assert outcome is Outcome.DONE, last(journal)
    assert f"{TARGET} remains; other hosts, by their registrations: {other.initiator}." in last(journal).text


def test_a_session_without_a_disk_is_logged_out_by_the_same_plan(tmp_path: Path) -> None:
    world = SimKernel(disks=0)
    made = planned(world, target(TARGET))
    assert [step.id for step in made.steps] == [
        *("identify", "lock", "startup-1", "startup-2", "logout-1", "logout-2", "watch")
    ]
    assert made.keys
    outcome, journal = remove(tmp_path, world, target(TARGET))
    assert outcome is Outcome.DONE, last(journal)
    assert world.sids == {}
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert sorted(world.sids) == [11, 12]
    assert set(world.records.values()) == {"automatic"}


def test_a_session_that_carries_more_than_a_plan_can_take_is_not_ended() -> None:
    world = SimKernel()
    world.other_luns = {2: "naa.2"}
    made = planned(world, second_session(world.snapshot()))
    assert "unit-unknown" in {each.code for each in blocks(made.findings)}


def test_a_link_means_every_session_over_it() -> None:
    made = planned(SimKernel(disks=2), link(SimKernel().snapshot()))
    assert [each.number for each in made.touched] == ["1", "2"]
    assert all(member.whole for member in made.members)
    with pytest.raises(BadInputError):
        Scope(Reach.LINK, ("link:none",), "none").on(SimKernel().snapshot())
    with pytest.raises(BadInputError):
        target("iqn.2026-11.example:nobody").on(SimKernel().snapshot())


def test_the_blast_radius_is_counted_by_session() -> None:
    world = SimKernel(disks=2)
    world.other_luns = {1: "naa.9"}
    touched = planned(world, disks(*world.snapshot().disks)).touched
    assert [(each.number, each.ends, each.paths) for each in touched] == [
        ("1", False, ("1:0:0:0", "1:0:0:1")),
        ("2", True, ("2:0:0:0", "2:0:0:1")),
    ]
    assert touched[0].stays_for == ("LUN 9 (sdx1)",)


def path_findings(state: PathState) -> dict[str, Finding]:
    world = SimKernel(3)
    snapshot = world.snapshot()
    others = [each if each.name == "2:0:0:0" else dataclasses.replace(each, state=state) for each in snapshot.paths]
    snapshot = dataclasses.replace(snapshot, paths=tuple(others))
    scope = second_path(snapshot)
    return {each.code: each for each in check(snapshot, world.facts(snapshot, scope.on(snapshot)), scope)}


def test_the_last_live_path_of_a_map_is_not_taken() -> None:
    assert path_findings(PathState.FAILED)["last-live-path"].level is Level.BLOCK
    assert path_findings(PathState.UNKNOWN)["last-live-path"].level is Level.BLOCK
    assert not blocks(tuple(path_findings(PathState.ACTIVE).values()))


def lately(back: dict[str, float] | None, settle_s: float = 60.0) -> dict[str, Finding]:
    """What is said when paths of the map came back at these times, of a drain of its second path."""
    world = SimKernel()
    snapshot = world.snapshot()
    scope = second_path(snapshot)
    facts = world.facts(snapshot, scope.on(snapshot))
    assert facts.kernel is not None
    told = None if back is None else tuple((dev, snapshot.taken_at - ago) for dev, ago in back.items())
    facts = dataclasses.replace(facts, kernel=dataclasses.replace(facts.kernel, back=told), settle_s=settle_s)
    return {each.code: each for each in check(snapshot, facts, scope)}


def numbers() -> dict[str, str]:
    """`major:minor` of the paths of the simulated map, by address."""
    snapshot = SimKernel().snapshot()
    devs = {f"/dev/{node.kname}": node.dev for node in snapshot.block}
    return {path.id.removeprefix("kernel:p:"): devs[path.device or ""] for path in snapshot.paths}


def test_a_path_that_came_back_a_moment_ago_is_not_relied_on() -> None:
    every = numbers()
    others = {dev: 40.0 for hctl, dev in every.items() if hctl != "2:0:0:0"}
    finding = lately(others)["unsettled"]
    assert finding.level is Level.BLOCK
    assert finding.fix == "wait 20 s and look again"
    assert "came back 40 s ago" in finding.evidence
    assert "unsettled" not in lately({**others, next(iter(others)): 61.0})
    assert "unsettled" not in lately(others, settle_s=30.0)
    assert "unsettled" not in lately({every["2:0:0:0"]: 1.0}), "that one goes"
    assert lately(None)["settle-unknown"].level is Level.WARN


def test_a_path_that_is_the_last_one_by_now_stops_it_before_it_leaves(tmp_path: Path) -> None:
    world = SimKernel()
    world.lanes["1:0:0:0"]["state"] = "offline"
    outcome, _ = remove(tmp_path, world, second_path(world.snapshot()))
    assert outcome is Outcome.REFUSED
    assert world.joined(world.disks[0]) == ["sdb", "sdc"]
    assert world.calls == []


@pytest.mark.parametrize("name", [*GONE, *STAYS])
def test_every_step_of_every_scope_can_be_run_and_names_its_disks(name: str) -> None:
    make_world, wanted = {**GONE, **STAYS}[name]
    made = planned(make_world(), wanted(make_world().snapshot()))
    assert not made.blocked, made.findings
    assert Plan.from_json(made.to_json()) == made
    for step in made.steps:
        assert step.kind in KINDS
        assert step.disks
        assert step.undo or not step.changing
    places = [ORDER.index(step.phase) for step in made.steps]
    assert places == sorted(places)
    for disk, phase in itertools.product([member.id for member in made.members], (Phase.FLUSH, Phase.OFFLINE)):
        assert any(disk in step.disks for step in made.steps if step.phase is phase)


@pytest.mark.parametrize("name", GONE)
def test_after_a_death_anywhere_a_removal_of_several_disks_is_completed(tmp_path: Path, name: str) -> None:
    make_world, wanted = GONE[name]
    for moment, world, journal, written in deaths(make_world, tmp_path, wanted(make_world().snapshot()), every=5):
        assert run(journal, world) is Outcome.DONE, (moment, last(journal))
        assert_gone(world, written)


@pytest.mark.parametrize("name", [*GONE, *STAYS])
def test_after_a_death_anywhere_a_removal_of_any_scope_is_taken_back(tmp_path: Path, name: str) -> None:
    make_world, wanted = {**GONE, **STAYS}[name]
    for moment, world, journal, written in deaths(make_world, tmp_path, wanted(make_world().snapshot()), every=5):
        assert run(journal, world, back=True) is Outcome.UNDONE, (moment, last(journal))
        assert_back(world, written, make_world())


@pytest.mark.parametrize("name", STAYS)
def test_after_a_death_anywhere_a_path_still_leaves_and_the_disks_go_on(tmp_path: Path, name: str) -> None:
    make_world, wanted = STAYS[name]
    for moment, world, journal, written in deaths(make_world, tmp_path, wanted(make_world().snapshot()), every=5):
        assert run(journal, world) is Outcome.DONE, (moment, last(journal))
        assert [len(world.joined(disk)) for disk in world.disks] == [1] * len(world.disks)
        assert len(world.mounted) == len(world.disks)
        assert (list(world.sids), world.lost, world.written) == ([1], 0, written)
