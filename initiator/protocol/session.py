"""The full feature phase of a session with one connection, as a pure state machine (RFC 7143, 4.2, 7, 11).

Bytes go in through `buffers` and `received`, bytes come out through `take_out` and `sent`; time is an argument.
Tasks are completed by callback from inside. When the target breaks a rule, a method raises; the driver then closes the
socket, calls `abandon`, and recovers by logging in again: that is all there is at ErrorRecoveryLevel 0 (7.1.4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from initiator.protocol.errors import LocalProtocolError
from initiator.protocol.ffp_commands import Commands
from initiator.protocol.ffp_control import Control
from initiator.protocol.ffp_manage import (
    ABORT_TASK,
    FUNCTION_SUCCEEDED,
    LU_RESET,
    NEXUS_RESET,
    QUERY_TASK,
    QUERY_TASK_SET,
    TARGET_WARM_RESET,
    TASK_REASSIGN,
)
from initiator.protocol.ffp_numbers import Numbers
from initiator.protocol.ffp_outbox import Outbox
from initiator.protocol.ffp_receive import Receiver
from initiator.protocol.ffp_task import (
    AsyncEvent,
    Counters,
    Event,
    LoggedOut,
    Management,
    Negotiated,
    Pong,
    Rejected,
    Task,
    TaskError,
    TextAnswer,
)
from initiator.protocol.keys import Params

__all__ = [
    "ABORT_TASK",
    "FUNCTION_SUCCEEDED",
    "LU_RESET",
    "NEXUS_RESET",
    "QUERY_TASK",
    "QUERY_TASK_SET",
    "TARGET_WARM_RESET",
    "AsyncEvent",
    "Counters",
    "Event",
    "FullFeature",
    "LoggedOut",
    "Management",
    "Negotiated",
    "Pong",
    "Rejected",
    "Start",
    "Task",
    "TaskError",
    "TextAnswer",
]


class Start(Protocol):
    """What the login leaves behind for the full feature phase; `LoginResult` is one."""

    @property
    def cmd_sn(self) -> int:
        """CmdSN of the first command."""

    @property
    def exp_stat_sn(self) -> int:
        """The next StatSN."""

    @property
    def exp_cmd_sn(self) -> int:
        """ExpCmdSN of the last Login Response."""

    @property
    def max_cmd_sn(self) -> int:
        """MaxCmdSN of the last Login Response."""


class FullFeature:
    """One connection in the full feature phase.

    Attributes:
        counters: What has gone through so far.
        events: What the target said beside answering tasks; the driver empties it.
        last_received: When bytes came in last.
        buffers: `() -> list[memoryview]`: one or two places where the next bytes of the connection go, in this order.
        submit: `(task, now)`: sends a SCSI command, or queues it until the target's command window opens; raises
            LocalProtocolError when the session is being closed or the task is malformed.
    """

    def __init__(
        self,
        params: Params,
        start: Start,
        now: float,
        *,
        cid: int = 0,
        task_timeout: float = 60.0,
        management_timeout: float = 5.0,
        counters: Counters | None = None,
    ) -> None:
        """Begin right after the login.

        Args:
            params: What was negotiated.
            start: The counters as the login left them.
            now: The time on the caller's clock, as in every other call.
            cid: Of the connection.
            task_timeout: Seconds that a command without a deadline may take once it was sent (7.11).
            management_timeout: Seconds that a task management request may take.
            counters: To go on counting where another connection has ended.
        """
        self._task_timeout = task_timeout
        self.counters = Counters() if counters is None else counters
        self.last_received = now
        numbers = Numbers(start.cmd_sn, start.exp_stat_sn, start.exp_cmd_sn, start.max_cmd_sn)
        self._outbox = Outbox(header_digest=params.header_digest, data_digest=params.data_digest)
        self._commands = Commands(params, numbers, self._outbox, self.counters)
        self._commands.now = now
        self._control = Control(self._commands, cid=cid, management_timeout=management_timeout)
        self._receiver = Receiver(
            self._commands,
            self._control.received,
            header_digest=params.header_digest,
            data_digest=params.data_digest,
            max_data=params.max_recv_data_segment_length,
        )
        self.events = self._control.events
        self.buffers = self._receiver.buffers
        self.submit = self._commands.submit

    @property
    def params(self) -> Params:
        """What is agreed on now; a negotiation may change it."""
        return self._commands.params

    # What the driver does

    def received(self, count: int, now: float) -> None:
        """`count` bytes were put where `buffers` said.

        Raises:
            RemoteProtocolError: the target broke a rule of the RFC; the connection has to be dropped.
            ConnectionLost: it refuses the reset that a hanging task needs, or does not read the answers that it asks
                for; the connection has to be dropped.
        """
        self._commands.now = self.last_received = now
        self._receiver.received(count)

    @property
    def out(self) -> bool:
        """True if something waits to be sent."""
        return bool(self._outbox.vectors)

    def take_out(self) -> list[bytes | memoryview]:
        """The next buffers for one `sendmsg`; the list must not be changed."""
        return self._outbox.take()

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of `take_out`."""
        self._outbox.sent(count)

    def tick(self, now: float) -> None:
        """Look at deadlines; to be called a few times a second.

        Raises:
            ConnectionLost: a hanging task outlived abort and reset; the connection has to be dropped (7.11).
        """
        self._commands.now = now
        for task in self._commands.expired(self._task_timeout):
            self.counters.timeouts += 1
            self.abort(task, TaskError("the target did not answer the command in time", code="timeout"))
        self._control.tick()

    def abandon(self) -> list[Task]:
        """The connection is gone: hand back the tasks without an answer, in the order they were submitted.

        Tasks that were being aborted are ended here, with the reason for that. Afterwards the object is of no use.
        """
        tasks = self._commands.abandon()
        self._control.manager.abandon()
        return tasks

    # What the user of a session does

    @property
    def in_flight(self) -> int:
        """Tasks without an answer, sent or waiting for the command window."""
        return len(self._commands.live) + len(self._commands.pending)

    @property
    def waiting(self) -> bool:
        """True if the target owes an answer to anything that was sent."""
        return bool(self._commands.live) or self._control.waiting

    @property
    def inside_pdu(self) -> bool:
        """True if the stream may not end here (7.14)."""
        return self._receiver.inside_pdu

    @property
    def sendable(self) -> bool:
        """True until a logout is sent or the connection is abandoned (11.14)."""
        return self._commands.sendable

    def ping(self, now: float) -> bool:
        """Send a NOP-Out that has to be answered; a `Pong` event tells of the answer (11.18).

        Returns:
            False if a ping is under way already, or nothing may be sent.
        """
        if not self.sendable:
            return False
        self._commands.now = now
        return self._control.ping()

    def abort(self, task: Task, error: TaskError) -> None:
        """Have a task forgotten. It ends with `error` when the target has confirmed, or with its status if that is
        faster; a task that was never sent ends at once.
        """
        if not self._commands.withdraw(task, error) and task.verdict is None and self.sendable:
            self._control.manager.condemn(task, error)

    def task_management(
        self,
        function: int,
        lun: bytes,
        now: float,
        done: Callable[[Management], None] | None = None,
        task: Task | None = None,
    ) -> Management:
        """Send a task management request (11.5); `task` is the one that ABORT TASK or QUERY TASK means.

        When the function is complete, the tasks that it ended come back with the code `aborted`, before `done`.

        Raises:
            LocalProtocolError: the session is being closed, or has not agreed to this function.
        """
        if not self.sendable:
            raise LocalProtocolError("task management for a session that is being closed (RFC 7143, 11.14)")
        if function == TASK_REASSIGN and self.params.error_recovery_level < 2:
            raise LocalProtocolError("TASK REASSIGN needs ErrorRecoveryLevel 2 (RFC 7143, 11.5.1)")
        if function > TASK_REASSIGN and self.params.protocol_level < 2:
            raise LocalProtocolError(f"function {function} needs iSCSIProtocolLevel 2 (RFC 7144)")
        self._commands.now = now
        return self._control.manager.request(function, lun, done, task)

    def text(self, data: bytes, now: float) -> None:
        """Send a text request (11.10); its answer, joined from all its PDUs, comes as a `TextAnswer` event.

        Raises:
            LocalProtocolError: another one is under way, the text does not fit into one PDU, or it asks for all
                targets, which is for discovery sessions (appendix C).
        """
        if b"SendTargets=All" in data.split(b"\0"):
            raise LocalProtocolError("only a discovery session asks for all targets (RFC 7143, appendix C)")
        self._check_text(len(data))
        self._commands.now = now
        self._control.text(data)

    def negotiate(self, now: float) -> None:
        """Let the target say what it wants to change (6.4); a `Negotiated` event tells what became of it.

        Raises:
            LocalProtocolError: a text exchange is under way.
        """
        self._check_text(0)
        self._commands.now = now
        self._control.negotiate()

    def _check_text(self, size: int) -> None:
        if not self.sendable or self._control.text_pending:
            raise LocalProtocolError("only one text request can be outstanding (RFC 7143, 11.10)")
        if size > self.params.max_xmit_data_segment_length:
            raise LocalProtocolError("the text does not fit into one PDU")

    def logout(self, reason: int, now: float) -> None:
        """Ask for the end of the session (reason 0) or of the connection (1); a `LoggedOut` event answers (11.14)."""
        if self.sendable:
            self._commands.now = now
            self._control.logout(reason)
