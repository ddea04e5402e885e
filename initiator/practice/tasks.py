"""The SCSI tasks of one session: commands in, data both ways, status out (RFC 7143, 11.3, 11.4, 11.7, 11.8).

Headers are read and written in place here, without an object for each PDU: this is the target's data path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from initiator.practice.device import Device
from initiator.practice.link import Link
from initiator.practice.nexus import Nexus
from initiator.practice.numbers import WINDOW
from initiator.practice.unit import MAX_TRANSFER_BYTES, Answer, Want, check, illegal
from initiator.protocol import pdu
from initiator.protocol.digest import Buffer
from initiator.protocol.keys import Params
from initiator.scsi.commands import Status
from initiator.scsi.sense import Key

MAX_BUFFERED = 32 << 20
"""Bytes of write data that one session may have in the target's memory; beyond it commands end with TASK SET FULL."""

DATA_DIGEST_ERROR = 0x02
PROTOCOL_ERROR = 0x04
IMMEDIATE_REJECT = 0x06
TASK_IN_PROGRESS = 0x07
"""Reasons of a Reject (11.17.1)."""

UNEXPECTED_DATA = 0x0C0C
WRONG_AMOUNT = 0x0C0D
CRC_ERROR = 0x4705
"""iSCSI conditions, reported as ABORTED COMMAND (11.4.7.2)."""

_DATA_IN = pdu.DataIn.LAYOUT.code
_RESPONSE = pdu.ScsiResponse.LAYOUT.code
_R2T = pdu.R2T.LAYOUT.code


@dataclasses.dataclass(slots=True)
class Burst:
    """What one R2T has asked for."""

    offset: int
    length: int
    got: int = 0
    data_sn: int = 0


@dataclasses.dataclass(slots=True)
class Task:
    """One SCSI command on its way.

    Attributes:
        buffer: Data from the initiator, in order; `got` bytes have come, `asked` have come or were asked for.
        open: True while unsolicited Data-Out may follow.
        need: How many bytes the command takes, once it has started and wants data.
        wrong: The iSCSI condition that ends it, if something is wrong with its data.
        aborted: It ends without a word.
    """

    tag: int
    lun: bytes
    cdb: bytes
    expected: int
    reads: bool
    writes: bool
    cmd_sn: int
    open: bool = False
    buffer: Buffer = b""
    got: int = 0
    asked: int = 0
    data_sn: int = 0
    want: Want | None = None
    need: int = 0
    answer: Answer | None = None
    bursts: dict[int, Burst] = dataclasses.field(default_factory=dict)
    pdus: int = 0
    wrong: int = 0
    aborted: bool = False

    @property
    def owes_data(self) -> bool:
        """True while the initiator still has to send something."""
        return self.open or bool(self.bursts)


class Session(Protocol):
    """What the tasks need of their session."""

    link: Link
    params: Params
    exp_cmd_sn: int
    stat_sn: int

    @property
    def nexus(self) -> Nexus:
        """Whose unit attentions count."""

    @property
    def device(self) -> Device:
        """What carries the commands out."""

    def next_stat_sn(self) -> int:
        """The StatSN of the next response."""

    def next_tag(self) -> int:
        """A Target Transfer Tag."""

    def max_cmd_sn(self) -> int:
        """The end of the command window."""

    def expects(self, cmd_sn: int) -> bool:
        """False if the number is outside the window or was there before."""

    def admit(self, cmd_sn: int, immediate: bool, run: Callable[[], None]) -> bool:
        """Call `run` when its turn has come by CmdSN; False if the number is outside the window."""

    def reject(self, bhs: bytes, reason: int) -> None:
        """Send a Reject."""

    def defer(self, work: Callable[[], Answer], done: Callable[[Answer], None]) -> None:
        """Do something slow in a thread; `done` is not called after the end of the session."""

    def drop(self, reason: str) -> None:
        """End the connection: the initiator broke a rule."""


