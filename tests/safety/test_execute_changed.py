"""Nothing is done to a disk that is not what was planned, or is used by somebody."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initiator.host.mounts import Mount
from initiator.model import DiskState, Swap
from safety.facts import User
from safety.journal import Outcome
from safety.plan import make
from tests.safety import scenes
from tests.safety.removals import begin, go, last, plan_for, quick_disk, remove
from tests.safety.simworld import ALL_MOUNTS, Crash, SimWorld

__all__ = ["quick_disk"]

IDENTITY: list[dict[str, Any]] = [
    {"wwid": "naa.5000000000000002"},
    {"designators": ("naa.5000000000000002",)},
    {"size_bytes": 1 << 20},
    {"target": "iqn.2026-11.example:other"},
    {"lun": 1},
    {"serial": "0002"},
    {"wwid": None},
]


@pytest.mark.parametrize("change", IDENTITY, ids=lambda change: next(iter(change)))
def test_another_disk_under_the_same_name_stops_it_before_the_next_step(tmp_path: Path, change: dict[str, Any]) -> None:
    total = 13
    for number in range(total):
        world = SimWorld(ALL_MOUNTS)
        path = begin(tmp_path, plan_for(world))

        def effect(name: str, world: SimWorld = world, number: int = number) -> None:
            if len(world.calls) == number:
                world.identity = change
            SimWorld._effect(world, name)

        if number == 0:
            world.identity = change
        world._effect = effect  # type: ignore[method-assign]
        outcome = go(path, world)
        made = len(world.calls)
        # The call during which the disk changed is the last one, but two calls can be one step (syncfs and umount).
        assert made <= number + 2, (number, world.calls)
        assert outcome is (Outcome.REFUSED if not _changed(world) else outcome)
        if number < total - 1:
            assert outcome in (Outcome.REFUSED, Outcome.STOPPED), number
            assert world.lost == 0


def _changed(world: SimWorld) -> bool:
    return any(call.startswith(("umount", "seal")) for call in world.calls)


@pytest.mark.parametrize(
    ("point", "outcome"),
    [
        ("/elsewhere/data", Outcome.DONE),  # another engine's mount that got the free number
        ("/container/run/mooring/disks/data", Outcome.STOPPED),  # a copy of ours in another namespace
    ],
)
def test_the_number_of_the_fuse_mount_alone_does_not_make_it_ours(tmp_path: Path, point: str, outcome: Outcome) -> None:
    ours = Mount(90, 1, "0:77", "/", "/run/mooring/disks/data", "rw", "", "fuse.mooring", "mooring", "rw")

    class World(SimWorld):
        def _engine_offline(self, disk: str) -> dict[str, Any]:
            self.fuse = [dataclasses.replace(ours, mountpoint=point)]
            return super()._engine_offline(disk)

    world = World()
    world.fuse = [ours]
    found, path = remove(tmp_path, world)
    assert found is outcome
    assert found is Outcome.DONE or point in last(path).text


def test_a_new_use_since_the_plan_refuses_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.users = (User(4711, "bash", "current folder", "/mnt/data"),)
    assert go(path, world) is Outcome.REFUSED
    assert "bash" in last(path).text
    assert "4711" in last(path).text
    assert world.calls == []


def test_a_changed_situation_refuses_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.mounted.append(dataclasses.replace(scenes.DATA_MOUNT, mount_id=50, mountpoint="/elsewhere"))
    assert go(path, world) is Outcome.REFUSED
    assert last(path).data["code"] == "changed"
    assert world.calls == []


def test_a_device_that_somebody_else_detached_before_the_flush_is_not_passed_over(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.die_after = 2
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.device = None
    assert go(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "detached-elsewhere"
    assert "engine logout" not in world.calls
    assert go(path, world, back=True) is Outcome.UNDONE


def test_what_was_mounted_again_meanwhile_is_not_torn_away(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.die_after = 2
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.mounted.append(dataclasses.replace(scenes.DATA_MOUNT, mount_id=90))
    assert go(path, world) is Outcome.STOPPED
    assert "claim /dev/loop3" not in world.calls


def test_something_that_comes_back_is_seen_by_the_watch(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    real = world.pause

    def pause(seconds: float) -> None:
        real(seconds)
        if not world.sessions:
            world._engine_attach(portals=["127.0.0.1:3260", "127.0.0.2:3260"])

    world.pause = pause  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    assert "again" in last(path).text


USES: list[Callable[[SimWorld], dict[str, Any]]] = [
    lambda world: {"swaps": (Swap("/dev/loop3", "partition", 1, scenes.DEV),)},
    lambda world: {"engine": "no answer"},
    lambda world: {"paths": ()},
    lambda world: {"block": ()},
    lambda world: {"disks": (scenes.disk(state=DiskState.DEAD),)},
    lambda world: {"disks": (scenes.disk(wwid=None),)},
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(uses=st.lists(st.sampled_from(range(len(USES))), min_size=1, max_size=3), at_plan=st.booleans())
def test_no_plan_is_executed_when_something_forbids_it(tmp_path: Path, uses: list[int], at_plan: bool) -> None:
    world = SimWorld(ALL_MOUNTS)
    quiet = plan_for(world)
    real = world.snapshot
    changes = {key: value for use in uses for key, value in USES[use](world).items()}
    world.snapshot = lambda: dataclasses.replace(real(), **changes)  # type: ignore[method-assign]
    found = world.snapshot()
    blocked = make(found, world.facts(found, scenes.SCOPE.on(found)), scenes.SCOPE)
    assert blocked.blocked
    path = begin(tmp_path, blocked if at_plan else quiet)
    assert go(path, world) is Outcome.REFUSED
    assert world.calls == []
