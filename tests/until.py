"""Waiting for a condition in tests, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.005


async def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Let the event loop run until `condition()` is true.

    Raises:
        AssertionError: it did not become true within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        await asyncio.sleep(STEP_S)
