"""Sessions against a scripted target (RFC 7143, 4.2.2, 11.9, 11.14, 11.18)."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from initiator.model import SessionState, Severity
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_task import TaskError
from initiator.protocol.pdu import (
    NO_TAG,
    AsyncMessage,
    DataIn,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    ScsiCommand,
    TaskManagement,
    TaskManagementResponse,
    TextRequest,
)
from initiator.scsi.commands import test_unit_ready
from tests.conformance.ffp_rig import (
    AT_ONCE,
    DIGESTS,
    answer,
    good,
    log_in,
    read_block,
    respond,
    serve,
    session,
    until,
)
from tests.conformance.scripted import Peer
from tests.pace import Pace


@pytest.mark.check(19)
async def test_first_command_has_the_cmd_sn_of_the_login() -> None:
    async def script(peer: Peer) -> None:
        login = await log_in(peer)
        command = await peer.read(ScsiCommand)
        assert command.cmd_sn == login.cmd_sn
        await answer(peer, command)
        await peer.gone()

    async with session(script) as (watched, _):
        assert await read_block(watched) == b"12345678"


@pytest.mark.check(88)
async def test_closed_window_opens_without_polling() -> None:
    async def script(peer: Peer) -> None:
        peer.window = 0
        await log_in(peer)
        peer.window = 1
        await peer.send_pdu(peer.numbered(NopIn()))
        peer.stat_sn -= 1
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(script) as (watched, _):
        assert await read_block(watched) == b"12345678"


@pytest.mark.check(89)
@pytest.mark.parametrize("room", [1, 7])
async def test_window_is_kept_under_load(room: int) -> None:
    async def script(peer: Peer) -> None:
        peer.window = room
        await log_in(peer)
        waiting: list[ScsiCommand] = []
        for _ in range(60):
            if not waiting:
                waiting.append(await peer.read(ScsiCommand))
            assert (waiting[-1].cmd_sn - peer.exp_cmd_sn) & 0xFFFFFFFF < room
            await answer(peer, waiting.pop(0))
        await peer.gone()

    async with session(script) as (watched, _):
        done = await asyncio.gather(*(read_block(watched) for _ in range(60)))
        assert done == [b"12345678"] * 60


@pytest.mark.check(96)
async def test_one_task_that_hangs_is_found_while_others_go_on() -> None:
    aborted: list[TaskManagement] = []

    async def script(peer: Peer) -> None:
        await log_in(peer)
        hung = await peer.read(ScsiCommand)
        while True:
            pdu = await peer.read_pdu()
            if isinstance(pdu, TaskManagement):
                aborted.append(pdu)
                assert (pdu.function, pdu.referenced_task_tag, pdu.ref_cmd_sn) == (
                    1,
                    hung.initiator_task_tag,
                    hung.cmd_sn,
                )
                await peer.send_pdu(peer.numbered(TaskManagementResponse(initiator_task_tag=pdu.initiator_task_tag)))
            else:
                await respond(peer, pdu)

    async with session(script) as (watched, _):
        hung = asyncio.create_task(read_block(watched, patience=0.4))
        await until(lambda: watched.in_flight)
        async with asyncio.timeout(10.0):
            while not hung.done():
                assert await read_block(watched) == b"12345678"
        with pytest.raises(TaskError) as caught:
            await hung
        assert caught.value.code == "timeout"
        assert len(aborted) == 1
        assert watched.state is SessionState.LOGGED_IN


@pytest.mark.check(9, 147)
@pytest.mark.parametrize("offer", [AT_ONCE, DIGESTS], ids=["plain", "digests"])
async def test_every_byte_by_itself(offer: object) -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        peer.exp_cmd_sn = command.cmd_sn + 1
        pdu = DataIn(initiator_task_tag=command.initiator_task_tag, data=b"1234567", final=True, status_present=True)
        digests = peer.framer.header_digest
        await peer.send_bytewise(peer.numbered(pdu).encode(digests, digests))
        await peer.gone()

    async with session(script, offer=offer) as (watched, _):
        assert await read_block(watched, 7) == b"1234567"
        assert watched.reconnects == 0


@pytest.mark.check(121)
async def test_the_targets_ping_is_echoed() -> None:
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await log_in(peer)
        lun = bytes(range(8))
        await peer.send_pdu(peer.numbered(NopIn(target_transfer_tag=77, lun=lun)))
        peer.stat_sn -= 1
        nop = await peer.read(NopOut)
        answered.set()
        assert (nop.target_transfer_tag, nop.lun, nop.initiator_task_tag, nop.immediate) == (77, lun, NO_TAG, True)
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(script) as (watched, _):
        await answered.wait()
        assert await read_block(watched) == b"12345678"


async def answers_one_ping(peer: Peer) -> None:
    await log_in(peer)
    await respond(peer, await peer.read(NopOut))
    await peer.silent()


@pytest.mark.check(124)
async def test_silence_makes_it_suspect_within_a_second() -> None:
    async with session(answers_one_ping, ping_interval=0.2, suspect_after=0.6) as (watched, _):
        await until(lambda: watched.rtt_us is not None)
        async with Pace() as pace:
            await until(lambda: watched.suspect)
            assert pace.took < 1.0
        assert watched.state is SessionState.LOGGED_IN
        assert "silent" in (watched.reason or "")


@pytest.mark.check(124)
async def test_longer_silence_ends_the_connection() -> None:
    options = {"ping_interval": 0.2, "suspect_after": 0.6, "lost_after": 1.5}
    async with session(answers_one_ping, serve, **options) as (watched, _):
        await until(lambda: watched.reconnects)
        assert any("silent" in text and severity is Severity.BAD for text, severity in watched.told)
        assert not watched.suspect


@pytest.mark.check(124)
async def test_a_slow_answer_clears_the_suspicion() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await log_in(peer)
        ping = await peer.read(NopOut)
        await go_on.wait()
        await respond(peer, ping)
        while True:
            await respond(peer, await peer.read_pdu())

    async with session(script, ping_interval=0.1, suspect_after=0.3) as (watched, _):
        await until(lambda: watched.suspect)
        go_on.set()
        await until(lambda: not watched.suspect)
        assert (watched.state, watched.reason, watched.reconnects) == (SessionState.LOGGED_IN, None, 0)


@pytest.mark.check(125)
async def test_events_that_only_inform() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        for event in (0, 248, 255, 77):
            await peer.send_pdu(peer.numbered(AsyncMessage(async_event=event)))
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(script) as (watched, _):
        assert await read_block(watched) == b"12345678"
        assert len(watched.told) == 4
        assert watched.reconnects == 0


@pytest.mark.check(126)
async def test_logout_that_the_target_asks_for() -> None:
    async def asking(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=1, parameter3=3)))
        await answer(peer, command)
        request = await peer.read(LogoutRequest)
        assert request.reason in (0, 1)
        await peer.send_pdu(peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        assert await peer.gone() == []

    async with session(asking, serve) as (watched, target):
        async with Pace() as pace:
            assert await read_block(watched) == b"12345678"
            assert await read_block(watched) == b"12345678"
            assert pace.took < 3
        assert (watched.reconnects, len(target.peers)) == (1, 2)


@pytest.mark.check(127)
@pytest.mark.parametrize("event", [2, 3])
async def test_connection_that_the_target_drops(event: int) -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=event, parameter2=1, parameter3=20)))
        await peer.gone()

    async with session(dropping, serve) as (watched, _):
        began = time.monotonic()
        assert await read_block(watched) == b"12345678"
        assert time.monotonic() - began >= 1.0  # not before Time2Wait
        assert watched.reconnects == 1


@pytest.mark.check(128)
async def test_negotiation_that_the_target_asks_for() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=4, parameter3=3)))
        assert (await peer.read(TextRequest)).data == b""
        await peer.gone()

    async with session(script) as (_, target):
        await until(lambda: any(isinstance(pdu, TextRequest) for pdu in target.peers[0].received))


@pytest.mark.check(131)
async def test_reject_that_waits_for_a_logout() -> None:
    async def rejecting(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        await peer.reject(command, 0x0C)
        while not isinstance(request := await peer.read_pdu(), LogoutRequest):
            assert isinstance(request, TaskManagement)
            await peer.send_pdu(peer.numbered(TaskManagementResponse(initiator_task_tag=request.initiator_task_tag)))
        await peer.send_pdu(peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        await peer.gone()

    async with session(rejecting, serve) as (watched, _):
        with pytest.raises(TaskError):
            await read_block(watched)
        assert await read_block(watched) == b"12345678"
        assert watched.reconnects == 1


@pytest.mark.check(140)
async def test_logout_ends_it_all() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        request = await peer.read(LogoutRequest)
        assert request.reason == 0
        await peer.send_pdu(peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        assert await peer.gone() == []

    async with session(script) as (watched, target):
        answered = await watched.logout()
        assert answered is not None
        assert answered.response == 0
        assert (watched.state, watched.tcp_info(), watched.peer_address) == (SessionState.LOGGED_OUT, None, None)
        await target.settled()
        with pytest.raises(ConnectionLost):
            await read_block(watched)


@pytest.mark.check(140)
async def test_logout_waits_for_what_is_in_flight() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        await go_on.wait()
        await answer(peer, command)
        await peer.answer_logout()

    async with session(script) as (watched, _):
        reading = asyncio.create_task(read_block(watched))
        await until(lambda: watched.in_flight)
        leaving = asyncio.create_task(watched.logout())
        await asyncio.sleep(0)
        go_on.set()
        assert await reading == b"12345678"
        assert (await leaving) is not None


@pytest.mark.check(140)
async def test_connection_that_breaks_before_the_logout_is_told_once() -> None:
    """By its caller: asyncio has nothing to add to it on the user's screen."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await go_on.wait()
        peer.reset()

    async def leave() -> None:
        async with session(script) as (watched, _):
            reading = asyncio.create_task(read_block(watched))
            await until(lambda: watched.in_flight)
            leaving = asyncio.create_task(watched.logout())
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(ConnectionLost):
                await leaving
            with pytest.raises(ConnectionLost):
                await reading

    await leave()
    gc.collect()
    assert complaints == []


@pytest.mark.check(140)
async def test_logout_without_an_answer_is_an_error_and_closes() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(LogoutRequest)
        await peer.silent()

    async with session(script) as (watched, _):
        with pytest.raises(ConnectionLost) as caught:
            await watched.logout(timeout=0.3)
        assert caught.value.code == "logout-unanswered"
        assert watched.state is SessionState.LOGGED_OUT


@pytest.mark.check(141)
@pytest.mark.parametrize("response", [1, 2, 3])
async def test_other_logout_answers_are_told(response: int) -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        request = await peer.read(LogoutRequest)
        await peer.send_pdu(
            peer.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag, response=response))
        )
        await peer.gone()

    async with session(script) as (watched, _):
        answered = await watched.logout()
        assert answered is not None
        assert answered.response == response


async def test_command_without_data() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        await good(peer, await peer.read(ScsiCommand), status=2, data=b"\0\2\x70\0")
        await peer.gone()

    async with session(script) as (watched, _):
        completed = await watched.execute(1, test_unit_ready())
        assert (completed.status, completed.sense, bytes(completed.data)) == (2, b"\x70\0", b"")
