"""NOP, asynchronous messages, rejects, text, logout (RFC 7143, 11.9 to 11.11, 11.14 to 11.19)."""

from __future__ import annotations

import pytest

from initiator.protocol.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from initiator.protocol.ffp_control import NOPS_WAITING
from initiator.protocol.pdu import (
    NO_TAG,
    AsyncMessage,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Pdu,
    Reject,
    ScsiCommand,
    TaskManagement,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
)
from initiator.protocol.session import (
    LU_RESET,
    AsyncEvent,
    LoggedOut,
    Pong,
    Rejected,
    TextAnswer,
)
from tests.protocol.session_rig import LUN, Begin, Rig, managed

# NOP


@pytest.mark.check(121)
def test_the_targets_ping_is_answered_in_kind() -> None:
    rig = Rig()
    rig.feed(rig.number(NopIn(target_transfer_tag=0, lun=b"\1\2\3\4\5\6\7\x08", data=b"ping"), counted=False))
    nop = rig.one(NopOut)
    assert (nop.target_transfer_tag, nop.lun) == (0, b"\1\2\3\4\5\6\7\x08")
    assert (nop.initiator_task_tag, nop.immediate, nop.cmd_sn, nop.data) == (NO_TAG, True, 1, b"")


def question(rig: Rig, tag: int) -> NopIn:
    pdu: NopIn = rig.number(NopIn(target_transfer_tag=tag, lun=LUN), counted=False)
    return pdu


def test_a_target_that_asks_without_end_and_does_not_read_is_dropped() -> None:
    """The answers would fill the memory of this host."""
    rig = Rig()
    task = rig.read(1)
    rig.feed(*(question(rig, tag) for tag in range(NOPS_WAITING)))
    with pytest.raises(ConnectionLost, match="does not read") as caught:
        rig.feed(question(rig, NOPS_WAITING))
    assert caught.value.code == "flooded"
    assert rig.core.abandon() == [task]


def test_a_target_that_reads_may_ask_as_often_as_it_likes() -> None:
    rig = Rig()
    for _ in range(3):
        rig.feed(*(question(rig, tag) for tag in range(NOPS_WAITING)))
        assert len(rig.sent()) == NOPS_WAITING


@pytest.mark.check(122)
def test_nop_in_that_only_informs_gets_no_answer() -> None:
    rig = Rig()
    rig.feed(rig.number(NopIn(), counted=False))
    assert rig.sent() == []


@pytest.mark.check(124)
def test_ping_measures_the_way() -> None:
    rig = Rig()
    assert rig.core.ping(rig.now)
    assert rig.core.waiting
    assert not rig.core.ping(rig.now)  # one at a time
    nop = rig.one(NopOut)
    assert (nop.target_transfer_tag, nop.immediate) == (NO_TAG, True)
    assert nop.initiator_task_tag != NO_TAG
    rig.now += 0.25
    rig.feed(rig.number(NopIn(initiator_task_tag=nop.initiator_task_tag, data=nop.data)))
    assert list(rig.core.events) == [Pong(0.25)]
    assert not rig.core.waiting


@pytest.mark.check(123, 124)
@pytest.mark.parametrize("wrong", ["data", "tag", "both"])
def test_wrong_pong_drops_the_connection(wrong: str) -> None:
    rig = Rig()
    rig.core.ping(rig.now)
    nop = rig.one(NopOut)
    answer = NopIn(
        initiator_task_tag=nop.initiator_task_tag + (wrong == "tag"),
        target_transfer_tag=3 if wrong == "both" else NO_TAG,
        data=b"Mooring?" if wrong == "data" else nop.data,
    )
    with pytest.raises(RemoteProtocolError):
        rig.feed(rig.number(answer))


# What has no place


@pytest.mark.check(5, 6)
@pytest.mark.parametrize(
    "pdu", [ScsiCommand(), NopOut(), LoginResponse(), LogoutResponse(), TextResponse(), TaskManagementResponse()]
)
def test_pdu_that_has_no_place_here(pdu: Pdu) -> None:
    rig = Rig()
    with pytest.raises(RemoteProtocolError):
        rig.feed(pdu.encode()[:24] + (1000).to_bytes(4, "big") + pdu.encode()[28:])


@pytest.mark.check(5)
def test_unassigned_opcode_is_refused_before_its_data_is_awaited() -> None:
    rig = Rig()
    with pytest.raises(RemoteProtocolError, match="opcode"):
        rig.feed(b"\x3b\x80\0\0\0\0\x10\0" + bytes(40))


# Async and Reject


@pytest.mark.check(125)
def test_async_message_is_handed_on() -> None:
    rig = Rig()
    rig.feed(rig.number(AsyncMessage(async_event=1, parameter3=7, lun=LUN, data=b"x")))
    assert list(rig.core.events) == [AsyncEvent(1, 0, 0, 0, 7, LUN, b"x")]


@pytest.mark.check(131)
def test_reject_with_too_little_of_the_header() -> None:
    rig = Rig()
    with pytest.raises(RemoteProtocolError, match="without the header"):
        rig.feed(rig.number(Reject(reason=4, data=bytes(47))))


@pytest.mark.check(33)
def test_negotiation_reset_ends_the_connection() -> None:
    rig = Rig()
    with pytest.raises(RemoteProtocolError, match="negotiation"):
        rig.feed(rig.number(Reject(reason=0x0B, data=bytes(48))))


