"""One soak: a disk over two sessions, workers on it, trouble under it, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from initiator.engine.device import Device, DeviceOptions
from initiator.engine.keeper import KeeperOptions
from initiator.engine.probe import probe_lun
from initiator.engine.session import EngineSession
from initiator.engine.session_config import OFFER, SessionConfig
from initiator.model import PathState
from tests.soak.line import Line
from tests.soak.peers import PEERS, TARGET, Peer
from tests.soak.trouble import Trouble, Way, over
from tests.soak.work import BLOCK, Book, Tally, Worker, verify_file
from tests.until import until

_OPTIONS = DeviceOptions(queue_timeout=60.0, keeper=KeeperOptions(settle=0.3, check_interval=1.0, hold_interval=0.3))
_SAMPLES = 60
MOST_GROWTH_MIB = 4.0
LEAST_FOR_MEMORY_S = 60.0
"""In a shorter run memory has not settled and says nothing."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard."""

    peer: str
    seconds: float
    workers: int = 8
    blocks: int = 4096
    pause_s: float = 0.06
    """Mean pause of a worker between two requests: a soak is about faults, not about speed."""
    trouble_s: float = 4.0
    """Mean pause between two faults of one kind (each line, the target)."""
    seed: int = 1


@dataclasses.dataclass(slots=True)
class Report:
    """What came of it."""

    seconds: float
    tally: Tally
    faults: Counter[str]
    reconnects: int
    failures: int
    memory_mib: list[float]
    left: list[str]
    """What should not be there any more at the end."""

    @property
    def growth_mib(self) -> float:
        """Resident memory at the end against that after a quarter of the time, both as medians of a quarter."""
        quarter = len(self.memory_mib) // 4
        if not quarter or self.seconds < LEAST_FOR_MEMORY_S:
            return 0.0
        return statistics.median(self.memory_mib[-quarter:]) - statistics.median(self.memory_mib[quarter : 2 * quarter])

    @property
    def clean(self) -> bool:
        """True if no byte was wrong, nothing hung, nothing failed, nothing was left, and memory stayed."""
        tally = self.tally
        bad = tally.wrong_blocks + tally.hangs + tally.errors + len(self.left)
        return not bad and self.growth_mib <= MOST_GROWTH_MIB

    def text(self) -> str:
        """For people."""
        tally, memory = self.tally, self.memory_mib
        steps = memory[:: max(1, len(memory) // 12)]
        lines = [
            f"written  {tally.writes} requests, {tally.written_bytes / 1e6:.0f} MB; "
            f"read and compared {tally.reads} requests, {tally.read_bytes / 1e6:.0f} MB",
            f"wrong    {tally.wrong_blocks} blocks; {tally.hangs} hangs; {tally.errors} errors; "
            f"slowest request {tally.slowest_s:.1f} s",
            f"flushes  {tally.flushes}, of which {tally.flushes_refused} told of a possible loss",
            f"faults   {sum(self.faults.values())}: "
            + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
            f"paths    lost {self.failures} times, sessions reinstated {self.reconnects} times",
            f"memory   {' '.join(f'{value:.1f}' for value in steps)} MiB, growth {self.growth_mib:+.1f}",
            *(f"left     {text}" for text in self.left),
            *(f"note     {text}" for text in tally.notes),
            "clean" if self.clean else "NOT CLEAN",
        ]
        return "\n".join(lines)


async def soak(plan: Plan, folder: Path, quiet: bool = True) -> Report:
    """Run it; everything that it starts has ended when it returns."""
    tally, book = Tally(), Book(plan.blocks, plan.seed)
    memory: list[float] = []
    descriptors = len(os.listdir("/proc/self/fd"))
    with PEERS[plan.peer](folder, plan.blocks * BLOCK) as peer:
        async with disk(peer) as (device, ways):
            share = plan.blocks // plan.workers
            workers = [
                Worker(device, book, range(n * share, (n + 1) * share), tally, plan.seed * 1000 + n, plan.pause_s)
                for n in range(plan.workers)
            ]
            trouble, enough = Trouble(ways, peer, plan.seed, plan.trouble_s), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.run(enough))
                group.create_task(trouble.run(enough))
                group.create_task(watch(plan.seconds, memory, enough, None if quiet else tally))
            await until(lambda: all(path.state is PathState.ACTIVE for path in device.paths), 60, "all paths active")
            for worker in workers:
                await worker.verify_all()
            left = [f"{device.in_flight} commands in flight"] if device.in_flight else []
            failures = sum(path.failures for path in device.paths)
            reconnects = sum(way.session.reconnects for way in ways)
            await device.synchronize()
            for way in ways:
                await way.session.logout()
        verify_file(book, peer.backing, tally)
    await asyncio.sleep(0)
    if (more := len(os.listdir("/proc/self/fd")) - descriptors) > 0:
        left.append(f"{more} descriptors")
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    left += [f"task {task.get_name()}" for task in tasks]
    return Report(plan.seconds, tally, trouble.made, reconnects, failures, memory, left)


@contextlib.asynccontextmanager
async def disk(peer: Peer) -> AsyncIterator[tuple[Device, list[Way]]]:
    """The disk of a peer over one session for each portal, each behind a line; the first has both digests."""
    async with contextlib.AsyncExitStack() as stack:
        ways: list[Way] = []
        device: Device | None = None
        for number, portal in enumerate(peer.portals):
            line = await stack.enter_async_context(Line(portal))
            method = ("None",) if number else ("CRC32C",)
            session = EngineSession(
                SessionConfig(
                    TARGET,
                    line.portal,
                    "iqn.2026-11.io.mooring.test:soaker",
                    offer=dataclasses.replace(OFFER, header_digest=method, data_digest=method),
                    lost_after=1.5,
                    login_timeout=4.0,
                    backoff=0.2,
                    backoff_limit=1.0,
                    retry_refused=0.5,
                )
            )
            await session.start()
            stack.push_async_callback(session.close)
            info = await probe_lun(session, peer.lun)
            device = device or Device(info, _OPTIONS)
            device.add_path(session, info, str(portal))
            ways.append(Way(line, session))
        assert device is not None
        stack.callback(device.close)
        yield device, ways


async def watch(seconds: float, memory: list[float], enough: asyncio.Event, tally: Tally | None) -> None:
    """Sample the resident memory until the time is up, then say that it is enough."""
    for _ in range(_SAMPLES):
        if await over(enough, seconds / _SAMPLES):
            return
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / (1 << 20))
        if tally is not None:
            print(f"{memory[-1]:.1f} MiB, {tally}", file=sys.stderr, flush=True)
    enough.set()


def main_run(plan: Plan) -> Report:
    """In a folder of its own, in memory, for the length of the run."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mooring-soak-") as name:
        return asyncio.run(soak(plan, Path(name), quiet=False))
