"""From bytes to PDUs in the full feature phase, with as few copies and system calls as the traffic allows.

The driver asks where to put the next bytes. Usually that is the staging buffer, and every PDU that is complete in it is
handled in one go. When the payload of a big Data-In is cut off at the end, its rest goes straight into the buffer of
the task, and what follows it into the staging buffer by the same system call. While such big PDUs keep coming, only a
little is staged at a time, since a payload in the staging buffer has to be copied once more.
"""

from __future__ import annotations

from collections.abc import Callable

from initiator.protocol.digest import SUM, crc32c
from initiator.protocol.errors import DigestError, RemoteProtocolError
from initiator.protocol.ffp_commands import HEADER, LENGTH, Commands, Fields
from initiator.protocol.pdu import TARGET_OPS

STAGING = 64 * 1024
"""Bytes to stage at a time: what few answers bring, so that the next commands leave before all answers were read."""
DIRECT = 16 * 1024
"""A missing rest below this many bytes is cheaper to stage, together with what follows it."""
PEEK = 4096
"""Bytes to stage while big payloads are coming: enough for a header, and little to copy."""

_AROUND = 48 + 1020 + 12
"""The most that a PDU has beside its data: header, AHS, two digests, padding."""

_DATA_IN, _RESPONSE, _R2T = 0x25, 0x21, 0x31
_OPCODE = 0x3F


class Receiver:
    """De-framing with digests. A header is believed only after its digest, data only after its own (RFC 7143, 13.1)."""

    def __init__(
        self,
        commands: Commands,
        control: Callable[[bytes, bytes], None],
        *,
        header_digest: bool,
        data_digest: bool,
        max_data: int,
    ) -> None:
        """`control` gets header and data of every PDU that is no Data-In, SCSI Response or R2T."""
        self._commands = commands
        self._control = control
        self._header_digest = 4 if header_digest else 0
        self._data_digest = 4 if data_digest else 0
        self._max_data = max_data
        self._staging = bytearray(STAGING + _AROUND)
        self._view = memoryview(self._staging)
        self._start = 0
        self._filled = 0
        self._direct: memoryview | None = None
        self._bulk = False
        self._cut: tuple[Fields, memoryview, int] | None = None

    @property
    def inside_pdu(self) -> bool:
        """True if a part of a PDU has arrived whose end has not."""
        return self._cut is not None or self._filled > self._start

    def buffers(self) -> list[memoryview]:
        """Where the next bytes of the connection go, one behind the other; at least one byte fits."""
        if self._direct is not None:
            return [self._direct, self._view[:PEEK]]  # the staging buffer is empty while this goes on
        start, filled = self._start, self._filled
        if start:
            left = filled - start
            if left:
                self._view[:left] = self._view[start:filled]
            self._start, self._filled = 0, left
            filled = left
        return [self._view[filled : filled + (PEEK if self._bulk else STAGING)]]

    def received(self, count: int) -> None:
        """`count` bytes were put there.

        Raises:
            RemoteProtocolError: the target broke a rule; the connection is of no use any more.
        """
        direct = self._direct
        if direct is not None:
            if count < len(direct):
                self._direct = direct[count:]
                return
            self._direct = None
            count -= len(direct)
        elif self._bulk and count == PEEK:
            self._bulk = False  # unless another big payload is cut off now
        self._filled += count
        if self._cut is None or self._end_cut(self._cut):
            self._parse()

    def _parse(self) -> None:
        staging, view, commands = self._staging, self._view, self._commands
        sum_at = SUM.unpack_from
        header_digest, data_digest, max_data = self._header_digest, self._data_digest, self._max_data
        filled = self._filled
        start = self._start
        while filled - start >= 48 and not commands.closed:
            fields: Fields = HEADER.unpack_from(staging, start)
            lengths = fields[4]
            body = start + 48
            if lengths > LENGTH:
                body += (lengths >> 24) * 4
            if header_digest:
                if filled < body + 4:
                    return
                if crc32c(view[start:body]) != sum_at(staging, body)[0]:
                    raise _wrong("header")
                body += 4
            length = lengths & LENGTH
            if length > max_data:
                raise RemoteProtocolError(f"data segment of {length} bytes, {max_data} were agreed (RFC 7143, 13.12)")
            stop = body + length
            end = stop + (-length & 3)
            if length:
                end += data_digest
            opcode = fields[0] & _OPCODE
            if end > filled:
                if opcode not in TARGET_OPS:
                    raise RemoteProtocolError(f"a target has no PDU with opcode {opcode:#04x} (RFC 7143, 11.2.1.2)")
                fits = end - start <= len(staging)
                if opcode == _DATA_IN and filled >= body and (end - filled >= DIRECT or not fits):
                    self._begin_cut(fields, body, length)
                if self._cut is None and not fits:
                    self._enlarge()
                return
            if data_digest and length and crc32c(view[body : end - 4]) != sum_at(staging, end - 4)[0]:
                raise _wrong("data")
            self._start = end
            if opcode == _DATA_IN:
                commands.data_in(fields, view[body:stop])
            elif opcode == _RESPONSE:
                commands.response(fields, bytes(view[body:stop]) if length else b"")
            elif opcode == _R2T:
                commands.r2t(fields)
            else:
                self._control(bytes(view[start : start + 48]), bytes(view[body:stop]))
            start = end

    def _enlarge(self) -> None:
        """Make room for the longest PDU there may be: only data that are not for a task are staged at such length."""
        rest = self._view[self._start : self._filled]
        self._staging = bytearray(self._max_data + _AROUND)
        self._view = memoryview(self._staging)
        self._view[: len(rest)] = rest
        self._start, self._filled = 0, len(rest)

    def _begin_cut(self, fields: Fields, body: int, length: int) -> None:
        """Move the head of a cut payload into its place and ask for the rest to be received there."""
        place = self._commands.place(fields)
        if place is None:
            return  # seen before: it is staged whole and then thrown away
        have = self._filled - body
        place[:have] = self._view[body : body + have]
        self._start = self._filled = 0
        self._bulk = True
        trailer = (-length & 3) + self._data_digest
        self._cut = (fields, place, trailer)
        self._direct = place[have:]

    def _end_cut(self, cut: tuple[Fields, memoryview, int]) -> bool:
        """Padding and digest behind a payload that was received directly; False while they are incomplete."""
        fields, place, trailer = cut
        if trailer:
            start = self._start
            if self._filled - start < trailer:
                return False
            if self._data_digest:
                padding = trailer - 4
                crc = crc32c(place)
                if padding:
                    crc = crc32c(self._view[start : start + padding], crc)
                if crc != SUM.unpack_from(self._staging, start + padding)[0]:
                    raise _wrong("data")
            self._start = start + trailer
        self._cut = None
        self._commands.landed(fields)
        return True


def _wrong(kind: str) -> DigestError:
    return DigestError(f"the {kind} digest of a PDU is wrong (RFC 7143, 7.8)", header=kind == "header")