@pytest.mark.check(130)
def test_rejected_command_is_aborted_and_fails() -> None:
    rig = Rig()
    task = rig.read(1)
    command = rig.command()
    rig.feed(rig.number(Reject(reason=4, data=command.encode()[:48])))
    assert list(rig.core.events) == [Rejected(4, command.encode()[:48])]
    abort = rig.one(TaskManagement)
    assert (abort.function, abort.referenced_task_tag, abort.ref_cmd_sn) == (1, task.itt, command.cmd_sn)
    assert not rig.done
    rig.feed(managed(rig, abort, 1))
    assert task.error is not None
    assert task.error.code == "rejected"


@pytest.mark.check(130)
def test_data_digest_reject_waits_for_the_response() -> None:
    rig = Rig()
    task = rig.write(b"abcd")
    command = rig.command()
    rig.feed(rig.number(Reject(reason=2, data=command.encode()[:48])))
    assert rig.sent() == []
    rig.feed(rig.response(task, status=2, data=b"\0\2\x70\0"))
    assert task.status == 2


@pytest.mark.check(130)
def test_rejected_ping_can_be_repeated() -> None:
    rig = Rig()
    rig.core.ping(rig.now)
    rig.feed(rig.number(Reject(reason=6, data=rig.one(NopOut).encode()[:48])))
    assert rig.core.ping(rig.now)


# Text and logout


@pytest.mark.check(136, 138)
def test_text_answer_over_several_pdus() -> None:
    rig = Rig()
    rig.core.text(b"SendTargets=\0", rig.now)
    first = rig.one(TextRequest)
    assert (first.data, first.final, first.target_transfer_tag) == (b"SendTargets=\0", True, NO_TAG)
    with pytest.raises(LocalProtocolError):
        rig.core.text(b"", rig.now)
    tag = first.initiator_task_tag
    part = TextResponse(
        initiator_task_tag=tag, final=False, continued=True, target_transfer_tag=9, lun=LUN, data=b"TargetNa"
    )
    rig.feed(rig.number(part))
    second = rig.one(TextRequest)
    assert (second.initiator_task_tag, second.target_transfer_tag) == (first.initiator_task_tag, 9)
    assert (second.lun, second.data) == (LUN, b"")
    last = TextResponse(initiator_task_tag=first.initiator_task_tag, data=b"me=x\0")
    rig.feed(rig.number(last))
    assert list(rig.core.events) == [TextAnswer(b"TargetName=x\0")]


@pytest.mark.check(136)
@pytest.mark.parametrize("pdu", [{"final": False}, {"final": True, "continued": True, "target_transfer_tag": 4}])
def test_text_that_goes_on_without_a_way_to(pdu: dict[str, object]) -> None:
    rig = Rig()
    rig.core.text(b"", rig.now)
    tag = rig.one(TextRequest).initiator_task_tag
    with pytest.raises(RemoteProtocolError):
        rig.feed(rig.number(TextResponse(initiator_task_tag=tag, **pdu)))  # type: ignore[arg-type]


def test_rejected_text_is_told() -> None:
    rig = Rig()
    rig.core.text(b"", rig.now)
    rig.feed(rig.number(Reject(reason=5, data=rig.one(TextRequest).encode()[:48])))
    (_, answer) = rig.core.events
    assert isinstance(answer, TextAnswer)
    assert answer.error


@pytest.mark.check(140)
def test_nothing_is_sent_after_a_logout() -> None:
    rig = Rig()
    rig.core.logout(0, rig.now)
    request = rig.one(LogoutRequest)
    assert (request.reason, request.immediate, request.cid) == (0, True, 0)
    with pytest.raises(LocalProtocolError):
        rig.read(1)
    with pytest.raises(LocalProtocolError):
        rig.core.task_management(LU_RESET, LUN, rig.now)
    assert not rig.core.ping(rig.now)
    rig.core.logout(0, rig.now)
    rig.feed(rig.number(NopIn(target_transfer_tag=4), counted=False))
    rig.now += 100
    rig.core.tick(rig.now)
    assert rig.sent() == []
    rig.feed(rig.number(LogoutResponse(initiator_task_tag=request.initiator_task_tag, time2wait=3, time2retain=9)))
    assert list(rig.core.events) == [LoggedOut(0, 3, 9)]


@pytest.mark.check(140)
def test_a_window_that_opens_after_the_logout_is_not_used() -> None:
    rig = Rig(begin=Begin(max_cmd_sn=1))
    first, waiting = rig.read(1), rig.read(1)
    rig.sent()
    rig.core.logout(0, rig.now)
    rig.one(LogoutRequest)
    rig.max_cmd_sn = 9
    rig.feed(rig.last_data(first, b"x"), rig.window(9))
    assert rig.sent() == []
    assert rig.done == [first]
    assert rig.core.abandon() == [waiting]


@pytest.mark.check(140)
def test_logout_of_the_connection_names_it() -> None:
    rig = Rig(cid=7)
    rig.core.logout(1, rig.now)
    request = rig.one(LogoutRequest)
    assert (request.reason, request.cid) == (1, 7)


def test_abandoned_core_takes_nothing() -> None:
    rig = Rig()
    task = rig.read(1)
    assert rig.core.abandon() == [task]
    assert rig.sent() == []
    with pytest.raises(LocalProtocolError):
        rig.read(1)
