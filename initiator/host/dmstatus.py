"""What the kernel's device mapper does with each path, for when multipathd does not tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from initiator.errors import MooringError
from initiator.host.multipath import MapInfo, parse_dm_status
from initiator.host.run import run

_DEADLINE = 2.0
_PAUSE = 2.0
"""Seconds between two questions: each one costs a process."""


class DmStatus:
    """Asks `dmsetup status` now and then. Needs root; without it nothing is known.

    Args:
        root: Only on `/` there is a kernel to ask.
        monotonic: A clock for durations.
    """

    def __init__(self, root: Path = Path("/"), monotonic: Callable[[], float] = time.monotonic) -> None:
        self._able = root == Path("/") and os.geteuid() == 0
        self._monotonic = monotonic
        self._next = 0.0
        self._maps: dict[str, MapInfo] | None = None

    def __call__(self) -> dict[str, MapInfo] | None:
        """The maps by name; None where the device mapper cannot be asked."""
        if self._able and self._monotonic() >= self._next:
            self._maps = self._ask()
            self._next = self._monotonic() + _PAUSE
        return self._maps

    def _ask(self) -> dict[str, MapInfo] | None:
        # --noflush: a plain status would wait for I/O that a map without paths queues for ever
        try:
            done = run(["dmsetup", "status", "--noflush", "--target", "multipath"], _DEADLINE)
            return {found.name: found for found in parse_dm_status(done.stdout)} if done.returncode == 0 else None
        except MooringError:
            return None
