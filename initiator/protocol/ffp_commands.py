"""SCSI commands and their data in the full feature phase (RFC 7143, 4.2, 11.2 to 11.4, 11.7, 11.8).

This is the hot path: headers are packed and unpacked by one precompiled struct each, and no object is made for a PDU.
"""

from __future__ import annotations

import struct
from collections import deque

from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError
from initiator.protocol.ffp_numbers import HALF, MASK, Numbers
from initiator.protocol.ffp_outbox import Outbox
from initiator.protocol.ffp_task import CHECK_CONDITION, Counters, Pieces, Task, TaskError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import DATA_OUT, NO_TAG, SCSI_COMMAND

Fields = tuple[int, int, int, int, int, bytes, int, int, int, int, int, int, int, int]
"""A header of a target's PDU: opcode, flags, two bytes, lengths of AHS and data, LUN, ITT, words from byte 20 on."""

HEADER = struct.Struct(">BBBBI8sIIIIIIII")
"""The same bytes as `pdu.BHS`, with the LUN as it is: it is only compared."""
LENGTH = 0xFFFFFF

_FINAL, _READ, _WRITE, _SIMPLE = 0x80, 0x40, 0x20, 0x01
_ACKNOWLEDGE, _OVERFLOW, _UNDERFLOW, _STATUS = 0x40, 0x04, 0x02, 0x01
_RESIDUAL = _OVERFLOW | _UNDERFLOW
_WHOLE = _FINAL | _STATUS
_READS, _WRITES, _MOVES_NOTHING = _FINAL | _READ | _SIMPLE, _FINAL | _WRITE | _SIMPLE, _FINAL | _SIMPLE
_TASK_TAGS = 0x7FFFFFFF

_pack = SCSI_COMMAND.pack


