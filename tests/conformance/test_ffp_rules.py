"""Single rules of a running session against a scripted target (RFC 7143, 7.14, 7.15, 11.9, 11.15)."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import Severity
from initiator.protocol import text
from initiator.protocol.ffp_task import Task, TaskError
from initiator.protocol.pdu import (
    NO_TAG,
    AsyncMessage,
    DataIn,
    DataOut,
    LoginRequest,
    LogoutRequest,
    LogoutResponse,
    ScsiCommand,
    TextRequest,
    TextResponse,
)
from initiator.scsi.commands import encode_lun, read, synchronize_cache10, test_unit_ready, write
from initiator.scsi.repeatable import may_be_repeated
from tests.conformance.ffp_rig import INITIATOR, TARGET, answer, good, log_in, read_block, serve, session, until
from tests.conformance.scripted import Peer
from tests.pace import Pace

COMPARE_AND_WRITE = bytes((0x89,)) + bytes(15)
RESERVE_OUT = bytes((0x5F,)) + bytes(9)


@pytest.mark.check(18)
def test_isid_is_of_the_random_kind_and_told_apart() -> None:
    first, second = (
        SessionConfig(TARGET, portal=None, initiator=INITIATOR)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first.isid != second.isid
    assert {config.isid[0] for config in (first, second)} == {0x80}
    assert first.login().isid == first.login().isid == first.isid


@pytest.mark.check(10)
@pytest.mark.parametrize(("cut", "code"), [(0, "closed-by-target"), (20, "closed-mid-pdu"), (50, "closed-mid-pdu")])
async def test_end_of_the_stream_is_told_from_an_end_inside_a_pdu(cut: int, code: str) -> None:
    async def cutting(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        pdu = DataIn(initiator_task_tag=command.initiator_task_tag, data=b"12345678", final=True, status_present=True)
        await peer.send_raw(peer.numbered(pdu).encode()[:cut])
        await peer.close()

    codes: list[str] = []
    async with session(cutting, serve) as (watched, _):
        transport = watched._transport
        assert await read_block(watched) == b"12345678"
        assert transport is not None
        assert transport.lost is not None
        codes.append(transport.lost.code)
    assert codes == [code]


@pytest.mark.check(126)
async def test_no_new_command_goes_to_a_target_that_asks_for_a_logout() -> None:
    go_on = asyncio.Event()

    async def asking(peer: Peer) -> None:
        await log_in(peer)
        first = await peer.read(ScsiCommand)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=1, parameter3=20)))
        await go_on.wait()
        await answer(peer, first)
        request = await peer.read(LogoutRequest)  # and not the second command
        await peer.send_pdu(peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        assert await peer.gone() == []

    async with session(asking, serve) as (watched, target):
        first = asyncio.create_task(read_block(watched))
        await until(lambda: watched.reason == "the target asked for a logout")
        second = asyncio.create_task(read_block(watched))
        await asyncio.sleep(0)
        go_on.set()
        assert await first == await second == b"12345678"
        assert len(target.peers) == 2


@pytest.mark.check(126)
async def test_logout_comes_in_time_although_a_command_hangs() -> None:
    took: list[float] = []

    async def hanging(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=1, parameter3=2)))
        async with Pace() as pace:
            request = await peer.read(LogoutRequest)
            took.append(pace.took)
        await peer.send_pdu(peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        assert await peer.gone() == []

    async with session(hanging, serve) as (watched, _):
        assert await read_block(watched) == b"12345678"  # sent again in the new session
        assert watched.reconnects == 1
    assert took[0] < 2


@pytest.mark.check(70, 128)
async def test_negotiation_in_a_running_session() -> None:
    """The target asks for it, declares a smaller segment, and gets Data-Out PDUs of that size."""
    data = bytes(range(250)) * 8

    async def asking(peer: Peer) -> None:
        await log_in(peer)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=4, parameter3=3)))
        request = await peer.read(TextRequest)
        await reply(peer, request, [("MaxRecvDataSegmentLength", "512")])
        command = await peer.read(ScsiCommand)
        got = bytearray(command.data)
        while len(got) < len(data):
            out = await peer.read(DataOut)
            assert len(out.data) <= 512
            got += out.data
        assert len(command.data) == 512
        assert got == data
        await good(peer, command)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=4, parameter3=3)))
        await reply(peer, await peer.read(TextRequest), [("MaxRecvDataSegmentLength", "1024"), ("InitialR2T", "No")])
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(asking) as (watched, _):
        await until(lambda: watched.params is not None and watched.params.max_xmit_data_segment_length == 512)
        completed = await watched.execute(1, write(0, 4), data)
        assert (completed.status, completed.residual) == (0, 0)
        await until(lambda: any("what was agreed before stays" in line for line, _ in watched.told))
        assert watched.params is not None
        assert watched.params.max_xmit_data_segment_length == 512
        assert await read_block(watched) == b"12345678"
        assert watched.reconnects == 0


async def reply(peer: Peer, request: TextRequest, pairs: list[text.Pair]) -> None:
    assert (request.data, request.target_transfer_tag, request.immediate) == (b"", NO_TAG, True)
    response = TextResponse(initiator_task_tag=request.initiator_task_tag, data=text.encode(pairs))
    await peer.send_pdu(peer.numbered(response))


@pytest.mark.check(129)
async def test_fast_abort_out_of_turn_renews_the_session() -> None:
    async def aborting(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=5, lun=command.lun)))
        assert await peer.gone() == []

    async with session(aborting, serve) as (watched, _):
        assert await read_block(watched) == b"12345678"
        assert watched.reconnects == 1
        assert any("fast abort" in line and severity is Severity.BAD for line, severity in watched.told)


@pytest.mark.check(141)
@pytest.mark.parametrize("response", [0, 2, 3])
async def test_after_a_logout_the_session_is_back_not_before_its_time2wait(response: int) -> None:
    async def leaving(peer: Peer) -> None:
        await log_in(peer)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=1, parameter3=3)))
        request = await peer.read(LogoutRequest)
        left.append(time.monotonic())
        await peer.send_pdu(
            peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag, response=response, time2wait=1))
        )
        assert await peer.gone() == []

    async def back(peer: Peer) -> None:
        came.append(time.monotonic())
        await serve(peer)

    left: list[float] = []
    came: list[float] = []
    async with session(leaving, back) as (watched, _):
        await until(lambda: watched.reconnects)
        assert came[0] - left[0] >= 1.0


@pytest.mark.check(149)
@pytest.mark.parametrize("cdb", [COMPARE_AND_WRITE, RESERVE_OUT])
async def test_what_may_not_run_twice_is_reported_and_not_repeated(cdb: bytes) -> None:
    async def resetting(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        peer.reset()

    async with session(resetting, serve) as (watched, target):
        with pytest.raises(TaskError) as caught:
            await watched.execute(1, cdb, bytes(24))
        assert caught.value.code == "outcome-unknown"
        assert await read_block(watched) == b"12345678"
        assert [pdu.cdb[0] for pdu in target.peers[1].received if isinstance(pdu, ScsiCommand)] == [0x28]


@pytest.mark.check(149)
def test_only_what_is_known_to_be_harmless_may_be_repeated() -> None:
    harmless = [read(0, 1), write(0, 1), test_unit_ready(), synchronize_cache10(), read(1 << 40, 1), write(1 << 40, 1)]
    assert all(may_be_repeated(cdb) for cdb in harmless)
    tape = [bytes((code, 0, 0, 0, 0, 0)) for code in (0x01, 0x08, 0x0A, 0x10, 0x11, 0x19)]
    others = [COMPARE_AND_WRITE, RESERVE_OUT, b"\x1b" + bytes(5), b"\x04" + bytes(5), b"\x83" + bytes(15), b"\xd0", b""]
    assert not any(may_be_repeated(cdb) for cdb in tape + others)


@pytest.mark.check(35, 152)
async def test_waits_between_two_tries_grow_up_to_a_limit() -> None:
    times: list[float] = []

    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.close()

    async def busy(peer: Peer) -> None:
        times.append(time.monotonic())
        if len(times) == 5:
            await serve(peer)
        await peer.refuse_login(3, 2)

    async with session(dropping, busy, backoff=0.1, backoff_limit=0.25) as (watched, _):
        await until(lambda: watched.reconnects)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.25, 0.25), strict=True)] == [True] * 4


@pytest.mark.check(7)
async def test_tasks_of_a_new_connection_start_with_fresh_tags() -> None:
    """Tags, numbers and buffers of the old connection mean nothing on the new one."""
    seen: list[list[int]] = []

    async def resetting(peer: Peer) -> None:
        await log_in(peer)
        seen.append([(await peer.read(ScsiCommand)).initiator_task_tag for _ in range(2)])
        peer.reset()

    async def again(peer: Peer) -> None:
        login = await log_in(peer)
        assert isinstance(login, LoginRequest)
        commands = [await peer.read(ScsiCommand) for _ in range(2)]
        seen.append([command.initiator_task_tag for command in commands])
        for command in reversed(commands):
            await peer.send_pdu(
                peer.numbered(
                    DataIn(
                        initiator_task_tag=command.initiator_task_tag, data=b"12345678", final=True, status_present=True
                    )
                )
            )
        await peer.gone()

    async with session(resetting, again) as (watched, _):
        ended: list[Task] = []
        for _ in range(2):
            watched.submit(Task(encode_lun(1), read(0, 1), ended.append, data_in=memoryview(bytearray(8))))
        await until(lambda: len(ended) == 2)
        assert all(task.good for task in ended)
        assert isinstance(watched, EngineSession)
    assert all(len(set(tags)) == 2 and NO_TAG not in tags for tags in seen)
