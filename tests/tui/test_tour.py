"""The tour: a task is done by what was really seen, in its order, and by nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.model import PathState, Snapshot
from tests.tui import samples
from tui.tour import LESSONS, Seen, Tour, saw_plan, saw_row, saw_world


def begin(lesson: str) -> Tour:
    number = next(number for number, each in enumerate(LESSONS) if each.id == lesson)
    tour = Tour().move(number)
    return tour.take(saw_world(tour.seen, samples.practice()))


def without(target: str) -> Snapshot:
    whole = samples.practice()
    return dataclasses.replace(
        whole,
        sessions=tuple(each for each in whole.sessions if not each.target.endswith(target)),
        disks=tuple(each for each in whole.disks if not (each.target or "").endswith(target)),
    )


def test_looking_around_takes_a_disk_a_path_and_a_word() -> None:
    tour = begin("look")
    assert tour.text().endswith(LESSONS[0].tasks[0].text)
    assert tour.about() == LESSONS[0].why
    tour = tour.take(dataclasses.replace(tour.seen, helped=True))
    assert tour.reached == 0
    tour = tour.take(saw_row(tour.seen, "disk"))
    assert (tour.reached, tour.about()) == (1, "")
    tour = tour.take(saw_row(tour.seen, "path", PathState.ACTIVE))
    assert tour.passed
    assert "WWID" in tour.text()


def test_a_cable_is_pulled_looked_at_and_plugged_in_again() -> None:
    tour = begin("cable")
    assert tour.reached == 0
    tour = tour.take(saw_world(tour.seen, samples.practice(pulled=samples.PORTALS[1])))
    assert tour.reached == 1
    tour = tour.take(saw_row(tour.seen, "path", PathState.ACTIVE))
    assert tour.reached == 1
    tour = tour.take(saw_row(tour.seen, "path", PathState.FAILED))
    assert (tour.reached, tour.passed) == (2, False)
    tour = tour.take(saw_world(tour.seen, samples.practice()))
    assert tour.passed


def test_the_disaster_is_told_with_its_figures() -> None:
    tour = begin("disaster")
    assert not tour.passed
    tour = tour.take(dataclasses.replace(tour.seen, lost=(16_777_216, 0)))
    assert tour.passed
    assert "16777216 bytes" in tour.text()
    assert "; 0 of them" in tour.text()


def test_a_removal_counts_when_it_is_proved() -> None:
    tour = begin("remove")
    tour = tour.take(saw_plan(tour.seen, "d1", []))
    assert tour.reached == 1
    tour = tour.take(dataclasses.replace(tour.seen, removed=frozenset({"vault"})))
    assert tour.passed


def test_a_refusal_is_read_and_its_advice_followed() -> None:
    tour = begin("blocked")
    tour = tour.take(saw_plan(tour.seen, "d1", []))
    assert tour.reached == 0
    tour = tour.take(saw_plan(tour.seen, "d1", ["mounted-elsewhere"]))
    assert tour.reached == 0
    tour = tour.take(saw_plan(tour.seen, "d1", ["open"]))
    assert tour.reached == 1
    tour = tour.take(saw_plan(tour.seen, "d2", []))
    assert tour.reached == 1
    tour = tour.take(saw_plan(tour.seen, "d1", []))
    assert tour.passed


def test_a_target_is_empty_when_its_disks_were_removed_and_not_when_they_only_vanished() -> None:
    tour = begin("drain")
    assert tour.take(saw_world(tour.seen, without("harbour"))).reached == 0
    names = {disk.name for disk in samples.practice().disks if (disk.target or "").endswith("harbour")}
    assert names
    seen = dataclasses.replace(tour.seen, removed=frozenset(names))
    assert tour.take(seen).reached == 0
    assert tour.take(saw_world(seen, without("harbour"))).passed
    drained = dataclasses.replace(tour.seen, removed=frozenset({f"{samples.IQN}:harbour"}))
    assert tour.take(saw_world(drained, without("harbour"))).passed


def test_one_can_go_on_and_back_and_no_further_than_the_end() -> None:
    tour = Tour()
    for _ in range(len(LESSONS) + 3):
        tour = tour.move(1)
    assert tour.lesson is None
    assert "over" in tour.headline()
    assert tour.take(Seen(helped=True)).text() == tour.text()
    assert tour.move(-1).headline() == f"Lesson 6 of 6: {LESSONS[-1].title}"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.id)
def test_nothing_is_done_before_anything_was_done(lesson: object) -> None:
    tour = begin(lesson.id)  # type: ignore[attr-defined]
    assert tour.reached == 0


@given(st.lists(st.sampled_from(["disk", "path", "link", "world", "pulled", "plan", "open", "help"]), max_size=30))
def test_a_lesson_never_goes_backwards(steps: list[str]) -> None:
    for number in range(len(LESSONS)):
        tour = Tour(number)
        for step in steps:
            before = tour.reached
            seen = tour.seen
            if step == "world":
                seen = saw_world(seen, samples.practice())
            elif step == "pulled":
                seen = saw_world(seen, samples.practice(pulled=samples.PORTALS[0]))
            elif step == "help":
                seen = dataclasses.replace(seen, helped=True)
            elif step in ("plan", "open"):
                seen = saw_plan(seen, "d1", ["open"] if step == "open" else [])
            else:
                seen = saw_row(seen, step, PathState.FAILED)
            tour = tour.take(seen)
            assert before <= tour.reached <= len(LESSONS[number].tasks)
