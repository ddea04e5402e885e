"""What is kept of a session for people: what was said in its logins, what went through it, a trace of its wire."""

from __future__ import annotations

import dataclasses
import logging
import socket
from collections.abc import Callable
from functools import partial

from initiator.engine.session_config import SessionConfig
from initiator.engine.tap import Trace, retap
from initiator.engine.transport import Transport
from initiator.protocol.dialogue import Dialogue
from initiator.protocol.ffp_task import Counters

log = logging.getLogger(__name__)


class Recorded:
    """The part of a session that only looks on.

    Attributes:
        config: As given.
        counters: What has gone through, over all connections.
        dialogue: What was said in the last login, for people; empty before the first.
    """

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.counters = Counters()
        self.dialogue: tuple[str, ...] = ()
        self._transport: Transport | None = None
        self._trace: Trace | None = None
        self._counted = Counters()
        """What was counted when the present connection was made."""

    @property
    def connection_counters(self) -> Counters:
        """What has gone through over the present connection, or the last one."""
        return self.counters.since(self._counted)

    @property
    def traced(self) -> bool:
        """True while it is recorded."""
        return self._trace is not None

    def record(self, trace: Trace | None) -> None:
        """Record everything that goes over this session's connections from now on, or stop that."""
        self._trace = trace
        transport = self._transport
        if transport is not None and not transport.closed:
            transport.swap(partial(retap, trace=trace, clean=lambda: not transport.core.inside_pdu))

    def _heard(self, dialogue: Dialogue) -> None:
        """Keep what was said in a login; the log has it once, however often the same is said."""
        lines = tuple(dialogue.lines)
        if lines != self.dialogue:
            self.dialogue = lines
            for line in lines:
                log.info("%s: %s", self.config.target, line)

    @property
    def _socket_maker(self) -> Callable[[int, int, int], socket.socket]:
        """What makes the socket of the next connection."""
        return socket.socket if self._trace is None else self._trace.make

    def _count_from_here(self) -> None:
        """A connection begins."""
        self._counted = dataclasses.replace(self.counters)
