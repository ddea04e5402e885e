"""Takes what proves a secret out of a login before anybody keeps it (RFC 7143, 9.2.1, 12.1.3).

Challenge, identifier and response of one CHAP exchange are all that guessing a secret needs. Their values become as
many `X`; keys, names and lengths stay, so that what was negotiated can still be read.
"""

from __future__ import annotations

from initiator.protocol.pdu import BHS_BYTES, OPCODE_MASK, Op, frame_length, padded

HIDDEN_KEYS = frozenset({"CHAP_I", "CHAP_C", "CHAP_R"})
BLANK = "X"

_LOGIN = (Op.LOGIN_REQUEST, Op.LOGIN_RESPONSE)
_LONGEST_KEY = 64


class Blanker:
    """One direction of a connection, from its first byte on: hides values as long as the login lasts.

    A value is hidden wherever it is cut: by TCP, by the C bit between two PDUs, or in the middle of its key.
    """

    def __init__(self) -> None:
        self._login = True
        self._header = bytearray()
        self._text = 0
        """Bytes of the data segment that are still to come."""
        self._rest = 0
        """Bytes of extra headers before it, or of pad behind it."""
        self._text_next = 0
        self._pad = 0
        self._key = bytearray()
        self._in_value = False
        self._hiding = False

    def __call__(self, data: bytes | memoryview) -> bytes:
        """The same bytes, as they may be kept; as many as were given."""
        if not self._login:
            return bytes(data)
        out = bytearray()
        view = memoryview(data)
        while view and self._login:
            used = self._step(view, out)
            view = view[used:]
        out += view
        return bytes(out)

    def _step(self, view: memoryview, out: bytearray) -> int:
        """Take the next part of one kind; returns its length."""
        if self._rest:
            used = min(self._rest, len(view))
            out += view[:used]
            self._rest -= used
            if not self._rest:
                self._text, self._text_next = self._text_next, 0
            return used
        if self._text:
            used = min(self._text, len(view))
            for byte in view[:used]:
                out.append(self._character(byte))
            self._text -= used
            if not self._text:
                self._rest, self._pad = self._pad, 0
            return used
        if not self._header and view[0] & OPCODE_MASK not in _LOGIN:
            self._login = False
            return 0
        used = min(BHS_BYTES - len(self._header), len(view))
        out += view[:used]
        self._header += view[:used]
        if len(self._header) == BHS_BYTES:
            self._announce()
        return used

    def _announce(self) -> None:
        ahs, length = frame_length(self._header)
        self._header.clear()
        self._pad = padded(length) - length
        if ahs:
            self._rest, self._text_next = ahs, length
        else:
            self._text = length

    def _character(self, byte: int) -> int:
        """One byte of `key=value` pairs that are ended by zero bytes."""
        if byte == 0:
            self._in_value = self._hiding = False
            self._key.clear()
        elif self._in_value:
            return ord(BLANK) if self._hiding else byte
        elif byte == 0x3D:
            self._in_value = True
            self._hiding = self._key.decode("latin-1") in HIDDEN_KEYS
        elif len(self._key) < _LONGEST_KEY:
            self._key.append(byte)
        return byte
