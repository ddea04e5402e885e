"""Everything in the full feature phase that is neither a SCSI command nor its data.

Pings both ways, asynchronous messages, rejects, text, logout (RFC 7143, 11.9 to 11.11, 11.14, 11.15, 11.17 to 11.19);
task management is in a file of its own. None of this is frequent, so PDUs are objects here.
"""

from __future__ import annotations

from collections import deque

from initiator.protocol.errors import ConnectionLost, RemoteProtocolError
from initiator.protocol.ffp_commands import Commands
from initiator.protocol.ffp_manage import Manager
from initiator.protocol.ffp_numbers import MASK
from initiator.protocol.ffp_task import AsyncEvent, Event, LoggedOut, Negotiated, Pong, Rejected, TaskError
from initiator.protocol.ffp_text import TextExchange
from initiator.protocol.pdu import (
    NO_LUN,
    NO_TAG,
    AsyncMessage,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Pdu,
    Reject,
    Response,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
    decode,
)

ACKNOWLEDGE_AFTER = 1.0
"""Seconds after which received statuses are acknowledged by a NOP-Out if nothing else goes out (11.18)."""

NOPS_WAITING = 2048
"""NOP-Outs without a question that may wait to be sent: more than one turn of reading can call for, so that a target is
dropped that goes on asking and does not take the answers, and no other."""

_TAGS = 0x80000000
"""Control PDUs use the upper half of the initiator task tags, commands the lower."""
_DATA_DIGEST_ERROR, _NEGOTIATION_RESET = 0x02, 0x0B
_TASK_TERMINATION = 5
_NO_SUCH_LUN = b"\xff" * 8
"""What SAM-5 (4.7.2) sets aside for "logical unit not specified"."""


