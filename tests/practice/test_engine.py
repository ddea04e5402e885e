"""The target against Mooring's own engine: login with everything on, data, faults, recovery."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator

import pytest

from initiator.engine.discovery import discover
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import SessionState
from initiator.practice.faults import parse
from initiator.practice.target import Target
from initiator.protocol.chap import Chap
from initiator.protocol.errors import AuthError
from initiator.protocol.keys import Offer
from initiator.scsi import commands
from tests.practice.conftest import LOCKED, OPEN, SECRET, THEIR_SECRET
from tests.practice.peer import NAME
from tests.until import until

DIGESTS = ("CRC32C", "None")


def apply(target: Target, name: str, *args: str) -> None:
    disks = [disk.name for disk in target.config.disks]
    target.board.apply(parse(name, args, target.config.portals, disks))


@pytest.fixture
async def session(target: Target) -> AsyncIterator[EngineSession]:
    """A session to the target with CHAP, with both digests."""
    config = SessionConfig(
        target=LOCKED,
        portal=target.config.portals[0],
        initiator=NAME,
        chap=Chap("keeper", SECRET),
        offer=Offer(header_digest=DIGESTS, data_digest=DIGESTS),
        ping_interval=0.1,
        suspect_after=0.2,
        lost_after=0.6,
        backoff=0.05,
    )
    made = EngineSession(config)
    await made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("algorithm", [5, 6, 7, 8])
async def test_both_sides_prove_themselves_with_every_hash(target: Target, algorithm: int) -> None:
    chap = Chap("keeper", SECRET, "harbour", THEIR_SECRET)
    order = tuple(dict.fromkeys((algorithm, 5)))
    config = SessionConfig(LOCKED, target.config.portals[0], NAME, chap=chap, chap_algorithms=order)
    made = EngineSession(config)
    await made.start()
    assert any(line.startswith(f"<- security: CHAP_A={algorithm},") for line in made.dialogue)
    assert sum(line.count("CHAP_R=(hidden)") for line in made.dialogue) == 2
    await made.logout()
    wrong = dataclasses.replace(config, chap=Chap("keeper", SECRET, "harbour", "a secret it does not have"))
    false = EngineSession(wrong)
    with pytest.raises(AuthError):
        await false.start()
    await false.close()


async def settle(session: EngineSession) -> None:
    for _ in range(4):
        if (await session.execute(0, commands.test_unit_ready())).status == 0:
            return
    raise AssertionError("unit attentions without end")


async def test_discovery(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="initiator.engine.discovery"):
        found = await discover(target.config.portals[0], NAME)
    said = [record.getMessage() for record in caplog.records]
    assert "SessionType=Discovery" in said[1]
    assert said[-1].startswith("discovery: agreed: ")
    assert [one.name for one in found] == [OPEN, LOCKED]
    assert all(one.portals == target.config.portals for one in found)


async def test_what_was_agreed_and_what_is_written(session: EngineSession) -> None:
    assert session.params is not None
    assert (session.params.header_digest, session.params.data_digest) == (True, True)
    await settle(session)
    data = os.urandom(1 << 20)
    assert (await session.execute(0, commands.write(3, 2048), data_out=memoryview(data))).status == 0
    done = await session.execute(0, commands.read(3, 2048), read_length=len(data))
    assert (done.status, bytes(done.data), done.residual) == (0, data, 0)
    assert (await session.execute(0, commands.synchronize_cache16())).status == 0


async def test_it_comes_back_after_a_cut_cable(session: EngineSession, target: Target) -> None:
    await settle(session)
    apply(target, "cut", "1")
    await until(lambda: session.state is not SessionState.LOGGED_IN, what="the lost session")
    apply(target, "plug", "1")
    await until(lambda: session.state is SessionState.LOGGED_IN, 10, what="the session")
    assert session.reconnects == 1
    assert len(target.server.sessions) == 1
    await settle(session)


@pytest.mark.parametrize("fault", [("drop", "1"), ("corrupt-digest", "1"), ("ask-logout", "1")])
async def test_it_comes_back_after_other_faults(session: EngineSession, target: Target, fault: tuple[str, ...]) -> None:
    await settle(session)
    apply(target, *fault)
    await until(lambda: session.reconnects == 1, 10, what="the new login")
    await until(lambda: session.state is SessionState.LOGGED_IN, 10, what="the session")
    await settle(session)
    done = await session.execute(0, commands.read(0, 8), read_length=4096)
    assert done.status == 0