class Commands:
    """The tasks of one connection: sent within the command window, fed with data, completed by their status.

    Attributes:
        params: What is agreed on.
        numbers: The counters of the session.
        live: Tasks whose command was sent, by initiator task tag, in the order of sending.
        pending: Tasks that wait for the command window.
        sendable: False once a logout was sent or the connection is gone.
        closed: True once the connection is gone.
        now: The time of the current call, on the caller's clock.
    """

    def __init__(self, params: Params, numbers: Numbers, outbox: Outbox, counters: Counters) -> None:
        self.numbers = numbers
        self.outbox = outbox
        self.counters = counters
        self.live: dict[int, Task] = {}
        self.pending: deque[Task] = deque()
        self.sendable = True
        self.closed = False
        self.now = 0.0
        self.params = params
        self._next_tag = 0
        self._max_xmit = params.max_xmit_data_segment_length
        self._max_r2ts = params.max_outstanding_r2t
        self._answering: deque[tuple[int, int]] = deque()
        """Task tag and end, as `outbox.gone` counts, of answers to R2Ts that may not have left yet."""
        self._first_burst = params.first_burst_length
        self._max_burst = params.max_burst_length
        self._immediate = params.immediate_data
        self._one_pdu = self._most_at_once()
        self._unsolicited = not params.initial_r2t
        self._in_order = params.data_pdu_in_order and params.data_sequence_in_order
        self._r2t_in_order = params.data_sequence_in_order

    def adopt(self, params: Params) -> None:
        """Go on with what a negotiation has changed: the target's segment length is all that matters here (13.12)."""
        self.params = params
        self._max_xmit = params.max_xmit_data_segment_length
        self._one_pdu = self._most_at_once()

    def _most_at_once(self) -> int:
        """Bytes of the largest write whose data all goes with its command (11.3, 13.11, 13.14)."""
        return min(self._first_burst, self._max_xmit) if self._immediate else 0

    def submit(self, task: Task, now: float) -> None:
        """Send a SCSI command, or keep it until the target's command window opens (4.2.2.1).

        Raises:
            LocalProtocolError: the session is being logged out or is gone, or the task is malformed.
        """
        if not self.sendable:
            raise LocalProtocolError("a command for a session that is being closed (RFC 7143, 11.14)")
        self.now = now
        if len(task.cdb) > 16 or len(task.lun) != 8 or (task.data_in is not None and task.data_out is not None):
            raise LocalProtocolError("a task has a LUN of 8 bytes, a CDB of at most 16, and data in one direction only")
        numbers = self.numbers
        if self.pending or (numbers.max_cmd_sn - numbers.cmd_sn) & MASK >= HALF:
            self.pending.append(task)
        else:
            self._issue(task)

    def release(self) -> None:
        """Send what waits, as far as the window goes."""
        pending, numbers = self.pending, self.numbers
        while pending and self.sendable and numbers.is_open:
            self._issue(pending.popleft())

    def _issue(self, task: Task) -> None:
        live, numbers = self.live, self.numbers
        tag = self._next_tag
        while tag in live:
            tag = (tag + 1) & _TASK_TAGS
        self._next_tag = (tag + 1) & _TASK_TAGS
        live[tag] = task
        task.itt = tag
        task.cmd_sn = cmd_sn = numbers.cmd_sn
        numbers.cmd_sn = (cmd_sn + 1) & MASK
        task.sent_at = self.now
        data = task.data_in
        if data is not None:
            header = _pack(0x01, _READS, 0, task.lun, tag, len(data), cmd_sn, numbers.exp_stat_sn, task.cdb)
        elif task.data_out is not None:
            self._issue_write(task, task.data_out)
            return
        else:
            header = _pack(0x01, _MOVES_NOTHING, 0, task.lun, tag, 0, cmd_sn, numbers.exp_stat_sn, task.cdb)
        self.outbox.add(header)

    def _issue_write(self, task: Task, data: memoryview) -> None:
        """A write and the data that may go with it unasked (the four cases of 13.11's table)."""
        expected = len(data)
        outbox = self.outbox
        acknowledged = self.numbers.exp_stat_sn
        if expected <= self._one_pdu:
            cdb, cmd_sn = task.cdb, task.cmd_sn
            header = _pack(0x01, _WRITES, expected, task.lun, task.itt, expected, cmd_sn, acknowledged, cdb)
            outbox.add(header, data)
            task.sent = expected
            task.tail = outbox.gone + len(outbox.vectors)
            return
        burst = min(self._first_burst, expected)
        now = min(burst, self._max_xmit) if self._immediate else 0
        later = burst if self._unsolicited else now
        flags = _WRITE | _SIMPLE if later > now else _FINAL | _WRITE | _SIMPLE
        header = _pack(0x01, flags, now, task.lun, task.itt, expected, task.cmd_sn, acknowledged, task.cdb)
        outbox.add(header, data[:now])
        if later > now:
            self._send_data(task, data, NO_TAG, now, later)
        task.sent = later
        task.tail = outbox.tail

    def _send_data(self, task: Task, data: memoryview, transfer_tag: int, start: int, end: int) -> None:
        """One sequence of Data-Out PDUs: DataSN from 0, F on the last one (11.7.1, 11.7.4)."""
        outbox, step, data_sn = self.outbox, self._max_xmit, 0
        lun, tag, exp_stat_sn = task.lun, task.itt, self.numbers.exp_stat_sn
        while start < end:
            stop = min(start + step, end)
            header = DATA_OUT.pack(
                0x05, _FINAL if stop == end else 0, stop - start, lun, tag, transfer_tag, exp_stat_sn, data_sn, start
            )
            outbox.add(header, data[start:stop])
            start = stop
            data_sn += 1

    def data_in(self, fields: Fields, data: memoryview) -> None:
        """A Data-In PDU that has arrived whole.

        Raises:
            RemoteProtocolError: see `place`.
        """
        _, flags, _, status, _, _, tag, _, stat_sn, exp_cmd_sn, max_cmd_sn, data_sn, offset, _ = fields
        task, numbers = self.live.get(tag), self.numbers
        if (
            flags == _WHOLE
            and task is not None
            and task.data_in is not None
            and len(task.data_in) == len(data)
            and data_sn == offset == task.data_sn == task.received == 0
            and stat_sn == numbers.exp_stat_sn
        ):
            # All of a read and its status in one PDU: what small reads are made of, and no other rule is left to check.
            task.data_in[:] = data
            task.received, task.data_sn, task.status = len(data), 1, status
            numbers.exp_stat_sn = (stat_sn + 1) & MASK
            if max_cmd_sn != numbers.max_cmd_sn:
                numbers.window(exp_cmd_sn, max_cmd_sn)
            self.finish(task)
            if self.pending:
                self.release()
            return
        place = self.place(fields)
        if place is not None:
            place[:] = data
            self.landed(fields)

    def place(self, fields: Fields) -> memoryview | None:
        """Check the header of a Data-In PDU before a byte of it is kept.

        Returns:
            Where its data goes, or None if the PDU was seen before and is to be discarded.

        Raises:
            RemoteProtocolError: it belongs to no task, leaves the buffer, or is out of order.
        """
        _, flags, _, _, length, lun, tag, transfer_tag, stat_sn, _, _, data_sn, offset, _ = fields
        if flags & _STATUS:
            if not flags & _FINAL:
                raise RemoteProtocolError("Data-In with the S bit but without the F bit (RFC 7143, 11.7.3)")
            due = self.numbers.exp_stat_sn
            if stat_sn != due and (due - stat_sn) & MASK < HALF:
                return None
        task = self.live.get(tag)
        if task is None:
            raise RemoteProtocolError(f"Data-In for task tag {tag:#x}, which is not in use (RFC 7143, 11.2.1.8)")
        data = task.data_in
        if data is None:
            raise RemoteProtocolError("Data-In for a command that reads nothing (RFC 7143, 11.7)")
        if data_sn != task.data_sn:
            raise RemoteProtocolError(f"Data-In with DataSN {data_sn} where {task.data_sn} was due (RFC 7143, 7.9)")
        end = offset + (length & LENGTH)
        if end > len(data):
            raise RemoteProtocolError("Data-In beyond the expected data transfer length (RFC 7143, 4.2.5.3)")
        if self._in_order:
            if offset != task.received:
                raise RemoteProtocolError(f"Data-In at offset {offset}, {task.received} was due (RFC 7143, 13.18)")
            task.received = end
        else:
            self._note_piece(task, offset, end)
        if flags & _ACKNOWLEDGE and transfer_tag != NO_TAG and lun != task.lun:
            raise RemoteProtocolError("Data-In with a LUN that is not the command's (RFC 7143, 4.2.5.3)")
        task.data_sn = data_sn + 1
        return data[offset:end]

    def landed(self, fields: Fields) -> None:
        """The data of a Data-In PDU is in its place, and its digest was right."""
        _, flags, _, status, _, _, tag, _, stat_sn, exp_cmd_sn, max_cmd_sn, _, _, count = fields
        numbers = self.numbers
        if max_cmd_sn != numbers.max_cmd_sn:
            numbers.window(exp_cmd_sn, max_cmd_sn)
        if flags & _STATUS:
            if stat_sn == numbers.exp_stat_sn:
                numbers.exp_stat_sn = (stat_sn + 1) & MASK
            else:
                numbers.status(stat_sn)
            task = self.live[tag]
            task.status = status
            data = task.data_in
            if flags & _RESIDUAL or data is None or task.received != len(data):
                task.residual = _residual(task, flags, count)
            self.finish(task)
        if self.pending:
            self.release()

    def response(self, fields: Fields, data: bytes) -> None:
        """A SCSI Response PDU with its data segment: sense or nothing (11.4).

        Raises:
            RemoteProtocolError: it answers no task, is malformed, or tells of data that never came.
        """
        _, flags, response, status, _, _, tag, _, stat_sn, exp_cmd_sn, max_cmd_sn, exp_data_sn, _, count = fields
        numbers = self.numbers
        if stat_sn == numbers.exp_stat_sn:
            numbers.exp_stat_sn = (stat_sn + 1) & MASK
        elif not numbers.status(stat_sn):
            return
        task = self.live.get(tag)
        if task is None:
            raise RemoteProtocolError(f"response for task tag {tag:#x}, which is not in use (RFC 7143, 11.2.1.8)")
        if max_cmd_sn != numbers.max_cmd_sn:
            numbers.window(exp_cmd_sn, max_cmd_sn)
        if response:
            task.response = response
            task.error = TaskError(
                f"the target could not deliver the command (iSCSI response {response:#04x})", code="service-delivery"
            )
        else:
            if data or status == CHECK_CONDITION:
                task.sense = _sense(data)
            if exp_data_sn and exp_data_sn > (task.r2t_sn if task.data_out is not None else task.data_sn):
                raise RemoteProtocolError("the target has sent more data PDUs than arrived (RFC 7143, 7.9)")
            if flags & _RESIDUAL or task.data_out is None or task.sent != len(task.data_out):
                task.residual = _residual(task, flags, count)
            task.status = status
        self.finish(task)
        if self.pending:
            self.release()

    def r2t(self, fields: Fields) -> None:
        """The target is ready for a part of a write (11.8).

        Raises:
            RemoteProtocolError: it asks for what is not there or not due.
        """
        _, _, _, _, _, lun, tag, transfer_tag, _, exp_cmd_sn, max_cmd_sn, r2t_sn, offset, wanted = fields
        task = self.live.get(tag)
        if task is None or task.data_out is None:
            raise RemoteProtocolError(f"R2T for task tag {tag:#x}, which is no write in progress (RFC 7143, 11.8)")
        if r2t_sn != task.r2t_sn:
            if r2t_sn < task.r2t_sn:
                return
            raise RemoteProtocolError(f"R2T with R2TSN {r2t_sn} where {task.r2t_sn} was due (RFC 7143, 7.9)")
        data = task.data_out
        if not 0 < wanted <= self._max_burst or offset + wanted > len(data) or transfer_tag == NO_TAG:
            raise RemoteProtocolError(f"R2T for {wanted} bytes at {offset} of {len(data)} (RFC 7143, 11.8.4, 11.8.5)")
        if lun != task.lun:
            raise RemoteProtocolError("R2T with a LUN that is not the command's (RFC 7143, 4.2.5.3)")
        if self._r2t_in_order:
            if offset != task.sent:
                raise RemoteProtocolError(f"R2T at offset {offset} where {task.sent} was due (RFC 7143, 13.19)")
        elif task.sent + wanted > len(data):
            raise RemoteProtocolError("R2Ts for more data than the command has (RFC 7143, 11.8)")
        self.numbers.window(exp_cmd_sn, max_cmd_sn)
        task.r2t_sn = r2t_sn + 1
        task.sent += wanted
        self.counters.r2ts += 1
        self._note_r2t(tag)
        self._send_data(task, data, transfer_tag, offset, offset + wanted)
        task.tail = tail = self.outbox.tail
        self._answering.append((tag, tail))
        if self.pending:
            self.release()

    def _note_r2t(self, tag: int) -> None:
        """Count an R2T that comes while the answers to as many as were agreed on are still here (11.8, 13.17)."""
        answering, gone = self._answering, self.outbox.gone
        while answering and answering[0][1] <= gone:
            answering.popleft()
        if len(answering) >= self._max_r2ts and sum(other == tag for other, _ in answering) >= self._max_r2ts:
            self.counters.r2ts_early += 1

    def finish(self, task: Task) -> None:
        """Take the task out of the table and tell its owner, who has the buffers back from here on."""
        del self.live[task.itt]
        task.finished_at = self.now
        counters = self.counters
        counters.commands += 1
        if task.data_in is not None:
            counters.read_bytes += task.received
        elif task.data_out is not None:
            counters.write_bytes += task.sent
            if self.outbox.gone < task.tail:
                # Answered before all of its data has left (11.4.2): the rest goes out as it was, from a copy.
                self.outbox.detach(task.data_out)
        task.done(task)

    def withdraw(self, task: Task, error: TaskError) -> bool:
        """End a task that nobody has heard of yet; False if it was sent or is done."""
        if task not in self.pending:
            return False
        self.pending.remove(task)
        task.error = error
        task.finished_at = self.now
        task.done(task)
        return True

    def expired(self, limit: float) -> list[Task]:
        """Tasks past their deadline, or sent more than `limit` seconds ago without one, that are not being aborted."""
        now = self.now
        late = [
            task
            for task in self.live.values()
            if task.verdict is None and now >= (task.deadline or (task.sent_at or now) + limit)
        ]
        return late + [task for task in self.pending if task.deadline is not None and now >= task.deadline]

    def abandon(self) -> list[Task]:
        """The connection is gone: hand back every task without an answer, oldest first.

        Tasks that were to be aborted anyway are ended with the reason for that.
        """
        self.closed = True
        self.sendable = False
        tasks = [*self.live.values(), *self.pending]
        self.live.clear()
        self.pending.clear()
        self.outbox.vectors.clear()
        condemned = [task for task in tasks if task.verdict is not None]
        for task in condemned:
            task.error = task.verdict
            task.finished_at = self.now
            task.done(task)
        return [task for task in tasks if task.verdict is None]

    @staticmethod
    def _note_piece(task: Task, start: int, end: int) -> None:
        pieces = task.pieces
        if pieces is None:
            pieces = task.pieces = Pieces()
        if not pieces.add(start, end):
            raise RemoteProtocolError(f"Data-In at offset {start} repeats data that came before (RFC 7143, 13.18)")
        task.received += end - start


def _residual(task: Task, flags: int, count: int) -> int:
    """Bytes not moved (11.4.5.1). Without a flag the target claims to have moved all, so the difference counts."""
    if flags & _RESIDUAL:
        if flags & _RESIDUAL == _RESIDUAL:
            raise RemoteProtocolError("overflow and underflow at the same time (RFC 7143, 11.4.1)")
        return count if flags & _UNDERFLOW else -count
    if task.data_in is not None:
        return len(task.data_in) - task.received
    return 0 if task.data_out is None else len(task.data_out) - task.sent


def _sense(data: bytes) -> bytes:
    """Sense data out of the data segment of a response (11.4.7)."""
    if len(data) < 2:
        raise RemoteProtocolError("CHECK CONDITION without sense data (RFC 7143, 11.4.7)")
    size = int.from_bytes(data[:2], "big")
    if size > len(data) - 2:
        raise RemoteProtocolError(f"sense data of {size} bytes in a segment of {len(data)} (RFC 7143, 11.4.7)")
    return data[2 : 2 + size]
