"""A session that stays: login, liveness, reconnect with reinstatement, replay, logout.

One `EngineSession` is one session with one connection. It is used from one event loop; its callbacks run inside that
loop and must not block. When the connection breaks, the same session is reinstated (same ISID, TSIH 0; RFC 7143, 6.3.5)
and what was not answered is sent again or handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from initiator.engine import oneshot
from initiator.engine.connect import Connected, connect
from initiator.engine.drain import Drain
from initiator.engine.liveness import TICK, Liveness
from initiator.engine.recorded import Recorded
from initiator.engine.session_config import Completed, SessionConfig
from initiator.engine.transport import Transport
from initiator.engine.waiting import Pauses, Waiting, fail, outcome_unknown, sort_lost
from initiator.model import SessionState, Severity
from initiator.protocol.errors import ConnectionLost, IscsiError, LocalProtocolError, LoginError
from initiator.protocol.keys import Params
from initiator.protocol.session import (
    AsyncEvent,
    Event,
    FullFeature,
    LoggedOut,
    Negotiated,
    Pong,
    Rejected,
    Task,
    TaskError,
)
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import Sense, parse_sense

_WAITING_FOR_LOGOUT = 0x0C

log = logging.getLogger(__name__)


class EngineSession(Recorded):
    """A session with one target through one portal.

    Attributes:
        config: As given.
        portal: The portal of the current connection; differs from the configured one after a redirect.
        state: LOGGED_IN takes commands; FAILED is being reconnected; FREE was given up; LOGGED_OUT is over.
        reason: Why it is not logged in, in one sentence.
        suspect: True while the target owes an answer and has been silent for `suspect_after`.
        params: What was negotiated last, or None.
        tsih: The target's handle.
        reconnects: How often the session was reinstated.
        counters: What has gone through, over all connections.
        rtt_us: Round trip of the last ping, in microseconds.
        local_address: Our end of the connection as (host, port), or None while there is none.
        peer_address: The target's end.
        dialogue: What was said in the last login, for people; empty before the first.
        on_state: Told after `state`, `reason` or `suspect` has changed.
        on_event: Told what a person may want to know.
        on_sense: Told the LUN field and the sense data that the target sends on its own (11.9.1, event 0).
        on_lost: If set, gets the unanswered tasks when the connection breaks; otherwise they wait and are sent again.
    """

    def __init__(self, config: SessionConfig) -> None:
        self._loop = asyncio.get_running_loop()
        super().__init__(config, self._loop.time)
        self.portal = config.portal
        self.state = SessionState.LOGGED_OUT
        self.reason: str | None = "not started"
        self.suspect = False
        self.params: Params | None = None
        self.tsih = 0
        self.reconnects = 0
        self.rtt_us: float | None = None
        self.local_address: tuple[str, int] | None = None
        self.peer_address: tuple[str, int] | None = None
        self.notes: tuple[str, ...] = ()
        self.on_state: Callable[[Any], None] | None = None
        self.on_lost: Callable[[Any, Sequence[Task]], None] | None = None
        self.on_sense: Callable[[Any, bytes, Sense], None] | None = None
        self._stored_portal = config.portal
        self._open: Transport | None = None  # the transport while it takes commands
        self._waiting = Waiting()
        self._reconnecting: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._liveness = Liveness(config, 0.0)
        self._lost_at = self._up_at = 0.0
        self._wait = 0.0
        self._pauses = Pauses(config.backoff, config.backoff_limit)
        self._drain: Drain | None = None
        self._logged_out: asyncio.Future[LoggedOut] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def isid(self) -> bytes:
        """Our half of the session's identity."""
        return self.config.isid

    @property
    def in_flight(self) -> int:
        """Commands without an answer."""
        return len(self._waiting) + (self._transport.core.in_flight if self._transport is not None else 0)

    def tcp_info(self) -> bytes | None:
        """The kernel's `struct tcp_info` of the connection, or None while there is none."""
        return None if self._transport is None else self._transport.tcp_info()

    # Commands

    def submit(self, task: Task) -> None:
        """Send a command. `task.done` is called once, later, from the loop; or the task goes to `on_lost`.

        While the connection is away the task waits for the next one, unless `on_lost` is set: then it fails.
        """
        if self._open is not None:
            self._open.submit(task)
        elif self.state in (SessionState.FAILED, SessionState.LOGGING_IN) and self.on_lost is None and not self._ended:
            self._waiting.add(task)
        else:
            error = ConnectionLost(f"the session is {self.state}: {self.reason}", code="not-logged-in")
            self._loop.call_soon(fail, [task], error)

    async def execute(
        self,
        lun: int | bytes,
        cdb: bytes,
        data_out: memoryview | bytes | None = None,
        read_length: int = 0,
        timeout: float = 30.0,  # noqa: ASYNC109 - becomes the task's deadline, with an abort behind it
    ) -> Completed:
        """Run one SCSI command at a LUN number or field and wait for it.

        Where the connection breaks on the way, it is sent again only if that can do no harm (`may_be_repeated`).

        Raises:
            IscsiError: there is no SCSI status: timed out, connection lost, session closed, outcome unknown.
        """
        return await oneshot.run(self.submit, lun, cdb, data_out, read_length, timeout)

    # Life

    async def start(self) -> None:
        """Log in.

        Raises:
            IscsiError: it did not work; the session is FREE then, and `start` may be called again.
        """
        self._ended = False
        self._set_state(SessionState.LOGGING_IN, None)
        try:
            connected = await self._connect()
        except IscsiError as error:
            self._set_state(SessionState.FREE, str(error))
            fail(self._waiting.take(), error)
            raise
        self._established(connected)
        self._liveness = Liveness(self.config, self._loop.time())
        self._ticker = self._loop.call_later(TICK, self._tick)

    async def logout(self, timeout: float = 10.0) -> LoggedOut | None:  # noqa: ASYNC109 - bounds all of its waits
        """Wait for what is in flight, log out, close.

        Returns:
            The target's answer, or None if there was no connection to log out on.

        Raises:
            ConnectionLost: the target did not answer in time; the session is closed all the same.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._log_out()
        except TimeoutError:
            raise ConnectionLost("the target did not answer the logout in time", code="logout-unanswered") from None
        finally:
            await self._end("logged out")

    async def close(self) -> None:
        """Close the connection without a logout; what is in flight fails."""
        await self._end("closed")

    async def _log_out(self) -> LoggedOut | None:
        transport, self._open = self._open, None
        if transport is None:
            return None
        self._logged_out = self._loop.create_future()
        if transport.core.in_flight:
            self._idle = self._loop.create_future()
            await self._idle
        if not transport.closed:
            transport.core.logout(0, self._loop.time())
            transport.kick()
        return await self._logged_out

    async def _end(self, reason: str) -> None:
        reconnecting, self._reconnecting = self._reconnecting, None
        self._ended = True
        self._open = None
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        tasks: list[Task] = []
        if self._transport is not None:
            self._transport.close()
            tasks = self._transport.core.abandon()
            self._transport = None
        self._forget_connection()
        self._set_state(SessionState.LOGGED_OUT, reason)
        fail([*tasks, *self._waiting.take()], ConnectionLost("the session was closed", code="closed"))
        if reconnecting is not None:
            reconnecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reconnecting

    # Connecting

    async def _connect(self) -> Connected:
        config = self.config
        return await connect(
            self._stored_portal, config.login, config.login_timeout, make=self._socket_maker, listen=self._heard
        )

    def _established(self, connected: Connected) -> None:
        """A fresh connection: everything of the old one is gone, so that nothing can mix (7.15)."""
        result = connected.result
        self.portal, self._stored_portal = connected.portal, connected.stored
        self.params, self.tsih, self.notes = result.params, result.tsih, result.notes
        self.local_address, self.peer_address = connected.local, connected.peer
        self._wait = result.params.default_time2wait
        self._up_at = self._loop.time()
        self._drain = None
        self._count_from_here()
        core = FullFeature(
            result.params,
            result,
            self._loop.time(),
            task_timeout=self.config.task_timeout,
            management_timeout=self.config.management_timeout,
            counters=self.counters,
        )
        self._transport = self._open = Transport(
            connected.sock,
            core,
            on_lost=self._connection_lost,
            on_event=self._handle_events,
        )
        for task in self._waiting.take():
            self._open.submit(task)
        self._set_state(SessionState.LOGGED_IN, None)
        for note in result.notes:
            self._tell(note, Severity.NOTE)

    def _connection_lost(self, error: IscsiError) -> None:
        transport, self._transport, self._open = self._transport, None, None
        if transport is None:
            return
        tasks = transport.core.abandon()
        self._lost_at = self._loop.time()
        self._forget_connection()
        for future in (self._idle, self._logged_out):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # a logout awaits one of the two; asyncio would tell the user of the other
        self._set_state(SessionState.FAILED, str(error))
        self._tell(f"connection lost: {error}", Severity.BAD)
        if not self._ended:
            self._reconnecting = self._loop.create_task(self._reconnect())
        self._hand_out(tasks)

    def _hand_out(self, tasks: list[Task]) -> None:
        """What becomes of tasks whose connection is gone (7.15)."""
        unknown, again = sort_lost(tasks)
        fail(unknown, outcome_unknown())
        if self._ended:
            fail(again, ConnectionLost("the session was closed", code="closed"))
        elif self.on_lost is None:
            self._waiting.put_back(again)
        elif again:
            self.on_lost(self, again)

    async def _reconnect(self) -> None:
        """Try until it works or the target says that it never will (11.13.5: class 2)."""
        wait, backoff = self._pauses.after(self._lost_at - self._up_at, self._wait), self.config.backoff
        while True:
            await asyncio.sleep(wait)
            try:
                connected = await self._connect()
            except IscsiError as error:
                final = isinstance(error, LoginError) and not error.retry
                if final:
                    self._give_up(error)
                if final and self.config.retry_refused is None:
                    self._reconnecting = None
                    return
                self._set_state(self.state, str(error))
                wait = self.config.retry_refused if final and self.config.retry_refused else backoff
                backoff = min(2 * backoff, self.config.backoff_limit)
            else:
                break
        self._reconnecting = None
        self.reconnects += 1
        self._established(connected)
        self._tell(f"logged in again after {self._loop.time() - self._lost_at:.1f} s", Severity.NOTE)

    def _give_up(self, error: IscsiError) -> None:
        if self.state is not SessionState.FREE:
            self._tell(f"the target refuses to take the session back: {error}", Severity.BAD)
        self._set_state(SessionState.FREE, str(error))
        fail(self._waiting.take(), error)

    # Liveness

    def _tick(self) -> None:
        now = self._loop.time()
        stalled = self._liveness.stalled(now)
        self._ticker = self._loop.call_later(TICK, self._tick)
        self._tell_left_out()
        transport = self._transport
        if transport is None:
            self._tick_away(now)
            return
        transport.tick()
        if self._idle is not None and not self._idle.done() and not transport.core.in_flight:
            self._idle.set_result(None)
        if not stalled and not transport.closed:
            self._check_liveness(transport, now)
        if self._drain is not None and not transport.closed:
            self._drain.tick(transport, now)

    def _check_liveness(self, transport: Transport, now: float) -> None:
        suspect = self._liveness.suspect(transport, now) and self.state is SessionState.LOGGED_IN
        if suspect != self.suspect and not transport.closed:
            self.suspect = suspect
            quiet = f"the target has been silent for {self._liveness.quiet:.1f} s"
            self._set_state(self.state, quiet if suspect else None)

    def _tick_away(self, now: float) -> None:
        """While there is no connection: commands wait, but not for ever."""
        fail(self._waiting.take_late(now), TaskError(f"no connection in time: {self.reason}", code="timeout"))
        if self.state is SessionState.FAILED and now - self._lost_at >= self.config.replacement_timeout:
            self._set_state(SessionState.FREE, self.reason)
            error = TaskError(f"no new connection came about in time: {self.reason}", code="replacement-timeout")
            fail(self._waiting.take(), error)

    # What the target says

    def _handle_events(self) -> None:
        transport = self._transport
        while transport is not None and transport.core.events and not transport.closed:
            self._handle(transport, transport.core.events.popleft())

    def _handle(self, transport: Transport, event: Event) -> None:
        match event:
            case Pong(seconds):
                self.rtt_us = seconds * 1e6
            case AsyncEvent():
                self._async_event(transport, event)
            case Rejected(reason):
                self._relay(f"the target rejected a PDU, reason {reason:#04x}", Severity.WARN)
                if reason == _WAITING_FOR_LOGOUT:
                    self._begin_drain(0)
            case LoggedOut():
                self._answered_logout(transport, event)
            case Negotiated(params, error):
                self.params = params
                if error is None and self._words.admits():
                    log.info("%s: negotiated again: %s", self.config.target, params.as_text())
                elif error is not None:
                    self._relay(f"a negotiation failed, and what was agreed before stays: {error}", Severity.WARN)

    def _async_event(self, transport: Transport, event: AsyncEvent) -> None:
        """What the target asks for on its own (11.9.1)."""
        if event.event == 1:
            self._relay(f"the target asks for a logout within {event.parameter3} s", Severity.WARN)
            self._begin_drain(event.parameter3)
        elif event.event in (2, 3):
            self._wait = event.parameter2
            transport.drop(ConnectionLost("the target announced that it drops the connection", code="dropped"))
        elif event.event == 4:
            if transport.core.sendable:
                with contextlib.suppress(LocalProtocolError):  # one text request under way is answer enough
                    transport.core.negotiate(self._loop.time())
        elif event.event == 0:
            self._scsi_event(event)
        else:
            self._relay(f"the target sent asynchronous message {event.event}", Severity.NOTE)

    def _scsi_event(self, event: AsyncEvent) -> None:
        """Sense data about a logical unit, not in answer to a command; behind its length (11.9.4)."""
        length = int.from_bytes(event.data[:2], "big")
        try:
            sense = parse_sense(event.data[2 : 2 + length])
        except ScsiFormatError as error:
            self._relay(f"the target reports a SCSI event that cannot be read: {error}", Severity.WARN)
            return
        self._relay(f"the target reports {sense.explain()}", Severity.NOTE)
        if self.on_sense is not None:
            self.on_sense(self, event.lun, sense)

    def _begin_drain(self, seconds: int) -> None:
        """The target wants a logout: no new commands, a while for the old ones, then log out and come back."""
        if self._drain is None and self._open is not None:
            self._open = None
            self._drain = Drain(seconds, self.config.management_timeout, self._loop.time())
            self._set_state(SessionState.FAILED, "the target asked for a logout")

    def _answered_logout(self, transport: Transport, event: LoggedOut) -> None:
        if self._logged_out is not None:
            if not self._logged_out.done():
                self._logged_out.set_result(event)
            return
        self._wait = event.time2wait
        transport.drop(ConnectionLost("logged out because the target asked for it", code="dropped"))

    # Telling others

    def _set_state(self, state: SessionState, reason: str | None) -> None:
        if state is not SessionState.LOGGED_IN:
            self.suspect = False
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        if self.on_state is not None:
            self.on_state(self)

    def _forget_connection(self) -> None:
        self.local_address = self.peer_address = None
        self.rtt_us = None
