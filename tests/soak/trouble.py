"""The faults of a soak, as a table, and those who make them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from initiator.engine.session import EngineSession
from initiator.model import SessionState
from tests.soak.line import Line
from tests.soak.peers import Peer


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One path of the disk: the line under it and its session."""

    line: Line
    session: EngineSession


@contextlib.asynccontextmanager
async def unplugged(way: Way) -> AsyncIterator[None]:
    """Silence. What the relay holds is only let through if the session lives still: a real wire keeps nothing."""
    lives = way.session.reconnects
    way.line.pull()
    yield
    if way.session.state is not SessionState.LOGGED_IN or way.session.reconnects != lives:
        way.line.cut()
    way.line.plug()


@contextlib.asynccontextmanager
async def reset(way: Way) -> AsyncIterator[None]:
    """Every connection is broken at once."""
    way.line.cut()
    yield


@contextlib.asynccontextmanager
async def garbled(way: Way) -> AsyncIterator[None]:
    """A flipped bit in each direction, which only the digests can find."""
    params = way.session.params
    if way.session.state is SessionState.LOGGED_IN and params and params.header_digest and params.data_digest:
        way.line.garble()
    yield


@contextlib.asynccontextmanager
async def dribbled(way: Way) -> AsyncIterator[None]:
    """One byte at a time."""
    way.line.dribble()
    yield


@contextlib.asynccontextmanager
async def redirected(way: Way) -> AsyncIterator[None]:
    """The next login is sent elsewhere, and there is one now."""
    way.line.redirect = True
    way.line.cut()
    yield


WAY_FAULTS: tuple[tuple[Callable[[Way], AbstractAsyncContextManager[None]], float], ...] = (
    (unplugged, 0.3),
    (unplugged, 4.0),
    (reset, 0.0),
    (garbled, 0.0),
    (dribbled, 0.0),
    (redirected, 0.0),
)
"""Each with the longest time that it lasts, in seconds."""


@contextlib.asynccontextmanager
async def frozen(peer: Peer) -> AsyncIterator[None]:
    """The target stands still; its kernel goes on taking bytes."""
    pid = peer.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def restarted(peer: Peer) -> AsyncIterator[None]:
    """The target is killed, and comes back."""
    await peer.restart()
    yield


@contextlib.asynccontextmanager
async def ordered(peer: Peer, words: tuple[str, ...]) -> AsyncIterator[None]:
    """A fault that the target has of its own."""
    await peer.order(*words)
    try:
        yield
    finally:
        await peer.end(*words)


class Trouble:
    """Makes faults every few seconds, on each line and in the target, until it is told to stop.

    Attributes:
        made: How often each fault was made.
    """

    def __init__(self, ways: list[Way], peer: Peer, seed: int, pause_s: float) -> None:
        self.made: collections.Counter[str] = collections.Counter()
        self._ways = ways
        self._peer = peer
        self._seed = seed
        self._pause_s = pause_s

    async def run(self, enough: asyncio.Event) -> None:
        """Until `enough` is set; every fault has ended then."""
        async with asyncio.TaskGroup() as group:
            for number, way in enumerate(self._ways):
                group.create_task(self._on_way(way, random.Random(f"{self._seed}/{number}"), enough))
            group.create_task(self._on_peer(random.Random(f"{self._seed}/peer"), enough))

    async def _on_way(self, way: Way, dice: random.Random, enough: asyncio.Event) -> None:
        while not await over(enough, dice.uniform(0.5, 1.5) * self._pause_s):
            fault, longest = dice.choice(WAY_FAULTS)
            self.made[fault.__name__] += 1
            async with fault(way):
                await over(enough, dice.random() * longest)

    async def _on_peer(self, dice: random.Random, enough: asyncio.Event) -> None:
        peer = self._peer
        while not await over(enough, dice.uniform(0.5, 1.5) * self._pause_s):
            draw = dice.random()
            if draw < 0.15:
                await self._make("frozen", frozen(peer), dice.choice((0.3, 3.0)) * dice.random(), enough)
            elif draw < 0.25:
                await self._make("restarted", restarted(peer), 0.0, enough)
            elif peer.orders:
                name = dice.choice(sorted({words[0] for words in peer.orders}))
                words = dice.choice([words for words in peer.orders if words[0] == name])
                await self._make(words[0], ordered(peer, words), dice.uniform(0.1, 4.0), enough)

    async def _make(
        self, name: str, fault: AbstractAsyncContextManager[None], seconds: float, enough: asyncio.Event
    ) -> None:
        self.made[name] += 1
        async with fault:
            await over(enough, seconds)


async def over(enough: asyncio.Event, seconds: float) -> bool:
    """True as soon as `enough` is set, False when the time is up before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await enough.wait()
    return enough.is_set()
