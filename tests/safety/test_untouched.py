"""A step that failed half-way has changed something: its removal can be taken back, and is not called refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from initiator.model import BlockNode, Snapshot
from safety.facts import Facts, User
from safety.journal import EXIT, Outcome
from safety.plan import Options, make
from safety.scope import Extent, path, target
from safety.world import Claim, Ends, StepError
from safety.world_kernel import Door, Route
from tests.safety import scenes
from tests.safety.removals import begin, go, last, plan_for, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import GROUP, SIZE, TARGET
from tests.safety.simworld import SimWorld
from tests.safety.test_removal_kernel import planned, run

__all__ = ["quick_disk"]


Made = TypeVar("Made", bound=SimKernel)


def manual(world: Made) -> Made:
    """The records say manual already: no step comes before the one in question that changes anything."""
    world.records = dict.fromkeys(world.records, "manual")
    return world


class OtherPathDies(SimKernel):
    """Of two paths, the one that stays dies when the other one has left."""

    def forget(self, route: Route) -> bool:
        done = super().forget(route)
        self.lanes["1:0:0:0"]["state"] = "transport-offline"
        return done


def test_a_path_that_left_its_map_as_the_last_live_one_can_come_back(tmp_path: Path) -> None:
    world = manual(OtherPathDies())
    seen = world.snapshot()
    journal = begin(tmp_path, planned(world, path(seen, next(each for each in seen.paths if each.name == "2:0:0:0"))))
    assert run(journal, world) is Outcome.STOPPED
    assert last(journal).text == "The map mpatha has no running path left."
    assert last(journal).data["exit"] == EXIT[Outcome.STOPPED]
    assert world.joined(world.disks[0]) == ["sdb"]
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert world.joined(world.disks[0]) == ["sdb", "sdc"]


@pytest.mark.parametrize(("agrees", "outcome"), [(False, Outcome.REFUSED), (True, Outcome.STOPPED)])
def test_a_path_that_does_not_leave_is_as_it_was_only_if_multipathd_refused(
    tmp_path: Path, agrees: bool, outcome: Outcome
) -> None:
    """One that agreed may let go of it later."""
    world = manual(SimKernel())
    world.forget = lambda route: agrees  # type: ignore[method-assign]
    seen = world.snapshot()
    journal = begin(tmp_path, planned(world, path(seen, next(each for each in seen.paths if each.name == "2:0:0:0"))))
    assert run(journal, world) is outcome
    assert world.joined(world.disks[0]) == ["sdb", "sdc"]


class TwoVolumes(SimKernel):
    """A second volume in the group; the first one is in use when the group is to be closed."""

    spare = True

    def __init__(self) -> None:
        super().__init__(group=True)
        self.mounted = []

    def base(self, disk: Any) -> BlockNode | None:
        node = super().base(disk)
        return dataclasses.replace(node, holders=(*node.holders, "dm-6")) if node and self.spare else node

    def nodes(self) -> tuple[BlockNode, ...]:
        uuid = f"LVM-{GROUP}{'c' * 32}"
        node = BlockNode("dm-6", "253:6", "lvm", SIZE, False, (), ("dm-3",), dm_name="vg-spare", dm_uuid=uuid)
        return (*super().nodes(), node) if self.spare else super().nodes()

    def facts(self, snapshot: Snapshot, extent: Extent) -> Facts:
        seen = super().facts(snapshot, extent)
        assert seen.kernel is not None
        groups = tuple(dataclasses.replace(each, active=("vg/data", "vg/spare")) for each in seen.kernel.groups)
        return dataclasses.replace(seen, kernel=dataclasses.replace(seen.kernel, groups=groups))

    def command(self, argv: Sequence[str], deadline: float) -> None:
        if argv[0] == "vgchange":
            self.spare = False
            raise StepError("Logical volume vg/data in use.", code="tool")
        self.spare = self.spare or "vg/spare" in argv
        super().command(argv, deadline)


def test_a_group_of_which_one_volume_is_closed_can_be_opened_again(tmp_path: Path) -> None:
    world = manual(TwoVolumes())
    journal = begin(tmp_path, planned(world))
    assert run(journal, world) is Outcome.STOPPED
    assert "vg/data in use" in last(journal).text
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert (world.spare, world.active) == (True, True)


def test_a_group_that_stays_open_as_a_whole_is_as_it_was(tmp_path: Path) -> None:
    world = manual(TwoVolumes())
    journal = begin(tmp_path, planned(world))

    def refuse(argv: Sequence[str], deadline: float) -> None:
        raise StepError("Volume group vg is locked.", code="tool")

    world.command = refuse  # type: ignore[method-assign]
    assert run(journal, world) is Outcome.REFUSED


def test_a_session_that_is_gone_with_its_connection_open_can_be_had_again(tmp_path: Path) -> None:
    world = manual(SimKernel(1, disks=0))
    journal = begin(tmp_path, planned(world, target(TARGET)))
    world.connections = lambda: (Ends("127.0.0.9", 50001, "127.0.0.1", 3260),)  # type: ignore[method-assign]
    assert run(journal, world) is Outcome.STOPPED
    assert "is still open" in last(journal).text
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert list(world.sids) == [11]


def test_a_session_that_is_not_logged_out_is_as_it_was(tmp_path: Path) -> None:
    world = manual(SimKernel(1, disks=0))
    journal = begin(tmp_path, planned(world, target(TARGET)))

    def refuse(sid: int) -> None:
        raise StepError("iscsiadm says no.", code="iscsiadm")

    world.logout = refuse  # type: ignore[method-assign]
    assert run(journal, world) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("told", "outcome"),
    [("automatic, manual", Outcome.STOPPED), ("automatic", Outcome.REFUSED), (None, Outcome.REFUSED)],
)
def test_a_record_that_was_set_only_in_part_can_be_set_back(tmp_path: Path, told: str | None, outcome: Outcome) -> None:
    world = SimKernel(1, disks=0)
    journal = begin(tmp_path, planned(world, target(TARGET)))
    set_startup = world.set_startup

    def refuse(door: Door, value: str) -> None:
        world.records[1] = told  # type: ignore[assignment]
        raise StepError("iscsiadm failed.", code="iscsiadm")

    world.set_startup = refuse  # type: ignore[method-assign]
    assert run(journal, world) is outcome
    world.set_startup = set_startup  # type: ignore[method-assign]
    if outcome is Outcome.STOPPED:
        assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
        assert world.records == {1: "automatic"}


@pytest.mark.parametrize(("ends", "outcome"), [((7,), Outcome.STOPPED), ((), Outcome.REFUSED)])
def test_of_two_processes_one_that_is_ended_does_not_come_back(
    tmp_path: Path, ends: tuple[int, ...], outcome: Outcome
) -> None:
    world = SimWorld()
    world.users = tuple(User(pid, "sh", "current folder", "/mnt/data", 5) for pid in (7, 8))
    seen = world.snapshot()
    made = make(seen, world.facts(seen, scenes.SCOPE.on(seen)), scenes.SCOPE, Options(end_users=True))
    terminate = world.terminate
    world.terminate = lambda pid, started: terminate(pid, started) if pid in ends else None  # type: ignore[method-assign]
    journal = begin(tmp_path, made)
    assert go(journal, world) is outcome
    assert last(journal).data["step"] == "end-users"


def test_a_device_that_goes_with_its_claim_is_not_as_it_was(tmp_path: Path) -> None:
    """The detach was asked for and then failed: the device goes when the runner lets go of it."""
    world = SimWorld(())
    journal = begin(tmp_path, plan_for(world))

    def seal(claim: Claim, deadline: float) -> bool:
        world.autoclear = True
        raise StepError("The kernel said no.", code="kernel-said-no")

    world.seal = seal  # type: ignore[method-assign]
    assert go(journal, world) is Outcome.STOPPED
    assert world.device is None
    assert go(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert world.device is not None
