"""SendTargets: asking a portal which targets there are (RFC 7143, 11.10, 11.11, appendix C), without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

from initiator.model import Portal
from initiator.names import clean
from initiator.protocol import address, text
from initiator.protocol.errors import IscsiError, LocalProtocolError, RemoteProtocolError
from initiator.protocol.login_config import MAX_NAME, LoginResult
from initiator.protocol.pdu import (
    NO_TAG,
    AsyncMessage,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Op,
    Pdu,
    Reject,
    Response,
    TextRequest,
    TextResponse,
)

MAX_REPLY = 8 * 1024 * 1024
"""Bytes of one whole list: room for some fifty thousand targets."""
MAX_EMPTY = 16
"""Answers in a row that bring nothing before the target is given up."""

_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class DiscoveredTarget:
    """A target that a portal told about, and where it can be reached."""

    name: str
    portals: tuple[Portal, ...]


class SendTargets:
    """One `SendTargets=All` in a Discovery session, and its logout.

    Send what `to_send` gives, pass what arrives to `receive`. When `done` is set, `targets` is complete; then
    `logout` ends the session, and `closed` is set once the target has agreed.
    """

    def __init__(self, result: LoginResult, portal: Portal) -> None:
        self.done = False
        self.closed = False
        self._result = result
        self._here = Portal(portal.host, portal.port, result.target_portal_group_tag)
        self._exp_stat_sn = result.exp_stat_sn
        self._targets: dict[str, dict[Portal, None]] = {}
        self._current = ""
        self._text = bytearray()
        self._received = 0
        self._empty = 0
        self._tag = 1
        self._queue: list[Pdu] = []
        self._ask(NO_TAG, bytes(8), text.encode([("SendTargets", "All")]))

    @property
    def targets(self) -> list[DiscoveredTarget]:
        """The targets in the order told; one without an address is where we asked (appendix C)."""
        return [DiscoveredTarget(name, tuple(portals) or (self._here,)) for name, portals in self._targets.items()]

    def to_send(self) -> list[Pdu]:
        """The PDUs to send now."""
        queue, self._queue = self._queue, []
        return queue

    def logout(self) -> None:
        """Asks to close the session (reason 0, 11.14)."""
        if not self.done:
            raise LocalProtocolError("the list of targets is not complete yet")
        self._tag = 2
        self._queue.append(
            LogoutRequest(
                initiator_task_tag=self._tag,
                reason=0,
                cid=self._result.cid,
                cmd_sn=self._result.cmd_sn,
                exp_stat_sn=self._exp_stat_sn,
            )
        )

    def receive(self, pdu: Pdu) -> None:
        """Takes one PDU of the target.

        Raises:
            RemoteProtocolError: the target breaks a rule.
            IscsiError: it refuses, or ends the session.
        """
        if isinstance(pdu, NopIn):
            self._answer_ping(pdu)
            return
        if not isinstance(pdu, Response):
            raise RemoteProtocolError(f"the target sent a {Op(pdu.OPCODE).name} (RFC 7143, 11.2.1.2)")
        self._count(pdu)
        if isinstance(pdu, Reject):
            raise IscsiError(f"the target rejects the discovery with reason 0x{pdu.reason:02x}", code="rejected")
        if isinstance(pdu, AsyncMessage):
            if pdu.async_event in (1, 2, 3):
                raise IscsiError("the target ends the session in the middle of the discovery", code="closed-by-target")
            return
        if pdu.initiator_task_tag != self._tag:
            raise RemoteProtocolError("the target answers a task that was never started (RFC 7143, 11.2.1.8)")
        if isinstance(pdu, LogoutResponse) and self.done:
            self.closed = True
        elif isinstance(pdu, TextResponse) and not self.done:
            self._take(pdu)
        else:
            raise RemoteProtocolError(f"the target sent a {Op(pdu.OPCODE).name} out of place (RFC 7143, 4.3)")

    def _count(self, pdu: Response) -> None:
        if pdu.stat_sn != self._exp_stat_sn:
            raise RemoteProtocolError(f"StatSN is {pdu.stat_sn}, not {self._exp_stat_sn} (RFC 7143, 7.9)")
        self._exp_stat_sn = (pdu.stat_sn + 1) & _WORD

    def _answer_ping(self, ping: NopIn) -> None:
        """11.18: the answer copies TTT and LUN, is immediate and has no task of its own."""
        if ping.target_transfer_tag != NO_TAG:
            self._queue.append(
                NopOut(
                    immediate=True,
                    lun=ping.lun,
                    target_transfer_tag=ping.target_transfer_tag,
                    cmd_sn=self._result.cmd_sn,
                    exp_stat_sn=self._exp_stat_sn,
                )
            )

    def _take(self, answer: TextResponse) -> None:
        """One piece of the list; asks for the next one unless it was the last (11.10.4, 11.11)."""
        if answer.final and answer.continued:
            raise RemoteProtocolError("a text response has both its F and its C bit set (RFC 7143, 11.11.2)")
        if not answer.final and answer.target_transfer_tag == NO_TAG:
            raise RemoteProtocolError("a text response is to go on, but has no tag to ask with (RFC 7143, 11.11.1)")
        self._text += answer.data
        self._received += len(answer.data)
        self._empty = 0 if answer.data else self._empty + 1
        if self._received > MAX_REPLY or self._empty > MAX_EMPTY:
            raise RemoteProtocolError("the target's list of targets does not come to an end", code="discovery-endless")
        if not answer.continued:
            self._read(text.decode(bytes(self._text)))
            self._text.clear()
        if answer.final:
            self.done = True
        else:
            self._ask(answer.target_transfer_tag, answer.lun, b"")

    def _ask(self, transfer_tag: int, lun: bytes, data: bytes) -> None:
        # Immediate, so that a closed command window cannot hold it up.
        self._queue.append(
            TextRequest(
                immediate=True,
                lun=lun,
                initiator_task_tag=self._tag,
                target_transfer_tag=transfer_tag,
                cmd_sn=self._result.cmd_sn,
                exp_stat_sn=self._exp_stat_sn,
                data=data,
            )
        )

    def _read(self, pairs: list[text.Pair]) -> None:
        for key, value in pairs:
            if key == "TargetName":
                self._targets.setdefault(_name(value), {})
                self._current = value
            elif key == "TargetAddress" and self._targets:
                self._targets[self._current][address.parse(value)] = None
            else:
                raise RemoteProtocolError(f"{text.shorten(key)} has no place in a list of targets (RFC 7143, C)")


def _name(value: str) -> str:
    """A target's name, if it can be shown and used; what it looks like otherwise is the target's affair."""
    if not 0 < len(value.encode()) <= MAX_NAME or clean(value) != value or " " in value:
        raise RemoteProtocolError(
            f"the target lists {text.shorten(value)}, which is no iSCSI name (RFC 7143, 4.2.7)", code="bad-target-name"
        )
    return value
