"""One TCP connection in the full feature phase: a non-blocking socket that drives `FullFeature` from the event loop.

It does without asyncio's transports: reading goes straight into the buffer that the protocol names, and everything that
one turn of the loop produced leaves in one `sendmsg`. Nothing here is awaited.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from initiator.protocol.errors import ConnectionLost, IscsiError
from initiator.protocol.session import FullFeature, Management, Task

_RESET = struct.pack("ii", 1, 0)
_FINISH = struct.pack("ii", 0, 0)
"""Values of SO_LINGER (socket(7)): what `close` does with bytes that the peer has not acknowledged."""
READS_PER_TURN = 8
"""Buffers that may be filled before other sessions on the same loop have their turn."""
FLUSH_AT = 8
"""Buffers to send that do not wait for the end of a turn: the target works on them while more is being received."""
TCP_INFO_BYTES = 256
"""Room for `struct tcp_info` of any kernel; what is not known is left out of the answer."""


class Transport:
    """Moves bytes between a connected socket and the protocol until one of them ends.

    Attributes:
        core: The protocol's side.
        lost: Why the connection ended, or None while it works.
        last_drained: When a full socket buffer took more bytes: the peer's TCP is alive although it says nothing.
    """

    def __init__(
        self,
        sock: socket.socket,
        core: FullFeature,
        *,
        on_lost: Callable[[IscsiError], None],
        on_event: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Start at once; `sock` is non-blocking and belongs to the transport from here on.

        Args:
            sock: The connection, positioned behind the last PDU of the login.
            core: A fresh protocol object.
            on_lost: Told once when the connection ends, but not by `close`.
            on_event: Told after a turn that left something in `core.events`.
            loop: The loop to use, by default the running one.
        """
        self.core = core
        self.lost: IscsiError | None = None
        self.last_drained = core.last_received
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._time = self._loop.time
        self._on_lost = on_lost
        self._on_event = on_event
        self._flush_due = False
        self._blocked = False
        # A connection that is given up, or whose process is killed, must not deliver the writes that still wait in the
        # kernel: once the cable is back they would land on top of newer ones that went over another path.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._loop.add_reader(self._fd, self._readable)

    @property
    def closed(self) -> bool:
        """True once nothing moves any more."""
        return self._fd < 0

    def submit(self, task: Task) -> None:
        """Send a command together with everything else of this turn.

        Raises:
            LocalProtocolError: the session does not take commands any more.
        """
        self.core.submit(task, self._time())
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def kick(self) -> None:
        """Send soon what was given to `core` directly."""
        if not self._flush_due and not self._blocked and self._fd >= 0:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def manage(self, function: int, lun: bytes, done: Callable[[Management], None] | None = None) -> Management:
        """Send a task management request for a whole unit or target; see `FullFeature.task_management`."""
        management = self.core.task_management(function, lun, self._time(), done)
        self.kick()
        return management

    def tick(self) -> None:
        """Let the protocol look at its deadlines."""
        if self._fd < 0:
            return
        try:
            self.core.tick(self._time())
        except IscsiError as error:
            self.drop(error)
            return
        if self.core.out:
            self.kick()
        if self.core.events:
            self._on_event()

    def close(self) -> None:
        """Close the socket without telling anybody. Tasks stay in `core` until `core.abandon` hands them back."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        if self._blocked:
            self._loop.remove_writer(self._fd)
        self._fd = -1
        if not self.core.in_flight:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FINISH)
        self._sock.close()

    def drop(self, error: IscsiError) -> None:
        """The connection is of no use any more: close it and tell the owner."""
        if self._fd < 0:
            return
        self.lost = error
        self.close()
        self._on_lost(error)

    def swap(self, replace: Callable[[socket.socket], socket.socket]) -> None:
        """Use another object for the same connection; its descriptor stays the same."""
        if self._fd >= 0:
            try:
                self._sock = replace(self._sock)
            except OSError as error:
                self.drop(_broken(error))

    def tcp_info(self) -> bytes | None:
        """The kernel's `struct tcp_info` of the connection, or None if it is gone."""
        if self._fd < 0:
            return None
        try:
            return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        except OSError:
            return None

    def _readable(self) -> None:
        core = self.core
        self._flush_due = True  # what the answers set off leaves together
        try:
            for _ in range(READS_PER_TURN):
                if not self._receive(core):
                    break
                if len(core.take_out()) >= FLUSH_AT:
                    self._send()
        finally:
            self._flush_due = False
        if core.events and self._fd >= 0:
            self._on_event()
        self._flush()

    def _receive(self, core: FullFeature) -> bool:
        """One system call's worth of bytes; True if more are probably there already."""
        buffers = core.buffers()
        try:
            if len(buffers) == 1:
                room = len(buffers[0])
                count = self._sock.recv_into(buffers[0])
            else:
                room = len(buffers[0]) + len(buffers[1])
                count = self._sock.recvmsg_into(buffers)[0]
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.drop(_broken(error))
            return False
        if not count:
            if core.inside_pdu:
                self.drop(ConnectionLost("the target closed the connection inside a PDU", code="closed-mid-pdu"))
            else:
                self.drop(ConnectionLost("the target closed the connection", code="closed-by-target"))
            return False
        try:
            core.received(count, self._time())
        except IscsiError as error:
            self.drop(error)
            return False
        return count == room and self._fd >= 0

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._blocked = False
        self.last_drained = self._time()
        self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        self._send()

    def _send(self) -> None:
        if self._fd < 0 or self._blocked:
            return
        core = self.core
        try:
            while core.out:
                core.sent(self._sock.sendmsg(core.take_out()))
        except (BlockingIOError, InterruptedError):
            self._blocked = True
            self._loop.add_writer(self._fd, self._writable)
        except OSError as error:
            self.drop(_broken(error))


def _broken(error: OSError) -> ConnectionLost:
    return ConnectionLost(f"the connection broke: {error.strerror or error}", code="connection-broken")
