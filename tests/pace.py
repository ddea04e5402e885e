"""How long something took in a test's event loop, without what the machine took from all of it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

_BEAT_S = 0.02


class Pace:
    """A clock that stands still while nothing in this process runs.

    Use it as `async with Pace() as pace: ...; assert pace.took < 1.0`. A heartbeat in the same event loop tells how
    long the loop was held up: for so long nothing that is measured in it could go on either.
    """

    def __init__(self) -> None:
        self._began = self._beat = time.monotonic()
        self._held_up = 0.0

    async def __aenter__(self) -> Self:
        self._began = self._beat = time.monotonic()
        self._heart = asyncio.create_task(self._live())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.cancel()

    @property
    def took(self) -> float:
        """Seconds since the beginning in which the loop could run."""
        return time.monotonic() - self._began - self._held_up - self._late()

    def _late(self) -> float:
        return max(0.0, time.monotonic() - self._beat - _BEAT_S)

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            self._held_up += self._late()
            self._beat = time.monotonic()
