"""A disk over two real sessions to tgtd, whose cables are pulled while it works."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from initiator.engine.device import Device, DeviceOptions
from initiator.engine.keeper import KeeperOptions
from initiator.engine.probe import list_luns, probe_lun, run
from initiator.engine.selector import DevicePath
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import PathState, SessionState
from tests.engine.cable import Cable
from tests.pace import Pace
from tests.tgtd import Tgtd, needs_tgtd
from tests.until import until

pytestmark = [pytest.mark.root, needs_tgtd]

TARGET = "iqn.2026-11.io.mooring.test:device"
BLOCK = 4096
OPTIONS = DeviceOptions(queue_timeout=20.0, keeper=KeeperOptions(settle=0.2, check_interval=1.0, hold_interval=0.2))


@dataclasses.dataclass
class Bench:
    tgtd: Tgtd
    tid: int
    backing: Path
    cables: list[Cable]
    sessions: list[EngineSession]
    device: Device
    events: list[str]

    async def all_active(self) -> None:
        await until(lambda: all(path.state is PathState.ACTIVE for path in self.device.paths), 15)


@contextlib.asynccontextmanager
async def bench(folder: Path, paths: int = 2, options: DeviceOptions = OPTIONS) -> AsyncIterator[Bench]:
    hosts = ("127.0.0.1", "127.0.0.2")[:paths]
    with Tgtd(folder, hosts) as tgtd:
        tid = tgtd.add_target(TARGET)
        backing = tgtd.add_lun(tid)
        async with contextlib.AsyncExitStack() as stack:
            cables = [await stack.enter_async_context(Cable(portal)) for portal in tgtd.portals]
            sessions: list[EngineSession] = []
            device: Device | None = None
            events: list[str] = []
            for cable in cables:
                config = SessionConfig(
                    TARGET,
                    cable.portal,
                    "iqn.2026-11.io.mooring.test:me",
                    lost_after=1.0,
                    backoff=0.1,
                    backoff_limit=0.2,
                )
                session = EngineSession(config)
                await session.start()
                stack.push_async_callback(session.close)
                sessions.append(session)
                info = await probe_lun(session, 1)
                device = device or Device(info, options)
                device.on_event = lambda text, severity: events.append(text)
                device.add_path(session, info, str(cable.portal))
            assert device is not None
            stack.callback(device.close)
            yield Bench(tgtd, tid, backing, cables, sessions, device, events)


async def test_what_tgtd_says_of_its_disk(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert tuple(await run(b.sessions[0], 0, list_luns())) == (0, 1)
        assert b.device.wwid == "naa.60000000000000000e00000000010001"
        assert b.device.vendor == "IET"
        assert (b.device.size_bytes, b.device.block_bytes, b.device.write_cache) == (64 << 20, 512, True)


async def test_large_transfers_arrive_in_the_backing_file(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        data = random.Random(1).randbytes(20 << 20)
        await b.device.awrite(1 << 20, memoryview(data))
        report = await b.device.synchronize()
        assert (report.errno, report.text) == (0, "GOOD")
        assert b.backing.read_bytes()[1 << 20 : 21 << 20] == data
        back = bytearray(len(data))
        await b.device.aread(1 << 20, memoryview(back))
        assert back == data
        await b.device.awrite_zeroes(1 << 20, 8 << 20)
        await b.device.aflush()
        assert b.backing.read_bytes()[1 << 20 : 9 << 20] == bytes(8 << 20)
        assert all(path.writes for path in b.device.paths)


async def work(device: Device, model: dict[int, bytes], first: int, enough: asyncio.Event, seed: int) -> None:
    """Write, read back and overwrite blocks that nobody else uses."""
    dice = random.Random(seed)
    while not enough.is_set():
        block = first + dice.randrange(16)
        data = dice.randbytes(BLOCK)
        await device.awrite(block * BLOCK, memoryview(data))
        model[block] = data
        back = bytearray(BLOCK)
        known = dice.choice(list(model))
        await device.aread(known * BLOCK, memoryview(back))
        assert back == model[known]


async def failed_soon(path: DevicePath) -> None:
    async with Pace() as pace:
        await until(lambda: path.state is PathState.FAILED)
        assert pace.took < 2.0


class Work:
    """Several workers at once. Attributes: `models` is what each has written."""

    def __init__(self, b: Bench, workers: int) -> None:
        self.models: list[dict[int, bytes]] = [{} for _ in range(workers)]
        self.enough = asyncio.Event()
        self.tasks = [
            asyncio.create_task(work(b.device, self.models[n], n * 16, self.enough, n)) for n in range(workers)
        ]

    async def end(self) -> None:
        self.enough.set()
        await asyncio.gather(*self.tasks)


@pytest.mark.parametrize("silently", [False, True])
async def test_work_goes_on_while_cables_are_pulled(tmp_path: Path, silently: bool) -> None:
    async with bench(tmp_path) as b:
        load = Work(b, 8)
        for cable, path in zip(b.cables, b.device.paths, strict=True):
            await until(lambda path=path: path.in_flight, 15)  # type: ignore[misc]
            before = path.failures  # a machine that was held up may have made it suspect once
            if silently:
                cable.pull()
                await failed_soon(path)
                await until(lambda path=path: not path.connected, 5)  # type: ignore[misc]
                cable.cut()
                cable.plug()
            else:
                cable.cut()
            await until(lambda path=path, once=before + 1: path.failures == once, 5)  # type: ignore[misc]
            await b.all_active()
        await load.end()
        # tgtd reports "power on" on every new session; the path that stayed proves that nothing was reset.
        report = await b.device.synchronize()
        assert (report.errno, report.text) == (0, "GOOD")
        disk = b.backing.read_bytes()
        for model in load.models:
            for block, data in model.items():
                assert disk[block * BLOCK : (block + 1) * BLOCK] == data
        assert b.device.in_flight == 0


async def test_all_cables_out_and_in_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.device.aflush()
        load = Work(b, 4)
        await until(lambda: b.device.in_flight, 15)
        for cable in b.cables:
            cable.pull()
        await until(lambda: all(session.state is not SessionState.LOGGED_IN for session in b.sessions), 10)
        assert not any(task.done() for task in load.tasks)
        for cable in b.cables:
            cable.cut()
            cable.plug()
        await load.end()
        # Nobody can say that tgtd was not restarted in between: its cache is volatile, and it says "power on".
        assert (await b.device.synchronize()).errno == errno.EIO
        assert (await b.device.synchronize()).errno == 0
        back = bytearray(BLOCK)
        for model in load.models:
            for block, data in model.items():
                await b.device.aread(block * BLOCK, memoryview(back))
                assert back == data


async def test_no_path_for_too_long_is_an_error(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, queue_timeout=0.5)
    async with bench(tmp_path, 1, options) as b:
        b.cables[0].pull()
        with pytest.raises(OSError, match="EIO") as failure:
            await b.device.aread(0, memoryview(bytearray(BLOCK)))
        assert failure.value.errno == errno.EIO
        b.cables[0].cut()
        b.cables[0].plug()
        await b.all_active()
        await b.device.aread(0, memoryview(bytearray(BLOCK)))
        assert b.device.in_flight == 0


async def test_a_disk_that_vanishes_from_the_target_is_an_error_in_time(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, queue_timeout=0.5)
    async with bench(tmp_path, 1, options) as b:
        b.tgtd.remove_lun(b.tid)
        with pytest.raises(OSError, match="EIO"):
            await b.device.aread(0, memoryview(bytearray(BLOCK)))
        assert any("failed" in text for text in b.events)
        assert b.device.paths[0].state is PathState.FAILED


async def test_an_idle_path_that_dies_is_noticed_soon(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.cables[0].pull()
        dead, alive = b.device.paths
        await failed_soon(dead)
        before = (dead.errors, dead.timeouts)
        async with asyncio.timeout(15):
            await b.device.aread(0, memoryview(bytearray(BLOCK)))
        assert (dead.reads, alive.reads) == (0, 1)
        assert (dead.errors, dead.timeouts) == before, "it was not tried there first"
