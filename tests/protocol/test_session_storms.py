"""Many hanging tasks, and targets that take little task management at a time (RFC 7143, 4.2.2.1, 7.11, 11.17.1)."""

from __future__ import annotations

import pytest

from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_manage import AT_ONCE
from initiator.protocol.pdu import LogoutRequest, TaskManagement
from initiator.protocol.session import (
    ABORT_TASK,
    LU_RESET,
    TARGET_WARM_RESET,
    Management,
    Task,
)
from tests.protocol.session_rig import LUN, OTHER_LUN, Rig, managed, rejected

TOO_MANY = 6


def requests(rig: Rig) -> list[TaskManagement]:
    """What was sent since the last call: task management and nothing else."""
    sent = rig.sent()
    found = [pdu for pdu in sent if isinstance(pdu, TaskManagement)]
    assert found == sent
    return found


def codes(tasks: list[Task]) -> set[str | None]:
    return {task.error.code if task.error is not None else None for task in tasks}


# Many tasks at a time


@pytest.mark.check(132, 135)
def test_many_late_tasks_are_aborted_a_few_at_a_time() -> None:
    """A target has to take one request of this kind at a time, and no more (4.2.2.1)."""
    rig = Rig()
    tasks = rig.late(30)
    under_way = requests(rig)
    assert len(under_way) == AT_ONCE
    aborted: list[int] = []
    while under_way:
        request = under_way.pop(0)
        aborted.append(request.referenced_task_tag)
        assert request.function == ABORT_TASK
        rig.feed(managed(rig, request, 0))
        under_way += requests(rig)
        assert len(under_way) <= AT_ONCE
    assert aborted == [task.itt for task in tasks]
    assert rig.done == tasks
    assert codes(tasks) == {"timeout"}
    assert rig.core.counters.aborts == 30


def test_an_abort_that_has_become_needless_is_not_sent() -> None:
    rig = Rig()
    tasks = rig.late(AT_ONCE + 2)
    first = requests(rig)[0]
    rig.feed(rig.last_data(tasks[AT_ONCE], b"x"), managed(rig, first, 0))
    assert [request.referenced_task_tag for request in requests(rig)] == [tasks[AT_ONCE + 1].itt]
    assert tasks[AT_ONCE].good


@pytest.mark.check(133, 135)
@pytest.mark.parametrize("answer", [None, 255, "reject"])
def test_one_reset_is_for_all_tasks_that_hang_on_the_unit(answer: int | str | None) -> None:
    rig = Rig(management_timeout=1.0)
    tasks = rig.late(30)
    aborts = requests(rig)
    if answer is None:
        rig.now += 1
        rig.core.tick(rig.now)
    else:
        refused = [rejected(rig, abort, 5) if answer == "reject" else managed(rig, abort, 255) for abort in aborts]
        rig.feed(*refused)
    (reset,) = requests(rig)
    assert (reset.function, reset.lun) == (LU_RESET, LUN)
    rig.core.tick(rig.now + 0.5)
    assert requests(rig) == []
    rig.feed(managed(rig, reset, 0))
    assert requests(rig) == []
    assert rig.done == tasks
    assert codes(tasks) == {"timeout"}
    rig.read(1)
    rig.command()


@pytest.mark.check(135)
def test_a_target_that_hangs_as_a_whole_is_reset_once_and_in_time() -> None:
    rig = Rig(management_timeout=1.0)
    tasks = [rig.read(1, deadline=rig.now, lun=(LUN, OTHER_LUN)[number % 2]) for number in range(30)]
    rig.sent()
    functions: list[int] = []
    for step in range(3):
        rig.core.tick(rig.now + step)
        functions += [request.function for request in requests(rig)]
    with pytest.raises(ConnectionLost) as caught:
        rig.core.tick(rig.now + 3)
    assert functions == [ABORT_TASK] * AT_ONCE + [LU_RESET] * 2 + [TARGET_WARM_RESET]
    assert caught.value.code == "reset-failed"
    assert rig.core.abandon() == []
    assert rig.done == tasks
    assert codes(tasks) == {"timeout"}


@pytest.mark.check(133, 135)
def test_a_task_that_joined_a_reset_made_before_it_is_aborted_after_it() -> None:
    rig = Rig(management_timeout=1.0)
    (old,) = rig.late()
    rig.feed(managed(rig, rig.one(TaskManagement), 255))
    reset = rig.one(TaskManagement)
    late = rig.read(1, deadline=rig.now)
    rig.command()
    rig.core.tick(rig.now)
    assert requests(rig) == []
    rig.feed(managed(rig, reset, 0))
    assert rig.done == [old]
    abort = rig.one(TaskManagement)
    assert (abort.function, abort.referenced_task_tag) == (ABORT_TASK, late.itt)
    rig.feed(managed(rig, abort, 0))
    assert rig.done == [old, late]


