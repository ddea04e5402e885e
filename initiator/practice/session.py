"""The target's half of the full feature phase: numbering, text, ping, logout, task management (RFC 7143, 4.2, 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from initiator.model import Portal
from initiator.practice import manage
from initiator.practice.device import Device
from initiator.practice.link import Link
from initiator.practice.login import Outcome
from initiator.practice.nexus import Nexus, Port
from initiator.practice.numbers import WINDOW, after
from initiator.practice.tasks import DATA_DIGEST_ERROR, PROTOCOL_ERROR, Tasks
from initiator.practice.texts import Texts
from initiator.practice.unit import Answer
from initiator.protocol import pdu
from initiator.protocol.errors import RemoteProtocolError

COMMAND_NOT_SUPPORTED = 0x05
SNACK_REJECT = 0x03
_ASYNC_LOGOUT = 1
LOGOUT_SECONDS = 10
"""How long an initiator that was asked to log out may take (Parameter3)."""


class Host(Protocol):
    """What a session needs of the server."""

    def ended(self, session: Session) -> None:
        """The session is over."""

    def sessions_of(self, device: Device) -> Sequence[Session]:
        """Every session at a device."""

    def addresses(self) -> Sequence[Portal]:
        """Every portal, for SendTargets."""

    def target_names(self) -> Sequence[str]:
        """Every target, for SendTargets."""

    def defer(self, work: Callable[[], Answer], done: Callable[[Answer], None]) -> None:
        """Do something slow in a thread."""

    def now(self) -> float:
        """Loop time."""


class Session:
    """One session with its one connection.

    Attributes:
        asked_at: Loop time at which the initiator was asked to log out, or None.
        pinged_at: Loop time of a ping that was not answered yet, or None.
    """

    def __init__(
        self, outcome: Outcome, link: Link, host: Host, device: Device | None, nexus: Nexus | None, port: Port
    ) -> None:
        self.outcome = outcome
        self.params = outcome.params
        self.link = link
        self.port = port
        self.exp_cmd_sn = outcome.cmd_sn
        self.stat_sn = outcome.stat_sn
        self.asked_at: float | None = None
        self.pinged_at: float | None = None
        self.over = False
        self._host = host
        self._device = device
        self._nexus = nexus
        self._tag = 0
        self._held: dict[int, Callable[[], None]] = {}
        self._pending: list[manage.Pending] = []
        self._texts = Texts(self, host)
        self.tasks = Tasks(self)
        self.tasks.on_quiet = self._quiet

    @property
    def discovery(self) -> bool:
        """True for a Discovery session, which may only ask for targets and leave."""
        return self._device is None

    @property
    def device(self) -> Device:
        """The SCSI device of a normal session."""
        assert self._device is not None, "a Discovery session has no device"
        return self._device

    @property
    def nexus(self) -> Nexus:
        """The I_T nexus of a normal session."""
        assert self._nexus is not None, "a Discovery session has no nexus"
        return self._nexus

    # --- numbers ----------------------------------------------------------------------------------------------------

    def next_stat_sn(self) -> int:
        """The StatSN of the next response."""
        number, self.stat_sn = self.stat_sn, (self.stat_sn + 1) & 0xFFFFFFFF
        return number

    def next_tag(self) -> int:
        """A Target Transfer Tag; never the reserved one."""
        self._tag = (self._tag + 1) % pdu.NO_TAG
        return self._tag

    def max_cmd_sn(self) -> int:
        """The end of the command window."""
        return (self.exp_cmd_sn + WINDOW - 1) & 0xFFFFFFFF

    def expects(self, cmd_sn: int) -> bool:
        """False for the number of a duplicate, and for one outside the window: what has it is ignored (4.2.2.1)."""
        return 0 <= after(cmd_sn, self.exp_cmd_sn) < WINDOW and cmd_sn not in self._held

    def admit(self, cmd_sn: int, immediate: bool, run: Callable[[], None]) -> bool:
        """Call `run` when its turn has come by CmdSN; False for a duplicate or one outside the window (4.2.2.1)."""
        if immediate:
            run()
            return True
        if not self.expects(cmd_sn):
            return False
        self._held[cmd_sn] = run
        while (turn := self._held.pop(self.exp_cmd_sn, None)) is not None:
            self.exp_cmd_sn = (self.exp_cmd_sn + 1) & 0xFFFFFFFF
            turn()
        return True

    # --- from the link ----------------------------------------------------------------------------------------------

    def receive(self, bhs: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """One PDU of the initiator."""
        opcode = bhs[0] & pdu.OPCODE_MASK
        self.pinged_at = None
        if opcode == pdu.Op.SCSI_COMMAND and not self.discovery:
            self.tasks.command(bhs, ahs, data, intact)
        elif opcode == pdu.Op.DATA_OUT and not self.discovery:
            self.tasks.data_out(bhs, data, intact)
        elif opcode in pdu.TARGET_OPS:
            self.drop("the initiator uses a target's opcode")
        elif not intact:
            self.reject(bhs, DATA_DIGEST_ERROR)
        else:
            self._rare(bhs, ahs, bytes(data))

    def _rare(self, bhs: bytes, ahs: bytes, data: bytes) -> None:
        try:
            request = pdu.decode(bhs, ahs, data)
        except RemoteProtocolError:
            self.reject(bhs, COMMAND_NOT_SUPPORTED)
            return
        match request:
            case pdu.TextRequest():
                self.admit(request.cmd_sn, request.immediate, lambda: self._texts.request(request, bhs))
            case pdu.LogoutRequest():
                self.admit(request.cmd_sn, request.immediate, lambda: self._logout(request))
            case _ if self.discovery:
                self.reject(bhs, PROTOCOL_ERROR)  # nothing else in a Discovery session (4.3)
            case pdu.NopOut():
                self._nop_out(request)
            case pdu.TaskManagement():
                self.admit(request.cmd_sn, request.immediate, lambda: self._manage(request))
            case pdu.SnackRequest():
                self.reject(bhs, SNACK_REJECT)
            case _:  # a Login Request after the login
                self.reject(bhs, PROTOCOL_ERROR)

    def broken(self, reason: str) -> None:
        """The connection is gone, and at error recovery level 0 the session with it."""
        self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self.tasks.active.clear()
            self._held.clear()
            self._pending.clear()
            self._host.ended(self)

    # --- to the link ------------------------------------------------------------------------------------------------

    def send(self, response: pdu.Pdu) -> None:
        """Send a PDU off the data path."""
        self.link.send(response.encode()[: pdu.BHS_BYTES], response.data)

    def reject(self, bhs: bytes, reason: int) -> None:
        """Refuse a PDU, whose header goes back (11.17)."""
        self.send(
            pdu.Reject(
                reason=reason,
                stat_sn=self.next_stat_sn(),
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
                data=bhs,
            )
        )

    def drop(self, reason: str) -> None:
        """The initiator broke a rule so that nothing it sends can be trusted: close (7.7)."""
        self.link.close(reason)

    def leave(self) -> None:
        """End the session without a word, because another one takes its place or the target stops."""
        self.link.abort()
        self._end()

    def defer(self, work: Callable[[], Answer], done: Callable[[Answer], None]) -> None:
        """Do something slow in a thread; `done` is not called after the end of the session."""
        self._host.defer(work, lambda answer: None if self.over else done(answer))

    def ping(self) -> None:
        """Ask whether the initiator still lives (11.19)."""
        self.pinged_at = self._host.now()
        self.send(
            pdu.NopIn(
                target_transfer_tag=self.next_tag(),
                stat_sn=self.stat_sn,
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
            )
        )

    def ask_logout(self) -> None:
        """Ask for a logout within LOGOUT_SECONDS (11.9.1, event 1)."""
        self.asked_at = self._host.now()
        self.send(
            pdu.AsyncMessage(
                async_event=_ASYNC_LOGOUT,
                parameter3=LOGOUT_SECONDS,
                stat_sn=self.next_stat_sn(),
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
            )
        )

    # --- requests ---------------------------------------------------------------------------------------------------

    def _nop_out(self, request: pdu.NopOut) -> None:
        if request.initiator_task_tag == pdu.NO_TAG:
            return  # the answer to our ping, or an acknowledgement of StatSN only
        self.admit(request.cmd_sn, request.immediate, lambda: self._pong(request))

    def _pong(self, request: pdu.NopOut) -> None:
        self.send(
            pdu.NopIn(
                initiator_task_tag=request.initiator_task_tag,
                lun=request.lun,
                stat_sn=self.next_stat_sn(),
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
                data=request.data[: self.params.max_xmit_data_segment_length],
            )
        )

    def _logout(self, request: pdu.LogoutRequest) -> None:
        """Reasons: 0 close the session, 1 close this connection, 2 recovery, which level 0 has not (11.14, 11.15)."""
        response = 0
        if request.reason == 2 or request.reason > 2:
            response = 2
        elif request.reason == 1 and request.cid != self.outcome.cid:
            response = 1
        elif self.discovery and request.reason:
            response = 2
        self.send(
            pdu.LogoutResponse(
                initiator_task_tag=request.initiator_task_tag,
                response=response,
                stat_sn=self.next_stat_sn(),
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
            )
        )
        if response == 0:
            self.link.finish()
            self._end()

    def _manage(self, request: pdu.TaskManagement) -> None:
        pending = manage.perform(self, self._host, request)
        if pending is not None:
            self._pending.append(pending)
        self._quiet()

    def _quiet(self) -> None:
        """Answer the task management requests whose tasks have all ended."""
        ready = [item for item in self._pending if not any(task.tag in self.tasks.active for task in item.tasks)]
        self._pending = [item for item in self._pending if item not in ready]
        for item in ready:
            self.managed(item.request, manage.COMPLETE)
            item.then()

    def managed(self, request: pdu.TaskManagement, response: int) -> None:
        """Answer a task management request (11.6)."""
        self.send(
            pdu.TaskManagementResponse(
                initiator_task_tag=request.initiator_task_tag,
                response=response,
                stat_sn=self.next_stat_sn(),
                exp_cmd_sn=self.exp_cmd_sn,
                max_cmd_sn=self.max_cmd_sn(),
            )
        )
