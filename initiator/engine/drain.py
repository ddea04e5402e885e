"""A logout that the target has asked for (RFC 7143, 11.9.1): no new commands, a while for the old ones, then leave."""

from __future__ import annotations

from initiator.engine.transport import Transport
from initiator.protocol.errors import ConnectionLost


class Drain:
    """The way from the target's request to our logout.

    Args:
        seconds: What the target gives us; half of it, less a second, is for the commands under way.
        patience: Seconds that the target may take to answer the logout.
        now: The time on the loop's clock.
    """

    def __init__(self, seconds: int, patience: float, now: float) -> None:
        self._until = now + max(0.0, seconds - 1.0) / 2
        self._patience = patience

    def tick(self, transport: Transport, now: float) -> None:
        """Log out once nothing is under way or the time is up; drop a connection whose target does not answer."""
        if transport.core.sendable:
            if not transport.core.in_flight or now >= self._until:
                transport.core.logout(0, now)
                transport.kick()
                self._until = now + self._patience
        elif now >= self._until:
            transport.drop(ConnectionLost("the target did not answer the logout it had asked for", code="dropped"))
