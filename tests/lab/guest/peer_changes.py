"""What LIO's administrator does while Mooring's initiator is logged in; a part of peer.py."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from initiator.api import DeviceOptions, Disk, Session
from initiator.engine.keeper import KeeperOptions
from initiator.engine.selector import DevicePath
from initiator.model import Access
from initiator.scsi.commands import test_unit_ready
from initiator.scsi.sense import parse_sense
from tests.lab.guest import lio

Found = dict[str, Any]
ALUA = {Access.OPTIMIZED: "0", Access.NON_OPTIMIZED: "1", Access.STANDBY: "2", Access.UNAVAILABLE: "3"}
MIB = 1 << 20
QUICK = KeeperOptions(settle=0.2, check_interval=1.0, hold_interval=0.5)


async def order(path: Path, text: str) -> None:
    """One value into configfs; LIO may wait for its sessions before it returns."""
    await asyncio.to_thread(lio.write, path, text)


async def until(condition: Callable[[], object], what: str, seconds: float = 40.0) -> None:
    """Let the loop run until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


def store_of(name: str) -> Path:
    """The backstore of a disk."""
    (store,) = lio.ROOT.glob(f"core/fileio_*/peer-{name}")
    return store


class Load:
    """Writes and reads back, all the time.

    Attributes:
        done: Rounds that ended well.
        failed: The errors of the others.
    """

    def __init__(self, disk: Disk, base: int) -> None:
        self._disk = disk
        self._base = base
        self.done = 0
        self.failed: list[str] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        for number in itertools.count():
            offset = self._base + number % 64 * 4096
            data = number.to_bytes(8, "big") * 512
            try:
                await self._disk.write(offset, data)
                assert await self._disk.read(offset, 4096) == data, f"other data at {offset}"
            except (OSError, AssertionError) as error:
                self.failed.append(str(error))
                await asyncio.sleep(0.1)
            else:
                self.done += 1
            await asyncio.sleep(0)

    async def goes_on(self, what: str) -> None:
        """Until some more rounds have ended."""
        mark = self.done + 5
        await until(lambda: self.done >= mark, what)


@contextlib.asynccontextmanager
async def loaded(disk: Disk, base: int = MIB) -> AsyncIterator[Load]:
    """A load for as long as the block lasts."""
    load = Load(disk, base)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def attentions(session: Session) -> AsyncIterator[str]:
    """The additional sense codes with which LUN 0 answers TEST UNIT READY, until it is ready."""
    for _ in range(8):
        done = await session.execute(test_unit_ready())
        if not done.sense:
            return
        yield f"{parse_sense(done.sense).code:04X}"