class Tasks:
    """All tasks of one session, by Initiator Task Tag."""

    def __init__(self, session: Session) -> None:
        self.active: dict[int, Task] = {}
        self.on_quiet: Callable[[], None] | None = None
        """Called when an aborted task has ended."""
        self._session = session
        self._buffered = 0

    # --- from the initiator -----------------------------------------------------------------------------------------

    def command(self, bhs: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """A SCSI Command PDU."""
        session = self._session
        opcode, flags, _, lun, tag, expected, cmd_sn, _, cdb = pdu.SCSI_COMMAND.unpack(bhs)
        immediate = bool(opcode & pdu.IMMEDIATE)
        if not intact:
            session.reject(bhs, DATA_DIGEST_ERROR)  # the command itself is lost; the initiator retries it (7.8)
            return
        if not immediate and not session.expects(cmd_sn):
            return  # without a word, also where its task is still under way: the initiator may send it twice (4.2.2.1)
        if tag == pdu.NO_TAG:
            session.drop("a command has the reserved task tag")
            return
        if tag in self.active:
            session.reject(bhs, TASK_IN_PROGRESS)
            return
        if immediate and len(self.active) >= 2 * WINDOW:
            session.reject(bhs, IMMEDIATE_REJECT)
            return
        if ahs:
            found = pdu.decode(bhs, ahs, b"")
            cdb = found.cdb if isinstance(found, pdu.ScsiCommand) else cdb
        task = Task(tag, lun, cdb, expected, bool(flags & 0x40), bool(flags & 0x20), cmd_sn)
        self._take_immediate(task, data, final=bool(flags & pdu.FINAL))
        self.active[tag] = task
        self._buffered += len(task.buffer)
        if not session.admit(cmd_sn, immediate, lambda: self._start(task)):
            self._forget(task)

    def _take_immediate(self, task: Task, data: memoryview, final: bool) -> None:
        """Immediate data, and whether unsolicited data follow (13.10, 13.11)."""
        params = self._session.params
        size = len(data)
        if size and not (params.immediate_data and task.writes):
            task.wrong = UNEXPECTED_DATA
        elif size > min(task.expected, params.first_burst_length):
            task.wrong = WRONG_AMOUNT
        task.open = task.writes and not final
        if task.open and params.initial_r2t:
            task.open, task.wrong = False, UNEXPECTED_DATA
        if not task.writes or task.wrong:
            return
        room = min(task.expected, MAX_TRANSFER_BYTES)
        if self._buffered + room > MAX_BUFFERED:
            task.answer = Answer(b"", Status.TASK_SET_FULL)
            room = 0
        if size == room:
            task.buffer = bytes(data)
        else:
            task.buffer = bytearray(room)
            task.buffer[:size] = data[:room]
        task.got = size

    def data_out(self, bhs: bytes, data: memoryview, intact: bool) -> None:
        """A Data-Out PDU."""
        session = self._session
        _, flags, _, lun, tag, transfer_tag, _, data_sn, offset = pdu.DATA_OUT.unpack(bhs)
        if not intact:
            session.reject(bhs, DATA_DIGEST_ERROR)
        task = self.active.get(tag)
        if task is None:  # aborted meanwhile: its data go nowhere
            return
        final = bool(flags & pdu.FINAL)
        if transfer_tag == pdu.NO_TAG:
            self._unsolicited(task, data, data_sn, offset, final, intact)
            return
        burst = task.bursts.get(transfer_tag)
        if burst is None or lun != task.lun:
            session.drop("Data-Out with a transfer tag or LUN that no R2T of this task has")
            return
        if offset != burst.offset + burst.got or burst.got + len(data) > burst.length:
            session.drop("Data-Out outside what its R2T asked for")
            return
        if not intact or data_sn != burst.data_sn:
            task.wrong = CRC_ERROR
        burst.data_sn += 1
        burst.got += len(data)
        self._keep(task, offset, data)
        if final:
            if burst.got != burst.length and not task.wrong:
                task.wrong = WRONG_AMOUNT
            del task.bursts[transfer_tag]
            self._go_on(task)

    def _unsolicited(self, task: Task, data: memoryview, data_sn: int, offset: int, final: bool, intact: bool) -> None:
        if not task.open:
            task.wrong = task.wrong or UNEXPECTED_DATA
            return
        if offset != task.got or task.got + len(data) > min(task.expected, self._session.params.first_burst_length):
            task.wrong = WRONG_AMOUNT
        elif not intact or data_sn != task.data_sn:
            task.wrong = CRC_ERROR
        task.data_sn += 1
        if not task.wrong:
            self._keep(task, offset, data)
        task.got += len(data)
        if final:
            task.open = False
            self._go_on(task)

    @staticmethod
    def _keep(task: Task, offset: int, data: memoryview) -> None:
        room = len(task.buffer) - offset
        if room > 0 and isinstance(task.buffer, bytearray):
            piece = data[:room]
            task.buffer[offset : offset + len(piece)] = piece

    # --- carrying out -----------------------------------------------------------------------------------------------

    def _start(self, task: Task) -> None:
        """The turn of the command has come."""
        if task.aborted:
            return
        if task.answer is None and not task.wrong:
            found = self._session.device.start(self._session.nexus, task.lun, task.cdb)
            if isinstance(found, Want):
                task.want = found
                task.need = min(found.length, task.expected) if task.writes else 0
                if found.exact and task.expected > found.length:
                    task.answer = illegal()
            else:
                task.answer = found
        elif task.answer is None:
            task.answer = check(Key.ABORTED_COMMAND, task.wrong)
        task.asked = task.got
        self._go_on(task)

    def _go_on(self, task: Task) -> None:
        """The next step of a task, after it started or something came."""
        if task.owes_data:  # also before an error is told: the initiator is still sending (11.4.2)
            return
        if task.aborted:
            self._forget(task)
            return
        if task.want is None and task.answer is None:
            return  # its turn has not come
        if task.wrong:
            self._finish(task, check(Key.ABORTED_COMMAND, task.wrong))
        elif task.answer is not None:
            self._finish(task, task.answer)
        elif task.want is not None and task.asked < task.need:
            self._ask(task)
        elif task.want is not None:
            self._finish(task, task.want.finish(memoryview(task.buffer)[: task.need]))

    def _ask(self, task: Task) -> None:
        """Send R2Ts, as many as may be outstanding."""
        session, params = self._session, self._session.params
        while task.asked < task.need and len(task.bursts) < params.max_outstanding_r2t:
            length = min(params.max_burst_length, task.need - task.asked)
            transfer_tag = session.next_tag()
            task.bursts[transfer_tag] = Burst(task.asked, length)
            session.link.send(
                _R2T.pack(
                    *(pdu.Op.R2T, pdu.FINAL, 0, task.lun, task.tag, transfer_tag),
                    *(session.stat_sn, session.exp_cmd_sn, session.max_cmd_sn()),
                    *(task.pdus, task.asked, length),
                )
            )
            task.asked += length
            task.pdus += 1

    def _finish(self, task: Task, answer: Answer) -> None:
        if answer.later is not None:
            self._session.defer(answer.later, lambda last: self._finish(task, last))
            return
        if self.active.get(task.tag) is task and not task.aborted:
            self._respond(task, answer)
        self._forget(task)

    def _forget(self, task: Task) -> None:
        if self.active.get(task.tag) is task:
            del self.active[task.tag]
            self._buffered -= len(task.buffer)
            if task.aborted and self.on_quiet is not None:
                self.on_quiet()

    # --- to the initiator -------------------------------------------------------------------------------------------

    def _respond(self, task: Task, answer: Answer) -> None:
        """Data-In with the status in the last one, or a SCSI Response."""
        moved = len(answer.data)
        if task.want is not None and answer.status == Status.GOOD:
            moved = task.want.length
        residual = task.expected - moved
        mark = 0x02 if residual > 0 else 0x04 if residual < 0 else 0
        good = answer.status == Status.GOOD
        if task.reads and moved and good and task.expected:
            self._send_data(task, memoryview(answer.data)[: task.expected], mark, abs(residual))
            return
        session = self._session
        sense = len(answer.sense).to_bytes(2, "big") + answer.sense if answer.sense else b""
        session.link.send(
            _RESPONSE.pack(
                *(pdu.Op.SCSI_RESPONSE, pdu.FINAL | mark, 0, answer.status, len(sense), task.tag, 0),
                *(session.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn()),
                *(task.pdus, 0, abs(residual)),
            ),
            sense,
        )

    def _send_data(self, task: Task, data: memoryview, mark: int, residual: int) -> None:
        session, params = self._session, self._session.params
        segment, burst, end = params.max_xmit_data_segment_length, params.max_burst_length, len(data)
        offset = 0
        while offset < end:
            length = min(segment, end - offset, burst - offset % burst)
            following = offset + length
            last = following == end
            flags = pdu.FINAL if last or following % burst == 0 else 0
            stat_sn = 0
            if last:  # S: the status comes along
                flags |= mark | 0x01
                stat_sn = session.next_stat_sn()
            session.link.send(
                _DATA_IN.pack(
                    *(pdu.Op.DATA_IN, flags, 0, length, pdu.NO_LUN, task.tag, pdu.NO_TAG),
                    *(stat_sn, session.exp_cmd_sn, session.max_cmd_sn()),
                    *(task.pdus, offset, residual if last else 0),
                ),
                data[offset:following],
            )
            task.pdus += 1
            offset = following

    # --- task management --------------------------------------------------------------------------------------------

    def abort(self, task: Task, at_once: bool) -> None:
        """End a task without a response; unless `at_once`, after the initiator has sent what it owes (4.2.3.3)."""
        task.aborted = True
        if at_once or not task.owes_data:
            self._forget(task)

    def on_lun(self, lun: bytes | None) -> list[Task]:
        """The tasks of one logical unit, or all."""
        return [task for task in self.active.values() if lun is None or task.lun == lun]