class Control:
    """The control PDUs of one connection.

    Attributes:
        events: What the target said; the driver empties it.
        manager: Task management.
    """

    def __init__(self, commands: Commands, *, cid: int, management_timeout: float) -> None:
        self.events: deque[Event] = deque()
        self._commands = commands
        self._numbers = commands.numbers
        self._cid = cid
        self._next_tag = _TAGS
        self._ping: tuple[int, float, bytes] | None = None
        self._text: TextExchange | None = None
        self._logout_tag: int | None = None
        self._idle_since = (commands.outbox.tail, commands.now)
        self._acknowledged = commands.numbers.exp_stat_sn
        self._said: deque[int] = deque()
        """Where they end, as `outbox.gone` counts: NOP-Outs without a question that may not have left yet."""
        self.manager = Manager(commands, timeout=management_timeout, tag=self._tag, send=self._send)

    @property
    def waiting(self) -> bool:
        """True if the target owes an answer to a control PDU."""
        return bool(self._ping or self.manager.waiting or self._text or self._logout_tag is not None)

    @property
    def text_pending(self) -> bool:
        """True while a text exchange is under way."""
        return self._text is not None

    # Sending

    def ping(self) -> bool:
        """Send a NOP-Out that has to be answered; False if one is under way already (11.18)."""
        if self._ping is not None:
            return False
        tag = self._tag()
        data = tag.to_bytes(4, "big") + b"Mooring?"
        self._ping = (tag, self._commands.now, data)
        self._commands.counters.pings += 1
        self._nop(tag, data=data)
        return True

    def text(self, data: bytes) -> None:
        """Send the only request of a text exchange; the answer comes as one event."""
        self._begin_text(data, negotiates=False)

    def negotiate(self) -> None:
        """Send an empty text request, so that the target can say what it wants to change (6.4, 11.9.1)."""
        self._begin_text(b"", negotiates=True)

    def _begin_text(self, data: bytes, *, negotiates: bool) -> None:
        self._text = TextExchange(self._tag(), negotiates=negotiates)
        self._send_now(TextRequest, self._text.tag, NO_LUN, NO_TAG, data)

    def logout(self, reason: int) -> None:
        """Send the logout; after it nothing else is sent."""
        self._logout_tag = self._tag()
        numbers = self._numbers
        self._send(
            LogoutRequest(
                reason=reason,
                cid=self._cid if reason else 0,
                initiator_task_tag=self._logout_tag,
                cmd_sn=numbers.cmd_sn,
                exp_stat_sn=numbers.exp_stat_sn,
            )
        )
        self._commands.sendable = False

    def tick(self) -> None:
        """Escalate what was not answered in time, and acknowledge what has been received.

        Raises:
            ConnectionLost: a reset was not answered, or nothing is taken from us; only a new login helps.
        """
        self.manager.tick()
        self._acknowledge(self._commands.now)

    # Receiving

    def received(self, bhs: bytes, data: bytes) -> None:
        """One PDU of the target that is no Data-In, SCSI Response or R2T.

        Raises:
            RemoteProtocolError: it breaks a rule, or has no place in this phase.
            ConnectionLost: it refuses the last reset, or is one question too many.
        """
        pdu = decode(bhs, b"", data)
        if not isinstance(pdu, Response):
            raise _misplaced(pdu)
        # A NOP-In that asks for nothing, or only asks, shows the next StatSN without using it up (11.19).
        uncounted = isinstance(pdu, NopIn) and pdu.initiator_task_tag == NO_TAG
        if not uncounted and not self._numbers.status(pdu.stat_sn):
            return
        self._numbers.window(pdu.exp_cmd_sn, pdu.max_cmd_sn)
        self._handle(pdu)
        self._commands.release()

    def _handle(self, pdu: Response) -> None:
        match pdu:
            case NopIn():
                self._nop_in(pdu)
            case AsyncMessage():
                if pdu.async_event == _TASK_TERMINATION:
                    raise RemoteProtocolError("fast abort, which was not agreed on (RFC 7143, 11.9.1, 13.23)")
                parameters = (pdu.parameter1, pdu.parameter2, pdu.parameter3)
                self.events.append(AsyncEvent(pdu.async_event, pdu.async_vcode, *parameters, pdu.lun, pdu.data))
            case Reject():
                self._rejected(pdu)
            case TaskManagementResponse():
                self.manager.answered(pdu)
            case TextResponse():
                self._text_answer(pdu)
            case LogoutResponse():
                if pdu.initiator_task_tag != self._logout_tag:
                    raise RemoteProtocolError("answer to a logout that was never sent (RFC 7143, 11.15)")
                self._logout_tag = None
                self.events.append(LoggedOut(pdu.response, pdu.time2wait, pdu.time2retain))
            case _:
                raise _misplaced(pdu)

    def _nop_in(self, pdu: NopIn) -> None:
        if pdu.initiator_task_tag == NO_TAG:
            if pdu.target_transfer_tag == NO_TAG:
                return
            if pdu.lun == _NO_SUCH_LUN:
                raise RemoteProtocolError("NOP-In that asks for an answer, but has no LUN (RFC 7143, 11.19.3)")
            if self._commands.sendable:
                self._say(pdu.target_transfer_tag, pdu.lun)
            return
        if pdu.target_transfer_tag != NO_TAG:
            raise RemoteProtocolError("NOP-In that is both question and answer (RFC 7143, 11.19)")
        if self._ping is None or self._ping[0] != pdu.initiator_task_tag:
            raise RemoteProtocolError("NOP-In answers a ping that was never sent (RFC 7143, 11.19)")
        _, asked_at, data = self._ping
        if pdu.data != data:
            raise RemoteProtocolError("NOP-In brings other data than the ping had (RFC 7143, 11.18.1)")
        self._ping = None
        self.events.append(Pong(self._commands.now - asked_at))

    def _rejected(self, pdu: Reject) -> None:
        """A PDU was refused (11.17). What it was about ends in the way that leaves no hole in CmdSN."""
        if len(pdu.data) < 48:
            raise RemoteProtocolError("Reject without the header that it rejects (RFC 7143, 11.17)")
        if pdu.reason == _NEGOTIATION_RESET:
            raise RemoteProtocolError("the target resets a negotiation (RFC 7143, 11.17.1)")
        self._commands.counters.rejects += 1
        self.events.append(Rejected(pdu.reason, pdu.data[:48]))
        tag = int.from_bytes(pdu.data[16:20], "big")
        task = self._commands.live.get(tag)
        if task is not None:
            # After a digest error the target still answers with CHECK CONDITION (11.17.1). Otherwise ABORT TASK both
            # ends the task and fills the hole that its CmdSN may have left (7.3).
            if pdu.reason != _DATA_DIGEST_ERROR and task.verdict is None:
                error = TaskError(f"the target rejected the command (reason {pdu.reason:#04x})", code="rejected")
                self.manager.condemn(task, error)
        elif self.manager.rejected(tag, pdu.reason):
            pass
        elif self._ping is not None and self._ping[0] == tag:
            self._ping = None
        elif self._text is not None and self._text.tag == tag:
            why = f"the target rejected it (reason {pdu.reason:#04x})"
            self.events.append(self._text.failed(why, self._commands.params))
            self._text = None

    def _text_answer(self, pdu: TextResponse) -> None:
        if self._text is None or self._text.tag != pdu.initiator_task_tag:
            raise RemoteProtocolError("answer to a text request that was never sent (RFC 7143, 11.11)")
        outcome = self._text.answer(pdu, self._commands.params)
        if not isinstance(outcome, bytes):
            self._text = None
            if isinstance(outcome, Negotiated):
                self._commands.adopt(outcome.params)
            self.events.append(outcome)
        elif self._commands.sendable:
            self._send_now(TextRequest, pdu.initiator_task_tag, pdu.lun, pdu.target_transfer_tag, outcome)

    # Helpers

    def _tag(self) -> int:
        tag = self._next_tag
        while self.manager.uses(tag) or tag == NO_TAG:
            tag = _TAGS | (tag + 1) & MASK
        self._next_tag = _TAGS | (tag + 1) & MASK
        return tag

    def _send(self, pdu: Pdu) -> None:
        self._commands.outbox.add(pdu.encode()[:48], pdu.data)

    def _send_now(
        self, kind: type[TextRequest] | type[NopOut], tag: int, lun: bytes, transfer_tag: int, data: bytes
    ) -> None:
        """Send an immediate request: it takes no place in the window."""
        numbers = self._numbers
        self._send(
            kind(
                immediate=True,
                lun=lun,
                initiator_task_tag=tag,
                target_transfer_tag=transfer_tag,
                cmd_sn=numbers.cmd_sn,
                exp_stat_sn=numbers.exp_stat_sn,
                data=data,
            )
        )

    def _say(self, transfer_tag: int, lun: bytes) -> None:
        """Send a NOP-Out that asks for nothing: an answer, or an acknowledgement."""
        said, outbox = self._said, self._commands.outbox
        while said and said[0] <= outbox.gone:
            said.popleft()
        if len(said) >= NOPS_WAITING:
            raise ConnectionLost(f"the target does not read: {NOPS_WAITING} answers to its pings wait", code="flooded")
        self._nop(NO_TAG, transfer_tag=transfer_tag, lun=lun)
        said.append(outbox.tail)

    def _nop(self, tag: int, *, transfer_tag: int = NO_TAG, lun: bytes = NO_LUN, data: bytes = b"") -> None:
        self._send_now(NopOut, tag, lun, transfer_tag, data)

    def _acknowledge(self, now: float) -> None:
        """Any PDU carries ExpStatSN; if none goes out for a while, a NOP-Out that asks for nothing does (11.18)."""
        tail, since = self._idle_since
        if tail != self._commands.outbox.tail:
            self._idle_since = (self._commands.outbox.tail, now)
        elif now - since >= ACKNOWLEDGE_AFTER and self._acknowledged != self._numbers.exp_stat_sn:
            if self._commands.sendable:
                self._say(NO_TAG, NO_LUN)
            self._acknowledged = self._numbers.exp_stat_sn
            self._idle_since = (self._commands.outbox.tail, now)


def _misplaced(pdu: Pdu) -> RemoteProtocolError:
    return RemoteProtocolError(f"{type(pdu).__name__} has no place in the full feature phase (RFC 7143, 11.2.1.2)")
