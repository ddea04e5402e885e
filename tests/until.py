"""Waiting for a condition in tests, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.005


async def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Let the event loop run until `condition()` is true.

    A condition that is dear (the text of a whole screen) is not to take the time of what it waits for.

    Raises:
        AssertionError: it did not become true within `seconds`.
    """
    began = time.monotonic()
    deadline = began + seconds
    while not condition():
        now = time.monotonic()
        assert now < deadline, f"not within {seconds:g} s: {what or condition}"
        await asyncio.sleep(max(STEP_S, now - began))
        began = time.monotonic()
