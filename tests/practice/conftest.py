"""A practice target on ephemeral ports, inside the test's own event loop."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from initiator.model import Portal
from initiator.practice.config import ChapConfig, DiskConfig, RangeConfig, TargetConfig
from initiator.practice.target import Target
from tests.practice.peer import Peer

MIB = 1 << 20
OPEN = "iqn.2026-11.io.mooring.test:open"
LOCKED = "iqn.2026-11.io.mooring.test:locked"
SECRET = "a secret of length"
THEIR_SECRET = "another one for the target"


def build(folder: Path) -> RangeConfig:
    """Two targets, three disks (one of them with 4096-byte blocks), two portals."""

    def disk(name: str, block_bytes: int = 512) -> DiskConfig:
        return DiskConfig(name, str(uuid.uuid4()), str(folder / f"{name}.img"), 8 * MIB, block_bytes)

    return RangeConfig(
        targets=(
            TargetConfig(OPEN, {0: "data", 1: "logs"}, alias="an open door"),
            TargetConfig(LOCKED, {0: "vault"}, chap=ChapConfig("keeper", SECRET, "harbour", THEIR_SECRET)),
        ),
        disks=(disk("data"), disk("logs", 4096), disk("vault")),
        portals=(Portal("127.0.0.1", 0, 1), Portal("127.0.0.2", 0, 2)),
        control=str(folder / "practice.sock"),
    )


@pytest.fixture
async def target(own_folders: Path) -> AsyncIterator[Target]:
    """A running target."""
    running = Target(build(own_folders))
    await running.start()
    yield running
    await running.close()


Connect = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def connect(target: Target) -> AsyncIterator[Connect]:
    """Open connections; `connect(portal=0)` only connects, `connect(login=OPEN)` also logs in and settles."""
    peers: list[Peer] = []

    async def open_(portal: int = 0, login: str | None = None, settle: bool = True, **fields: object) -> Peer:
        peer = await Peer.connect(target.config.portals[portal])
        peers.append(peer)
        if login:
            answer = await peer.login(login, **fields)  # type: ignore[arg-type]
            assert answer.status_class == 0, answer
            assert answer.transit, answer
            if settle:
                await peer.settle()
        return peer

    yield open_
    for peer in peers:
        await peer.close()
