"""What a session tells people: what was said in its logins, what went through it, its news, a trace of its wire."""

from __future__ import annotations

import dataclasses
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from initiator.engine.session_config import SessionConfig
from initiator.engine.tap import Trace, retap
from initiator.engine.throttle import Throttle
from initiator.engine.transport import Transport
from initiator.model import Severity
from initiator.protocol.dialogue import Dialogue
from initiator.protocol.ffp_task import Counters

_NEWS = (60, 1.0)
"""Of a session's own life. One that reconnects as often as the usual Time2Wait allows stays below that."""
_WORDS = (20, 10.0)
"""Of what the target says on its own."""

log = logging.getLogger(__name__)


class Recorded:
    """The part of a session that only looks on.

    Attributes:
        config: As given.
        counters: What has gone through, over all connections.
        dialogue: What was said in the last login, for people; empty before the first.
        on_event: Told what a person may want to know.
    """

    def __init__(self, config: SessionConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self.counters = Counters()
        self.dialogue: tuple[str, ...] = ()
        self.on_event: Callable[[Any, str, Severity], None] | None = None
        self._news = Throttle(*_NEWS, clock)
        self._words = Throttle(*_WORDS, clock)
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

    def _tell(self, text: str, severity: Severity) -> None:
        """Tell what becomes of the session."""
        if self._news.admits():
            self._say(text, severity)

    def _relay(self, text: str, severity: Severity) -> None:
        """Tell what the target says on its own, as long as it is not too much."""
        if self._words.admits():
            self._say(text, severity)

    def _tell_left_out(self) -> None:
        """To be called a few times a second."""
        if count := self._news.left_out():
            self._say(f"the session changes too often to tell all of it: {count} events were left out", Severity.WARN)
        if count := self._words.left_out():
            self._say(f"the target says too much to tell all of it: {count} messages were left out", Severity.WARN)

    def _say(self, text: str, severity: Severity) -> None:
        if self.on_event is not None:
            self.on_event(self, text, severity)
