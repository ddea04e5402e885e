"""TCP's view of the connections that the kernel's initiator holds, in the form that `KernelReader` asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from initiator.host.tcp import read_tcp
from initiator.model import TcpInfo

SHARE = 0.02
"""Of one core, that asking again and again may take: 0.2 ms for each connection of the host, whosever it is."""


def kernel_connections() -> dict[tuple[int, str, int], TcpInfo]:
    """Every TCP connection of this network namespace by local port, peer and peer's port; iscsid owns the kernel's.

    Empty where the kernel has no inet_diag: then nothing is known of them.
    """
    try:
        return {(seen.local.port, seen.peer.host, seen.peer.port): seen.info for seen in read_tcp()}
    except OSError:
        return {}


class SparingConnections:
    """The same for whoever asks in each reading: an answer that took long is kept for longer.

    Args:
        ask: Gives the connections.
        now: A clock for durations.
        spent: CPU seconds of this thread.
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[tuple[int, str, int], TcpInfo]] | None = None,
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._ask = ask or kernel_connections
        self._now = now
        self._spent = spent
        self._due: float | None = None
        self._last: Mapping[tuple[int, str, int], TcpInfo] = {}

    def __call__(self) -> Mapping[tuple[int, str, int], TcpInfo]:
        """What is known; asked anew if it is old enough for what it costs."""
        if self._due is None or self._now() >= self._due:
            before = self._spent()
            self._last = self._ask()
            self._due = self._now() + (self._spent() - before) / SHARE
        return self._last
