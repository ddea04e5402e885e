"""Task management, and the four steps in which a hanging task is ended (RFC 7143, 7.11, 11.5, 11.6)."""

from __future__ import annotations

import pytest

from initiator.protocol.errors import ConnectionLost
from initiator.protocol.keys import Params
from initiator.protocol.pdu import NO_LUN, NO_TAG, TaskManagement
from initiator.protocol.session import (
    FUNCTION_SUCCEEDED,
    LU_RESET,
    NEXUS_RESET,
    QUERY_TASK,
    TARGET_WARM_RESET,
    Management,
    Task,
)
from tests.protocol.session_rig import LUN, OTHER_LUN, READ_CDB, Rig, managed, rejected

# Deadlines and the four steps


@pytest.mark.check(132, 135)
def test_late_task_is_aborted_and_ends_with_a_timeout() -> None:
    rig = Rig()
    task = rig.read(4, deadline=rig.now + 1)
    command = rig.command()
    rig.core.tick(rig.now + 0.9)
    assert rig.sent() == []
    rig.core.tick(rig.now + 1.1)
    abort = rig.one(TaskManagement)
    assert (abort.function, abort.immediate, abort.lun) == (1, True, LUN)
    assert (abort.referenced_task_tag, abort.ref_cmd_sn) == (task.itt, command.cmd_sn)
    rig.core.tick(rig.now + 1.2)
    assert rig.sent() == []
    assert not rig.done  # the buffer is still the target's to write to
    rig.feed(managed(rig, abort, 0))
    assert rig.done == [task]
    assert (task.status, task.error and task.error.code) == (None, "timeout")
    assert rig.core.counters.timeouts == 1


@pytest.mark.check(96)
def test_default_deadline_counts_from_sending() -> None:
    rig = Rig(task_timeout=2.0)
    rig.read(4)
    rig.command()
    rig.core.tick(rig.now + 1.9)
    assert rig.sent() == []
    rig.core.tick(rig.now + 2.0)
    assert rig.one(TaskManagement).function == 1


@pytest.mark.check(133)
def test_answer_that_overtakes_the_abort_counts() -> None:
    rig = Rig()
    (task,) = rig.late()
    abort = rig.one(TaskManagement)
    rig.feed(rig.last_data(task, b"x"), managed(rig, abort, 1))
    assert rig.done == [task]
    assert task.good


def test_task_that_was_never_sent_just_ends() -> None:
    rig = Rig()
    rig.feed(rig.window(0))
    rig.core._commands.numbers.max_cmd_sn = 0
    task = rig.read(1, deadline=rig.now + 1)
    rig.core.tick(rig.now + 1)
    assert rig.sent() == []
    assert task.error is not None
    assert task.error.code == "timeout"


@pytest.mark.check(133, 135)
@pytest.mark.parametrize("answer", [5, 255, None, "reject"])
def test_abort_that_fails_becomes_a_reset_and_then_a_new_login(answer: int | str | None) -> None:
    rig = Rig(management_timeout=5.0)
    hung = rig.read(1, deadline=rig.now)
    neighbour, other = rig.read(1), rig.read(1, lun=OTHER_LUN)
    rig.sent()
    rig.core.tick(rig.now)
    abort = rig.one(TaskManagement)
    if answer is None:
        rig.now += 5
        rig.core.tick(rig.now)
    elif answer == "reject":
        rig.feed(rejected(rig, abort, 4))
    else:
        rig.feed(managed(rig, abort, int(answer)))
    reset = rig.one(TaskManagement)
    assert (reset.function, reset.lun, reset.referenced_task_tag) == (LU_RESET, LUN, NO_TAG)
    after = rig.read(1)
    rig.feed(managed(rig, reset, 0))
    assert rig.done == [hung, neighbour]
    assert [task.error and task.error.code for task in rig.done] == ["timeout", "aborted"]
    assert rig.core.abandon() == [other, after]


@pytest.mark.check(133, 135)
def test_a_unit_reset_that_fails_becomes_one_of_the_target() -> None:
    rig = Rig(management_timeout=1.0)
    hung, other = rig.read(1, deadline=rig.now), rig.read(1, lun=OTHER_LUN)
    rig.sent()
    rig.core.tick(rig.now)
    rig.feed(managed(rig, rig.one(TaskManagement), 255))
    rig.feed(managed(rig, rig.one(TaskManagement), 5))
    reset = rig.one(TaskManagement)
    assert (reset.function, reset.lun, reset.referenced_task_tag) == (TARGET_WARM_RESET, NO_LUN, NO_TAG)
    rig.feed(managed(rig, reset, 0))
    assert rig.done == [hung, other]
    assert [task.error and task.error.code for task in rig.done] == ["timeout", "aborted"]


@pytest.mark.check(135)
def test_reset_that_fails_drops_the_connection_and_ends_the_task() -> None:
    rig = Rig(management_timeout=1.0)
    hung = rig.read(1, deadline=rig.now)
    other = rig.read(1, deadline=rig.now + 1000)
    rig.sent()
    for step in range(3):
        rig.core.tick(rig.now + step)
        assert [type(pdu) for pdu in rig.sent()] == [TaskManagement]
    with pytest.raises(ConnectionLost):
        rig.core.tick(rig.now + 3)
    assert rig.core.abandon() == [other]
    assert rig.done == [hung]
    assert hung.error is not None
    assert hung.error.code == "timeout"


