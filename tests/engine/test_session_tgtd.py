"""Sessions with a real target: Debian's tgtd."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from initiator.engine.session import EngineSession
from initiator.engine.session_config import Completed, SessionConfig
from initiator.model import SessionState
from initiator.protocol.chap import Chap
from initiator.protocol.errors import ConnectionLost, LoginError
from initiator.protocol.ffp_task import Task
from initiator.protocol.keys import Offer
from initiator.protocol.session import LU_RESET, Management
from initiator.scsi.commands import encode_lun, read, test_unit_ready, write
from tests.tgtd import Tgtd, needs_tgtd

pytestmark = [pytest.mark.root, needs_tgtd]

NAME = "iqn.2026-11.io.mooring.test:engine"
INITIATOR = "iqn.2026-11.io.mooring.test:initiator"
CHAP = Chap("harbour", "a secret of 24 bytes ...")
QUICK = Offer(default_time2wait=0)
LUN = 1
UNIT_ATTENTION = 6


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    with Tgtd(tmp_path) as running:
        yield running


def add_target(tgtd: Tgtd, **parameters: str) -> tuple[int, Path]:
    tid = tgtd.add_target(NAME, **({"DefaultTime2Wait": "0"} | parameters))
    return tid, tgtd.add_lun(tid, LUN)


def session(tgtd: Tgtd, **options: object) -> EngineSession:
    settings: dict[str, object] = {"offer": QUICK, "backoff": 0.05, "backoff_limit": 0.2} | options
    return EngineSession(SessionConfig(NAME, tgtd.portal, INITIATOR, **settings))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition will do
            await asyncio.sleep(0)


async def settle(running: EngineSession) -> None:
    """A new session answers its first command with a unit attention."""
    for _ in range(5):
        if (await running.execute(LUN, test_unit_ready())).status == 0:
            return
    raise AssertionError("the unit attention does not go away")


async def patient(running: EngineSession, cdb: bytes, data: bytes | None = None, length: int = 0) -> Completed:
    """Run a command again when a unit attention stood in its way."""
    for _ in range(5):
        completed = await running.execute(LUN, cdb, data, length)
        if completed.status != 2 or completed.sense[2] & 0xF != UNIT_ATTENTION:
            return completed
    raise AssertionError("the unit attention does not go away")


@pytest.mark.parametrize("digest", ["CRC32C", "None"])
async def test_bytes_reach_the_disk_and_come_back(tgtd: Tgtd, digest: str) -> None:
    tid, backing = add_target(tgtd, HeaderDigest=digest, DataDigest=digest)
    tgtd.add_account(tid, CHAP.user, str(CHAP.secret))
    running = session(tgtd, chap=CHAP)
    await running.start()
    assert running.params is not None
    assert (running.params.header_digest, running.params.data_digest) == (digest == "CRC32C",) * 2
    await settle(running)
    chance = random.Random(1)
    mirror = bytearray(8 << 20)
    for blocks in (1, 7, 8, 16, 17, 128, 129, 2048, 4097):
        lba = chance.randrange((len(mirror) >> 9) - blocks)
        data = os.urandom(blocks << 9)
        completed = await running.execute(LUN, write(lba, blocks), data)
        assert (completed.status, completed.residual) == (0, 0)
        mirror[lba << 9 : (lba + blocks) << 9] = data
    completed = await running.execute(LUN, read(0, len(mirror) >> 9), None, len(mirror))
    assert (completed.status, completed.residual, completed.data == mirror) == (0, 0, True)
    answered = await running.logout()
    assert answered is not None
    assert answered.response == 0
    assert backing.read_bytes()[: len(mirror)] == mirror
    assert tgtd.sessions(tid) == 0


async def test_wrong_secret_is_refused(tgtd: Tgtd) -> None:
    tid, _ = add_target(tgtd)
    tgtd.add_account(tid, CHAP.user, str(CHAP.secret))
    running = session(tgtd, chap=Chap(CHAP.user, "another secret of 24 bytes"))
    with pytest.raises(LoginError) as caught:
        await running.start()
    assert not caught.value.retry
    assert running.state is SessionState.FREE


@pytest.mark.parametrize("parameters", [{}, {"InitialR2T": "No"}, {"ImmediateData": "No"}])
@pytest.mark.parametrize("segment", ["8192", "262144"])
async def test_every_way_of_sending_data(tgtd: Tgtd, parameters: dict[str, str], segment: str) -> None:
    add_target(tgtd, MaxRecvDataSegmentLength=segment, **parameters)
    running = session(tgtd)
    await running.start()
    await settle(running)
    data = os.urandom(700 << 10)
    assert (await running.execute(LUN, write(3, 1400), data)).status == 0
    completed = await running.execute(LUN, read(3, 1400), None, len(data))
    assert completed.data == data
    await running.logout()


async def test_window_is_never_exceeded(tgtd: Tgtd) -> None:
    """More commands at once than any target takes: tgtd drops a connection whose CmdSN is out of its window."""
    add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    data = os.urandom(4096)
    assert (await running.execute(LUN, write(0, 8), data)).status == 0
    done = await asyncio.gather(*(running.execute(LUN, read(0, 8), None, 4096) for _ in range(1000)))
    assert all(completed.data == data for completed in done)
    assert running.reconnects == 0
    await running.logout()


@pytest.mark.parametrize("way", ["shutdown", "abort"])
async def test_broken_connection_in_the_middle_of_writes(tgtd: Tgtd, way: str) -> None:
    tid, backing = add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    assert tgtd.process is not None
    tgtd.process.send_signal(signal.SIGSTOP)  # or a fast machine has them all answered before the break
    pieces = [os.urandom(256 << 10) for _ in range(40)]
    writing = [
        asyncio.create_task(patient(running, write(index << 9, 512), piece)) for index, piece in enumerate(pieces)
    ]
    await until(lambda: running.in_flight >= 8)
    assert running._transport is not None
    if way == "shutdown":
        running._transport._sock.shutdown(socket.SHUT_RDWR)
    else:
        running._transport.drop(ConnectionLost("pulled by the test"))
    tgtd.process.send_signal(signal.SIGCONT)
    assert [(await task).status for task in writing] == [0] * len(pieces)
    assert running.reconnects == 1
    assert tgtd.sessions(tid) == 1  # the old one was replaced, not left behind
    completed = await patient(running, read(0, 40 * 512), None, 10 << 20)
    assert completed.data == b"".join(pieces)
    await running.logout()
    assert backing.read_bytes()[: 10 << 20] == b"".join(pieces)


async def test_target_that_dies_and_returns(tgtd: Tgtd) -> None:
    _, backing = add_target(tgtd)
    # tgtd listens before it knows its targets: "not found" (class 2) is not the last word while it starts.
    running = session(tgtd, retry_refused=0.1)
    await running.start()
    await settle(running)
    data = os.urandom(64 << 10)
    assert (await running.execute(LUN, write(0, 128), data)).status == 0
    await asyncio.to_thread(tgtd.stop)
    await until(lambda: running.state is SessionState.FAILED)

    def restart() -> None:
        tgtd.start()
        tid = tgtd.add_target(NAME, DefaultTime2Wait="0")
        tgtd.add_lun(tid, LUN, path=backing)

    await asyncio.to_thread(restart)
    await until(lambda: running.state is SessionState.LOGGED_IN)
    assert (await patient(running, read(0, 128), None, len(data))).data == data
    assert running.reconnects == 1
    await running.logout()


async def test_lun_that_vanishes_is_an_answer_not_a_hang(tgtd: Tgtd) -> None:
    tid, _ = add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    await asyncio.to_thread(tgtd.remove_lun, tid, LUN)
    completed = await patient(running, read(0, 8), None, 4096)
    assert completed.status == 2
    assert completed.sense[2] & 0xF == 5  # ILLEGAL REQUEST
    assert running.state is SessionState.LOGGED_IN
    await running.logout()


async def test_reading_past_the_end_tells_why(tgtd: Tgtd) -> None:
    add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    completed = await running.execute(LUN, read(1 << 30, 8), None, 4096)
    assert (completed.status, completed.sense[2] & 0xF, completed.sense[12], bytes(completed.data)) == (2, 5, 0x21, b"")
    await running.logout()


async def test_unit_reset_is_answered(tgtd: Tgtd) -> None:
    add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    told: asyncio.Future[Management] = asyncio.get_running_loop().create_future()
    assert running._transport is not None
    running._transport.manage(LU_RESET, encode_lun(LUN), told.set_result)
    assert (await asyncio.wait_for(told, 10)).response == 0
    await settle(running)
    await running.logout()


async def test_pings_measure_the_way_and_the_kernel_knows_the_connection(tgtd: Tgtd) -> None:
    add_target(tgtd)
    running = session(tgtd, ping_interval=0.1)
    await running.start()
    await until(lambda: running.rtt_us is not None)
    assert running.rtt_us is not None
    assert 0 < running.rtt_us < 5e6
    info = running.tcp_info()
    assert info is not None
    assert len(info) > 100
    assert running.peer_address == ("127.0.0.1", tgtd.portal.port)
    assert running.local_address is not None
    await running.close()
    assert running.tcp_info() is None


async def test_buffers_are_written_where_the_caller_said(tgtd: Tgtd) -> None:
    add_target(tgtd)
    running = session(tgtd)
    await running.start()
    await settle(running)
    data = os.urandom(1 << 20)
    assert (await running.execute(LUN, write(0, 2048), data)).status == 0
    memory = bytearray(b"\xee" * (3 << 20))
    ended: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
    window = memoryview(memory)[1 << 20 : 2 << 20]
    running.submit(Task(encode_lun(LUN), read(0, 2048), ended.set_result, data_in=window))
    assert (await ended).good
    assert memory == b"\xee" * (1 << 20) + data + b"\xee" * (1 << 20)
    await running.logout()
