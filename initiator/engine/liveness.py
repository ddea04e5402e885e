"""Whether the target still answers: pings, suspicion, and when a silent connection is given up (RFC 7143, 11.18)."""

from __future__ import annotations

from initiator.engine.session_config import SessionConfig
from initiator.engine.transport import Transport
from initiator.protocol.errors import ConnectionLost

TICK = 0.1
"""Seconds between two looks at deadlines and liveness."""
_STALL = 3 * TICK
"""A tick later than this was held up on our side, and tells nothing about the target."""


class Liveness:
    """Looks at one connection after the other, tick by tick.

    Attributes:
        quiet: For how many seconds nothing has been heard, at the last look.
    """

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.quiet = 0.0
        self._config = config
        self._last_tick = now

    def stalled(self, now: float) -> bool:
        """Note a tick; True if it comes too late to judge by."""
        late = now - self._last_tick > _STALL
        self._last_tick = now
        return late

    def suspect(self, transport: Transport, now: float) -> bool:
        """Ping if it is time; True if the target owes an answer and has been silent for too long.

        A connection that has been silent for even longer is dropped.
        """
        core, config = transport.core, self._config
        self.quiet = quiet = now - max(core.last_received, transport.last_drained)
        if quiet >= config.lost_after and core.waiting:
            transport.drop(ConnectionLost(f"the target has been silent for {quiet:.1f} s", code="silent"))
            return False
        if now - core.last_received >= config.ping_interval and core.ping(now):
            transport.kick()
        return quiet >= config.suspect_after and core.waiting
