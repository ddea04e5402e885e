"""A proven flush counts only while its claims hold, or for what was closed under them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safety.execute import Run
from safety.flushed import closed, live
from safety.journal import Journal, Kind, Mark, Outcome, Record, read
from safety.plan import Plan
from safety.scope import target
from safety.steps import KINDS
from safety.world import StepError
from tests.safety.removals import begin, go, last, plan_for, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import TARGET
from tests.safety.simworld import Crash, SimWorld
from tests.safety.test_dead import abandoned, dead
from tests.safety.test_removal_kernel import planned, run

__all__ = ["quick_disk"]


def records(*words: str) -> list[Record]:
    """`run`, `end`, or a step and its mark."""
    found = []
    for number, word in enumerate(words):
        step, _, mark = word.partition(" ")
        if mark:
            found.append(Record(number, 1.0, "b", Kind.STEP, step=step, mark=Mark(mark)))
        else:
            found.append(Record(number, 1.0, "b", Kind(word)))
    return found


FLUSHED = ("run", "fsync verified", "flush verified")
ENDS: list[tuple[tuple[str, ...], bool, Mark | None]] = [
    (FLUSHED, True, None),
    (FLUSHED[:2], False, None),
    ((*FLUSHED, "end"), False, None),
    ((*FLUSHED, "run"), False, None),
    ((*FLUSHED, "flush started"), False, None),
    ((*FLUSHED, "off started"), True, Mark.STARTED),
    ((*FLUSHED, "off started", "run"), False, Mark.STARTED),
    ((*FLUSHED, "off started", "off verified", "end"), False, Mark.VERIFIED),
    ((*FLUSHED, "off started", "off failed", "end"), False, Mark.FAILED),
    ((*FLUSHED, "off started", "off stuck", "end", "run"), False, Mark.STUCK),
    ((*FLUSHED, "off failed", "end"), False, None),
    ((*FLUSHED, "end", "run", "off started", "off verified"), False, None),
    ((*FLUSHED, "run", "off started"), False, None),
    ((*FLUSHED, "off started", "run", "off verified"), False, Mark.VERIFIED),
    ((*FLUSHED, "off started", "off verified", "run", "off failed", "end"), False, Mark.VERIFIED),
    ((*FLUSHED, "off started", "off verified", "run", "off started"), False, None),
    ((*FLUSHED, "off started", "off verified", *FLUSHED, "off started", "off failed"), True, Mark.FAILED),
]


@pytest.mark.parametrize(("words", "now", "ended"), ENDS, ids=[", ".join(words) for words, _, _ in ENDS])
def test_how_far_a_flush_reaches(words: tuple[str, ...], now: bool, ended: Mark | None) -> None:
    assert live(records(*words), {"fsync", "flush"}) is now
    assert closed(records(*words), {"fsync", "flush"}, "off") is ended


def noisy() -> SimKernel:
    """Somebody writes to the only path after its flush, so that the removal stops."""
    world = SimKernel(1, mapped=False)
    world.noise = 10_000
    return world


def mount_again(world: SimKernel) -> None:
    world.noise = 0
    world.mounted = [dataclasses.replace(world._mount(world.volumes[0], 90), mountpoint="/mnt/again")]
    world.volumes[0].dirty += 2


def stopped(tmp_path: Path, world: SimKernel) -> Path:
    journal = begin(tmp_path, planned(world))
    assert run(journal, world) is Outcome.STOPPED
    assert last(journal).data["step"] == "silent"
    marks = {record.step: record.mark for record in read(journal)}
    assert marks["flush"] is Mark.VERIFIED
    return journal


def test_paths_that_go_under_a_new_mount_are_not_taken_for_removed(tmp_path: Path) -> None:
    """As by `iscsiadm --logoutall`."""
    world = noisy()
    journal = stopped(tmp_path, world)
    mount_again(world)
    world.lanes, world.sids = {}, {}
    assert run(journal, world) is Outcome.STOPPED
    assert last(journal).data["code"] == "detached-elsewhere"


def test_a_detach_that_was_refused_closes_nothing(tmp_path: Path) -> None:
    for rebooted in (False, True):
        world = SimWorld()
        journal = begin(tmp_path, plan_for(world))
        world.foreign_openers = 1
        assert go(journal, world) is Outcome.STOPPED
        world.device = None  # somebody mounted it, wrote, and took it away
        if rebooted:
            assert go(journal, world, boot="boot-2") is Outcome.STOPPED
            assert "That everything had been flushed is not proven." in last(journal).text
        else:
            assert go(journal, world) is Outcome.STOPPED
            assert last(journal).data["code"] == "detached-elsewhere"
            assert "engine logout" not in world.calls


def dying(step: str, mark: Mark) -> type[Journal]:
    """A journal whose process dies right after this record."""

    class Dying(Journal):
        def append(self, *args: Any, **kwargs: Any) -> Record:
            record = super().append(*args, **kwargs)
            if (record.step, record.mark) == (step, mark):
                raise Crash
            return record

    return Dying


def die(tmp_path: Path, world: SimKernel, step: str, mark: Mark) -> Path:
    journal = begin(tmp_path, planned(world))
    with pytest.raises(Crash):
        run(journal, world, kind=dying(step, mark))
    world.process_died()
    return journal


def test_what_was_mounted_again_after_a_flush_is_not_called_flushed_after_a_power_loss(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    journal = die(tmp_path, world, "silent", Mark.VERIFIED)
    mount_again(world)
    assert run(journal, world, boot="boot-2") is Outcome.STOPPED
    assert "That everything had been flushed is not proven." in last(journal).text


@pytest.mark.parametrize(
    ("step", "mark", "word"),
    [
        ("silent", Mark.VERIFIED, "not proven"),
        ("offline-1", Mark.VERIFIED, "not proven"),
        ("offline-2", Mark.STARTED, "not proven"),
        ("offline-2", Mark.VERIFIED, "proven"),
        ("logout-1", Mark.VERIFIED, "proven"),
    ],
)
def test_only_what_was_closed_on_every_path_is_flushed_for_good(
    tmp_path: Path, step: str, mark: Mark, word: str
) -> None:
    """A runner that was killed leaves its disk to anybody, until the last path is offline."""
    world = SimKernel()
    journal = die(tmp_path, world, step, mark)
    world.restart()
    assert run(journal, world, boot="boot-2") is Outcome.STOPPED
    assert last(journal).text.endswith(f"That everything had been flushed is {word}.")


def test_a_flush_of_an_earlier_run_opens_no_way_to_the_offline(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    path = die(tmp_path, world, "silent", Mark.VERIFIED)
    with Journal.open(path, boot="boot-1") as journal:
        journal.append(Kind.RUN, "resume")
        again = Run(Plan.from_json(journal.records[0].data["plan"]), journal, world)
        claim, offline = (again.plan.step(one) for one in ("claim", "offline-1"))
        KINDS[claim.kind].apply(again._work.on(claim.disks), claim)
        with pytest.raises(StepError, match="The flush is not proven"):
            KINDS[offline.kind].precheck(again._work.on(offline.disks), offline)


def test_a_map_that_was_written_back_and_then_let_go_of_may_have_been_used_again(tmp_path: Path) -> None:
    world = SimKernel()
    journal = die(tmp_path, world, "fsync", Mark.VERIFIED)
    world.vanish(world.disks[0])
    assert run(journal, world) is Outcome.STOPPED
    assert last(journal).data["code"] == "detached-elsewhere"


@pytest.mark.parametrize(
    "make",
    [
        lambda: (dead(), "logout-1", abandoned),
        lambda: (SimKernel(disks=0), "logout-1", lambda world: planned(world, target(TARGET))),
    ],
    ids=["given up", "no disk"],
)
def test_what_flushes_nothing_does_not_speak_of_a_flush(tmp_path: Path, make: Callable[[], Any]) -> None:
    world, step, plan = make()
    journal = begin(tmp_path, plan(world))
    with pytest.raises(Crash):
        run(journal, world, kind=dying(step, Mark.STARTED))
    world.process_died()
    assert run(journal, world, boot="boot-2") is Outcome.STOPPED
    assert "restarted in the middle" in last(journal).text
    assert "flush" not in last(journal).text
