"""Probes beside a real target: what they measure, what they never do, and when they go away."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from initiator.engine.prober import ASKING, Found, Probe, Prober, ProbeSession, Wanted, bound_socket
from initiator.engine.session_config import SessionConfig
from initiator.scsi import commands
from tests.tgtd import Tgtd, needs_tgtd
from tests.until import until

pytestmark = [pytest.mark.root, needs_tgtd]

NAME = "iqn.2026-11.io.mooring.test:probed"
INITIATOR = "iqn.2026-11.io.mooring.test:initiator"


@pytest.fixture(scope="module")
def tgtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tgtd]:
    with Tgtd(tmp_path_factory.mktemp("tgtd")) as running:
        tid = running.add_target(NAME, DefaultTime2Wait="0")
        running.add_lun(tid, 1)
        running.add_account(running.add_target(f"{NAME}.chap"), "harbour", "a secret of 24 bytes ...")
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state of the kernel's session, as sysfs has it."""
    place = tmp_path / "state"
    place.write_text("LOGGED_IN\n")
    return place


def asked(tgtd: Tgtd, state: Path | None = None, **more: object) -> Wanted:
    base = Wanted("kernel:s:1", NAME, str(dataclasses.replace(tgtd.portal, group_tag=None)), INITIATOR, lun=1)
    return dataclasses.replace(base, state=str(state) if state else None, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def probing(*wanted: Wanted) -> AsyncIterator[list[Found]]:
    """What probes beside these sessions tell, as they tell it."""
    told: list[Found] = []
    prober = Prober(told.append, 0.05)
    prober.want(wanted)
    try:
        yield told
    finally:
        await prober.close()


async def test_a_probe_measures_the_round_trip_and_that_the_disk_is_ready(tgtd: Tgtd, state: Path) -> None:
    async with probing(asked(tgtd, state, local="127.0.0.1")) as told:
        await until(lambda: [each for each in told if each.rtt_us is not None and each.ready_us is not None])
        best = next(each for each in told if each.rtt_us is not None)
        assert (best.state, best.session, best.reason) == ("ok", "kernel:s:1", None)
        assert 0 < (best.rtt_us or 0) < 5e6
        assert tgtd.sessions(1) == 1
    assert tgtd.sessions(1) == 0, "it logs out"


async def test_a_silent_target_is_told_and_when_it_speaks_again_too(tgtd: Tgtd, state: Path) -> None:
    assert tgtd.process is not None
    async with probing(asked(tgtd, state)) as told:
        await until(lambda: any(each.state == "ok" for each in told))
        os.kill(tgtd.process.pid, signal.SIGSTOP)
        try:
            await until(lambda: told[-1].state == "silent")
            assert "silent for" in (told[-1].reason or "")
        finally:
            os.kill(tgtd.process.pid, signal.SIGCONT)
        await until(lambda: told[-1].state == "ok")


async def test_it_makes_way_when_the_kernels_session_is_lost_and_comes_back_after_it(tgtd: Tgtd, state: Path) -> None:
    async with probing(asked(tgtd, state)) as told:
        await until(lambda: any(each.state == "ok" for each in told))
        state.write_text("FAILED\n")
        await until(lambda: told[-1].state == "waiting")
        await until(lambda: tgtd.sessions(1) == 0)
        state.write_text("LOGGED_IN\n")
        await until(lambda: told[-1].state == "ok")


async def test_a_target_that_refuses_it_is_told_once_and_left_alone(tgtd: Tgtd, state: Path) -> None:
    async with probing(asked(tgtd, state, target=f"{NAME}.chap")) as told:
        await until(lambda: bool(told))
        assert told[0].state == "refused"
        assert "refuses a session of our own" in (told[0].reason or "")
        state.write_text("FAILED\n")
        await asyncio.sleep(0)
        assert len(told) == 1


async def test_it_uses_the_credentials_of_the_node_record(tgtd: Tgtd, tmp_path: Path) -> None:
    record = tmp_path / "default"
    record.write_text(
        "node.session.auth.authmethod = CHAP\nnode.session.auth.username = harbour\n"
        "node.session.auth.password = a secret of 24 bytes ...\n"
    )
    async with probing(asked(tgtd, target=f"{NAME}.chap", record=str(record), lun=None)) as told:
        await until(lambda: any(each.rtt_us is not None for each in told))
    assert "secret" not in repr(told)


async def test_a_disk_that_does_not_answer_is_not_ready(tgtd: Tgtd, state: Path) -> None:
    async with probing(asked(tgtd, state, lun=7)) as told:
        await until(lambda: any(each.state == "not-ready" for each in told))
        assert "TEST UNIT READY" in (told[-1].reason or "")


async def test_no_listener_no_session(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wanted = Wanted("kernel:s:9", NAME, f"127.0.0.1:{port}", INITIATOR, state=str(state))
    async with probing(wanted) as told:
        await until(lambda: bool(told))
        assert told[0].state == "lost"
        assert "Connect call failed" in (told[0].reason or "")


async def test_of_two_sessions_that_go_the_same_way_one_is_probed(tgtd: Tgtd, state: Path) -> None:
    one = asked(tgtd, state)
    async with probing(one, dataclasses.replace(one, session="kernel:s:2")) as told:
        await until(lambda: len(told) > 3)
        assert {each.session for each in told} == {"kernel:s:1"}
        assert tgtd.sessions(1) == 1


async def test_every_command_that_could_change_something_is_refused(tgtd: Tgtd) -> None:
    session = ProbeSession(SessionConfig(NAME, tgtd.portal, INITIATOR), None, None)
    await session.start()
    try:
        for code in sorted(set(range(256)) - set(ASKING)):
            with pytest.raises(ValueError, match="does not send"):
                await session.execute(1, bytes([code]) + bytes(15))
        for action in sorted(set(range(32)) - {0x0A}):
            with pytest.raises(ValueError, match="does not send"):
                await session.execute(1, bytes([0xA3, action]) + bytes(10))
        with pytest.raises(ValueError, match="does not send"):
            await session.execute(1, commands.test_unit_ready(), b"data")
        assert (await session.execute(1, commands.inquiry(length=36), None, 36)).status == 0
    finally:
        await session.logout()


async def test_it_has_an_isid_of_its_own(tgtd: Tgtd) -> None:
    told: list[Found] = []
    probes = [Probe(asked(tgtd), told.append)._config() for _ in range(2)]
    assert probes[0].isid != probes[1].isid
    assert probes[0].initiator == INITIATOR


def test_a_socket_comes_from_where_it_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = bound_socket("127.0.0.7", "lo", socket.AF_INET, socket.SOCK_STREAM, 0)
        with sock:
            sock.connect(server.getsockname())
            assert sock.getsockname()[0] == "127.0.0.7"
    with pytest.raises(OSError, match="assign"):
        bound_socket("192.0.2.77", None, socket.AF_INET, socket.SOCK_STREAM, 0)
    with pytest.raises(OSError, match="No such device"):
        bound_socket(None, "none0", socket.AF_INET, socket.SOCK_STREAM, 0)
