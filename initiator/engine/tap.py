"""Records what goes over a socket: a trace of the wire that costs nothing until it is asked for.

A `TapSocket` takes the place of a socket on the same descriptor, so nothing on the way of the data knows of it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from initiator.engine.pcapng import Flow, Writer
from initiator.protocol.blank import Blanker

log = logging.getLogger(__name__)

WALL = time.time


_MOST_WAITING = 8 << 20


class Outlet(io.RawIOBase):
    """A pipe or socket to whoever asked for a trace, written without ever waiting for them.

    Args:
        fd: It belongs to the outlet.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._waiting = bytearray()

    @property
    def empty(self) -> bool:
        """True if the kernel has taken everything."""
        return not self._waiting

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes, and hand on what the kernel takes now.

        Raises:
            OSError: the reader is gone, or so slow that 8 MiB wait for it.
        """
        self._waiting += data
        self.flush()
        if len(self._waiting) > _MOST_WAITING:
            raise OSError(errno.ENOBUFS, "the reader of the trace is too slow")
        return len(data)

    def flush(self) -> None:
        """Hand on what the kernel takes now."""
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting[:65536])]

    def close(self) -> None:
        """What still waits is lost."""
        if not self.closed:
            self._waiting.clear()
            os.close(self._fd)
            super().close()


class Trace:
    """Everything that is recorded into one file; sockets come and go.

    Attributes:
        writer: The file.
        broken: Why nothing more is recorded, or None: a full disk must not disturb a session.
    """

    def __init__(self, writer: Writer, wall: Callable[[], float] = WALL) -> None:
        """Record with the time that `wall` says (Unix time)."""
        self.writer = writer
        self.broken: str | None = None
        self._wall = wall

    @property
    def over(self) -> bool:
        """True if nothing more is recorded."""
        return self.broken is not None or self.writer.full

    def make(self, family: int, kind: int, protocol: int) -> socket.socket:
        """A new socket that is recorded from its first byte on; a factory like `socket.socket`."""
        return TapSocket(family, kind, protocol).record_all(self)

    def put(self, write: Callable[[float], None]) -> None:
        """Write into the file, unless that is over."""
        if self.over:
            return
        try:
            write(self._wall())
        except OSError as error:
            self.broken = error.strerror or str(error)
            log.warning("the trace ends: %s", self.broken)

    def close(self) -> None:
        """Hand what was written to the kernel."""
        self.put(lambda now: self.writer.flush())


class TapSocket(socket.socket):
    """A socket that tells a trace what goes over it."""

    _trace: Trace | None = None
    _flow: Flow | None = None
    _receiving = False
    _sending = False
    _blank: dict[bool, Blanker] | None = None
    _clean: Callable[[], bool] | None = None

    def record_all(self, trace: Trace) -> TapSocket:
        """Begin with a connection that has yet to be made, and whose login is still to come."""
        self._trace = trace
        self._receiving = self._sending = True
        self._blank = {True: Blanker(), False: Blanker()}
        return self

    def record_from_now(self, trace: Trace, clean: Callable[[], bool], flow: Flow) -> TapSocket:
        """Begin with a connection in use, in each direction with the next PDU; `clean` says that one begins."""
        self._trace = trace
        self._clean = clean
        self._flow = flow
        return self

    # What a login uses

    def recv(self, *arguments: Any) -> bytes:
        """As a socket's."""
        data = super().recv(*arguments)
        self._note(False, data)
        return data

    def send(self, data: Any, *arguments: Any) -> int:
        """As a socket's."""
        count = super().send(data, *arguments)
        self._note(True, bytes(memoryview(data)[:count]))
        return count

    # What the full feature phase uses

    def recv_into(self, buffer: Any, *arguments: Any) -> int:
        """As a socket's."""
        self._begin_receiving()
        count = super().recv_into(buffer, *arguments)
        self._note(False, bytes(memoryview(buffer)[:count]))
        return count

    def recvmsg_into(self, buffers: Iterable[Any], *arguments: Any) -> Any:
        """As a socket's."""
        self._begin_receiving()
        views = list(buffers)
        answer = super().recvmsg_into(views, *arguments)
        self._note(False, _first(views, answer[0]))
        return answer

    def sendmsg(self, buffers: Iterable[Any], *arguments: Any) -> int:
        """As a socket's."""
        vectors = list(buffers)
        count = super().sendmsg(vectors, *arguments)
        self._note(True, _first(vectors, count))
        if not self._sending:
            # All of it has left: what comes next begins with a header.
            self._sending = count == sum(len(memoryview(vector)) for vector in vectors)
        return count

    def close(self) -> None:
        """As a socket's."""
        trace, flow, self._flow = self._trace, self._flow, None
        if trace is not None and flow is not None:
            trace.put(lambda now: trace.writer.closed(flow, now))
        super().close()

    def _begin_receiving(self) -> None:
        if not self._receiving and self._clean is not None and self._clean():
            self._receiving = True

    def _note(self, outgoing: bool, data: bytes) -> None:
        trace = self._trace
        if trace is None or trace.over or not data or not (self._sending if outgoing else self._receiving):
            return
        flow = self._flow
        if flow is None:
            flow = self._flow = Flow(self.getsockname()[:2], self.getpeername()[:2])
            first = flow
            trace.put(lambda now: trace.writer.opened(first, now))
        kept = data if self._blank is None else self._blank[outgoing](data)
        there = flow
        trace.put(lambda now: trace.writer.data(there, outgoing, kept, now))


def _first(vectors: Sequence[Any], count: int) -> bytes:
    """The first `count` bytes of several buffers."""
    parts: list[memoryview] = []
    for vector in vectors:
        view = memoryview(vector)
        if count < len(view):
            parts.append(view[:count])
            break
        parts.append(view)
        count -= len(view)
    return b"".join(parts)


def retap(sock: socket.socket, trace: Trace | None, clean: Callable[[], bool]) -> socket.socket:
    """The same connection on the same descriptor, recorded from now on, or not any more.

    The object that was given must not be used afterwards. `clean`: see `TapSocket.record_from_now`.

    Raises:
        OSError: the connection has just broken; the object that was given has it still.
    """
    if trace is None:
        plain = socket.socket(fileno=sock.detach())
        plain.setblocking(False)
        return plain
    flow = Flow(sock.getsockname()[:2], sock.getpeername()[:2])
    fresh = TapSocket(fileno=sock.detach()).record_from_now(trace, clean, flow)
    fresh.setblocking(False)
    return fresh
