"""Command window, status numbers and task tags (RFC 7143, 4.2.2, 7.9, 11.18)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError
from initiator.protocol.ffp_numbers import MASK, Numbers, at_most
from initiator.protocol.pdu import NO_TAG, AsyncMessage, NopIn, NopOut, Reject, ScsiCommand
from initiator.protocol.session import Task
from tests.protocol.session_rig import LUN, Begin, Rig

WORDS = st.integers(0, MASK)


@pytest.mark.check(89)
@given(WORDS, st.integers(0, 0x7FFFFFFF))
def test_serial_order(number: int, ahead: int) -> None:
    later = (number + ahead) & MASK
    assert at_most(number, later)
    assert at_most(later, number) == (ahead == 0)


@pytest.mark.check(90)
@given(WORDS, st.lists(st.tuples(WORDS, WORDS), max_size=8))
def test_the_window_never_goes_back(start: int, told: list[tuple[int, int]]) -> None:
    numbers = Numbers(start, 0, start, start)
    for expected, maximum in told:
        before = (numbers.exp_cmd_sn, numbers.max_cmd_sn)
        numbers.window(expected, maximum)
        assert at_most(before[0], numbers.exp_cmd_sn)
        assert at_most(before[1], numbers.max_cmd_sn)


@pytest.mark.check(90)
def test_impossible_window_is_ignored() -> None:
    numbers = Numbers(10, 0, 10, 20)
    numbers.window(40, 30)
    assert (numbers.exp_cmd_sn, numbers.max_cmd_sn) == (10, 20)


@pytest.mark.check(87)
@pytest.mark.parametrize("first", [1, 0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF])
def test_command_numbers_count_up_and_wrap(first: int) -> None:
    rig = Rig(begin=Begin(cmd_sn=first, exp_cmd_sn=first, max_cmd_sn=(first + 9) & MASK))
    for _ in range(4):
        rig.read(4)
    numbers = [pdu.cmd_sn for pdu in rig.sent() if isinstance(pdu, ScsiCommand)]
    assert numbers == [(first + step) & MASK for step in range(4)]


@pytest.mark.check(89)
@pytest.mark.parametrize("first", [1, 0xFFFFFFF0])
@pytest.mark.parametrize("room", [1, 3, 1024])
def test_window_is_used_up_and_not_exceeded(first: int, room: int) -> None:
    rig = Rig(begin=Begin(cmd_sn=first, exp_cmd_sn=first, max_cmd_sn=(first + room - 1) & MASK))
    tasks = [rig.read(1) for _ in range(room + 2)]
    assert len(rig.sent()) == room
    assert [task.sent_at is None for task in tasks] == [False] * room + [True] * 2
    assert rig.core.in_flight == room + 2
    rig.exp_cmd_sn, rig.max_cmd_sn = first + 1, first + room  # one more
    rig.feed(rig.last_data(tasks[0], b"x"))
    assert rig.command().cmd_sn == (first + room) & MASK


@pytest.mark.check(88)
def test_closed_window_opens_by_a_nop_in() -> None:
    rig = Rig(begin=Begin(max_cmd_sn=0))
    rig.read(4)
    assert rig.sent() == []
    assert rig.core.ping(rig.now)  # immediate commands need no room
    assert rig.one(NopOut).cmd_sn == 1
    rig.feed(rig.window(1))
    assert rig.command().cmd_sn == 1


@pytest.mark.check(87)
def test_a_completion_that_submits_keeps_the_order() -> None:
    rig = Rig(begin=Begin(max_cmd_sn=1))
    follower = rig.task(data_in=memoryview(bytearray(1)))
    first = Task(LUN, bytes(6), lambda _: rig.core.submit(follower, rig.now), data_in=memoryview(bytearray(1)))
    rig.submit(first)
    waiting = rig.read(1)
    rig.sent()
    rig.max_cmd_sn = 3
    rig.feed(rig.last_data(first, b"x"))
    assert [pdu.initiator_task_tag for pdu in rig.sent()] == [waiting.itt, follower.itt]


@pytest.mark.check(87)
def test_immediate_commands_do_not_use_a_number() -> None:
    rig = Rig()
    rig.core.ping(rig.now)
    rig.read(1)
    nop, command = rig.sent()
    assert isinstance(nop, NopOut)
    assert nop.immediate
    assert isinstance(command, ScsiCommand)
    assert (nop.cmd_sn, command.cmd_sn) == (1, 1)


@pytest.mark.check(91)
@pytest.mark.parametrize("first", [0, 0xFFFFFFFF, 123456])
def test_every_pdu_acknowledges_what_has_come(first: int) -> None:
    rig = Rig(begin=Begin(exp_stat_sn=first))
    task = rig.read(4)
    assert rig.command().exp_stat_sn == first
    rig.feed(rig.data_in(task, b"ab"))
    rig.read(1)
    assert rig.command().exp_stat_sn == first  # Data-In without status does not count
    rig.feed(rig.last_data(task, b"cd", data_sn=1, buffer_offset=2))
    rig.read(1)
    assert rig.command().exp_stat_sn == (first + 1) & MASK


@pytest.mark.check(91)
def test_status_is_not_acknowledged_before_its_data_is_complete() -> None:
    rig = Rig(dataclasses.replace(Rig().params, max_recv_data_segment_length=1 << 18))
    task = rig.read(1 << 18)
    rig.command()
    raw = rig.last_data(task, bytes(1 << 18)).encode()
    rig.feed(raw[:100000])
    rig.read(1)
    assert rig.command().exp_stat_sn == 1000
    rig.feed(raw[100000:])
    assert task.good


@pytest.mark.check(93)
def test_lost_status_is_noticed() -> None:
    rig = Rig()
    first, second = rig.read(1), rig.read(1)
    rig.last_data(first, b"x")  # never arrives
    with pytest.raises(RemoteProtocolError, match="StatSN 1001 came where 1000 was due"):
        rig.feed(rig.response(second))
    assert not rig.done


@pytest.mark.check(93)
def test_repeated_status_is_discarded() -> None:
    rig = Rig()
    task, other = rig.read(1), rig.read(1)
    answer = rig.last_data(task, b"x")
    again = dataclasses.replace(rig.response(other), stat_sn=answer.stat_sn)
    rig.feed(answer, answer, again)
    assert rig.done == [task]


@pytest.mark.check(92)
def test_nop_in_that_asks_does_not_count_but_async_and_reject_do() -> None:
    rig = Rig()
    rig.feed(rig.number(NopIn(target_transfer_tag=4), counted=False))
    rig.feed(rig.number(AsyncMessage(async_event=248)))
    assert rig.one(NopOut).exp_stat_sn == 1000
    rig.feed(rig.number(Reject(reason=9, data=bytes(16) + b"\0\0\0\7" + bytes(28))))
    rig.read(1)
    assert rig.command().exp_stat_sn == 1002


@pytest.mark.check(95)
def test_idle_connection_acknowledges_by_itself() -> None:
    rig = Rig()
    task = rig.read(1)
    rig.command()
    rig.core.tick(rig.now)
    rig.feed(rig.last_data(task, b"x"))
    for _ in range(12):
        rig.now += 0.1
        rig.core.tick(rig.now)
    nop = rig.one(NopOut)
    assert (nop.initiator_task_tag, nop.target_transfer_tag, nop.immediate) == (NO_TAG, NO_TAG, True)
    assert nop.exp_stat_sn == 1001
    for _ in range(50):
        rig.now += 0.1
        rig.core.tick(rig.now)
    assert rig.sent() == []


@pytest.mark.check(7)
def test_live_tags_are_unique_when_they_wrap() -> None:
    rig = Rig()
    first = rig.read(1)
    rig.core._commands._next_tag = 0x7FFFFFFF
    second, third = rig.read(1), rig.read(1)
    assert (first.itt, second.itt, third.itt) == (0, 0x7FFFFFFF, 1)


@pytest.mark.check(7)
def test_control_tags_never_reach_the_reserved_one() -> None:
    rig = Rig()
    rig.core._control._next_tag = 0xFFFFFFFE
    tags = [rig.core.task_management(5, LUN, rig.now).itt for _ in range(2)]
    assert tags == [0xFFFFFFFE, 0x80000000]


@pytest.mark.parametrize("fields", [{"cdb": bytes(17)}, {"lun": bytes(7)}, {"data_in": memoryview(bytearray(1))}])
def test_malformed_task_is_refused(fields: dict[str, object]) -> None:
    rig = Rig()
    with pytest.raises(LocalProtocolError):
        rig.write(b"x", **fields)
    assert rig.core.in_flight == 0


@pytest.mark.check(87, 89)
@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, MASK))
def test_any_play_of_window_and_answers_keeps_the_rules(moves: list[int], first: int) -> None:
    """Commands leave in order, never beyond MaxCmdSN, and each ends exactly once."""
    rig = Rig(begin=Begin(cmd_sn=first, exp_cmd_sn=first, max_cmd_sn=(first + 1) & MASK))
    submitted: list[Task] = []
    seen: list[ScsiCommand] = []
    open_tasks: list[Task] = []
    for move in moves:
        if move <= 1:
            submitted.append(rig.read(1))
        elif move == 2:
            rig.feed(rig.window(2))
        elif open_tasks:
            rig.exp_cmd_sn, rig.max_cmd_sn = first + len(seen), first + len(seen) + 1
            rig.feed(rig.last_data(open_tasks.pop(0), b"x"))
        for pdu in rig.sent():
            assert isinstance(pdu, ScsiCommand)
            assert at_most(pdu.cmd_sn, rig.max_cmd_sn & MASK)
            seen.append(pdu)
            open_tasks.append(submitted[len(seen) - 1])
    assert [pdu.cmd_sn for pdu in seen] == [(first + step) & MASK for step in range(len(seen))]
    assert rig.done == submitted[: len(rig.done)]
    assert rig.core.abandon() == submitted[len(rig.done) :]