def test_late_answer_to_an_abort_still_counts() -> None:
    rig = Rig(management_timeout=1.0)
    (hung,) = rig.late()
    abort = rig.one(TaskManagement)
    rig.core.tick(rig.now + 1)
    reset = rig.one(TaskManagement)
    rig.feed(managed(rig, abort, 0))
    assert rig.done == [hung]
    rig.feed(managed(rig, reset, 0))
    assert rig.done == [hung]


@pytest.mark.check(133)
@pytest.mark.parametrize("answer", [0, 1, 255, "reject", None])
def test_a_late_answer_to_an_abort_is_not_about_the_same_task_sent_again(answer: int | str | None) -> None:
    """4.2.3.3: what comes after the task was concluded is discarded, and its owner may have sent it again by then."""
    rig = Rig(management_timeout=1.0)
    ended: list[int | None] = []

    def again(task: Task) -> None:
        ended.append(task.status)
        if len(ended) == 1:
            task.reset()
            task.deadline = None
            rig.submit(task)

    task = rig.submit(Task(LUN, READ_CDB, again, data_in=memoryview(bytearray(4)), deadline=rig.now))
    rig.sent()
    rig.core.tick(rig.now)
    abort = rig.one(TaskManagement)
    rig.feed(rig.response(task, status=8))
    rig.command()
    if answer is None:
        rig.core.tick(rig.now + 1)
    elif answer == "reject":
        rig.feed(rejected(rig, abort, 4))
    else:
        rig.feed(managed(rig, abort, int(answer)))
    assert rig.sent() == []
    rig.feed(rig.last_data(task, b"abcd"))
    assert (ended, bytes(task.data_in or b"")) == ([8, 0], b"abcd")


@pytest.mark.check(133)
@pytest.mark.parametrize("answer", [5, None])
def test_a_late_failure_of_a_reset_is_not_about_the_same_task_sent_again(answer: int | None) -> None:
    rig = Rig(management_timeout=1.0)

    def again(task: Task) -> None:
        if task.status == 8:
            task.reset()
            task.deadline = None
            rig.submit(task)

    task = rig.submit(Task(LUN, READ_CDB, again, data_in=memoryview(bytearray(4)), deadline=rig.now))
    rig.sent()
    rig.core.tick(rig.now)
    rig.feed(managed(rig, rig.one(TaskManagement), 255))
    reset = rig.one(TaskManagement)
    assert reset.function == LU_RESET
    rig.feed(rig.response(task, status=8))
    rig.command()
    if answer is None:
        rig.core.tick(rig.now + 1)
    else:
        rig.feed(managed(rig, reset, answer))
    assert rig.sent() == []
    rig.feed(rig.last_data(task, b"abcd"))
    assert task.good


@pytest.mark.check(132, 133)
def test_target_reset_ends_every_task_sent_before() -> None:
    rig = Rig()
    tasks = [rig.read(1), rig.read(1, lun=OTHER_LUN)]
    rig.sent()
    told: list[Management] = []
    rig.core.task_management(TARGET_WARM_RESET, LUN, rig.now, told.append)
    request = rig.one(TaskManagement)
    assert (request.function, request.lun) == (TARGET_WARM_RESET, NO_LUN)
    later = rig.read(1)
    rig.feed(managed(rig, request, 0))
    assert rig.done == tasks
    assert [management.response for management in told] == [0]
    assert rig.core.abandon() == [later]


@pytest.mark.check(133)
def test_refused_reset_of_a_user_is_only_told() -> None:
    rig = Rig()
    task = rig.read(1)
    told: list[Management] = []
    rig.core.task_management(LU_RESET, LUN, rig.now, told.append)
    _, request = rig.sent()
    assert isinstance(request, TaskManagement)
    rig.feed(managed(rig, request, 5))
    assert [management.response for management in told] == [5]
    assert rig.core.abandon() == [task]


def test_management_is_told_when_the_connection_goes() -> None:
    rig = Rig()
    told: list[Management] = []
    rig.core.task_management(LU_RESET, LUN, rig.now, told.append)
    rig.core.abandon()
    assert [management.response for management in told] == [None]


# RFC 7144


def level_two() -> Rig:
    return Rig(Params(protocol_level=2))


@pytest.mark.check(67)
@pytest.mark.parametrize("present", [True, False])
def test_a_query_ends_no_task(present: bool) -> None:
    rig = level_two()
    task = rig.read(1)
    rig.command()
    told: list[Management] = []
    rig.core.task_management(QUERY_TASK, LUN, rig.now, told.append, task)
    request = rig.one(TaskManagement)
    assert (request.function, request.referenced_task_tag) == (QUERY_TASK, task.itt)
    rig.feed(managed(rig, request, FUNCTION_SUCCEEDED if present else 0))
    assert [management.response for management in told] == [7 if present else 0]
    assert rig.done == []
    rig.feed(rig.last_data(task, b"x"))
    assert task.good


@pytest.mark.check(67)
def test_a_reset_of_the_nexus_ends_all_our_tasks() -> None:
    rig = level_two()
    tasks = [rig.read(1), rig.read(1, lun=OTHER_LUN)]
    rig.sent()
    rig.core.task_management(NEXUS_RESET, LUN, rig.now)
    request = rig.one(TaskManagement)
    assert (request.function, request.lun, request.referenced_task_tag) == (NEXUS_RESET, NO_LUN, NO_TAG)
    rig.feed(managed(rig, request, 0))
    assert rig.done == tasks
