"""A real session against a scripted target: what the full feature phase tests share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import Severity
from initiator.protocol.keys import Offer
from initiator.protocol.pdu import DataIn, LoginRequest, NopIn, NopOut, Pdu, ScsiCommand, ScsiResponse
from initiator.scsi.commands import read
from tests.conformance.scripted import Peer, Script, Scripted

INITIATOR = "iqn.2026-11.io.mooring.test:initiator"
TARGET = "iqn.2026-11.io.mooring.test:target"
AT_ONCE = Offer(default_time2wait=0, header_digest=("None",), data_digest=("None",))
"""No wait before a reconnect, no digests: most tests are about something else."""
DIGESTS = Offer(default_time2wait=0, header_digest=("CRC32C",), data_digest=("CRC32C",))

PATIENCE = 8.0


class Watched(EngineSession):
    """A session that keeps what it tells."""

    def __init__(self, config: SessionConfig) -> None:
        super().__init__(config)
        self.told: list[tuple[str, Severity]] = []
        self.states: list[tuple[str, bool]] = []
        self.on_event = lambda _, text, severity: self.told.append((text, severity))
        self.on_state = lambda _: self.states.append((self.state.value, self.suspect))


@contextlib.asynccontextmanager
async def session(*scripts: Script, **options: Any) -> AsyncIterator[tuple[Watched, Scripted]]:
    """A session that is logged in, and the target it talks to. Pings are off unless asked for."""
    async with Scripted(*scripts) as target:
        settings: dict[str, Any] = {"offer": AT_ONCE, "ping_interval": 1000.0, "backoff": 0.05, "login_timeout": 3.0}
        watched = Watched(SessionConfig(TARGET, target.portal, INITIATOR, **(settings | options)))
        await watched.start()
        try:
            yield watched, target
        finally:
            await watched.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - any condition will do
            await asyncio.sleep(0.005)


async def read_block(watched: EngineSession, length: int = 8, patience: float = 5.0) -> bytes:
    """Read a little and check that it is all there."""
    completed = await watched.execute(1, read(0, 1), None, length, patience)
    assert (completed.status, completed.residual) == (0, 0)
    return bytes(completed.data)


async def answer(peer: Peer, command: ScsiCommand, data: bytes = b"12345678") -> None:
    """The honest answer to a read, in one Data-In with status."""
    peer.exp_cmd_sn = (command.cmd_sn + 1) & 0xFFFFFFFF
    await peer.send_pdu(
        peer.numbered(DataIn(initiator_task_tag=command.initiator_task_tag, data=data, final=True, status_present=True))
    )


async def good(peer: Peer, command: ScsiCommand, **changes: Any) -> None:
    """A SCSI Response with GOOD, or what the test wants instead."""
    peer.exp_cmd_sn = (command.cmd_sn + 1) & 0xFFFFFFFF
    await peer.send_pdu(peer.numbered(ScsiResponse(initiator_task_tag=command.initiator_task_tag, **changes)))


async def log_in(peer: Peer) -> LoginRequest:
    """An honest login to a target that can be reconnected to at once."""
    return await peer.log_in(Offer(default_time2wait=0))


async def serve(peer: Peer) -> None:
    """Log in, answer every read and ping until the initiator goes."""
    await log_in(peer)
    while True:
        await respond(peer, await peer.read_pdu())


async def respond(peer: Peer, pdu: Pdu) -> None:
    """The honest answer to a read or a ping; everything else is left alone."""
    if isinstance(pdu, ScsiCommand):
        await answer(peer, pdu)
    elif isinstance(pdu, NopOut) and pdu.initiator_task_tag != 0xFFFFFFFF:
        await peer.send_pdu(peer.numbered(NopIn(initiator_task_tag=pdu.initiator_task_tag, data=pdu.data)))
