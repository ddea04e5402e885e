"""Both ends of one connection in memory: `FullFeature` on one side, a hand-played target on the other."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from initiator.protocol.keys import Params
from initiator.protocol.pdu import (
    MAX_DATA_BYTES,
    DataIn,
    Framer,
    NopIn,
    Pdu,
    Reject,
    Response,
    ScsiCommand,
    ScsiResponse,
    TaskManagement,
    TaskManagementResponse,
)
from initiator.protocol.session import FullFeature, Task

LUN = bytes((0, 3, 0, 0, 0, 0, 0, 0))
OTHER_LUN = bytes((0, 4)) + bytes(6)
READ_CDB = bytes((0x28,)) + bytes(9)
WRITE_CDB = bytes((0x2A,)) + bytes(9)
WORD = 0xFFFFFFFF

Kind = TypeVar("Kind", bound=Pdu)


@dataclasses.dataclass(frozen=True)
class Begin:
    """The counters that a login leaves behind."""

    cmd_sn: int = 1
    exp_stat_sn: int = 1000
    exp_cmd_sn: int = 1
    max_cmd_sn: int = 32


class Rig:
    """Attributes:
    core: What is tested.
    done: Tasks in the order in which they ended.
    now: The clock; a test moves it.
    """

    def __init__(self, params: Params | None = None, begin: Begin | None = None, **options: Any) -> None:
        begin = Begin() if begin is None else begin
        self.params = Params(max_recv_data_segment_length=65536) if params is None else params
        self.now = 100.0
        self.core = FullFeature(self.params, begin, self.now, **options)
        self.done: list[Task] = []
        self.stat_sn = begin.exp_stat_sn
        self.exp_cmd_sn = begin.exp_cmd_sn
        self.max_cmd_sn = begin.max_cmd_sn
        self._framer = Framer(self.params.header_digest, self.params.data_digest, max_data=MAX_DATA_BYTES)

    def task(self, **fields: Any) -> Task:
        """A task that is not submitted yet."""
        cdb = WRITE_CDB if fields.get("data_out") is not None else READ_CDB
        return Task(fields.pop("lun", LUN), fields.pop("cdb", cdb), self.done.append, **fields)

    def submit(self, task: Task) -> Task:
        self.core.submit(task, self.now)
        return task

    def read(self, length: int, **fields: Any) -> Task:
        """Submit a read into a fresh buffer that is full of ones."""
        return self.submit(self.task(data_in=memoryview(bytearray(b"\xff" * length)), **fields))

    def late(self, count: int = 1) -> list[Task]:
        """Submit reads whose time is up, and see that it is: what was sent since then is left to the test."""
        tasks = [self.read(1, deadline=self.now) for _ in range(count)]
        self.sent()
        self.core.tick(self.now)
        return tasks

    def write(self, data: bytes, **fields: Any) -> Task:
        return self.submit(self.task(data_out=memoryview(data), **fields))

    def sent(self) -> list[Pdu]:
        """What the initiator has sent since the last call, digests checked."""
        raw = b""
        while self.core.out:
            piece = b"".join(self.core.take_out())
            self.core.sent(len(piece))
            raw += piece
        pdus = list(self._framer.feed(raw))
        assert self._framer.pending == 0
        return pdus

    def one(self, kind: type[Kind]) -> Kind:
        """The only PDU that was sent, which is of this kind."""
        (pdu,) = self.sent()
        assert isinstance(pdu, kind)
        return pdu

    def command(self) -> ScsiCommand:
        return self.one(ScsiCommand)

    def feed(self, *pdus: Pdu | bytes, piece: int | None = None) -> None:
        """Let PDUs arrive, all at once or in pieces of `piece` bytes."""
        raw = b"".join(pdu if isinstance(pdu, bytes) else self.encode(pdu) for pdu in pdus)
        view = memoryview(raw)
        while view:
            view = view[self.put(view[:piece] if piece else view) :]

    def put(self, data: memoryview) -> int:
        """One system call's worth of bytes, into the buffers that the protocol names."""
        count = 0
        for buffer in self.core.buffers():
            part = data[count : count + len(buffer)]
            buffer[: len(part)] = part
            count += len(part)
        assert count > 0
        self.core.received(count, self.now)
        return count

    def encode(self, pdu: Pdu) -> bytes:
        return pdu.encode(self.params.header_digest, self.params.data_digest)

    def number(self, pdu: Response, *, counted: bool = True) -> Any:
        """The PDU with the target's counters in it; `counted` ones use up a StatSN."""
        numbered = dataclasses.replace(
            pdu, stat_sn=self.stat_sn, exp_cmd_sn=self.exp_cmd_sn & WORD, max_cmd_sn=self.max_cmd_sn & WORD
        )
        if counted:
            self.stat_sn = (self.stat_sn + 1) & WORD
        return numbered

    def data_in(self, task: Task, data: bytes, **fields: Any) -> DataIn:
        """A Data-In for the task; with `status_present` it uses up a StatSN."""
        pdu = DataIn(initiator_task_tag=task.itt, data=data, **fields)
        numbered: DataIn = self.number(pdu, counted=pdu.status_present)
        return numbered

    def last_data(self, task: Task, data: bytes, **fields: Any) -> DataIn:
        """A Data-In that ends the task with GOOD."""
        return self.data_in(task, data, final=True, status_present=True, **fields)

    def response(self, task: Task, **fields: Any) -> ScsiResponse:
        numbered: ScsiResponse = self.number(ScsiResponse(initiator_task_tag=task.itt, **fields))
        return numbered

    def window(self, room: int) -> NopIn:
        """A NOP-In that asks for nothing and leaves room for `room` commands."""
        self.max_cmd_sn = self.exp_cmd_sn + room - 1
        pdu: NopIn = self.number(NopIn(), counted=False)
        return pdu


def rejected(rig: Rig, request: TaskManagement, reason: int) -> Reject:
    """The refusal of a task management request."""
    pdu: Reject = rig.number(Reject(reason=reason, data=request.encode()[:48]))
    return pdu


def managed(rig: Rig, request: TaskManagement, response: int) -> TaskManagementResponse:
    """The answer to a task management request."""
    pdu: TaskManagementResponse = rig.number(
        TaskManagementResponse(initiator_task_tag=request.initiator_task_tag, response=response)
    )
    return pdu
