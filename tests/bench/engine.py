"""The engine against libiscsi on the same target in the same run: `python -m tests.bench.engine [--quick] [--null]`.

Both read from one tgtd with its backing file in memory, turn by turn, so that a noisy machine hurts both alike; the
ratio of the medians is what counts. libiscsi is represented by `iscsi-perf` of Debian's libiscsi-bin. With `--null` the
peer is a target that does next to nothing, which shows the initiators themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from initiator.engine.session import EngineSession
from initiator.engine.session_config import OFFER, SessionConfig
from initiator.model import Portal
from initiator.protocol.ffp_task import Task
from initiator.scsi.commands import encode_lun, read, test_unit_ready, write
from tests.bench.nulltarget import NullTarget
from tests.tgtd import FAST_MALLOC, Tgtd

TARGET = "iqn.2026-11.io.mooring.bench:ram"
INITIATOR = "iqn.2026-11.io.mooring.bench:client"
SIZE = 256 << 20
BLOCK = 512
LUN = 1
NO_DIGESTS = dataclasses.replace(OFFER, header_digest=("None",), data_digest=("None",))
BOTH_DIGESTS = dataclasses.replace(OFFER, header_digest=("CRC32C",), data_digest=("CRC32C",))


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One row: how the disk is read or written, and how fast the engine has to be (ratio to libiscsi)."""

    name: str
    size: int
    depth: int
    random: bool
    goal: float | None = None
    write: bool = False
    digests: bool = False

    @property
    def comparable(self) -> bool:
        """iscsi-perf only reads, and Debian's has no data digests."""
        return not self.write and not self.digests


CASES = (
    Case("1 MiB sequential, depth 1", 1 << 20, 1, False),
    Case("1 MiB sequential, depth 8", 1 << 20, 8, False, goal=0.9),
    Case("4 KiB random, depth 1", 4096, 1, True),
    Case("4 KiB random, depth 32", 4096, 32, True, goal=0.9),
    Case("4 KiB random, depth 32, both digests", 4096, 32, True, digests=True),
    Case("4 KiB random write, depth 32", 4096, 32, True, write=True),
    Case("1 MiB write, depth 8", 1 << 20, 8, False, write=True),
    Case("1 MiB read, depth 8, both digests", 1 << 20, 8, False, digests=True),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """I/Os per second, and microseconds of our CPU for each of them."""

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
        began, cpu = time.perf_counter(), time.process_time()
        # libiscsi makes room for a read when its data comes and frees it at once, so that one warm buffer serves all
        # commands. The same here: one buffer, or the processor's caches are compared and not the initiators.
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


async def engine(portal: Portal, case: Case, seconds: float) -> Speed:
    """One run of Mooring's engine."""
    offer = BOTH_DIGESTS if case.digests else NO_DIGESTS
    session = EngineSession(SessionConfig(TARGET, portal, INITIATOR, offer=offer))
    await session.start()
    try:
        await session.execute(LUN, test_unit_ready())  # consumes the unit attention of a new session
        return await Load(session, case, seconds).run()
    finally:
        await session.logout()


def libiscsi(portal: Portal, case: Case, seconds: float) -> Speed:
    """One run of iscsi-perf. It prints a running average; the last one counts."""
    command = ["iscsi-perf", "-i", INITIATOR, "-m", str(case.depth), "-b", str(case.size // BLOCK)]
    command += ["-t", str(max(1, round(seconds)))] + (["-r"] if case.random else [])
    before = os.times()
    done = subprocess.run(
        [*command, f"iscsi://{portal}/{TARGET}/{LUN}"], capture_output=True, text=True, timeout=120, check=False
    )
    after = os.times()
    found = re.findall(r"iops average (\d+)", done.stdout)
    if not found:
        raise RuntimeError(f"iscsi-perf gave no result: {done.stdout}{done.stderr}")
    iops = float(found[-1])
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Speed(iops, cpu * 1e6 / (iops * max(1, round(seconds))))


def measure(portal: Portal, cases: tuple[Case, ...], rounds: int, seconds: float) -> bool:
    """Print the table; False if a goal was missed."""
    print(f"{'':38} {'engine':>10} {'libiscsi':>10} {'ratio':>6} {'goal':>5} {'us CPU/IO':>10} {'libiscsi':>9}")
    passed = True
    for case in cases:
        ours: list[Speed] = []
        theirs: list[Speed] = []
        for _ in range(rounds):
            ours.append(asyncio.run(engine(portal, case, seconds)))
            if case.comparable:
                theirs.append(libiscsi(portal, case, seconds))
        passed &= report(case, ours, theirs)
    return passed


def report(case: Case, ours: list[Speed], theirs: list[Speed]) -> bool:
    """Print one row; False if its goal was missed."""
    iops = statistics.median(speed.iops for speed in ours)
    cpu = statistics.median(speed.cpu_us for speed in ours)
    row = f"{case.name:38} {amount(case, iops):>10}"
    if not theirs:
        print(f"{row} {'':>10} {'':>6} {'':>5} {cpu:>10.1f}", flush=True)
        return True
    other = statistics.median(speed.iops for speed in theirs)
    other_cpu = statistics.median(speed.cpu_us for speed in theirs)
    goal = "" if case.goal is None else f"{case.goal:.1f}"
    print(f"{row} {amount(case, other):>10} {iops / other:>6.2f} {goal:>5} {cpu:>10.1f} {other_cpu:>9.1f}", flush=True)
    return case.goal is None or iops / other >= case.goal


def amount(case: Case, iops: float) -> str:
    """IOPS for small I/O, throughput for big."""
    return f"{iops:,.0f}/s" if case.size < 1 << 20 else f"{iops * case.size / 1e6:,.0f} MB/s"


@contextlib.contextmanager
def peer(null: bool) -> Iterator[Portal]:
    """The target both sides use."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mooring-bench-") as folder:
        if null:
            with NullTarget() as portal:
                yield portal
            return
        with Tgtd(Path(folder), environment=FAST_MALLOC) as tgtd:
            tid = tgtd.add_target(TARGET, HeaderDigest="None,CRC32C", DataDigest="None,CRC32C")
            backing = Path(folder) / "ram.img"
            backing.write_bytes(bytes(SIZE))  # no holes: a hole is read faster than data
            tgtd.add_lun(tid, LUN, path=backing)
            yield tgtd.portal


def main() -> int:
    """The command line; exit code 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--null", action="store_true", help="against a target that does next to nothing")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    rounds, seconds = (1, 1.0) if arguments.quick else (5, 2.0)
    cases = tuple(case for case in CASES if arguments.only in case.name)
    if arguments.null:
        cases = tuple(dataclasses.replace(case, goal=None) for case in cases)  # the goals are those for tgtd
    with peer(arguments.null) as portal:
        return 0 if measure(portal, cases, rounds, seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
