"""An engine that holds nothing ends, and never on somebody who asks it for something just then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from initiator.engine import rpc, supervisor
from initiator.engine.logfile import keep_short
from initiator.engine.settings import Settings
from tests.until import until


class Clock(SimpleNamespace):
    """The supervisor's `time`, moved by the test."""

    now = 0.0
    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(supervisor, "time", found)
    return found


@contextlib.asynccontextmanager
async def serving(listener: socket.socket, folder: Path) -> AsyncIterator[asyncio.Task[None]]:
    """An engine whose process ends with it, as everything does that it has open."""

    async def run() -> None:
        await supervisor.Supervisor(folder, Settings(idle=10.0), "none", "none").run(listener)
        listener.close()

    running = asyncio.create_task(run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])


def knock(folder: Path) -> socket.socket:
    """A connection that has sent its order, whether or not the engine has looked at it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(folder / rpc.SOCKET_NAME))
    connection.sendall(rpc.encode(rpc.request(1, "hello", {})))
    connection.setblocking(False)
    return connection


async def answered(connection: socket.socket) -> bool:
    async with asyncio.timeout(10.0):
        return b'"pid"' in await asyncio.get_running_loop().sock_recv(connection, 1 << 16)


async def test_who_made_sure_of_an_engine_has_it_for_the_order_that_follows(own_folders: Path, clock: Clock) -> None:
    folder = own_folders / "runtime"
    async with serving(supervisor._listen(folder), folder) as running:
        await until(lambda: clock.looks > 2, what="the engine's first look")
        clock.now = 9.0
        with knock(folder) as connection:
            assert await answered(connection)
        clock.now, looks = 12.0, clock.looks
        await until(lambda: running.done() or clock.looks > looks + 4, what="its next looks")
        assert not running.done()
        clock.now = 30.0
        await asyncio.wait_for(running, 10.0)
    assert not (folder / rpc.SOCKET_NAME).exists()


async def test_who_knocks_in_the_last_moment_is_served_first(
    own_folders: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is up, and the order waits in the backlog, where the event loop has not seen it yet."""
    folder = own_folders / "runtime"
    knocking: list[socket.socket] = []

    def knock_before_the_verdict(path: Path, limit: int) -> None:
        keep_short(path, limit)
        if clock.now and not knocking:
            knocking.append(knock(folder))

    monkeypatch.setattr(supervisor, "keep_short", knock_before_the_verdict)
    async with serving(supervisor._listen(folder), folder) as running:
        await until(lambda: clock.looks > 2, what="the engine's first look")
        clock.now = 11.0
        await until(lambda: knocking or running.done(), what="the last moment")
        assert await answered(knocking[0])
        with knock(folder) as second:
            assert await answered(second), "it listens again"
        knocking[0].close()
        clock.now = 30.0
        await asyncio.wait_for(running, 10.0)
