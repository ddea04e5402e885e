"""A disk in trouble: what each kind of trouble does to a request, to a path, and to the promise of a flush."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from initiator.model import Access, PathState, SessionState, Severity
from initiator.protocol.errors import ConnectionLost, IscsiError
from initiator.protocol.ffp_task import Task, TaskError
from initiator.scsi.commands import Op, Status, encode_lun, test_unit_ready
from initiator.scsi.designators import Designator, Kind
from initiator.scsi.sense import Key, Sense
from tests.engine.disk_rig import OPTIONS, Rig, look
from tests.engine.scsi_world import FakeSession, Outcome, Unit, check

BLOCK = 512
DATA = b"d" * BLOCK


def state(rig: Rig, number: int = 0) -> PathState:
    return rig.device.paths[number].state


BUSY: Outcome = (Status.BUSY, b"", b"")


@pytest.mark.check(120, 151)
@pytest.mark.parametrize(
    ("outcome", "expected", "sent"),
    [
        (check(Sense(Key.MEDIUM_ERROR, 0x11)), errno.EIO, 1),
        (check(Sense(Key.DATA_PROTECT, 0x27, 0x00)), errno.EROFS, 1),
        (check(Sense(Key.DATA_PROTECT, 0x27, 0x07)), errno.ENOSPC, 1),
        (check(Sense(Key.ILLEGAL_REQUEST, 0x21)), errno.EIO, 1),
        (check(Sense(Key.NOT_READY, 0x3A)), errno.EIO, 1),
        (check(Sense(Key.VOLUME_OVERFLOW)), errno.EIO, 1),
        ((Status.RESERVATION_CONFLICT, b"", b""), errno.EBADE, 1),
        ((0x99, b"", b""), errno.EIO, 1),
        (check(Sense(Key.RECOVERED_ERROR, 0x18)), 0, 1),
        (check(Sense(Key.NO_SENSE)), 0, 1),
        (check(Sense(Key.ABORTED_COMMAND, 0x4B)), 0, 2),
        (check(Sense(Key.HARDWARE_ERROR, 0x44)), 0, 2),
        ((Status.TASK_ABORTED, b"", b""), 0, 2),
        ((Status.CHECK_CONDITION, b"", b""), 0, 2),
        (check(Sense(Key.UNIT_ATTENTION, 0x3F, 0x01)), 0, 2),
        (check(Sense(Key.UNIT_ATTENTION, 0x29, 0x05)), 0, 2),
    ],
)
def test_what_the_target_says_to_a_write(outcome: Outcome, expected: int, sent: int) -> None:
    rig = Rig()
    rig.unit.script.append(outcome)
    ends = rig.write(0, DATA)
    rig.answer()
    assert ends == [expected]
    assert len(rig.asked(Op.WRITE)) == sent
    assert rig.device.in_flight == 0
    if expected:
        assert rig.events[-1][1] is Severity.BAD
        assert errno.errorcode[expected] in rig.events[-1][0]


def test_an_error_that_stays_is_tried_a_few_times_only() -> None:
    rig = Rig()
    rig.unit.script.extend([check(Sense(Key.ABORTED_COMMAND))] * 50)
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [errno.EIO]
    assert len(rig.asked(Op.READ)) == 5
    rig.unit.script.clear()
    rig.unit.script.extend([check(Sense(Key.UNIT_ATTENTION, 0x3F))] * 50)
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [errno.EIO]
    assert len(rig.asked(Op.READ)) == 5 + 16


def test_read_only_shows_and_goes_away() -> None:
    rig = Rig()
    rig.unit.script.append(check(Sense(Key.DATA_PROTECT, 0x27, 0x02)))
    refused = rig.write(0, DATA)
    rig.answer()
    assert refused == [errno.EROFS]
    assert rig.device.read_only
    again = rig.write(0, DATA)
    rig.answer()
    assert again == [0]
    assert not rig.device.read_only


def test_a_short_or_long_answer_is_no_success() -> None:
    rig = Rig(1)
    ends, _ = rig.read(0, 2 * BLOCK)
    session = rig.sessions[0]
    task = session.pending.popleft()
    session.finish(task, Status.GOOD, b"", bytes(BLOCK))
    assert ends == []
    rig.answer()
    assert ends == [0]
    wrote = rig.write(0, DATA)
    for _ in range(5):
        task = session.pending.popleft()
        task.residual = -BLOCK
        session.finish(task, Status.GOOD)
    assert wrote == [errno.EIO]


def test_missing_data_are_noticed_even_if_the_target_denies_it() -> None:
    rig = Rig(1)
    ends, _ = rig.read(0, BLOCK)
    session = rig.sessions[0]
    for _ in range(5):
        task = session.pending.popleft()
        task.status, task.residual, task.received = Status.GOOD, 0, BLOCK - 4
        task.done(task)
    assert ends == [errno.EIO]
    assert rig.told("GOOD, but 4 bytes missing")


@pytest.mark.check(120)
@pytest.mark.parametrize("status", [Status.BUSY, Status.TASK_SET_FULL, Status.ACA_ACTIVE])
def test_a_busy_target_is_given_time_with_growing_waits(status: Status) -> None:
    rig = Rig()
    rig.unit.script.extend([(status, b"", b"")] * 3)
    ends, _ = rig.read(0, BLOCK)
    for delay in (0.02, 0.04, 0.08):
        rig.answer()
        rig.clock.advance(delay * 0.9)
        assert not any(session.pending for session in rig.sessions)
        rig.clock.advance(delay * 0.2)
    rig.answer()
    assert ends == [0]


@pytest.mark.check(120)
def test_a_target_that_stays_busy_gets_an_end() -> None:
    rig = Rig()
    rig.unit.script.extend([BUSY] * 1000)
    ends, _ = rig.read(0, BLOCK)
    rig.settle(40)
    assert ends == [errno.EIO]
    assert len(rig.asked(Op.READ)) < 40


def test_a_lost_path_hands_its_commands_to_the_other() -> None:
    rig = Rig()
    ends = [rig.write(BLOCK * number, bytes([number]) * BLOCK) for number in range(6)]
    rig.sessions[0].lose(executed=1)
    assert len(rig.sessions[1].pending) == 6
    rig.answer()
    assert ends == [[0]] * 6
    assert rig.unit.data[: 6 * BLOCK] == b"".join(bytes([number]) * BLOCK for number in range(6))
    path = rig.device.paths[0]
    assert (path.state, path.reason, path.failures) == (PathState.FAILED, "the cable is out", 1)
    assert path.in_flight == 0
    assert rig.device.degraded
    assert rig.told("path s0 is failed, was active: the cable is out")
    assert rig.changes > 0


def test_a_returned_path_is_examined_and_settles_before_it_is_used() -> None:
    rig = Rig()
    rig.sessions[0].lose()
    since = rig.device.paths[0].since
    rig.clock.advance(1)
    rig.sessions[0].come_back()
    path = rig.device.paths[0]
    assert path.reason == "logged in again; the logical unit is being examined"
    rig.sessions[0].answer_all()
    assert (path.state, path.reason) == (PathState.STANDBY, "just returned; settling")
    assert path.since > since
    rig.read(0, BLOCK)
    assert not rig.sessions[0].pending
    rig.answer()
    rig.clock.advance(2.3)
    assert path.state is PathState.ACTIVE
    for _ in range(2):
        rig.read(0, BLOCK)
    assert len(rig.sessions[0].pending) == 1


def test_without_another_path_nobody_waits_for_settling() -> None:
    rig = Rig(1)
    rig.sessions[0].lose()
    ends, _ = rig.read(0, BLOCK)
    assert rig.device.queueing
    rig.sessions[0].come_back()
    rig.answer()
    assert ends == [0]
    assert not rig.device.queueing


def test_requests_wait_for_a_path_but_not_for_ever() -> None:
    rig = Rig()
    early = rig.write(0, DATA)
    for session in rig.sessions:
        session.lose()
    queued, _ = rig.read(0, BLOCK)
    rig.clock.advance(29)
    assert (early, queued) == ([], [])
    rig.clock.advance(1.5)
    assert (early, queued) == ([errno.EIO], [errno.EIO])
    late, _ = rig.read(0, BLOCK)
    assert late == [errno.EIO]
    rig.sessions[0].come_back()
    rig.answer()
    after, _ = rig.read(0, BLOCK)
    rig.answer()
    assert after == [0]
    assert rig.device.in_flight == 0


def test_what_has_waited_for_a_path_gets_all_of_its_time_once_it_is_sent() -> None:
    """Otherwise everything that queued in a long outage would be aborted by the tick after its end."""
    rig = Rig(1, options=dataclasses.replace(OPTIONS, io_timeout=10.0, flush_timeout=15.0))
    rig.sessions[0].lose()
    writes = [rig.write(BLOCK * number, DATA) for number in range(40)]
    flushed = rig.flush()
    rig.clock.advance(25)
    rig.sessions[0].come_back()
    while not rig.device.paths[0].in_use:
        rig.sessions[0].answer()
    deadlines = [task.deadline for task in rig.sessions[0].pending]
    assert deadlines[:41] == [rig.clock.now + 10] * 40 + [rig.clock.now + 15]
    rig.answer()
    assert writes == [[0]] * 40
    assert flushed == [0]


def test_what_has_waited_is_still_tried_for_a_limited_time_only() -> None:
    rig = Rig(1)
    rig.sessions[0].lose()
    ends = rig.write(0, DATA)
    rig.clock.advance(25)
    rig.sessions[0].come_back()
    while not rig.device.paths[0].in_use:
        rig.sessions[0].answer()
    rig.clock.advance(6)
    assert ends == []
    rig.sessions[0].fail(TaskError("too late", code="timeout"))
    assert ends == [errno.EIO]


def test_a_silent_session_is_not_used_while_another_works() -> None:
    rig = Rig()
    rig.sessions[0].set_suspect(True)
    path = rig.device.paths[0]
    assert (path.state, path.reason) == (PathState.FAILED, "the target is silent")
    for _ in range(4):
        rig.read(0, BLOCK)
    assert [len(session.pending) for session in rig.sessions] == [0, 4]
    rig.sessions[1].set_suspect(True)
    rig.read(0, BLOCK)
    assert sum(len(session.pending) for session in rig.sessions) == 5
    rig.sessions[0].set_suspect(False)
    assert path.state is PathState.ACTIVE
    rig.read(0, BLOCK)
    assert len(rig.sessions[0].pending) in (1, 2)


def test_silence_is_noticed_without_a_callback_too() -> None:
    rig = Rig()
    rig.sessions[0].suspect = True
    rig.clock.advance(0.3)
    assert state(rig) is PathState.FAILED


def test_a_command_without_an_answer_goes_to_the_other_path() -> None:
    rig = Rig()
    ends, _ = rig.read(0, BLOCK)
    first, second = sorted(rig.sessions, key=lambda session: -len(session.pending))
    first.fail(TaskError("too late", code="timeout"))
    assert sum(len(session.pending) for session in rig.sessions) == 1
    rig.answer()
    assert ends == [0]
    path = next(path for path in rig.device.paths if path.session is first)
    assert (path.timeouts, path.errors) == (1, 1)
    assert second.state is SessionState.LOGGED_IN


def test_a_target_that_never_answers_gets_an_end() -> None:
    rig = Rig(1)
    ends, _ = rig.read(0, BLOCK)
    for _ in range(100):
        if ends:
            break
        if rig.sessions[0].pending:
            rig.sessions[0].fail(TaskError("too late", code="timeout"))
        rig.clock.advance(1)
    assert ends == [errno.EIO]


@pytest.mark.parametrize("code", ["service-delivery", "rejected", "missing-data"])
def test_a_broken_answer_is_tried_a_few_times(code: str) -> None:
    rig = Rig(1)
    ends, _ = rig.read(0, BLOCK)
    for _ in range(5):
        rig.sessions[0].fail(TaskError("odd", code=code))
    assert ends == [errno.EIO]


def test_a_session_that_takes_nothing_is_put_aside() -> None:
    rig = Rig()
    ends, _ = rig.read(0, BLOCK)
    first = next(session for session in rig.sessions if session.pending)
    first.fail(ConnectionLost("it is being logged out", code="not-logged-in"))
    path = next(path for path in rig.device.paths if path.session is first)
    assert path.state is PathState.FAILED
    rig.answer()
    assert ends == [0]


def test_a_unit_that_vanishes_from_one_path_is_used_over_the_other() -> None:
    rig = Rig()
    rig.unit.script.append(check(Sense(Key.ILLEGAL_REQUEST, 0x25)))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    failed = [path for path in rig.device.paths if path.state is PathState.FAILED]
    assert [path.reason for path in failed] == ["ILLEGAL REQUEST: logical unit not supported (05/25/00)"]
    rig.settle(4)
    assert all(path.state is PathState.ACTIVE for path in rig.device.paths)


@pytest.mark.parametrize("code", [0x0A, 0x0B, 0x0C])
def test_a_port_that_does_not_serve_is_tried_again_where_nobody_can_be_asked(code: int) -> None:
    """A target without ALUA (TPGS 0) that answers as one with it, for a moment."""
    rig = Rig(1)
    rig.unit.script.append(check(Sense(Key.NOT_READY, 0x04, code)))
    ends, _ = rig.read(0, BLOCK)
    rig.sessions[0].answer()
    assert (ends, state(rig)) == ([], PathState.FAILED)
    assert "this port is" in (rig.device.paths[0].reason or "")
    rig.settle(4)
    assert (ends, state(rig)) == ([0], PathState.ACTIVE)


def test_a_port_that_did_not_serve_is_tried_again_where_its_groups_cannot_be_read() -> None:
    unit = Unit()
    unit.tpgs, unit.groups = 1, {1: Access.OPTIMIZED}
    rig = Rig(1, unit)
    unit.unsupported.add(Op.REPORT_TARGET_PORT_GROUPS.value)
    rig.unit.script.append(check(Sense(Key.NOT_READY, 0x04, 0x0B)))
    ends, _ = rig.read(0, BLOCK)
    rig.settle(4)
    assert (ends, state(rig)) == ([0], PathState.ACTIVE)


def test_a_unit_that_is_gone_everywhere_gives_an_error_in_time() -> None:
    rig = Rig()
    rig.unit.script.extend([check(Sense(Key.NOT_READY, 0x04, 0x03))] * 1000)
    ends, _ = rig.read(0, BLOCK)
    rig.settle(40)
    assert ends == [errno.EIO]
    assert len(rig.asked(Op.READ)) < 100


def test_another_unit_behind_a_returned_path_is_never_used() -> None:
    rig = Rig()
    rig.sessions[0].lose()
    other = Unit()
    other.designators = (Designator(Kind.NAA, bytes.fromhex("5000c50012345678")),)
    rig.sessions[0].unit = other
    rig.sessions[0].come_back()
    rig.settle(10)
    path = rig.device.paths[0]
    assert state(rig) is PathState.FAILED
    assert "another logical unit (naa.5000c50012345678) answers at LUN 0" in (path.reason or "")
    rig.write(0, DATA)
    rig.answer()
    assert other.data == bytes(len(other.data))
    rig.sessions[0].unit = rig.unit
    rig.settle(4)
    assert state(rig) is PathState.ACTIVE


def test_a_unit_without_identity_must_look_as_before() -> None:
    unit = Unit()
    unit.designators = ()
    rig = Rig(1, unit)
    rig.sessions[0].lose()
    rig.sessions[0].come_back()
    rig.settle()
    assert state(rig) is PathState.ACTIVE
    rig.sessions[0].lose()
    unit.serial = "another"
    rig.sessions[0].come_back()
    rig.settle()
    assert state(rig) is PathState.FAILED


def test_an_examination_that_breaks_off_is_begun_again() -> None:
    rig = Rig(1)
    session = rig.sessions[0]
    session.lose()
    session.come_back()
    session.answer()
    session.lose()
    session.come_back()
    session.answer()
    session.fail(TaskError("too late", code="timeout"))
    assert state(rig) is PathState.FAILED
    rig.settle()
    assert state(rig) is PathState.ACTIVE


def test_idle_paths_are_looked_at() -> None:
    rig = Rig()
    rig.settle(11)
    assert len(rig.asked(Op.TEST_UNIT_READY)) == 4
    for session in rig.sessions:
        session.pending.clear()
    rig.unit.unsupported = {Op.TEST_UNIT_READY.value, Op.INQUIRY.value, Op.READ_CAPACITY_16.value}
    rig.unit.unsupported |= {Op.READ_CAPACITY_10.value}
    rig.settle(6)
    assert all(path.state is PathState.FAILED for path in rig.device.paths)


def test_tasks_of_others_on_the_same_session_hear_of_the_loss() -> None:
    rig = Rig(1)
    ended: list[IscsiError | None] = []
    task = Task(encode_lun(0), test_unit_ready(), lambda done: ended.append(done.error))
    rig.sessions[0].submit(task)
    rig.sessions[0].lose()
    assert [type(error) for error in ended] == [ConnectionLost]


def test_callbacks_that_were_there_before_still_hear() -> None:
    rig = Rig(1)
    session = FakeSession(rig.unit, "s")
    states: list[SessionState] = []
    handed: list[int] = []
    session.on_state = lambda which: states.append(which.state)
    session.on_lost = lambda which, tasks: handed.append(len(tasks))
    rig.device.add_path(session, look(session))
    session.submit(Task(encode_lun(0), test_unit_ready(), lambda done: None))
    session.lose()
    assert states == [SessionState.FAILED]
    assert handed == [1]


def test_a_new_size_is_read_and_told() -> None:
    rig = Rig()
    rig.unit.blocks = 128
    rig.unit.data.extend(bytes(64 * BLOCK))
    rig.unit.durable.extend(bytes(64 * BLOCK))
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x09))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    assert rig.device.size_bytes == 128 * BLOCK
    assert rig.sizes == [128 * BLOCK]
    assert rig.told("the size changed from 32768 to 65536 bytes")


def test_a_cache_that_is_switched_on_is_noticed() -> None:
    rig = Rig(1, Unit(write_cache=False))
    before = rig.device.write_cache
    rig.unit.write_cache = True
    rig.unit.write_protected = True
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x01))
    rig.read(0, BLOCK)
    rig.answer()
    assert (before, rig.device.write_cache) == (False, True)
    assert rig.device.read_only


def test_changed_inquiry_data_mean_a_new_examination() -> None:
    rig = Rig(1)
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x3F, 0x03))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    assert rig.asked(Op.INQUIRY)


def test_tasks_that_come_back_before_the_state_changes_go_to_the_other_path() -> None:
    rig = Rig()
    ends, _ = rig.read(0, BLOCK)
    first = next(session for session in rig.sessions if session.pending)
    tasks = list(first.pending)
    first.pending.clear()
    assert first.on_lost is not None
    first.on_lost(first, tasks)
    assert not first.pending
    assert [path.state for path in rig.device.paths if path.session is first] == [PathState.FAILED]
    assert sum(len(session.pending) for session in rig.sessions) == 1
    rig.answer()
    assert ends == [0]
