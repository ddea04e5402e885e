"""Broken connections, reinstatement and replay (RFC 7143, 6.3.5, 7.11, 7.15)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence

import pytest

from initiator.engine.session import EngineSession
from initiator.model import SessionState
from initiator.protocol.errors import ConnectionLost, LoginError
from initiator.protocol.ffp_task import Task, TaskError
from initiator.protocol.pdu import (
    DataIn,
    LoginRequest,
    NopOut,
    ScsiCommand,
    TaskManagement,
)
from initiator.scsi.commands import encode_lun, read, write
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


def memory_task(ended: list[Task], *, idempotent: bool = True) -> Task:
    return Task(encode_lun(1), read(0, 1), ended.append, data_in=memoryview(bytearray(8)), idempotent=idempotent)


@pytest.mark.check(93)
async def test_lost_status_leads_to_recovery_and_replay() -> None:
    async def losing(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        peer.stat_sn += 1
        await answer(peer, command)
        await peer.gone()

    async with session(losing, serve) as (watched, target):
        assert await read_block(watched) == b"12345678"
        assert (watched.reconnects, len(target.peers)) == (1, 2)
        assert any("StatSN" in text for text, _ in watched.told)


@pytest.mark.check(10)
@pytest.mark.parametrize("cut", [20, 50, 56, 59])
async def test_end_of_the_connection_inside_a_pdu(cut: int) -> None:
    async def cutting(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        pdu = DataIn(initiator_task_tag=command.initiator_task_tag, data=b"garbag!", final=True, status_present=True)
        await peer.send_raw(peer.numbered(pdu).encode(True, True)[:cut])
        await peer.close()

    async with session(cutting, serve, offer=DIGESTS) as (watched, _):
        assert await read_block(watched) == b"12345678"
        assert watched.reconnects == 1


@pytest.mark.check(144, 145)
@pytest.mark.parametrize("byte", [1, 20, 49, 60])
async def test_wrong_digest_is_recovered_from(byte: int) -> None:
    async def corrupting(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        pdu = DataIn(initiator_task_tag=command.initiator_task_tag, data=b"garbage!", final=True, status_present=True)
        raw = bytearray(peer.numbered(pdu).encode(True, True))
        raw[byte] ^= 1
        await peer.send_raw(bytes(raw))
        assert await peer.gone() == []

    async with session(corrupting, serve, offer=DIGESTS) as (watched, _):
        assert await read_block(watched) == b"12345678"
        assert watched.reconnects == 1


@pytest.mark.check(148)
async def test_reset_leads_to_the_same_session_again() -> None:
    logins: list[LoginRequest] = []
    commands: list[ScsiCommand] = []

    async def resetting(peer: Peer) -> None:
        logins.append(await log_in(peer))
        for _ in range(3):
            commands.append(await peer.read(ScsiCommand))
        peer.reset()

    async def again(peer: Peer) -> None:
        logins.append(await log_in(peer))
        for _ in range(3):
            commands.append(await peer.read(ScsiCommand))
            await answer(peer, commands[-1])
        await peer.gone()

    async with session(resetting, again, offer=dataclasses.replace(AT_ONCE, default_time2wait=1)) as (watched, _):
        began = time.monotonic()
        done = await asyncio.gather(*(read_block(watched, length) for length in (8, 8, 8)))
        assert done == [b"12345678"] * 3
        assert time.monotonic() - began >= 1.0
    assert logins[0].isid == logins[1].isid
    assert [login.tsih for login in logins] == [0, 0]
    assert logins[0].data.split(b"\0")[0] == logins[1].data.split(b"\0")[0]
    assert [command.cdb for command in commands[:3]] == [command.cdb for command in commands[3:]]
    assert commands[3].cmd_sn == logins[1].cmd_sn


@pytest.mark.check(148)
async def test_tasks_are_handed_out_where_somebody_wants_them() -> None:
    async def resetting(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        peer.reset()

    async with session(resetting, serve) as (watched, _):
        ended: list[Task] = []
        handed: list[Task] = []

        def take(_: EngineSession, lost: Sequence[Task]) -> None:
            assert all((task.sent_at, task.error, task.received) == (None, None, 0) for task in lost)
            handed.extend(lost)
            watched.submit(lost[0])  # there is no connection, and no queue where tasks are handed out

        watched.on_lost = take
        tasks = [memory_task(ended), memory_task(ended)]
        for task in tasks:
            watched.submit(task)
        await until(lambda: ended)
        assert handed == tasks
        assert ended == tasks[:1]
        assert isinstance(tasks[0].error, ConnectionLost)
        await until(lambda: watched.reconnects)
        tasks[1].reset()
        watched.submit(tasks[1])
        await until(lambda: len(ended) == 2)
        assert tasks[1].good


@pytest.mark.check(149)
async def test_what_must_not_be_repeated_is_not() -> None:
    async def resetting(peer: Peer) -> None:
        peer.window = 2
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.read(ScsiCommand)
        peer.reset()

    async with session(resetting, serve) as (watched, target):
        ended: list[Task] = []
        once, plain, unsent = (
            memory_task(ended, idempotent=False),
            memory_task(ended),
            memory_task(ended, idempotent=False),
        )
        for task in (once, plain, unsent):
            watched.submit(task)
        await until(lambda: len(ended) == 3)
        assert once.error is not None
        assert once.error.code == "outcome-unknown"
        assert plain.good
        assert unsent.good  # it had never left this host
        assert sum(isinstance(pdu, ScsiCommand) for pdu in target.peers[1].received) == 2


@pytest.mark.check(150)
async def test_the_old_connection_is_gone_before_the_new_one_begins() -> None:
    closed = asyncio.Event()

    async def half_open(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.gone()
        closed.set()

    async def again(peer: Peer) -> None:
        await log_in(peer)
        assert closed.is_set()
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(half_open, again, ping_interval=0.1, suspect_after=0.2, lost_after=0.4) as (watched, _):
        assert await read_block(watched) == b"12345678"


@pytest.mark.check(152)
async def test_reconnect_stops_when_the_target_says_never() -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.close()

    async def refusing(peer: Peer) -> None:
        await peer.refuse_login(2, 3)

    async with session(dropping, refusing) as (watched, target):
        with pytest.raises(LoginError):
            await read_block(watched)
        assert watched.state is SessionState.FREE
        with pytest.raises(ConnectionLost):
            await read_block(watched)
        assert len(target.peers) == 2


@pytest.mark.check(152)
async def test_reconnect_goes_on_when_the_target_is_only_busy() -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.close()

    async def busy(peer: Peer) -> None:
        await peer.refuse_login(3, 1)

    async with session(dropping, busy, busy, serve) as (watched, target):
        assert await read_block(watched) == b"12345678"
        assert len(target.peers) == 4


@pytest.mark.check(152)
async def test_waiting_commands_fail_at_the_replacement_timeout_and_the_session_still_comes_back() -> None:
    go_on = asyncio.Event()

    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.close()

    async def slow(peer: Peer) -> None:
        await go_on.wait()
        await serve(peer)

    async with session(dropping, slow, replacement_timeout=0.3) as (watched, _):
        with pytest.raises(TaskError) as caught:
            await read_block(watched)
        assert caught.value.code == "replacement-timeout"
        assert watched.state is SessionState.FREE
        go_on.set()
        await until(lambda: watched.state is SessionState.LOGGED_IN)
        assert await read_block(watched) == b"12345678"


@pytest.mark.check(152)
async def test_a_deadline_holds_while_there_is_no_connection() -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        await peer.close()

    async def silent(peer: Peer) -> None:
        await peer.silent()

    async with session(dropping, silent) as (watched, _):
        async with Pace() as pace:
            with pytest.raises(TaskError) as caught:
                await read_block(watched, patience=0.5)
            assert pace.took < 2
        assert caught.value.code == "timeout"


@pytest.mark.check(135)
async def test_hung_task_and_reset_end_in_a_new_session() -> None:
    async def deaf(peer: Peer) -> None:
        await log_in(peer)
        while True:
            pdu = await peer.read_pdu()
            if isinstance(pdu, NopOut):
                await respond(peer, pdu)

    async with session(deaf, serve, management_timeout=0.2, ping_interval=0.1) as (watched, target):
        hung = asyncio.create_task(read_block(watched, patience=0.2))
        other = asyncio.create_task(read_block(watched, patience=30))
        with pytest.raises(TaskError) as caught:
            await hung
        assert caught.value.code == "timeout"
        assert await other == b"12345678"  # replayed in the new session
        functions = [pdu.function for pdu in target.peers[0].received if isinstance(pdu, TaskManagement)]
        assert functions == [1, 5, 6]


@pytest.mark.check(148)
async def test_write_is_replayed_with_all_of_its_data() -> None:
    async def resetting(peer: Peer) -> None:
        await log_in(peer)
        await peer.read(ScsiCommand)
        peer.reset()

    async def again(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        assert command.data == b"precious"
        await good(peer, command)
        await peer.gone()

    async with session(resetting, again) as (watched, _):
        completed = await watched.execute(1, write(0, 1), b"precious")
        assert (completed.status, completed.residual) == (0, 0)
