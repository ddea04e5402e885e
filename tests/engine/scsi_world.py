"""A logical unit and sessions to it, deterministic: nothing happens until a test says so.

The unit speaks real CDBs through the parsers and builders of `initiator.scsi`. It has a write cache that a reset
empties, a unit attention queue for each nexus, and faults that a test can script.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from initiator.model import Access, SessionState
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_task import Task
from initiator.scsi import alua, commands, inquiry, parameters
from initiator.scsi.commands import Command, Op, Status
from initiator.scsi.designators import Association, Designator, Kind, build_designators
from initiator.scsi.sense import Key, Sense, build_sense

NAA = Designator(Kind.NAA, bytes.fromhex("6001405a1b2c3d4e5f60718293a4b5c6"))

POWER_ON = Sense(Key.UNIT_ATTENTION, 0x29, 0x00)
NEXUS_LOSS = Sense(Key.UNIT_ATTENTION, 0x29, 0x07)
UNSUPPORTED = Sense(Key.ILLEGAL_REQUEST, 0x20, 0x00)

Outcome = tuple[int, bytes, bytes]
"""Status, sense, data."""


def check(sense: Sense) -> Outcome:
    return Status.CHECK_CONDITION, build_sense(sense), b""


class Clock:
    """Time and timers that move only by `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def schedule(self, delay: float, function: Callable[[], None]) -> object:
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), function))
        return None

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, function = heapq.heappop(self._timers)
            function()
        self.now = end


class Unit:
    """One logical unit with a volatile write cache."""

    def __init__(self, blocks: int = 64, block_bytes: int = 512, *, write_cache: bool = True) -> None:
        self.blocks = blocks
        self.block_bytes = block_bytes
        self.data = bytearray(blocks * block_bytes)
        self.durable = bytearray(blocks * block_bytes)
        self.write_cache = write_cache
        self.write_protected = False
        self.thin = True
        self.tpgs = 0
        self.device_type = 0
        self.designators: tuple[Designator, ...] = (NAA,)
        self.serial = "mooring1"
        self.limits = inquiry.BlockLimits(maximum_unmap_blocks=8, maximum_unmap_ranges=1, maximum_write_same=8)
        self.provisioning: inquiry.Provisioning | None = inquiry.Provisioning(unmap=True, kind=2)
        self.unsupported: set[str] = set()
        """Values of Op, or "SYNC16", "SYNC10"."""
        self.groups: dict[int, Access] = {}
        self.nexuses: list[FakeSession] = []
        self.script: deque[Outcome] = deque()
        """What the next reads, writes and flushes are answered with, instead of being carried out."""
        self.log: list[tuple[str, Command]] = []
        self.unheard: Sense | None = None
        """A reset that no answer has reported yet; a nexus that is the only one reports it even if it is new."""

    def reset(self, sense: Sense = POWER_ON) -> None:
        """Lose the cache and say so on every nexus."""
        self.data[:] = self.durable
        self.unheard = sense
        self.report(sense)

    def asked(self, op: Op) -> list[Command]:
        """The commands of one kind that came."""
        return [command for _, command in self.log if command.op is op]

    def report(self, sense: Sense) -> None:
        for nexus in self.nexuses:
            nexus.attentions.append(sense)

    def run(self, session: FakeSession, task: Task) -> Outcome:
        command = commands.parse_cdb(task.cdb)
        self.log.append((session.name, command))
        if session.attentions and command.op not in (Op.INQUIRY, Op.REPORT_LUNS):
            return check(session.attentions.popleft())
        access = self.groups.get(session.group, Access.OPTIMIZED)
        medium = command.op in (Op.READ, Op.WRITE, Op.SYNCHRONIZE_CACHE, Op.UNMAP, Op.WRITE_SAME)
        if access in _REFUSING and (medium or command.op in (Op.TEST_UNIT_READY, Op.READ_CAPACITY_16)):
            return check(Sense(Key.NOT_READY, 0x04, _REFUSING[access]))
        if medium and self.script:
            return self.script.popleft()
        wide = "SYNC16" if task.cdb[0] == 0x91 else "SYNC10" if task.cdb[0] == 0x35 else command.op.value
        if wide in self.unsupported or command.op.value in self.unsupported:
            return check(UNSUPPORTED)
        handler: Callable[[FakeSession, Task, Command], Outcome] | None = getattr(
            self, f"_{command.op.name.lower()}", None
        )
        return check(UNSUPPORTED) if handler is None else handler(session, task, command)

    def _range(self, command: Command) -> slice | None:
        if command.lba + command.blocks > self.blocks:
            return None
        return slice(command.lba * self.block_bytes, (command.lba + command.blocks) * self.block_bytes)

    def _test_unit_ready(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        return Status.GOOD, b"", b""

    def _inquiry(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        if not command.evpd:
            item = inquiry.StandardInquiry("MOORING", "World", "1", device_type=self.device_type, tpgs=self.tpgs)
            return Status.GOOD, b"", inquiry.build_standard(item)
        port = [
            Designator(Kind.RELATIVE_PORT, session.group.to_bytes(4, "big"), Association.PORT, protocol=5),
            Designator(Kind.PORT_GROUP, session.group.to_bytes(4, "big"), Association.PORT, protocol=5),
        ]
        pages = {
            inquiry.VPD_SERIAL: inquiry.build_serial(self.serial),
            inquiry.VPD_DESIGNATORS: build_designators([*self.designators, *port]),
            inquiry.VPD_LIMITS: inquiry.build_block_limits(self.limits),
        }
        if self.provisioning is not None:
            pages[inquiry.VPD_PROVISIONING] = inquiry.build_provisioning(self.provisioning)
        pages[inquiry.VPD_SUPPORTED] = inquiry.build_supported_pages(pages)
        page = pages.get(command.page)
        return check(Sense(Key.ILLEGAL_REQUEST, 0x24)) if page is None else (Status.GOOD, b"", page)

    def _read_capacity_16(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        item = parameters.Capacity(self.blocks, self.block_bytes, thin=self.thin)
        return Status.GOOD, b"", parameters.build_capacity16(item)

    def _read_capacity_10(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        return Status.GOOD, b"", parameters.build_capacity10(parameters.Capacity(self.blocks, self.block_bytes))

    def _mode_sense_6(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        page = parameters.caching_page(self.write_cache)
        return Status.GOOD, b"", parameters.build_mode([page], write_protected=self.write_protected)

    def _mode_sense_10(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        page = parameters.caching_page(self.write_cache)
        return Status.GOOD, b"", parameters.build_mode([page], ten=True, write_protected=self.write_protected)

    def _report_luns(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        return Status.GOOD, b"", commands.build_report_luns([0])

    def _report_target_port_groups(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        items = [alua.PortGroup(number, access, ports=(number,)) for number, access in self.groups.items()]
        return Status.GOOD, b"", alua.build_port_groups(items)

    def _set_target_port_groups(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        assert task.data_out is not None
        self.groups.update(alua.parse_set_port_groups(task.data_out))
        return Status.GOOD, b"", b""

    def _read(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        where = self._range(command)
        if where is None:
            return check(Sense(Key.ILLEGAL_REQUEST, 0x21))
        return Status.GOOD, b"", bytes(self.data[where])

    def _write(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        where = self._range(command)
        if where is None or task.data_out is None or len(task.data_out) != where.stop - where.start:
            return check(Sense(Key.ILLEGAL_REQUEST, 0x21))
        self.data[where] = task.data_out
        if not self.write_cache:
            self.durable[where] = task.data_out
        return Status.GOOD, b"", b""

    def _synchronize_cache(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        self.durable[:] = self.data
        return Status.GOOD, b"", b""

    def _write_same(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        where = self._range(command)
        if where is None or task.data_out is None:
            return check(Sense(Key.ILLEGAL_REQUEST, 0x21))
        self.data[where] = bytes(task.data_out) * command.blocks
        return Status.GOOD, b"", b""

    def _unmap(self, session: FakeSession, task: Task, command: Command) -> Outcome:
        for lba, blocks in commands.parse_unmap(task.data_out or b""):
            if blocks > self.limits.maximum_unmap_blocks:
                return check(Sense(Key.ILLEGAL_REQUEST, 0x26))
            self.data[lba * self.block_bytes : (lba + blocks) * self.block_bytes] = bytes(blocks * self.block_bytes)
        return Status.GOOD, b"", b""


_REFUSING = {Access.TRANSITIONING: 0x0A, Access.STANDBY: 0x0B, Access.UNAVAILABLE: 0x0C}


class FakeSession:
    """A session whose target answers when the test says so."""

    def __init__(self, unit: Unit, name: str, group: int = 1) -> None:
        self.unit = unit
        self.name = name
        self.group = group
        self.state = SessionState.LOGGED_IN
        self.reason: str | None = None
        self.suspect = False
        self.on_state: Callable[[Any], None] | None = None
        self.on_lost: Callable[[Any, Sequence[Task]], None] | None = None
        self.on_sense: Callable[[Any, bytes, Sense], None] | None = None
        self.attentions: deque[Sense] = deque()
        self.pending: deque[Task] = deque()
        self.held: dict[Task, Outcome] = {}
        """What was carried out and not answered yet."""
        self.auto = False
        """Answer at once."""
        self.submitted = 0
        unit.nexuses.append(self)

    def __str__(self) -> str:
        return self.name

    def submit(self, task: Task) -> None:
        self.submitted += 1
        assert self.state is SessionState.LOGGED_IN, "a command for a session that is not there"
        task.sent_at = 0.0
        self.pending.append(task)
        if self.auto:
            self.answer()

    def answer(self, index: int = 0) -> None:
        """Report the end of the command that was carried out first, or else carry out one.

        Answers leave in the order in which the commands were carried out, as StatSN has it (RFC 7143, 4.2.2.2).
        """
        if not self.held:
            self.carry_out(index)
        task = next(iter(self.held))
        self.pending.remove(task)
        status, sense, data = self.held.pop(task)
        if self.unit.unheard is not None and sense == build_sense(self.unit.unheard):
            self.unit.unheard = None
        self.finish(task, status, sense, data)

    def carry_out(self, index: int = 0) -> None:
        """Carry out one pending command and keep its answer back."""
        task = self.pending[index]
        if task not in self.held:
            self.held[task] = self.unit.run(self, task)

    def finish(self, task: Task, status: int, sense: bytes = b"", data: bytes = b"") -> None:
        task.status = status
        task.sense = sense
        if task.data_in is not None and status == Status.GOOD:
            count = min(len(data), len(task.data_in))
            task.data_in[:count] = data[:count]
            task.received = count
            task.residual = len(task.data_in) - count
        if task.data_out is not None:
            task.sent = len(task.data_out)
        task.finished_at = 0.0005
        task.done(task)

    def answer_all(self) -> None:
        """Answer until nothing is pending."""
        while self.pending:
            self.answer()

    def fail(self, error: Exception) -> None:
        """End the oldest pending command without a status."""
        task = self.pending.popleft()
        task.error = error  # type: ignore[assignment]
        task.done(task)

    def lose(self, *, executed: int = 0) -> None:
        """The connection breaks; the target has still carried out the first `executed` pending commands."""
        for index in range(min(executed, len(self.pending))):
            self.carry_out(index)
        self.held.clear()
        tasks, self.pending = list(self.pending), deque()
        self.attentions.clear()
        if self in self.unit.nexuses:
            self.unit.nexuses.remove(self)
        self.set_state(SessionState.FAILED, "the cable is out")
        for task in tasks:
            task.reset()
        if tasks and self.on_lost is not None:
            self.on_lost(self, tasks)

    def come_back(self, sense: Sense | None = NEXUS_LOSS) -> None:
        """Log in again; the new nexus has `sense` to report."""
        if self.unit.unheard is not None and not self.unit.nexuses:
            sense = self.unit.unheard
        self.unit.nexuses.append(self)
        if sense is not None:
            self.attentions.append(sense)
        self.set_state(SessionState.LOGGED_IN, None)

    def set_state(self, state: SessionState, reason: str | None) -> None:
        self.state, self.reason = state, reason
        if self.on_state is not None:
            self.on_state(self)

    def set_suspect(self, suspect: bool) -> None:
        self.suspect = suspect
        if self.on_state is not None:
            self.on_state(self)


def lost(code: str = "connection-lost") -> ConnectionLost:
    return ConnectionLost("gone", code=code)
