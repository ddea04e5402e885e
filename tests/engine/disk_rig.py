"""A device over fake sessions, with a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from initiator.engine.device import Device, DeviceOptions
from initiator.engine.keeper import KeeperOptions
from initiator.engine.probe import Answer, Ask, LunInfo, examine
from initiator.model import Severity
from initiator.protocol.ffp_task import Task
from initiator.scsi.commands import Op, encode_lun
from tests.engine.scsi_world import Clock, FakeSession, Unit

OPTIONS = DeviceOptions(queue_timeout=30.0, keeper=KeeperOptions(settle=2.0, check_interval=5.0, hold_interval=1.0))


def look(session: FakeSession) -> LunInfo:
    """What `probe_lun` would say."""
    script: Generator[Ask, Answer, LunInfo] = examine(0, encode_lun(0))
    ask = next(script)
    while True:
        task = Task(encode_lun(0), ask.cdb, lambda _: None)
        status, sense, data = session.unit.run(session, task)
        try:
            ask = script.send(Answer(status, sense, data[: ask.read_length]))
        except StopIteration as end:
            info: LunInfo = end.value
            return info


class Rig:
    """One unit, some sessions, one device."""

    def __init__(self, paths: int = 2, unit: Unit | None = None, options: DeviceOptions = OPTIONS) -> None:
        self.clock = Clock()
        self.unit = unit or Unit()
        self.sessions = [FakeSession(self.unit, f"s{number}", group=number + 1) for number in range(paths)]
        self.events: list[tuple[str, Severity]] = []
        self.changes = 0
        self.sizes: list[int] = []
        self.device = Device(
            look(self.sessions[0]),
            options,
            clock=self.clock,
            wall=lambda: self.clock.now + 1_000_000,
            schedule=self.clock.schedule,
        )
        self.device.on_event = lambda text, severity: self.events.append((text, severity))
        self.device.on_change = self._changed
        self.device.on_resize = self.sizes.append
        for session in self.sessions:
            self.device.add_path(session, look(session), session.name)
        self.unit.log.clear()

    def _changed(self) -> None:
        self.changes += 1

    def auto(self, *, on: bool = True) -> None:
        for session in self.sessions:
            session.auto = on

    def settle(self, seconds: float = 3.0) -> None:
        """Let time pass with every session answering at once."""
        self.auto()
        self.answer()
        self.clock.advance(seconds)
        self.auto(on=False)

    def answer(self) -> None:
        while any(session.pending for session in self.sessions):
            for session in self.sessions:
                session.answer_all()

    def read(self, offset: int, length: int) -> tuple[list[int], bytearray]:
        buffer = bytearray(length)
        ends: list[int] = []
        self.device.read(offset, memoryview(buffer), ends.append)
        return ends, buffer

    def write(self, offset: int, data: bytes) -> list[int]:
        ends: list[int] = []
        self.device.write(offset, memoryview(data), ends.append)
        return ends

    def flush(self) -> list[int]:
        ends: list[int] = []
        self.device.flush(ends.append)
        return ends

    def asked(self, op: Op) -> list[Any]:
        return [command for _, command in self.unit.log if command.op is op]

    def told(self, text: str) -> bool:
        return any(text in event for event, _ in self.events)
