"""One TCP connection of the practice target: bytes in, PDUs out, and the faults that live on a cable.

What arrives is parsed in one staging buffer and handed on as views, many PDUs for each system call; what leaves is
gathered and sent with one `sendmsg`. Memory is bounded on both sides: a peer that does not read is not read either.
"""

from __future__ import annotations

import asyncio
import dataclasses
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from initiator.protocol import pdu
from initiator.protocol.digest import Buffer, crc32c, wire

STAGING_BYTES = 384 << 10
HIGH_WATER = 8 << 20
"""Bytes that may wait to be sent before nothing more is read."""
LOW_WATER = 1 << 20
_VECTOR = 512
"""Pieces for each sendmsg; Linux takes 1024 (IOV_MAX)."""
_RESET = struct.pack("ii", 1, 0)
"""struct linger: close with a reset."""


@dataclasses.dataclass(slots=True)
class CableFaults:
    """The switches of one portal."""

    cut: bool = False
    delay_s: float = 0.0
    corrupt: int = 0
    """How many of the next digests are sent with a flipped bit."""
    refuse_login: bool = False


class Handler(Protocol):
    """Who takes the PDUs of a link."""

    def receive(self, bhs: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """One PDU; `data` is valid during the call only, and wrong unless `intact` (a data digest error)."""

    def broken(self, reason: str) -> None:
        """The connection is gone, or what came over it cannot be a PDU; called once."""


class Link:
    """The socket of one connection, on an event loop.

    Attributes:
        handler: Who takes the PDUs; may be replaced between two PDUs (login, then full feature).
        max_data: Largest data segment accepted; a longer one ends the connection before its payload is read.
        heard_at: Loop time at which bytes arrived last, or at which `finish` was called.
    """

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, faults: CableFaults, ended: Callable[[Link], None]
    ) -> None:
        self.handler: Handler | None = None
        self.header_digest = False
        self.data_digest = False
        self.max_data = 8192
        self.heard_at = loop.time()
        self.closed = False
        self.peer = sock.getpeername()
        self._socket = sock
        self._loop = loop
        self._faults = faults
        self._ended = ended
        self._staging = bytearray(STAGING_BYTES)
        self._start = self._end = 0
        self._out: deque[Buffer] = deque()
        self._out_bytes = 0
        self._late: deque[tuple[float, list[Buffer]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reading = self._writing = self._parsing = self._stalled = False
        self._closing = False
        self._error = ""
        self.resume()

    # --- in ---------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            count = self._socket.recv_into(memoryview(self._staging)[self._end :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error.strerror or "the connection broke")
            return
        if count == 0:
            self.close("the initiator closed the connection")
            return
        self.heard_at = self._loop.time()
        self._end += count
        self._work()

    def _work(self) -> None:
        """Handle every complete PDU that is staged, then send what that gave."""
        if self._parsing:
            return
        self._parsing = True
        while self._able() and self._next():
            pass
        self._parsing = False
        if self.closed:
            return
        self._stalled = self._full()
        if self._start:
            rest = self._end - self._start
            self._staging[:rest] = self._staging[self._start : self._end]
            self._start, self._end = 0, rest
        self.flush()
        self._watch()

    def _able(self) -> bool:
        return not (self.closed or self._closing or self._faults.cut or self._full())

    def _next(self) -> bool:
        """Handle one PDU; False when none is complete."""
        start, have = self._start, self._end - self._start
        if have < pdu.BHS_BYTES:
            return False
        view = memoryview(self._staging)
        ahs_bytes, length = pdu.frame_length(view[start : start + pdu.BHS_BYTES])
        head = pdu.BHS_BYTES + ahs_bytes
        body = head + (4 if self.header_digest else 0)
        if have < body:
            return False
        # Nothing in the header is believed before its digest is right (RFC 7143, 7.8).
        if self.header_digest and view[start + head : start + body] != wire(crc32c(view[start : start + head])):
            self._fail("the header digest is wrong")
            return False
        if length > self.max_data:
            self._fail(f"a data segment of {length} bytes is longer than {self.max_data}")
            return False
        padded = pdu.padded(length)
        digest = 4 if self.data_digest and length else 0
        if have < body + padded + digest:
            return False
        at = start + body
        intact = not digest or view[at + padded : at + padded + 4] == wire(crc32c(view[at : at + padded]))
        self._start = at + padded + digest
        handler = self.handler
        if handler is not None:
            bhs, ahs = bytes(view[start : start + 48]), bytes(view[start + 48 : start + head])
            handler.receive(bhs, ahs, view[at : at + length], intact)
        return True

    def _fail(self, reason: str) -> None:
        self._error = reason
        self.abort()

    def _full(self) -> bool:
        return self._out_bytes > HIGH_WATER

    # --- out --------------------------------------------------------------------------------------------------------

    def send(self, bhs: bytes, data: Buffer = b"") -> None:
        """Queue one PDU without extra headers; digests are added as negotiated. `flush` follows by itself."""
        if self.closed or self._closing:
            return
        pieces: list[Buffer] = [bhs]
        wants_data_digest = self.data_digest and len(data) > 0
        if self.header_digest:
            pieces.append(self._digest(crc32c(bhs), usable=not wants_data_digest))
        if len(data):
            pad = pdu.PAD[len(data) % 4]
            pieces.append(data)
            if pad:
                pieces.append(pad)
            if wants_data_digest:
                pieces.append(self._digest(crc32c(pad, crc32c(data)), usable=True))
        self._out_bytes += sum(map(len, pieces))
        if self._faults.delay_s or self._late:
            self._postpone(pieces)
        else:
            self._out.extend(pieces)
        if not self._parsing:
            self.flush()

    def _digest(self, value: int, usable: bool) -> bytes:
        if usable and self._faults.corrupt > 0:
            self._faults.corrupt -= 1
            value ^= 1
        return wire(value)

    def _postpone(self, pieces: list[Buffer]) -> None:
        due = self._loop.time() + self._faults.delay_s
        if self._late:  # an order that shortens the delay must not let answers overtake each other
            due = max(due, self._late[-1][0])
        self._late.append((due, pieces))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._late and self._late[0][0] <= now:
            self._out.extend(self._late.popleft()[1])
        if self._late:
            self._timer = self._loop.call_at(self._late[0][0], self._due)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now; the rest follows when it takes more."""
        while self._out and not (self.closed or self._faults.cut):
            count = min(len(self._out), _VECTOR)
            try:
                sent = self._socket.sendmsg([self._out[i] for i in range(count)])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.close(error.strerror or "the connection broke")
                return
            self._out_bytes -= sent
            while sent:
                piece = self._out.popleft()
                if sent < len(piece):
                    self._out.appendleft(memoryview(piece)[sent:])
                    break
                sent -= len(piece)
        if self._closing and not self._out and not self._late and not self.closed:
            self._half_close()
        if self._stalled and self._out_bytes < LOW_WATER:
            self._stalled = False
            self._loop.call_soon(self._work)
        self._watch()

    # --- watching ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Listen for what can go on now: a cut cable carries nothing, a full queue takes nothing in."""
        if self.closed:
            return
        live = not self._faults.cut
        read = live and (self._closing or not self._full()) and self._end < len(self._staging)
        if read != self._reading:
            self._reading = read
            if read:
                self._loop.add_reader(self._socket, self._drain if self._closing else self._readable)
            else:
                self._loop.remove_reader(self._socket)
        write = live and bool(self._out)
        if write != self._writing:
            self._writing = write
            if write:
                self._loop.add_writer(self._socket, self.flush)
            else:
                self._loop.remove_writer(self._socket)

    def resume(self) -> None:
        """Go on after the cable was plugged in, or stop because it was cut."""
        if not (self.closed or self._faults.cut) and self._abandoned():
            self.close("the initiator gave up while the cable was cut")
            return
        self._watch()
        if not self.closed and not self._faults.cut:
            self.heard_at = self._loop.time()
            self._work()

    def _abandoned(self) -> bool:
        """True if the initiator has closed its end. What it wrote into a cut cable before that must not be carried out
        now: it may have sent the same commands, and newer ones, over another path since."""
        poller = select.poll()
        poller.register(self._socket, select.POLLRDHUP)
        return bool(poller.poll(0))

    @property
    def frozen(self) -> bool:
        """True while the cable is cut: silence means nothing then."""
        return self._faults.cut

    @property
    def finishing(self) -> bool:
        """True after `finish`: what is left is to see the initiator close."""
        return self._closing

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Send what is queued, then FIN, and wait for the initiator to close (RFC 7143, 11.14)."""
        if self.closed or self._closing:
            return
        self._closing = True
        self.heard_at = self._loop.time()
        self._start = self._end = 0
        if self._reading:
            self._loop.add_reader(self._socket, self._drain)
        self.flush()

    def _half_close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("closed")

    def _drain(self) -> None:
        """After the end of the session: what still comes is thrown away until the initiator closes too."""
        try:
            if self._socket.recv_into(self._staging) == 0:
                self.close("closed")
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close("closed")

    def abort(self) -> None:
        """End the connection with a reset."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close("reset by the target")

    def close(self, reason: str) -> None:
        """End the connection and tell the handler, once."""
        if self.closed:
            return
        self.closed = True
        if self._reading:
            self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        self._out.clear()
        self._late.clear()
        self._staging = bytearray()
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.broken(self._error or reason)
        self._ended(self)
