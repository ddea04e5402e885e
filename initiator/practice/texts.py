"""Text Requests after the login: SendTargets, and what may be declared again (RFC 7143, 11.10, 11.11, App. C)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from initiator.practice.tasks import PROTOCOL_ERROR
from initiator.protocol import pdu, text
from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.keys import KEYS, MAX_SEGMENT, MIN_SEGMENT, NOT_UNDERSTOOD, REJECT
from initiator.protocol.text import Pair

if TYPE_CHECKING:
    from initiator.practice.session import Host, Session

_SEGMENT = "MaxRecvDataSegmentLength"


class Texts:
    """The one text negotiation that a connection may have open."""

    def __init__(self, session: Session, host: Host) -> None:
        self._session = session
        self._host = host
        self._reset()

    def _reset(self) -> None:
        self._tag = pdu.NO_TAG
        self._task = pdu.NO_TAG
        self._asked = bytearray()
        self._reply = b""

    def request(self, request: pdu.TextRequest, bhs: bytes) -> None:
        """Take a request and answer it."""
        if request.target_transfer_tag == pdu.NO_TAG:
            self._reset()
            self._task = request.initiator_task_tag
        elif request.target_transfer_tag != self._tag or request.initiator_task_tag != self._task:
            self._fail(bhs)
            return
        fetching = bool(self._reply)
        self._asked += request.data
        wrong = request.continued and request.final
        if wrong or (fetching and request.data) or len(self._asked) > text.MAX_TEXT:
            self._fail(bhs)
            return
        if request.continued:
            self._send(request, b"", more=True)
            return
        if not fetching:
            try:
                self._reply = text.encode(self._answers(text.decode(bytes(self._asked))))
            except RemoteProtocolError:
                self._fail(bhs)
                return
            self._asked.clear()
        limit = self._session.params.max_xmit_data_segment_length
        piece, self._reply = self._reply[:limit], self._reply[limit:]
        self._send(request, piece, more=bool(self._reply) or not request.final)

    def _fail(self, bhs: bytes) -> None:
        self._reset()
        self._session.reject(bhs, PROTOCOL_ERROR)

    def _send(self, request: pdu.TextRequest, data: bytes, more: bool) -> None:
        session = self._session
        self._tag = session.next_tag() if more else pdu.NO_TAG
        session.send(
            pdu.TextResponse(
                final=not more,
                continued=bool(self._reply),
                lun=request.lun if more else pdu.NO_LUN,
                initiator_task_tag=request.initiator_task_tag,
                target_transfer_tag=self._tag,
                stat_sn=session.next_stat_sn(),
                exp_cmd_sn=session.exp_cmd_sn,
                max_cmd_sn=session.max_cmd_sn(),
                data=data,
            )
        )

    def _answers(self, pairs: list[Pair]) -> list[Pair]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RemoteProtocolError("a key comes twice in one negotiation (RFC 7143, 6.4)")
        answers: list[Pair] = []
        for key, value in pairs:
            if key == "SendTargets":
                answers += self._send_targets(value)
            elif self._session.discovery:
                answers.append((key, REJECT if key in KEYS else NOT_UNDERSTOOD))
            elif key == _SEGMENT:
                length = text.number(key, value, MIN_SEGMENT, MAX_SEGMENT)
                self._session.params = dataclasses.replace(self._session.params, max_xmit_data_segment_length=length)
            elif key in KEYS:
                raise RemoteProtocolError(f"{key} belongs to the login (RFC 7143, 13)")
            else:
                answers.append((key, NOT_UNDERSTOOD))
        return answers

    def _send_targets(self, value: str) -> list[Pair]:
        """Targets and their portals (App. C): all of them in a Discovery session, else only the session's own."""
        own = self._session.outcome.target
        if value == "All":
            if not self._session.discovery:
                return [("SendTargets", REJECT)]
            names = list(self._host.target_names())
        else:
            wanted = value or own
            names = [name for name in self._host.target_names() if name == wanted and own in (None, name)]
        answers: list[Pair] = []
        for name in names:
            answers.append(("TargetName", name))
            answers += [("TargetAddress", f"{portal},{portal.group_tag}") for portal in self._host.addresses()]
        return answers
