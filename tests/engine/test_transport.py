"""The socket side of a connection: partial sends, ends of all kinds, callbacks that do the unexpected."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from initiator.engine.pcapng import Writer
from initiator.engine.tap import Trace, retap
from initiator.engine.transport import Transport
from initiator.protocol.errors import IscsiError, LocalProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import R2T, DataIn, DataOut, Framer, NopIn, ScsiCommand, ScsiResponse
from initiator.protocol.session import FullFeature, Task
from tests.protocol.session_rig import LUN, READ_CDB, WRITE_CDB, Begin

PARAMS = Params(
    max_recv_data_segment_length=262144,
    max_xmit_data_segment_length=262144,
    max_burst_length=16 << 20,
    first_burst_length=65536,
)


class Wire:
    """A transport on one end of a TCP connection; the other end is played by the test."""

    def __init__(self, params: Params = PARAMS) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            mine = socket.create_connection(server.getsockname())
            self.peer, _ = server.accept()
        mine.setblocking(False)
        self.peer.setblocking(False)
        self.loop = asyncio.get_running_loop()
        self.core = FullFeature(params, Begin(max_cmd_sn=1000), self.loop.time())
        self.lost: list[IscsiError] = []
        self.events = 0
        self.done: list[Task] = []
        self.transport = Transport(mine, self.core, on_lost=self.lost.append, on_event=self.on_event)
        self.framer = Framer(max_data=1 << 24)
        self.stat_sn = 1000

    def on_event(self) -> None:
        self.events += 1
        self.core.events.clear()

    def task(self, **buffers: memoryview) -> Task:
        return Task(LUN, WRITE_CDB if "data_out" in buffers else READ_CDB, self.done.append, **buffers)  # type: ignore[arg-type]

    def read(self, length: int) -> Task:
        task = self.task(data_in=memoryview(bytearray(length)))
        self.transport.submit(task)
        return task

    async def pdus(self, count: int) -> list[object]:
        found: list[object] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                found += self.framer.feed(await self.loop.sock_recv(self.peer, 1 << 20))
        return found

    async def send(self, *pdus: DataIn | ScsiResponse | R2T | NopIn) -> None:
        await self.loop.sock_sendall(self.peer, b"".join(pdu.encode() for pdu in pdus))

    def data(self, task: Task, data: bytes) -> DataIn:
        self.stat_sn += 1
        return DataIn(
            initiator_task_tag=task.itt,
            data=data,
            final=True,
            status_present=True,
            stat_sn=self.stat_sn - 1,
            max_cmd_sn=1000,
        )

    def close(self) -> None:
        self.transport.close()
        self.peer.close()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    yield made
    made.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition will do
            await asyncio.sleep(0)


async def test_one_turn_makes_one_send(wire: Wire) -> None:
    for _ in range(20):
        wire.read(4)
    raw = b""
    async with asyncio.timeout(5):
        raw = await wire.loop.sock_recv(wire.peer, 1 << 16)
    assert len(raw) == 20 * 48


async def test_read_completes_and_the_next_leaves_at_once(wire: Wire) -> None:
    follower = wire.task(data_in=memoryview(bytearray(4)))
    first = Task(LUN, READ_CDB, lambda _: wire.transport.submit(follower), data_in=memoryview(bytearray(4)))
    wire.transport.submit(first)
    await wire.pdus(1)
    await wire.send(wire.data(first, b"abcd"))
    (command,) = await wire.pdus(1)
    assert isinstance(command, ScsiCommand)
    assert command.initiator_task_tag == follower.itt
    await wire.send(wire.data(follower, b"efgh"))
    await until(lambda: wire.done)
    assert follower.good


class Prepared:
    """A socket whose incoming bytes are all there already; it notes what is done in which order."""

    def __init__(self, incoming: bytes) -> None:
        self.incoming = incoming
        self.calls: list[str] = []

    def recv_into(self, buffer: memoryview) -> int:
        self.calls.append("receive")
        if not self.incoming:
            raise BlockingIOError
        part, self.incoming = self.incoming[: len(buffer)], self.incoming[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def sendmsg(self, buffers: list[bytes | memoryview]) -> int:
        self.calls.append("send")
        return sum(map(len, buffers))


async def test_the_next_commands_leave_before_all_answers_were_read(wire: Wire) -> None:
    """While the target works on them, the rest is received; one that waits for the other is half as fast."""
    again = memoryview(bytearray(4096))
    tasks = [
        Task(
            LUN,
            READ_CDB,
            lambda _: wire.transport.submit(wire.task(data_in=again)),
            data_in=memoryview(bytearray(4096)),
        )
        for _ in range(32)
    ]
    for task in tasks:
        wire.transport.submit(task)
    await wire.pdus(32)
    prepared = Prepared(b"".join(wire.data(task, bytes(4096)).encode() for task in tasks))
    real: list[socket.socket] = []

    def replace(sock: socket.socket) -> socket.socket:
        real.append(sock)
        return prepared  # type: ignore[return-value]

    wire.transport.swap(replace)
    await wire.loop.sock_sendall(wire.peer, b"!")
    await until(lambda: prepared.calls.count("send") == 3)
    assert all(task.good for task in tasks)
    assert prepared.calls == ["receive", "send", "receive", "send", "receive", "send"]
    wire.transport.swap(lambda _: real[0])


async def test_a_write_that_the_socket_takes_in_many_bites() -> None:
    wire = Wire(PARAMS)
    data = os.urandom(12 << 20)
    task = wire.task(data_out=memoryview(data))
    wire.transport.submit(task)
    (command,) = await wire.pdus(1)
    assert isinstance(command, ScsiCommand)
    want = len(data) - len(command.data)
    await wire.send(
        R2T(
            initiator_task_tag=task.itt,
            target_transfer_tag=1,
            lun=LUN,
            buffer_offset=len(command.data),
            desired_data_transfer_length=want,
            max_cmd_sn=1000,
        )
    )
    await until(lambda: wire.transport._blocked)  # nobody reads: the socket is full
    before = wire.transport.last_drained
    received = bytearray(command.data)
    while len(received) < len(data):
        for pdu in await wire.pdus(1):
            assert isinstance(pdu, DataOut)
            assert pdu.buffer_offset == len(received)
            received += pdu.data
    assert received == data
    assert wire.transport.last_drained > before
    wire.close()


@pytest.mark.parametrize("way", ["fin", "rst", "garbage"])
async def test_ends_are_told_once(wire: Wire, way: str) -> None:
    task = wire.read(4)
    await wire.pdus(1)
    if way == "garbage":
        await wire.loop.sock_sendall(wire.peer, b"\x3b" * 48)
    else:
        if way == "rst":
            wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.peer.close()
    await until(lambda: wire.lost)
    assert len(wire.lost) == 1
    assert wire.transport.closed
    assert wire.transport.lost is wire.lost[0]
    assert wire.transport.tcp_info() is None
    assert wire.core.abandon() == [task]
    wire.transport.tick()
    wire.transport.drop(wire.lost[0])
    assert len(wire.lost) == 1
    assert not wire.done


async def test_a_trace_that_begins_when_the_connection_has_just_broken(wire: Wire) -> None:
    """There is no peer to name any more; the descriptor has to be given back with the connection, and not before."""
    wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.peer.close()
    trace = Trace(Writer(io.BytesIO(), 1 << 20))
    wire.transport.swap(partial(retap, trace=trace, clean=lambda: True))
    assert [error.code for error in wire.lost] == ["connection-broken"]
    assert wire.transport.closed


async def test_sending_into_a_dead_connection(wire: Wire) -> None:
    wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.peer.close()
    wire.read(4)
    await until(lambda: wire.lost)
    assert wire.transport.closed


async def test_close_tells_nobody_and_leaves_the_tasks(wire: Wire) -> None:
    task = wire.read(4)
    wire.transport.close()
    wire.transport.close()
    await asyncio.sleep(0)
    assert not wire.lost
    assert wire.core.abandon() == [task]
    with pytest.raises(LocalProtocolError):
        wire.transport.submit(task)


async def test_closing_from_inside_a_callback(wire: Wire) -> None:
    task = Task(LUN, READ_CDB, lambda _: wire.transport.close(), data_in=memoryview(bytearray(1)))
    wire.transport.submit(task)
    other = wire.read(1)
    await wire.pdus(2)
    await wire.send(wire.data(task, b"x"))
    await until(lambda: wire.transport.closed)
    assert wire.core.abandon() == [other]


async def test_a_callback_that_raises_does_not_stop_the_connection(wire: Wire) -> None:
    complaints: list[dict[str, object]] = []
    wire.loop.set_exception_handler(lambda _, context: complaints.append(context))

    def broken(_: Task) -> None:
        raise ZeroDivisionError

    bad = Task(LUN, READ_CDB, broken, data_in=memoryview(bytearray(1)))
    wire.transport.submit(bad)
    good = wire.read(1)
    await wire.pdus(2)
    await wire.send(wire.data(bad, b"x"), wire.data(good, b"y"))
    await until(lambda: complaints)
    await wire.send(NopIn(stat_sn=wire.stat_sn, max_cmd_sn=1000))
    await until(lambda: wire.done)
    assert wire.done == [good]
    wire.read(1)
    assert len(await wire.pdus(1)) == 1


async def test_events_are_announced(wire: Wire) -> None:
    assert wire.core.ping(wire.loop.time())
    wire.transport.kick()
    (nop,) = await wire.pdus(1)
    tag, data = nop.initiator_task_tag, nop.data  # type: ignore[attr-defined]
    await wire.send(NopIn(initiator_task_tag=tag, data=data, stat_sn=1000, max_cmd_sn=1000))
    await until(lambda: wire.events)
    assert wire.events == 1
    assert wire.transport.tcp_info()


async def test_writes_that_still_wait_in_the_kernel_do_not_outlive_a_dropped_connection() -> None:
    """The peer does not read while the connection is given up; what it finds afterwards is a reset, not old writes."""
    wire = Wire()
    data = memoryview(bytearray(b"old!" * (60 << 10)))
    for _ in range(64):
        wire.transport.submit(wire.task(data_out=data))
    await until(lambda: wire.transport._blocked)
    wire.transport.close()
    with pytest.raises(ConnectionResetError):
        read_to_the_end(wire.peer)
    wire.peer.close()


def read_to_the_end(peer: socket.socket) -> None:
    while peer.recv(1 << 20):
        pass


async def test_a_connection_with_nothing_under_way_ends_in_order() -> None:
    wire = Wire()
    wire.transport.close()
    async with asyncio.timeout(20):
        assert await wire.loop.sock_recv(wire.peer, 1) == b""
    wire.peer.close()
