"""Single rules of the full feature phase that fit nowhere else (RFC 7143, 4.2.3, 7.8, 11.5 to 11.19, 13)."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.protocol.errors import DigestError, LocalProtocolError, RemoteProtocolError
from initiator.protocol.keys import Offer, Params
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import (
    NO_TAG,
    R2T,
    AsyncMessage,
    DataOut,
    NopIn,
    Pdu,
    Reject,
    ScsiCommand,
    ScsiResponse,
    TaskManagement,
    TextResponse,
)
from initiator.protocol.session import LU_RESET, Management, Task
from tests.protocol.session_rig import LUN, Begin, Rig, managed

SEGMENTS = Params(max_recv_data_segment_length=65536, max_xmit_data_segment_length=1000, max_burst_length=4096)
DIGESTS = dataclasses.replace(SEGMENTS, header_digest=True, data_digest=True)


def ready(rig: Rig, task: Task, offset: int, length: int, r2t_sn: int = 0, tag: int = 5) -> R2T:
    pdu: R2T = rig.number(
        R2T(
            initiator_task_tag=task.itt,
            target_transfer_tag=tag,
            lun=task.lun,
            r2t_sn=r2t_sn,
            buffer_offset=offset,
            desired_data_transfer_length=length,
        ),
        counted=False,
    )
    return pdu


# Framing and reads


@pytest.mark.check(6)
def test_response_for_a_tag_that_was_never_used() -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match="not in use"):
        rig.feed(rig.number(ScsiResponse(initiator_task_tag=77)))
    assert rig.core.abandon() == [task]


@pytest.mark.check(6)
def test_second_response_for_a_task() -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match="not in use"):
        rig.feed(rig.last_data(task, b"abcd"), rig.response(task))
    assert rig.done == [task]
    assert task.good


@pytest.mark.check(101)
@pytest.mark.parametrize("marked", [True, False])
def test_end_of_a_burst_is_not_the_end_of_the_command(marked: bool) -> None:
    """F ends a burst of MaxBurstLength; where a target leaves it out, the data is none the worse."""
    rig = Rig(SEGMENTS)
    blob = bytes(range(250)) * 50
    task = rig.read(len(blob))
    parts = [blob[at : at + 2048] for at in range(0, len(blob), 2048)]
    for number, part in enumerate(parts):
        assert not rig.done
        last = number == len(parts) - 1
        final = last or (marked and number % 2 == 1)
        rig.feed(rig.data_in(task, part, data_sn=number, buffer_offset=number * 2048, final=final, status_present=last))
    assert task.good
    assert bytes(task.data_in or b"") == blob


@pytest.mark.check(97, 100)
@pytest.mark.parametrize("offset", [0, 2, 3, 5, 6])
def test_data_that_overlaps_or_leaves_a_gap_where_order_was_agreed(offset: int) -> None:
    rig = Rig()
    task = rig.read(12)
    rig.feed(rig.data_in(task, b"abcd"))
    with pytest.raises(RemoteProtocolError, match=r"13\.18"):
        rig.feed(rig.data_in(task, b"efgh", data_sn=1, buffer_offset=offset))
    assert bytes(task.data_in or b"") == b"abcd" + b"\xff" * 8
    assert rig.core.abandon() == [task]


@pytest.mark.check(94)
def test_status_of_data_in_counts_only_with_the_s_bit() -> None:
    rig = Rig()
    task = rig.read(8)
    stray = dataclasses.replace(rig.data_in(task, b"abcd", final=True), status=2, residual_count=4, stat_sn=99)
    rig.feed(stray)
    assert not rig.done
    rig.feed(rig.last_data(task, b"efgh", data_sn=1, buffer_offset=4))
    assert task.good


# Writes


@pytest.mark.check(113)
@pytest.mark.parametrize(("allowed", "early"), [(1, 2), (2, 1), (3, 0)])
def test_r2ts_are_answered_in_their_order_and_too_many_are_counted(allowed: int, early: int) -> None:
    rig = Rig(dataclasses.replace(SEGMENTS, max_outstanding_r2t=allowed))
    data = bytes(range(256)) * 40
    task = rig.write(data)
    rig.command()
    rig.feed(*(ready(rig, task, 1000 + 3000 * number, 3000, number, tag=10 + number) for number in range(3)))
    sent = [pdu for pdu in rig.sent() if isinstance(pdu, DataOut)]
    assert [pdu.target_transfer_tag for pdu in sent] == [10] * 3 + [11] * 3 + [12] * 3
    assert [pdu.final for pdu in sent] == [False, False, True] * 3
    assert b"".join(pdu.data for pdu in sent) == data[1000:10000]
    assert rig.core.counters.r2ts_early == early


@pytest.mark.check(113)
def test_r2ts_after_the_answer_to_the_last_are_in_time() -> None:
    rig = Rig(SEGMENTS)
    tasks = [rig.write(bytes(8000)), rig.write(bytes(8000))]
    rig.sent()
    for number in range(2):
        rig.feed(*(ready(rig, task, 1000 + 3000 * number, 3000, number) for task in tasks))  # one for each task
        assert len(rig.sent()) == 6
    assert rig.core.counters.r2ts == 4
    assert rig.core.counters.r2ts_early == 0


@pytest.mark.check(114)
def test_r2t_for_a_task_that_has_ended() -> None:
    rig = Rig(SEGMENTS)
    task = rig.write(bytes(3000))
    rig.sent()
    rig.feed(rig.response(task, status=2, data=b"\0\2\x70\0"))
    with pytest.raises(RemoteProtocolError, match="no write in progress"):
        rig.feed(ready(rig, task, 1000, 1000))
    assert rig.sent() == []


# NOP, Async Message, Reject


@pytest.mark.check(123)
def test_ping_of_the_target_without_a_lun() -> None:
    rig = Rig()
    with pytest.raises(RemoteProtocolError, match=r"11\.19\.3"):
        rig.feed(rig.number(NopIn(target_transfer_tag=4, lun=b"\xff" * 8), counted=False))
    assert rig.sent() == []


@pytest.mark.check(122)
def test_nop_in_that_only_informs_opens_the_window() -> None:
    rig = Rig(begin=Begin(max_cmd_sn=0))
    rig.read(1)
    rig.feed(rig.window(3))
    assert [type(pdu) for pdu in rig.sent()] == [ScsiCommand]


@pytest.mark.check(129)
def test_fast_abort_that_was_not_agreed_on() -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match="fast abort"):
        rig.feed(rig.number(AsyncMessage(async_event=5, lun=LUN)))
    assert not rig.core.events
    assert rig.core.abandon() == [task]


@pytest.mark.check(130)
@pytest.mark.parametrize("reason", [0x03, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A])
def test_rejected_command_leaves_no_hole(reason: int) -> None:
    """ABORT TASK with its CmdSN has the target count it as received, whether or not it may be sent again (7.3)."""
    rig = Rig()
    tasks = [rig.read(1), rig.read(1), rig.read(1)]
    commands = rig.sent()
    rig.feed(rig.number(Reject(reason=reason, data=commands[1].encode()[:48])))
    abort = rig.one(TaskManagement)
    assert (abort.function, abort.ref_cmd_sn, abort.referenced_task_tag) == (1, tasks[1].cmd_sn, tasks[1].itt)
    assert rig.core._commands.numbers.cmd_sn == 4  # nothing takes its number a second time
    rig.feed(managed(rig, abort, 0))
    assert rig.done == [tasks[1]]
    rig.feed(rig.last_data(tasks[0], b"x"), rig.last_data(tasks[2], b"y"))
    assert [task.good for task in rig.done] == [False, True, True]


@pytest.mark.check(130)
def test_reject_of_what_is_not_known_is_only_told() -> None:
    rig = Rig()
    task = rig.read(1)
    rig.command()
    rig.feed(rig.number(Reject(reason=4, data=ScsiCommand(initiator_task_tag=4711).encode()[:48])))
    assert rig.sent() == []
    rig.feed(rig.last_data(task, b"x"))
    assert task.good
    assert rig.core.counters.rejects == 1


# Task management


@pytest.mark.check(133, 135)
@pytest.mark.parametrize("response", [0, 1, 2, 3, 4, 5, 6, 255])
def test_each_answer_to_an_abort(response: int) -> None:
    """0 and 1 end the task; after any other the unit is reset."""
    rig = Rig()
    task = rig.read(1, deadline=rig.now)
    rig.sent()
    rig.core.tick(rig.now)
    rig.feed(managed(rig, rig.one(TaskManagement), response))
    if response <= 1:
        assert rig.sent() == []
        assert rig.done == [task]
    else:
        assert rig.one(TaskManagement).function == LU_RESET
        assert not rig.done


@pytest.mark.check(133)
def test_response_after_the_task_was_aborted_is_a_mistake_of_the_target() -> None:
    rig = Rig()
    task = rig.read(1, deadline=rig.now)
    rig.sent()
    rig.core.tick(rig.now)
    rig.feed(managed(rig, rig.one(TaskManagement), 0))
    with pytest.raises(RemoteProtocolError, match="not in use"):
        rig.feed(rig.last_data(task, b"x"))
    assert rig.done == [task]


@pytest.mark.check(132)
@pytest.mark.parametrize("function", [2, 3, 4, 5, 6, 7])
def test_functions_that_mean_no_single_task_name_none(function: int) -> None:
    rig = Rig()
    rig.read(1)
    rig.command()
    rig.core.task_management(function, LUN, rig.now)
    request = rig.one(TaskManagement)
    assert (request.referenced_task_tag, request.immediate, request.cmd_sn) == (NO_TAG, True, 2)
    assert request.lun == (bytes(8) if function in (6, 7) else LUN)


@pytest.mark.check(134)
@pytest.mark.parametrize("function", [2, 4, 5, 6])
def test_data_is_still_sent_while_a_task_set_is_being_ended(function: int) -> None:
    """The target waits for what it has asked for before it ends the tasks (4.2.3.3)."""
    rig = Rig(SEGMENTS)
    task = rig.write(bytes(4000))
    rig.command()
    told: list[Management] = []
    rig.core.task_management(function, LUN, rig.now, told.append)
    request = rig.one(TaskManagement)
    rig.feed(ready(rig, task, 1000, 3000))
    sent = [pdu for pdu in rig.sent() if isinstance(pdu, DataOut)]
    assert [(pdu.buffer_offset, pdu.final) for pdu in sent] == [(1000, False), (2000, False), (3000, True)]
    assert not rig.done
    rig.feed(managed(rig, request, 0))
    assert rig.done == [task]
    assert [management.response for management in told] == [0]


@pytest.mark.check(67)
@pytest.mark.parametrize("function", [9, 10, 11, 12])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_newer_functions_need_the_newer_level(function: int, level: int) -> None:
    rig = Rig(Params(protocol_level=level))
    if level < 2:
        with pytest.raises(LocalProtocolError, match="iSCSIProtocolLevel"):
            rig.core.task_management(function, LUN, rig.now)
        assert rig.sent() == []
    else:
        rig.core.task_management(function, LUN, rig.now)
        assert rig.one(TaskManagement).function == function


@pytest.mark.check(68, 155)
def test_reassignment_needs_recovery_level_2() -> None:
    rig = Rig()
    with pytest.raises(LocalProtocolError, match="ErrorRecoveryLevel"):
        rig.core.task_management(8, LUN, rig.now)
    assert rig.sent() == []


@pytest.mark.check(68, 153, 154)
def test_gaps_are_never_answered_by_a_snack() -> None:
    for gap in ("data", "status", "r2t"):
        rig = Rig(SEGMENTS)
        read, write = rig.read(8), rig.write(bytes(4000))
        rig.sent()
        pdus: dict[str, Pdu] = {
            "data": rig.data_in(read, b"abcd", data_sn=1),
            "status": dataclasses.replace(rig.response(read), stat_sn=1001),
            "r2t": ready(rig, write, 1000, 1000, r2t_sn=1),
        }
        with pytest.raises(RemoteProtocolError, match="where"):
            rig.feed(pdus[gap])
        assert rig.sent() == []


@pytest.mark.check(153, 154, 155, 156)
def test_optional_levels_are_not_offered_and_not_accepted() -> None:
    ours = Negotiation(Offer())
    proposals = ours.propose()
    assert ("ErrorRecoveryLevel", "0") in proposals
    assert ("MaxConnections", "1") in proposals
    theirs = Negotiation(Offer())
    assert theirs.receive([("ErrorRecoveryLevel", "2"), ("MaxConnections", "4")]) == [
        ("ErrorRecoveryLevel", "0"),
        ("MaxConnections", "1"),
    ]
    params = theirs.params()
    assert (params.error_recovery_level, params.max_connections) == (0, 1)


# Text


@pytest.mark.check(139)
def test_a_normal_session_does_not_ask_for_all_targets() -> None:
    rig = Rig()
    for text in (b"SendTargets=All\0", b"X-a=1\0SendTargets=All\0"):
        with pytest.raises(LocalProtocolError, match="discovery"):
            rig.core.text(text, rig.now)
    assert rig.sent() == []
    rig.core.text(b"SendTargets=\0", rig.now)
    assert len(rig.sent()) == 1


# Digests


@pytest.mark.check(146)
@pytest.mark.parametrize("kind", ["nop", "async", "reject", "text", "response"])
def test_wrong_data_digest_discards_the_whole_pdu(kind: str) -> None:
    """Nothing of it counts: no event, no window, no StatSN."""
    rig = Rig(DIGESTS, begin=Begin(max_cmd_sn=1))
    task, waiting = rig.read(4), rig.read(4)
    rig.core.ping(rig.now)
    rig.core.text(b"", rig.now)
    _, ping, text = rig.sent()
    rig.max_cmd_sn = 30
    pdus = {
        "nop": NopIn(initiator_task_tag=ping.initiator_task_tag, data=ping.data),
        "async": AsyncMessage(async_event=0, lun=LUN, data=b"\0\2\x70\0"),
        "reject": Reject(reason=4, data=ping.encode()[:48]),
        "text": TextResponse(initiator_task_tag=text.initiator_task_tag, data=b"A=b\0"),
        "response": ScsiResponse(initiator_task_tag=task.itt, status=2, data=b"\0\2\x70\0"),
    }
    raw = bytearray(rig.encode(rig.number(pdus[kind])))
    raw[-5] ^= 1
    with pytest.raises(DigestError) as caught:
        rig.feed(bytes(raw))
    assert not caught.value.header
    assert not rig.core.events
    assert rig.sent() == []
    assert rig.core._commands.numbers.exp_stat_sn == 1000
    assert rig.core.abandon() == [task, waiting]
