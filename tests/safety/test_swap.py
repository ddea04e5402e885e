"""Swap on a logical volume: its name in /proc/swaps is not the one that a person knows, and may be another's by now."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from initiator.host.run import HelperFailed
from initiator.model import BlockNode, Swap
from safety.journal import Outcome
from safety.world import StepError
from tests.safety.removals import begin, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import SIZE, SimDisk, SimVolume
from tests.safety.simworld import Crash
from tests.safety.test_removal_kernel import planned, run

__all__ = ["quick_disk"]


class SwapOnVolume(SimKernel):
    """The volume carries swap; when it is activated again, it gets the number 7.

    Attributes:
        stranger: Whether a volume of another disk has its old number by now, and swap on it.
    """

    number = 5
    stranger = False

    def __init__(self) -> None:
        self.on = {5}
        super().__init__(group=True)
        self.mounted = []

    def base(self, disk: SimDisk) -> BlockNode | None:
        node = super().base(disk)
        return dataclasses.replace(node, holders=(f"dm-{self.number}",)) if node and self.active else node

    def top(self, volume: SimVolume) -> BlockNode | None:
        node = super().top(volume)
        return dataclasses.replace(node, kname=f"dm-{self.number}", dev=f"253:{self.number}") if node else None

    def nodes(self) -> tuple[BlockNode, ...]:
        uuid = f"LVM-{'Z' * 32}{'z' * 32}"
        other = BlockNode("dm-5", "253:5", "lvm", SIZE, False, (), ("vda",), dm_name="other-swap", dm_uuid=uuid)
        return (*super().nodes(), other) if self.stranger else super().nodes()

    def swaps(self) -> tuple[Swap, ...]:
        return tuple(Swap(f"/dev/dm-{number}", "partition", 4096, f"253:{number}") for number in sorted(self.on))

    def swap_off(self, path: str, deadline: float) -> None:
        self._effect(f"swapoff {path}")
        self.on.remove(int(path.removeprefix("/dev/dm-")))
        self._done()

    def swap_on(self, path: str, deadline: float) -> None:
        self._effect(f"swapon {path}")
        number = int(path.removeprefix("/dev/dm-"))
        assert any(node.kname == f"dm-{number}" for node in self.nodes())
        if number in self.on:
            raise HelperFailed("swapon", errno.EBUSY, "Device or resource busy")
        self.on.add(number)
        self._done()

    def command(self, argv: Sequence[str], deadline: float) -> None:
        if argv[0] == "vgchange" and self.number in self.on and not self.stranger:
            raise StepError("Logical volume vg/data in use.", code="tool")
        if argv[0] == "lvchange":
            self.number = 7
        super().command(argv, deadline)


def swapping(world: SwapOnVolume) -> list[str]:
    return [call for call in world.calls if call.startswith("swap")]


def test_swap_on_a_logical_volume_goes_and_comes_back_under_another_number(tmp_path: Path) -> None:
    world = SwapOnVolume()
    journal = begin(tmp_path, planned(world))
    assert run(journal, world) is Outcome.DONE, last(journal)
    assert world.on == set()
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert (world.on, swapping(world)) == ({7}, ["swapoff /dev/dm-5", "swapon /dev/dm-7"])


def test_swap_that_is_on_already_is_not_switched_on_twice(tmp_path: Path) -> None:
    """An undo that died right after it had switched it on."""
    world = SwapOnVolume()
    journal = begin(tmp_path, planned(world))
    assert run(journal, world) is Outcome.DONE, last(journal)
    swap_on = world.swap_on

    def die(path: str, deadline: float) -> None:
        swap_on(path, deadline)
        raise Crash

    world.swap_on = die  # type: ignore[method-assign]
    with pytest.raises(Crash):
        run(journal, world, back=True)
    world.swap_on = swap_on  # type: ignore[method-assign]
    world.process_died()
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert world.on == {7}


def test_swap_that_could_not_be_switched_off_is_left_on(tmp_path: Path) -> None:
    world = SwapOnVolume()
    journal = begin(tmp_path, planned(world))

    def fail(path: str, deadline: float) -> None:
        raise HelperFailed("swapoff", errno.ENOMEM, "Cannot allocate memory")

    world.swap_off = fail  # type: ignore[method-assign]
    assert run(journal, world) is Outcome.STOPPED
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert world.on == {5}


def test_swap_of_somebody_else_with_the_same_name_is_left_alone(tmp_path: Path) -> None:
    world = SwapOnVolume()
    journal = begin(tmp_path, planned(world))
    world.die_after = next(n for n, call in enumerate(_calls(tmp_path / "count"), 1) if call.startswith("vgchange"))
    with pytest.raises(Crash):
        run(journal, world)
    world.process_died()
    world.stranger = True
    world.on = {5}
    assert run(journal, world) is Outcome.DONE, last(journal)
    assert (world.on, swapping(world)) == ({5}, ["swapoff /dev/dm-5"])
    assert run(journal, world, back=True) is Outcome.UNDONE, last(journal)
    assert world.on == {5, 7}


def _calls(folder: Path) -> list[str]:
    folder.mkdir()
    world = SwapOnVolume()
    assert run(begin(folder, planned(world)), world) is Outcome.DONE
    return world.calls


def test_swap_that_is_on_under_the_planned_name_is_not_called_off_when_it_is_not_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = SwapOnVolume()
    path = begin(tmp_path, planned(world))
    monkeypatch.setattr("safety.steps_stack.standing_now", lambda work, place: None)
    assert run(path, world) is Outcome.UNKNOWN, last(path)
    assert "not known whether it is the planned one" in last(path).text
    assert world.on == {5}
    assert not any(call.startswith(("claim", "offline")) for call in world.calls)
