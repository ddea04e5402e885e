"""An array that is assembled again, while udev does the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest

from initiator.model import BlockNode
from safety import steps_stack
from safety.plan import Step
from safety.sequence import Phase
from safety.steps import KINDS
from safety.work import Work
from safety.world import NotProven, StepError
from tests.safety.simkernel import SimKernel
from tests.safety.test_removal_kernel import planned

UUID = "1f2e:3d4c:5b6a:7988"
MD = BlockNode("md41", "9:41", "md", 1 << 26, False, slaves=("sda", "sdb"))
STEP = Step(
    id="close-1",
    kind="close-md",
    phase=Phase.DISMOUNT,
    title="Stop md41",
    command="",
    proof="",
    undo="",
    deadline_s=30.0,
    expected_s=0.5,
    params={"kname": "md41", "uuid": UUID, "members": [{"is": "disk"}, {"is": "disk"}]},
    disks=(),
)


class WithArrays(SimKernel):
    """`grows` is what the kernel lists of the array after each call of mdadm; mdadm itself finds its members busy."""

    def __init__(self, *grows: BlockNode | None) -> None:
        super().__init__()
        self.grows = list(grows)
        self.asked: list[tuple[str, ...]] = []

    def nodes(self) -> tuple[BlockNode, ...]:
        return (*super().nodes(), *filter(None, self.grows[:1]))

    def array_uuids(self) -> Mapping[str, str]:
        return {"md41": UUID}

    def command(self, argv: Sequence[str], deadline: float) -> None:
        self.asked.append(tuple(argv))
        if len(self.grows) > 1:
            del self.grows[0]
        raise StepError("mdadm: /dev/sda is busy - skipping", code="tool")


@pytest.fixture(autouse=True)
def disks_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_stack, "bring_back", lambda work: "")
    monkeypatch.setattr(steps_stack, "resolve", lambda work, place: BlockNode("sda", "8:0", "disk", 1 << 26, False))


def undo(world: WithArrays) -> str:
    return KINDS["close-md"].undo(Work(planned(world), world, lambda text: None), STEP)


@pytest.mark.parametrize(
    "grows",
    [
        (None, MD),
        (None, dataclasses.replace(MD, size_bytes=0, slaves=("sda",)), MD),
        (dataclasses.replace(MD, size_bytes=0), MD),
    ],
)
def test_udev_may_be_faster(grows: tuple[BlockNode | None, ...]) -> None:
    world = WithArrays(*grows)
    assert undo(world) == "the array md41 runs"
    assert world.asked
    assert world.asked[0][:3] == ("mdadm", "--assemble", "/dev/md41")


def test_one_that_is_whole_already_is_left_alone() -> None:
    world = WithArrays(MD)
    assert undo(world) == "the array md41 runs"
    assert world.asked == []


def test_one_that_stays_without_a_member_is_not_taken_for_what_it_was() -> None:
    world = WithArrays(dataclasses.replace(MD, slaves=("sda",)))
    with pytest.raises(NotProven, match="is busy - skipping"):
        undo(world)
