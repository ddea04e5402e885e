"""One text request of the full feature phase with all that follows from it (RFC 7143, 6.4, 7.12, 11.10, 11.11)."""

from __future__ import annotations

from initiator.protocol import text
from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.ffp_task import Negotiated, TextAnswer
from initiator.protocol.keys import Offer, Params
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import NO_TAG, TextResponse

TEXT_LIMIT = 1 << 20
"""Bytes that one text exchange may bring."""
ANSWER_LIMIT = 1024
"""PDUs that it may take."""


class TextExchange:
    """Joins the answers to a text request.

    Attributes:
        tag: The task tag of all of its requests.
    """

    def __init__(self, tag: int, *, negotiates: bool) -> None:
        self.tag = tag
        self._negotiation = Negotiation(Offer(), logged_in=True) if negotiates else None
        self._text = bytearray()
        self._received = 0
        self._answers = 0

    def answer(self, pdu: TextResponse, params: Params) -> TextAnswer | Negotiated | bytes:
        """One answer of the target, while `params` are in force.

        Returns:
            What the exchange came to, or the data of the next request.

        Raises:
            RemoteProtocolError: it goes on without a way to, or without an end.
        """
        if pdu.continued if pdu.final else pdu.target_transfer_tag == NO_TAG:
            raise RemoteProtocolError("Text Response that goes on without a transfer tag (RFC 7143, 11.11.4)")
        self._text += pdu.data
        self._received += len(pdu.data)
        self._answers += 1
        if self._received > TEXT_LIMIT or self._answers > ANSWER_LIMIT:
            raise RemoteProtocolError("the answer to a text request does not end")
        if self._negotiation is None:
            return TextAnswer(bytes(self._text)) if pdu.final else b""
        return b"" if pdu.continued else self._negotiate(self._negotiation, params, final=pdu.final)

    def failed(self, why: str, params: Params) -> TextAnswer | Negotiated:
        """What the exchange came to if it ends without an answer; `params` stay in force (7.12)."""
        return TextAnswer(b"", why) if self._negotiation is None else Negotiated(params, why)

    def _negotiate(self, negotiation: Negotiation, params: Params, *, final: bool) -> TextAnswer | Negotiated | bytes:
        try:
            replies = text.encode(negotiation.receive(text.decode(bytes(self._text)), final=final))
        except RemoteProtocolError as error:
            # The session is not at stake: what was agreed before goes on to hold (7.12 b).
            return self.failed(str(error), params)
        self._text.clear()
        if final:
            return Negotiated(negotiation.changed(params))
        if len(replies) > params.max_xmit_data_segment_length:
            return self.failed("the target asks for more answers than fit into one PDU", params)
        return replies
