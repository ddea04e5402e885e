"""One end of a connection between the engine's processes: JSON lines both ways, with descriptors, on asyncio.

Both ends may ask and both may answer, at the same time. Nothing waits for the other end: what it does not take yet is
kept, up to a limit; a peer that takes nothing at all is dropped.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from initiator.engine import rpc
from initiator.engine.rpc import EngineError, EngineSilent, FormatError, Message
from initiator.errors import MooringError

_MOST_FDS = 16
_MOST_QUEUED = 2 * rpc.MAX_LINE

Handler = Callable[["Link", str, dict[str, Any], list[int]], Awaitable[Any]]
"""Answers a request or takes a note: link, method, parameters and the descriptors that came with it, now its own."""

log = logging.getLogger(__name__)


class Link:
    """A connected Unix stream socket, served by the running loop from the moment it is made.

    Args:
        connection: the socket; it belongs to the link now.
        handler: what to do with the other side's requests and notes.
        on_close: called once, when the other end is gone or `close` was called.
    """

    def __init__(self, connection: socket.socket, handler: Handler, on_close: Callable[[], None]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._handler = handler
        self._on_close = on_close
        self._lines = rpc.Lines()
        self._fds: list[int] = []
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._queued = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._readable)
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    async def call(self, method: str, within: float, fds: Sequence[int] = (), **params: Any) -> Any:
        """Ask the other side.

        Args:
            method: what to do.
            within: seconds that it may take.
            fds: descriptors to send along; they stay open here.
            params: plain JSON values.

        Raises:
            EngineSilent: no answer in time, or the other side is gone; the outcome is not known.
            EngineError: it refused.
        """
        self._number += 1
        number = self._number
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            self._send(rpc.request(number, method, params), fds)
            async with asyncio.timeout(within):
                return rpc.unwrap(await answer)
        except TimeoutError as error:
            raise EngineSilent(f"{method}: no answer within {within:.3g} s") from error
        finally:
            del self._waiting[number]

    def note(self, method: str, **params: Any) -> None:
        """Tell the other side something; a link that is gone takes it silently."""
        with contextlib.suppress(EngineSilent):
            self._send({"method": method, "params": params})

    def close(self) -> None:
        """End the connection; calls that wait for an answer fail."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for fd in (*self._fds, *(fd for _, fds in self._out for fd in fds)):
            os.close(fd)
        self._fds.clear()
        self._out.clear()
        self._idle.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(EngineSilent("the connection ended before an answer came"))
        self._on_close()

    async def drain(self, within: float = 1.0) -> None:
        """Wait until everything was handed to the kernel, the link is closed, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()

    @property
    def peer_pid(self) -> int:
        """The process at the other end, as the kernel noted it when the connection was made."""
        return rpc.peer(self._socket)[0]

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if self.closed:
            raise EngineSilent("the connection has ended")
        if fds:
            message = {**message, "fds": len(fds)}
        line = memoryview(rpc.encode(message))
        if self._queued + len(line) > _MOST_QUEUED:
            log.error("the other end takes nothing any more; its connection is closed")
            self.close()
            raise EngineSilent("the other end takes nothing any more")
        self._out.append((line, tuple(os.dup(fd) for fd in fds)))
        self._queued += len(line)
        self._idle.clear()
        self._flush()

    def _flush(self) -> None:
        while self._out:
            line, fds = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
            try:
                sent = self._socket.sendmsg((line,), rights, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self.close()
                return
            for fd in fds:
                os.close(fd)
            self._queued -= sent
            if sent == len(line):
                self._out.popleft()
            else:
                self._out[0] = (line[sent:], ())
        self._loop.remove_writer(self._socket.fileno())
        self._idle.set()

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(1 << 18, socket.CMSG_SPACE(_MOST_FDS * 4))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        for level, kind, packed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(packed[: len(packed) - len(packed) % 4])
                self._fds += received
        if not data or flags & socket.MSG_CTRUNC:
            self.close()
            return
        try:
            for message in self._lines.feed(data):
                self._take(message)
                if self.closed:
                    return
        except FormatError as error:
            log.error("a connection sent what is no message and is closed: %s", error)
            self.close()

    def _take(self, message: Message) -> None:
        number, method = message.get("id"), message.get("method")
        if method is None:
            answer = self._waiting.get(number) if isinstance(number, int) else None
            if answer is not None and not answer.done():
                answer.set_result(message)
            return
        params, count = message.get("params", {}), message.get("fds", 0)
        if not isinstance(method, str) or not isinstance(params, dict) or not isinstance(count, int):
            raise FormatError("a request has no method or no parameters")
        if not 0 <= count <= len(self._fds):
            raise FormatError(f"{count} descriptors are announced and {len(self._fds)} came")
        fds, self._fds = self._fds[:count], self._fds[count:]
        for fd in fds:
            os.set_inheritable(fd, False)
        task = self._loop.create_task(self._handle(number, method, params, fds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, number: Any, method: str, params: dict[str, Any], fds: list[int]) -> None:
        numbered = number if isinstance(number, int) else 0
        try:
            answer = rpc.result(numbered, await self._handler(self, method, params, fds))
        except MooringError as error:
            answer = rpc.failure(numbered, error)
        except (OSError, ValueError, TypeError, KeyError, LookupError, AttributeError, RuntimeError) as error:
            # A mistake of ours must not take the other disks of this process down; its text may hold a secret.
            where = _innermost(error)
            log.error("%s failed inside the engine: %s at %s", method, type(error).__name__, where)
            broken = EngineError(f"{method} failed inside the engine ({type(error).__name__} at {where})")
            answer = rpc.failure(numbered, broken)
        if number is not None and not self.closed:
            with contextlib.suppress(EngineSilent):
                self._send(answer)


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "an unknown place"


async def connect(path: str, handler: Handler, on_close: Callable[[], None]) -> Link:
    """A link to the process that listens at `path`, if it runs as root or as this user.

    Raises:
        OSError: nobody listens. EngineError: somebody else does.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, path)
        if not rpc.trusted(connection):
            raise EngineError(f"{path} belongs to another user", code="not-permitted")
    except (OSError, EngineError):
        connection.close()
        raise
    return Link(connection, handler, on_close)
