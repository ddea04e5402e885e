"""A load on one session: as many commands in flight as asked for, until the time is up."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time

from initiator.engine.session import EngineSession
from initiator.engine.session_config import OFFER, SessionConfig
from initiator.model import Portal
from initiator.protocol.ffp_task import Task
from initiator.scsi.commands import encode_lun, read, test_unit_ready, write

TARGET = "iqn.2026-11.io.mooring.bench:ram"
INITIATOR = "iqn.2026-11.io.mooring.bench:client"
SIZE = 256 << 20
BLOCK = 512
LUN = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One row: how the disk is read or written, and how fast the engine has to be (ratio to libiscsi).

    `digests` is what both sides use: none, header, data or both.
    """

    name: str
    size: int
    depth: int
    random: bool
    goal: float | None = None
    write: bool = False
    digests: str = "none"


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """I/Os per second, and microseconds of the initiator's processor time for each of them."""

    iops: float
    cpu_us: float


class Load:
    """Keeps `depth` commands in flight on one session until the time is up."""

    def __init__(self, session: EngineSession, case: Case, seconds: float) -> None:
        self._session = session
        self._case = case
        self._lun = encode_lun(LUN)
        self._blocks = case.size // BLOCK
        self._slots = SIZE // case.size
        self._random = random.Random(7)
        self._next = 0
        self._until = time.perf_counter() + seconds
        self._finished = asyncio.get_running_loop().create_future()
        self._running = 0
        self.count = 0

    async def run(self) -> Speed:
        """The whole load."""
        began, cpu = time.perf_counter(), time.process_time()
        # One buffer for all commands, as on the other side: not the processor's caches are to be compared.
        buffer = memoryview(bytearray(self._case.size))
        for _ in range(self._case.depth):
            self._running += 1
            self._submit(buffer)
        await self._finished
        seconds = time.perf_counter() - began
        return Speed(self.count / seconds, (time.process_time() - cpu) * 1e6 / self.count)

    def _submit(self, buffer: memoryview) -> None:
        if self._case.random:
            slot = int(self._random.random() * self._slots)
        else:
            slot = self._next = (self._next + 1) % self._slots
        if self._case.write:
            cdb = write(slot * self._blocks, self._blocks)
            self._session.submit(Task(self._lun, cdb, self._wrote, data_out=buffer))
        else:
            cdb = read(slot * self._blocks, self._blocks)
            self._session.submit(Task(self._lun, cdb, self._read, data_in=buffer))

    def _read(self, task: Task) -> None:
        assert task.good, task
        assert task.data_in is not None
        self._again(task.data_in)

    def _wrote(self, task: Task) -> None:
        assert task.good, task
        assert task.data_out is not None
        self._again(task.data_out)

    def _again(self, buffer: memoryview) -> None:
        self.count += 1
        if time.perf_counter() < self._until:
            self._submit(buffer)
            return
        self._running -= 1
        if not self._running:
            self._finished.set_result(None)


def config(portal: Portal, digests: str = "none") -> SessionConfig:
    """A session to the target of the benches."""
    header = ("CRC32C",) if digests in ("header", "both") else ("None",)
    data = ("CRC32C",) if digests in ("data", "both") else ("None",)
    offer = dataclasses.replace(OFFER, header_digest=header, data_digest=data)
    return SessionConfig(TARGET, portal, INITIATOR, offer=offer)


async def engine(portal: Portal, case: Case, seconds: float) -> Speed:
    """One run of Mooring's engine."""
    session = EngineSession(config(portal, case.digests))
    await session.start()
    try:
        await session.execute(LUN, test_unit_ready())  # consumes the unit attention of a new session
        return await Load(session, case, seconds).run()
    finally:
        await session.logout()


def run(portal: Portal, case: Case, seconds: float) -> Speed:
    """The same, for a process of its own."""
    return asyncio.run(engine(portal, case, seconds))
