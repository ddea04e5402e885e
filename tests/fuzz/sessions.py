"""Whole sessions under fuzz: both ends are played by the same bytes.

The user's side submits, aborts, pings and lets time pass; the target's side sends PDUs that are nearly right (a tag
that is in use, the StatSN that is due) or anything. Whatever happens, each task ends exactly once, nothing is written
into a buffer that its owner has back, and what waits to be sent stays within what was asked for.
"""

from __future__ import annotations

import contextlib
import struct

from initiator.errors import MooringError
from initiator.protocol.digest import crc32c, wire
from initiator.protocol.errors import IscsiError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import BHS_BYTES, padded
from initiator.protocol.session import FullFeature, Task, TaskError
from tests.fuzz.cut import Cut

_LUN = bytes((0, 1, 0, 0, 0, 0, 0, 0))
_SEGMENT = 4096
_MOST_TASKS = 64
_HEADER = struct.Struct(">BBBBI8sIIIIIIII")
_OPS = (0x25, 0x21, 0x31, 0x20, 0x22, 0x24, 0x26, 0x32, 0x3F)


class _Start:
    cmd_sn, exp_stat_sn, exp_cmd_sn, max_cmd_sn = 1, 1, 1, 16


class World:
    """One session and what was asked of it."""

    def __init__(self, cut: Cut) -> None:
        flags = cut.byte()
        self.cut = cut
        self.params = Params(
            header_digest=bool(flags & 1),
            data_digest=bool(flags & 2),
            initial_r2t=bool(flags & 4),
            immediate_data=bool(flags & 8),
            data_pdu_in_order=not flags & 16,
            data_sequence_in_order=not flags & 32,
            max_recv_data_segment_length=_SEGMENT,
            max_xmit_data_segment_length=512,
            first_burst_length=1024,
            max_burst_length=2048,
        )
        self.now = 100.0
        self.core = FullFeature(self.params, _Start(), self.now)
        self.tasks: list[Task] = []
        self.ended: dict[int, bytes] = {}
        self.stat_sn = 1
        self.lost = False

    # The user

    def submit(self) -> None:
        if len(self.tasks) >= _MOST_TASKS:
            return
        kind, size = self.cut.byte(), self.cut.byte() * 32
        buffer = memoryview(bytearray(size))
        task = Task(
            _LUN,
            b"\x28" + bytes(9),
            self._done,
            data_in=buffer if kind & 3 == 1 else None,
            data_out=buffer if kind & 3 == 2 else None,
            deadline=self.now + 5 if kind & 4 else None,
            idempotent=not kind & 8,
        )
        with contextlib.suppress(IscsiError):
            self.core.submit(task, self.now)
            self.tasks.append(task)

    def _done(self, task: Task) -> None:
        assert id(task) not in self.ended, "a task ended twice"
        buffer = task.data_in if task.data_in is not None else task.data_out
        self.ended[id(task)] = bytes(buffer) if buffer is not None else b""

    def abort(self) -> None:
        if self.tasks:
            self.core.abort(self.tasks[self.cut.byte() % len(self.tasks)], TaskError("no more", code="aborted"))

    def manage(self) -> None:
        with contextlib.suppress(IscsiError):
            self.core.task_management(self.cut.byte() % 12, _LUN, self.now)

    def ask(self) -> None:
        with contextlib.suppress(IscsiError):
            if self.cut.byte() & 1:
                self.core.negotiate(self.now)
            else:
                self.core.text(b"SendTargets=\0", self.now)

    def pass_time(self) -> None:
        self.now += self.cut.byte() / 4
        self.core.tick(self.now)

    def send(self) -> None:
        while self.core.out:
            pieces = self.core.take_out()
            size = sum(map(len, pieces))
            self.core.sent(min(size, 1 + self.cut.byte() * 16))
            if not self.cut:
                return

    # The target

    def answer(self) -> None:
        """A PDU that is nearly right."""
        cut = self.cut
        shape, opcode = cut.byte(), _OPS[cut.byte() % len(_OPS)]
        task = self.tasks[cut.byte() % len(self.tasks)] if self.tasks else None
        tag = cut.word() if shape & 1 or task is None else task.itt
        data = cut.some()
        stat_sn = cut.word() if shape & 2 else self.stat_sn
        offset = cut.byte() * 32 if shape & 4 or task is None else task.received
        counted = cut.byte() if shape & 8 or task is None else (task.r2t_sn if opcode == 0x31 else task.data_sn)
        last = cut.word() if shape & 16 else (len(data) if opcode == 0x31 else 0)
        flags = cut.byte() | 0x80
        header = _HEADER.pack(
            opcode, flags, cut.byte() & 1, cut.byte() & 2, len(data), _LUN, tag, cut.byte() if opcode == 0x31 else
            0xFFFFFFFF, stat_sn, 1, self.core._commands.numbers.cmd_sn + 8 & 0xFFFFFFFF, counted, offset, last
        )  # fmt: skip
        self.stat_sn = self.stat_sn + 1 & 0xFFFFFFFF if opcode not in (0x25, 0x31) or flags & 1 else self.stat_sn
        self.receive(self._seal(header, data))

    def _seal(self, header: bytes, data: bytes) -> bytes:
        pieces = [header]
        if self.params.header_digest:
            pieces.append(wire(crc32c(header)))
        if data:
            body = data.ljust(padded(len(data)), b"\0")
            pieces.append(body)
            if self.params.data_digest:
                pieces.append(wire(crc32c(body)))
        return b"".join(pieces)

    def anything(self) -> None:
        """A header without sense, digests right so that it is looked at; or bytes."""
        raw = self.cut.take(BHS_BYTES)
        if len(raw) == BHS_BYTES and self.cut.byte() & 1:
            self.receive(self._seal(raw, b""))
        else:
            self.receive(raw)

    def receive(self, data: bytes) -> None:
        """As the transport does it: into the places that the protocol names; at once, or so many bytes at a time."""
        step = self.cut.byte() * 8 - 7
        if step < 0:
            step = len(data)
        at = 0
        while at < len(data):
            count = 0
            for place in self.core.buffers():
                piece = data[at + count : at + count + min(len(place), step - count)]
                place[: len(piece)] = piece
                count += len(piece)
                if len(piece) < len(place):
                    break
            assert count, "no room for bytes that have come"
            self.core.received(count, self.now)
            at += count

    # The end

    def run(self) -> None:
        actions = (
            self.answer, self.submit, self.answer, self.send, self.answer, self.abort, self.manage, self.ask,
            self.pass_time, self.anything, self.ping, self.log_out,
        )  # fmt: skip
        try:
            while self.cut:
                actions[self.cut.byte() % len(actions)]()
                self.core.events.clear()
        except IscsiError:
            self.lost = True
        self.check()

    def ping(self) -> None:
        self.core.ping(self.now)

    def log_out(self) -> None:
        if self.cut.byte() > 200:
            self.core.logout(0, self.now)

    def check(self) -> None:
        waiting = sum(map(len, self.core.take_out()))
        assert waiting < 4_000_000, f"{waiting} bytes wait to be sent"
        back = self.core.abandon()
        for task in back:
            assert id(task) not in self.ended, "a task was handed back that had ended"
        assert len(back) + len(self.ended) == len(self.tasks), "a task was lost"
        for task in self.tasks:
            kept = self.ended.get(id(task))
            buffer = task.data_in if task.data_in is not None else task.data_out
            assert kept is None or buffer is None or bytes(buffer) == kept, "a buffer changed after its task had ended"
            assert task.data_out is None or not any(task.data_out), "what is written was changed"


def session(data: bytes) -> None:
    """One session in the full feature phase."""
    World(Cut(data)).run()


def garbage(data: bytes) -> None:
    """Bytes without any form into a session that has commands under way."""
    world = World(Cut(data[:1] + bytes((1, 8, 2, 8, 0, 0))))
    for _ in range(3):
        world.submit()
    world.cut = Cut(data[1:])
    try:
        while world.cut:
            world.receive(world.cut.take(256))
    except MooringError:
        pass
    world.check()