@pytest.mark.check(135)
def test_a_late_refusal_of_an_abort_makes_no_second_reset() -> None:
    rig = Rig(management_timeout=1.0)
    (hung,) = rig.late()
    abort = rig.one(TaskManagement)
    rig.core.tick(rig.now + 1)
    reset = rig.one(TaskManagement)
    rig.feed(managed(rig, abort, 255))
    assert requests(rig) == []
    rig.feed(managed(rig, reset, 0))
    assert rig.done == [hung]


@pytest.mark.check(140)
def test_no_reset_follows_a_logout() -> None:
    rig = Rig()
    (task,) = rig.late()
    abort = rig.one(TaskManagement)
    rig.core.logout(0, rig.now)
    rig.one(LogoutRequest)
    rig.feed(managed(rig, abort, 255))
    assert requests(rig) == []
    assert rig.core.abandon() == []
    assert rig.done == [task]


# Targets that say "too many immediate commands" (11.17.1)


@pytest.mark.check(130, 132)
def test_a_request_that_was_one_too_many_is_sent_again_with_the_next_tick() -> None:
    rig = Rig()
    (task,) = rig.late()
    first = rig.one(TaskManagement)
    rig.feed(rejected(rig, first, TOO_MANY))
    assert requests(rig) == []
    rig.core.tick(rig.now + 0.1)
    second = rig.one(TaskManagement)
    assert (second.function, second.referenced_task_tag) == (ABORT_TASK, task.itt)
    assert second.ref_cmd_sn == first.ref_cmd_sn
    rig.feed(managed(rig, second, 0))
    assert rig.done == [task]
    assert requests(rig) == []


@pytest.mark.check(130, 132)
def test_a_target_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    rig = Rig()
    tasks = rig.late(10)
    taken, *refused = requests(rig)
    rig.feed(*(rejected(rig, request, TOO_MANY) for request in refused))
    assert requests(rig) == []
    for _ in tasks:
        rig.core.tick(rig.now + 0.1)
        assert requests(rig) == []
        rig.feed(managed(rig, taken, 0))
        if len(rig.done) < len(tasks):
            (taken,) = requests(rig)
            assert taken.function == ABORT_TASK
    assert requests(rig) == []
    assert sorted(task.itt for task in rig.done) == [task.itt for task in tasks]
    assert codes(tasks) == {"timeout"}


@pytest.mark.check(135)
def test_a_target_that_never_takes_a_request_gets_an_end() -> None:
    rig = Rig(management_timeout=1.0)
    task = rig.read(1, deadline=rig.now)
    rig.sent()
    functions: list[int] = []

    def reject_all() -> None:
        while len(functions) < 100:
            rig.core.tick(rig.now)
            for request in requests(rig):
                functions.append(request.function)
                rig.feed(rejected(rig, request, TOO_MANY))
            rig.now += 0.1

    with pytest.raises(ConnectionLost):
        reject_all()
    assert list(dict.fromkeys(functions)) == [ABORT_TASK, LU_RESET, TARGET_WARM_RESET]
    assert len(functions) < 40
    rig.core.abandon()
    assert rig.done == [task]


@pytest.mark.check(130)
def test_a_users_request_is_sent_again_and_told_once() -> None:
    rig = Rig(management_timeout=1.0)
    told: list[Management] = []
    rig.core.task_management(LU_RESET, LUN, rig.now, told.append)
    rig.feed(rejected(rig, rig.one(TaskManagement), TOO_MANY))
    assert (requests(rig), told) == ([], [])
    rig.core.tick(rig.now + 0.1)
    again = rig.one(TaskManagement)
    assert (again.function, again.lun) == (LU_RESET, LUN)
    rig.feed(managed(rig, again, 0))
    assert [management.response for management in told] == [0]


def test_a_users_request_that_waits_is_told_when_the_connection_goes() -> None:
    rig = Rig()
    told: list[Management] = []
    rig.core.task_management(LU_RESET, LUN, rig.now, told.append)
    rig.feed(rejected(rig, rig.one(TaskManagement), TOO_MANY))
    rig.core.abandon()
    assert [management.response for management in told] == [None]
