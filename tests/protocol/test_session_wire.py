"""What goes over the wire bit by bit: reserved bits, lengths, pad (RFC 7143, 11, 11.2)."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.protocol.framer import Framer
from initiator.protocol.keys import Params
from initiator.protocol.pdu import (
    BHS_BYTES,
    INITIATOR_OPS,
    OPCODE_MASK,
    R2T,
    AsyncMessage,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Op,
    Pdu,
    Reject,
    Response,
    ScsiCommand,
    TaskManagement,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
    decode,
)
from initiator.protocol.session import AsyncEvent, Event, Task, TaskError
from tests.protocol.session_rig import LUN, Rig
from tests.protocol.talk import begin, reply, step

SMALL = Params(
    max_recv_data_segment_length=65536,
    max_xmit_data_segment_length=1001,
    initial_r2t=False,
    first_burst_length=2501,
    max_burst_length=4096,
)


def everything(rig: Rig) -> bytes:
    """Have the initiator send every kind of PDU that it knows in the full feature phase; the bytes of all."""
    core = rig.core
    rig.read(7)
    rig.submit(rig.task(cdb=bytes(6)))
    write = rig.write(bytes(range(251)) * 20)
    rig.write(b"xyz")
    core.ping(rig.now)
    core.task_management(5, LUN, rig.now)
    core.abort(write, TaskError("no longer wanted"))
    core.text(b"SendTargets=\0", rig.now)
    rig.feed(rig.number(NopIn(target_transfer_tag=9, lun=LUN), counted=False))
    r2t = R2T(
        initiator_task_tag=write.itt,
        target_transfer_tag=3,
        lun=LUN,
        buffer_offset=write.sent,
        desired_data_transfer_length=1003,
    )
    rig.feed(rig.number(r2t, counted=False))
    core.logout(1, rig.now)
    raw = b""
    while core.out:
        piece = b"".join(core.take_out())
        core.sent(len(piece))
        raw += piece
    return raw


@pytest.mark.check(1, 2, 3)
def test_nothing_is_sent_but_what_has_a_meaning() -> None:
    """A PDU that is decoded and encoded again would lose a bit set in a reserved place, and gain clean padding."""
    raw = everything(Rig(SMALL, cid=3))
    pdus = list(Framer(max_data=1001, expect=INITIATOR_OPS).feed(raw))
    kinds = {type(pdu) for pdu in pdus}
    assert kinds == {ScsiCommand, DataOut, NopOut, TaskManagement, TextRequest, LogoutRequest}
    assert b"".join(pdu.encode() for pdu in pdus) == raw
    for pdu in pdus:
        assert pdu.encode()[4] == 0  # no extra headers anywhere
        assert len(pdu.encode()) % 4 == 0


@pytest.mark.check(1, 2, 3)
def test_nothing_is_sent_in_a_login_but_what_has_a_meaning() -> None:
    machine, first = begin()
    second = step(machine, reply(first, [("AuthMethod", "None")]))
    for request in (first, second):
        raw = request.encode()
        assert isinstance(decode(raw[:BHS_BYTES], b"", request.data), LoginRequest)
        assert decode(raw[:BHS_BYTES], b"", request.data).encode() == raw


def noisy(pdu: Pdu) -> bytes:
    """The PDU with every reserved bit of its header set."""
    full = bytearray(b"\xff" * BHS_BYTES)
    full[0] = pdu.OPCODE
    full[4:8] = bytes(4)
    meant = decode(bytes(full), b"", b"").encode()
    raw = bytearray(pdu.encode())
    for at in range(1, BHS_BYTES):
        if not 4 <= at < 8:
            raw[at] |= ~meant[at] & 0xFF
    raw[0] |= ~OPCODE_MASK & 0xFF
    return bytes(raw)


def conversation(rig: Rig, *, noise: bool) -> tuple[list[tuple[int | None, int, bytes]], list[Event], list[Pdu]]:
    """A fixed conversation; how the tasks ended, what the target said, and what was sent."""
    read, other, write = rig.read(8), rig.read(4), rig.write(bytes(5000))
    rig.core.ping(rig.now)
    rig.core.text(b"", rig.now)
    management = rig.core.task_management(5, bytes(8), rig.now)
    ping, text = (pdu for pdu in rig.sent() if isinstance(pdu, NopOut | TextRequest))
    r2t = R2T(
        initiator_task_tag=write.itt,
        target_transfer_tag=3,
        lun=LUN,
        buffer_offset=write.sent,
        desired_data_transfer_length=5000 - write.sent,
    )
    rejected = NopOut(initiator_task_tag=77).encode()
    answers: list[Response] = [
        rig.data_in(read, b"abcd"),
        rig.last_data(read, b"efgh", data_sn=1, buffer_offset=4),
        rig.data_in(other, b"ijkl", final=True),
        rig.response(other, exp_data_sn=1),
        rig.number(r2t, counted=False),
        rig.response(write, status=2, data=b"\0\2\x70\0"),
        rig.number(NopIn(target_transfer_tag=3, lun=LUN), counted=False),
        rig.number(NopIn(initiator_task_tag=ping.initiator_task_tag, data=ping.data)),
        rig.number(AsyncMessage(async_event=250, lun=LUN)),
        rig.number(Reject(reason=9, data=rejected)),
        rig.number(TextResponse(initiator_task_tag=text.initiator_task_tag, data=b"A=b\0")),
        rig.number(TaskManagementResponse(initiator_task_tag=management.itt)),
    ]
    rig.feed(*(noisy(pdu) if noise else pdu for pdu in answers))
    sent = rig.sent()
    rig.core.logout(0, rig.now)
    logout = rig.one(LogoutRequest)
    farewell = rig.number(LogoutResponse(initiator_task_tag=logout.initiator_task_tag, time2wait=1))
    rig.feed(noisy(farewell) if noise else farewell)
    return [outcome(task) for task in rig.done], list(rig.core.events), sent


def outcome(task: Task) -> tuple[int | None, int, bytes]:
    return task.status, task.residual, bytes(task.data_in or b"")


@pytest.mark.check(1)
def test_reserved_bits_that_arrive_change_nothing() -> None:
    plain = conversation(Rig(SMALL), noise=False)
    assert (len(plain[0]), len(plain[1])) == (3, 5)
    assert conversation(Rig(SMALL), noise=True) == plain


@pytest.mark.check(1)
def test_reserved_bits_that_arrive_in_a_login_change_nothing() -> None:
    machine, first = begin()
    answer = reply(first, [("AuthMethod", "None")])
    assert noisy(answer) != answer.encode()
    second = step(machine, decode(noisy(answer)[:BHS_BYTES], b"", answer.data))
    last = reply(second)
    machine.receive(decode(noisy(last)[:BHS_BYTES], b"", b""))
    assert (machine.done, machine.result.tsih) == (True, 5)


@pytest.mark.check(1)
def test_noise_is_noise() -> None:
    """The helper of the tests above: it sets reserved bits in every PDU of a target, and only those."""
    kinds: list[Pdu] = [
        NopIn(),
        AsyncMessage(async_event=0),
        LoginResponse(),
        Reject(reason=1),
        R2T(target_transfer_tag=1, desired_data_transfer_length=1),
    ]
    for pdu in kinds:
        raw = noisy(pdu)
        assert raw != pdu.encode()
        assert dataclasses.asdict(decode(raw[:BHS_BYTES], b"", b"")) == dataclasses.asdict(pdu)
        assert Op(raw[0] & OPCODE_MASK) is pdu.OPCODE


@pytest.mark.parametrize("piece", [None, 1000, 200_000])
def test_a_control_pdu_longer_than_what_is_staged_at_a_time(piece: int | None) -> None:
    rig = Rig(Params(max_recv_data_segment_length=1 << 20, header_digest=True, data_digest=True))
    task = rig.read(8192)
    data = bytes(range(256)) * 3000
    ping = NopIn(target_transfer_tag=7, lun=LUN)
    rig.feed(
        rig.number(ping, counted=False),
        rig.number(AsyncMessage(async_event=0, data=data)),
        rig.last_data(task, b"\x07" * 8192),
        piece=piece,
    )
    (event,) = rig.core.events
    assert isinstance(event, AsyncEvent)
    assert event.data == data
    assert task.good
    assert not rig.core.inside_pdu