class Changes:
    """The scenarios, for these targets."""

    def __init__(self, open_target: str, two: str, portals: tuple[str, str], names: tuple[str, str]) -> None:
        self._open, self._two = open_target, two
        self._portal, self._second = portals
        # LIO tells a unit attention to one session of an initiator only; two that wait for the same need two names.
        self._me, self._other = names
        self._group = lio.ROOT / "iscsi" / open_target / "tpgt_1"

    async def luns_that_come_and_go(self) -> Found:
        """A LUN is added, removed under an open disk, and added again."""
        told: list[str] = []
        found: Found = {}
        store = store_of("open2")
        policy = DeviceOptions(queue_timeout=2.0, keeper=QUICK)
        async with (
            Session.login(self._open, self._portal, initiator=self._me) as session,
            Disk.open(
                self._open, [self._portal], initiator=self._other, on_event=lambda text, _: told.append(text)
            ) as neighbour,
        ):
            found["before"] = [one.lun for one in await session.luns()]
            found["quiet"] = [code async for code in attentions(session)]
            await asyncio.to_thread(lio.add_lun, self._group, 7, store)
            found["added"] = [code async for code in attentions(session)]
            await neighbour.read(0, 512)
            found["neighbour"] = list(told)
            found["then"] = [one.lun for one in await session.luns()]
            async with Disk.open(
                self._open,
                [self._portal],
                7,
                policy=policy,
                initiator=self._me,
                on_event=lambda text, _: told.append(text),
            ) as disk:
                await disk.write(0, b"seven" * 1024 + bytes(3072))
                await asyncio.to_thread(lio.remove_lun, self._group, 7)
                found["removed"] = [code async for code in attentions(session)]
                found["after"] = [one.lun for one in await session.luns()]
                ended = await asyncio.gather(disk.read(0, 4096), disk.write(0, bytes(65536)), return_exceptions=True)
                found["ended"] = [error.errno if isinstance(error, OSError) else repr(error) for error in ended]
                found["state"] = [(path.state.value, path.reason) for path in disk.paths]
                await asyncio.to_thread(lio.add_lun, self._group, 7, store)
                await until(lambda: disk.paths[0].up, "the path works again")
                found["again"] = (await disk.read(0, 512))[:5].decode()
            await asyncio.to_thread(lio.remove_lun, self._group, 7)
        found["told"] = told
        return found

    async def access_states_under_load(self) -> Found:
        """ALUA by configfs: I/O goes on over the other group, waits where none serves, or is told."""
        store = store_of("two0")
        for number, name in ((1, "left"), (2, "right")):
            (store / "alua" / name).mkdir()
            lio.write(store / f"alua/{name}/tg_pt_gp_id", str(20 + number))
            lio.write(store / f"alua/{name}/alua_access_type", "1")
            lio.write(lio.ROOT / "iscsi" / self._two / f"tpgt_{number}/lun/lun_0/alua_tg_pt_gp", name)
        told: list[str] = []
        where = [self._portal, self._second]
        patient = DeviceOptions(queue_timeout=60.0, keeper=QUICK)
        hasty = DeviceOptions(queue_timeout=1.0, keeper=QUICK)

        async def group(name: str, state: Access) -> None:
            await order(store / f"alua/{name}/alua_access_state", ALUA[state])

        async with (
            Disk.open(
                self._two, where, policy=patient, initiator=self._me, on_event=lambda text, _: told.append(text)
            ) as disk,
            Disk.open(self._two, where, policy=hasty, initiator=self._other) as other,
            loaded(disk) as load,
        ):
            left, right = disk.paths
            found: Found = {"groups": [path.info.port_group for path in disk.paths], "steps": []}

            async def step(name: str, state: Access, carriers: list[DevicePath]) -> None:
                path = left if name == "left" else right
                await group(name, state)
                await until(lambda: path.access is state, f"{name} is seen to be {state}")
                await until(
                    lambda: [each for each in disk.paths if each.in_use] == carriers, f"{name}, {state}: who carries"
                )
                await load.goes_on(f"{name} is {state}")
                found["steps"].append((name, state.value, [each.name for each in carriers]))

            await load.goes_on("both serve")
            await step("left", Access.NON_OPTIMIZED, [right])
            await step("right", Access.STANDBY, [left])
            await step("left", Access.OPTIMIZED, [left])
            await step("right", Access.OPTIMIZED, [left, right])
            await step("left", Access.UNAVAILABLE, [right])
            await group("right", Access.STANDBY)
            await until(lambda: not any(path.in_use for path in disk.paths), "none serves")
            rounds = load.done
            try:
                await other.read(0, 4096)
            except OSError as error:
                found["hasty"] = error.errno
            found["waited"] = load.done == rounds and not load.failed
            await group("right", Access.OPTIMIZED)
            await until(lambda: load.done > rounds, "what waited goes on")
            await step("left", Access.OPTIMIZED, [left, right])
            found["failed"] = load.failed
        found["told"] = told
        return found

    async def sizes_that_change(self) -> Found:
        """LIO says nothing of it: seen when somebody asks, when a session comes back, and when a command runs out."""
        store, file = store_of("open1"), lio.STORE / "peer-open1.img"
        told: list[str] = []
        found: Found = {}
        policy = DeviceOptions(queue_timeout=60.0, keeper=QUICK)

        async def resize(size: int) -> None:
            os.truncate(file, max(size, 16 * MIB))
            await order(store / "control", f"fd_dev_size={size}")

        async with Disk.open(
            self._open, [self._portal], 1, policy=policy, initiator=self._me, on_event=lambda text, _: told.append(text)
        ) as disk:
            found["sizes"] = [disk.size_bytes]
            await resize(24 * MIB)
            async with Session.login(self._open, self._portal, initiator=self._me) as session:
                found["asked"] = [
                    one.capacity.size_bytes for one in await session.luns() if one.lun == 1 and one.capacity
                ]
            await order(self._group / "enable", "0")
            await order(self._group / "enable", "1")
            await until(lambda: disk.size_bytes == 24 * MIB, "the new size")
            found["sizes"].append(disk.size_bytes)
            await disk.write(23 * MIB, b"new" + bytes(509))
            with open(file, "rb") as backing:
                backing.seek(23 * MIB)
                found["stored"] = backing.read(3).decode()
            await resize(8 * MIB)
            try:
                await disk.read(12 * MIB, 4096)
            except OSError as error:
                found["beyond"] = error.errno
            with contextlib.suppress(AssertionError):
                await until(lambda: disk.size_bytes == 8 * MIB, "the smaller size", 10.0)
            found["sizes"].append(disk.size_bytes)
            await resize(16 * MIB)
        found["told"] = told
        return found

    async def a_portal_group_that_is_disabled(self) -> Found:
        """All sessions are thrown out and cannot come back, until it is enabled again."""
        told: list[str] = []
        found: Found = {}
        policy = DeviceOptions(queue_timeout=90.0, keeper=QUICK)
        async with (
            Disk.open(
                self._open,
                [self._portal],
                policy=policy,
                initiator=self._me,
                on_event=lambda text, _: told.append(text),
            ) as disk,
            Session.login(self._open, self._portal, initiator=self._me) as session,
            loaded(disk) as load,
        ):
            await load.goes_on("before")
            await order(self._group / "enable", "0")
            await until(lambda: session.state.value == "failed" and not disk.paths[0].connected, "it is seen")
            rounds = load.done
            engine = disk.paths[0].session
            await until(
                lambda: "0301" in str(engine.reason) or "unavailable" in str(engine.reason), "a refused login", 15.0
            )
            found["reason"] = engine.reason
            found["waited"] = load.done == rounds
            await order(self._group / "enable", "1")
            await until(lambda: session.state.value == "logged-in", "the session is back")
            await load.goes_on("after")
            found["failed"] = load.failed
            found["isid"] = session.isid.hex()
            found["read"] = len(await session.read(0, 512))
        found["told"] = told
        return found


def scenarios(
    open_target: str, two: str, portals: tuple[str, str], names: tuple[str, str]
) -> Iterator[Callable[[], Awaitable[Found]]]:
    """All of them."""
    changes = Changes(open_target, two, portals, names)
    yield changes.luns_that_come_and_go
    yield changes.access_states_under_load
    yield changes.sizes_that_change
    yield changes.a_portal_group_that_is_disabled
