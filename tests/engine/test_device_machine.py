"""Random losses, returns, resets and answers: every request ends once, nothing acknowledged is lost unnoticed.

The model: the last value written to each block that was answered with success must be what the unit holds, unless a
reset took it; then a flush must have failed before any flush that follows the loss succeeds.
"""

from __future__ import annotations

import errno

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from initiator.model import SessionState
from initiator.scsi.commands import Status
from initiator.scsi.sense import Key, Sense
from tests.engine.disk_rig import Rig
from tests.engine.scsi_world import NEXUS_LOSS, POWER_ON, check

BLOCK = 512
BLOCKS = 8
TRANSIENT = [
    (Status.BUSY, b"", b""),
    (Status.TASK_SET_FULL, b"", b""),
    check(Sense(Key.ABORTED_COMMAND, 0x4B)),
    check(Sense(Key.UNIT_ATTENTION, 0x3F, 0x0E)),
    check(Sense(Key.NOT_READY, 0x04, 0x01)),
]

sessions = st.integers(0, 1)


class DiskMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.rig = Rig()
        self.ends: list[list[int]] = []
        self.writing: set[int] = set()
        self.reading: set[int] = set()
        self.content = [bytes(BLOCK)] * BLOCKS
        """What must be read, for blocks that are not being written."""
        self.unsafe: set[int] = set()
        """Blocks with an acknowledged write that no flush has covered."""
        self.stolen: set[int] = set()
        """Blocks with an acknowledged write that was lost, and no flush that covers it has said so yet."""
        self.counter = 0
        self.closed = False

    @rule(block=st.integers(0, BLOCKS - 1))
    def write(self, block: int) -> None:
        if block in self.writing | self.reading:
            return
        self.counter += 1
        data = self.counter.to_bytes(4, "big") * (BLOCK // 4)
        ends: list[int] = []

        def done(code: int) -> None:
            ends.append(code)
            self.writing.discard(block)
            if self.closed and code == errno.ESHUTDOWN:
                return
            assert code == 0, "a transient fault became an error"
            self.content[block] = data
            self.unsafe.add(block)
            self.stolen.discard(block)
            if self.rig.unit.data[block * BLOCK : (block + 1) * BLOCK] != data:
                self.stolen.add(block)  # a reset took it while its answer was on the way

        self.writing.add(block)
        self.rig.device.write(block * BLOCK, memoryview(data), done)
        self.ends.append(ends)
        assert not self.closed or ends == [errno.ESHUTDOWN]

    @rule(block=st.integers(0, BLOCKS - 1))
    def read(self, block: int) -> None:
        if block in self.writing | self.reading:
            return
        buffer = bytearray(BLOCK)
        ends: list[int] = []
        self.reading.add(block)

        def done(code: int) -> None:
            ends.append(code)
            self.reading.discard(block)
            if code == 0 and block not in self.stolen:
                assert buffer == self.content[block], "old or foreign data"

        self.rig.device.read(block * BLOCK, memoryview(buffer), done)
        self.ends.append(ends)

    @rule()
    def flush(self) -> None:
        covered = set(self.unsafe)
        before = dict(enumerate(self.content))
        ends: list[int] = []

        def done(code: int) -> None:
            ends.append(code)
            if code == 0:
                assert not self.stolen & covered, "a flush succeeded although writes that it covers were lost"
                for block in covered:
                    if self.content[block] == before[block]:
                        self.unsafe.discard(block)
                        held = self.rig.unit.durable[block * BLOCK : (block + 1) * BLOCK]
                        assert block in self.writing or held == before[block], "flushed data are not durable"
            elif code == errno.EIO:
                for block in self.stolen & covered:
                    # This loss has been told; the model goes on with what the unit holds.
                    self.stolen.discard(block)
                    self.unsafe.discard(block)
                    self.content[block] = bytes(self.rig.unit.data[block * BLOCK : (block + 1) * BLOCK])

        self.rig.device.flush(done)
        self.ends.append(ends)

    @rule(which=sessions, index=st.integers(0, 5))
    def answer(self, which: int, index: int) -> None:
        session = self.rig.sessions[which]
        if session.pending:
            session.answer(index % len(session.pending))

    @rule(which=sessions, index=st.integers(0, 5))
    def execute(self, which: int, index: int) -> None:
        session = self.rig.sessions[which]
        if session.pending:
            session.carry_out(index % len(session.pending))

    @rule(which=sessions)
    def answer_all(self, which: int) -> None:
        self.rig.sessions[which].answer_all()

    @rule(which=sessions, executed=st.integers(0, 3))
    def lose(self, which: int, executed: int) -> None:
        session = self.rig.sessions[which]
        if session.state is SessionState.LOGGED_IN:
            session.lose(executed=executed)

    @rule(which=sessions, power_on=st.booleans())
    def come_back(self, which: int, power_on: bool) -> None:
        session = self.rig.sessions[which]
        if session.state is not SessionState.LOGGED_IN:
            session.come_back(POWER_ON if power_on else NEXUS_LOSS)

    @rule(which=sessions, suspect=st.booleans())
    def suspect(self, which: int, suspect: bool) -> None:
        session = self.rig.sessions[which]
        if session.state is SessionState.LOGGED_IN:
            session.set_suspect(suspect)

    @rule(which=st.integers(0, len(TRANSIENT) - 1))
    def trouble(self, which: int) -> None:
        if len(self.rig.unit.script) < 2:
            self.rig.unit.script.append(TRANSIENT[which])

    @precondition(lambda self: not self.closed)
    @rule()
    def reset(self) -> None:
        """The unit loses its cache, and every nexus there is hears of it."""
        if not self.rig.unit.nexuses:
            return  # a reset that nobody can hear of is told to the next nexus; see test_device_failures
        self.rig.unit.reset()
        for block in self.unsafe - self.writing:
            held = self.rig.unit.data[block * BLOCK : (block + 1) * BLOCK]
            if held != self.content[block]:
                self.stolen.add(block)

    @rule(seconds=st.sampled_from([0.05, 0.3, 2.5]))
    def wait(self, seconds: float) -> None:
        if any(session.state is SessionState.LOGGED_IN for session in self.rig.sessions):
            self.rig.clock.advance(seconds)

    @precondition(lambda self: len(self.ends) > 10)
    @rule()
    def close_gate(self) -> None:
        self.rig.device.gate(True)
        self.closed = True

    @invariant()
    def nothing_ends_twice(self) -> None:
        if hasattr(self, "rig"):
            assert all(len(ends) <= 1 for ends in self.ends)
            assert self.rig.device.in_flight == sum(1 for ends in self.ends if not ends)
            for path in self.rig.device.paths:
                assert path.in_flight >= 0

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        for session in self.rig.sessions:
            if session.state is not SessionState.LOGGED_IN:
                session.come_back(POWER_ON)
        self.rig.unit.script.clear()
        self.rig.settle(10)
        assert all(len(ends) == 1 for ends in self.ends), "a request was lost"
        assert self.rig.device.in_flight == 0


TestDisk = DiskMachine.TestCase
TestDisk.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
