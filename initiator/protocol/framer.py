"""From a stream of bytes to PDUs: the slow path (login, text, discovery, tests, practice target)."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.protocol import requests, responses
from initiator.protocol.digest import DIGEST_BYTES, Buffer, crc32c, wire
from initiator.protocol.errors import ConnectionLost, DigestError, RemoteProtocolError
from initiator.protocol.wire import BHS_BYTES, OPCODE_MASK, Op, Pdu, frame_length, padded

_CLASSES: dict[int, type[Pdu]] = {
    kind.OPCODE: kind
    for kind in (
        requests.NopOut,
        requests.ScsiCommand,
        requests.TaskManagement,
        requests.LoginRequest,
        requests.TextRequest,
        requests.DataOut,
        requests.LogoutRequest,
        requests.SnackRequest,
        responses.NopIn,
        responses.ScsiResponse,
        responses.TaskManagementResponse,
        responses.LoginResponse,
        responses.TextResponse,
        responses.DataIn,
        responses.LogoutResponse,
        responses.R2T,
        responses.AsyncMessage,
        responses.Reject,
    )
}

_OTHER_PROTOCOLS = (
    (b"HTTP/", "an HTTP server"),
    (b"GET ", "an HTTP client"),
    (b"SSH-", "an SSH server"),
    (b"\x15\x03", "a TLS server"),
    (b"\x16\x03", "a TLS server"),
    (b"220", "a mail or FTP server"),
)


def decode(bhs: Buffer, ahs: bytes, data: bytes) -> Pdu:
    """The PDU that a header of 48 bytes describes.

    Args:
        bhs: The basic header segment.
        ahs: Additional header segments with their pad; unknown ones are skipped.
        data: The data segment without pad.

    Raises:
        RemoteProtocolError: the opcode is not assigned (11.2.1.2).
    """
    opcode = bhs[0] & OPCODE_MASK
    kind = _CLASSES.get(opcode)
    if kind is None:
        raise RemoteProtocolError(f"opcode 0x{opcode:02x} is not assigned (RFC 7143, 11.2.1.2)")
    return kind.parse(bhs, ahs, data)


def looks_like(raw: Buffer) -> str | None:
    """What is probably at the other end if the first bytes received are not iSCSI, else None."""
    start = bytes(raw[:5])
    return next((name for magic, name in _OTHER_PROTOCOLS if start.startswith(magic)), None)


class Framer:
    """Cuts a byte stream into PDUs, checking lengths and digests on the way.

    Attributes:
        header_digest: Whether a digest follows each header; may change between two PDUs.
        data_digest: Whether a digest follows each data segment; may change between two PDUs.
        max_data: Largest data segment accepted, in bytes (our MaxRecvDataSegmentLength).
        expect: Opcodes the peer may use; None for all.
    """

    def __init__(
        self,
        header_digest: bool = False,
        data_digest: bool = False,
        max_data: int = 8192,
        expect: frozenset[Op] | None = None,
    ) -> None:
        self.header_digest = header_digest
        self.data_digest = data_digest
        self.max_data = max_data
        self.expect = expect
        self._buffer = bytearray()
        self._started = False

    @property
    def pending(self) -> int:
        """Bytes that have arrived and belong to a PDU that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: Buffer) -> Iterator[Pdu]:
        """Takes received bytes and yields every PDU that they complete.

        Raises:
            RemoteProtocolError: wrong opcode, or a data segment beyond `max_data` (13.12); raised before its payload
                is waited for.
            DigestError: a digest does not match (7.8).
        """
        self._buffer += data
        while (pdu := self._next()) is not None:
            self._started = True
            yield pdu

    def end(self) -> None:
        """Call when the peer has closed the connection.

        Raises:
            ConnectionLost: the stream ends inside a PDU (7.14).
        """
        if not self._buffer:
            return
        stranger = None if self._started else looks_like(self._buffer)
        if stranger:
            raise self._not_iscsi(stranger)
        raise ConnectionLost(
            f"the peer closed the connection inside a PDU, {len(self._buffer)} bytes into it", code="closed-mid-pdu"
        )

    def _next(self) -> Pdu | None:
        buffer = self._buffer
        if len(buffer) < BHS_BYTES:
            return None
        head_end = BHS_BYTES + buffer[4] * 4
        if self.header_digest:
            head_end += DIGEST_BYTES
            if len(buffer) < head_end:
                return None
            self._check_header(head_end)
        self._check_opcode()
        ahs_length, length = frame_length(buffer[:BHS_BYTES])
        if length > self.max_data:
            raise RemoteProtocolError(
                f"the peer announces a data segment of {length} bytes; at most {self.max_data} were agreed"
                " (RFC 7143, 13.12)",
                code="segment-too-long",
            )
        end = head_end + padded(length)
        if self.data_digest and length:
            end += DIGEST_BYTES
        if len(buffer) < end:
            return None
        bhs, ahs = bytes(buffer[:BHS_BYTES]), bytes(buffer[BHS_BYTES : BHS_BYTES + ahs_length])
        if self.data_digest and length:
            self._check_data(bhs, head_end, end)
        payload = bytes(buffer[head_end : head_end + length])
        del buffer[:end]
        return decode(bhs, ahs, payload)

    def _check_header(self, head_end: int) -> None:
        covered = self._buffer[: head_end - DIGEST_BYTES]
        if self._buffer[head_end - DIGEST_BYTES : head_end] != wire(crc32c(covered)):
            raise DigestError("the header digest is wrong (RFC 7143, 7.8)", header=True, bhs=bytes(covered[:BHS_BYTES]))

    def _check_data(self, bhs: bytes, start: int, end: int) -> None:
        covered = self._buffer[start : end - DIGEST_BYTES]
        if self._buffer[end - DIGEST_BYTES : end] != wire(crc32c(covered)):
            del self._buffer[:end]
            raise DigestError("the data digest is wrong (RFC 7143, 7.8)", header=False, bhs=bhs)

    def _check_opcode(self) -> None:
        opcode = self._buffer[0] & OPCODE_MASK
        if opcode in _CLASSES and (self.expect is None or opcode in self.expect):
            return
        stranger = None if self._started else looks_like(self._buffer)
        if stranger:
            raise self._not_iscsi(stranger)
        text = f"the peer used opcode 0x{opcode:02x}, which is not for it to use (RFC 7143, 11.2.1.2)"
        raise RemoteProtocolError(text)

    @staticmethod
    def _not_iscsi(stranger: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"this is not an iSCSI portal: it answers like {stranger}",
            code="not-iscsi",
            fix="check the address and the port; iSCSI listens on 3260 unless told otherwise",
        )
