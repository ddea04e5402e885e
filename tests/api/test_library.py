"""The library against a real target: what it reads and writes, what it refuses, and that both of its faces agree."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from initiator import api
from initiator.api import Chap, Disk, MiscompareError, Order, Session, Type, blocking, discover
from initiator.errors import BadInputError, RefusedError
from initiator.model import Severity
from initiator.practice.faults import parse
from initiator.practice.target import Target
from initiator.protocol.errors import AuthError, ConnectionLost, LoginError
from initiator.scsi.commands import Status
from initiator.scsi.errors import UnitError
from tests.practice.conftest import LOCKED, MIB, OPEN, SECRET, build
from tests.until import until

ME, OTHER = "iqn.2026-11.io.mooring.test:me", "iqn.2026-11.io.mooring.test:other"


def portals(target: Target) -> list[str]:
    return [str(portal) for portal in target.config.portals]


def apply(target: Target, name: str, *args: str) -> None:
    disks = [disk.name for disk in target.config.disks]
    target.board.apply(parse(name, args, target.config.portals, disks))


async def test_what_is_written_is_read(target: Target) -> None:
    data = os.urandom(3 * MIB)
    async with Session.login(OPEN, portals(target)[0], initiator=ME) as session:
        assert session.state.value == "logged-in"
        assert [(unit.lun, unit.usable) for unit in await session.luns()] == [(0, True), (1, True)]
        await session.write(512, data)
        await session.flush()
        assert await session.read(512, len(data)) == data
        disk = await session.disk(1)
        assert (disk.block_bytes, disk.size_bytes, disk.read_only) == (4096, 8 * MIB, False)
        assert await session.disk(1) is disk
        await disk.write(0, data[: 2 * 4096])
        await disk.write_zeroes(0, 4096)
        await disk.discard(4096, 4096)
        assert await disk.read(0, 8192) == bytes(8192)
    assert session.state.value == "logged-out"
    assert not target.server.sessions


async def test_a_login_says_what_it_wants(target: Target) -> None:
    chap = Chap("keeper", SECRET)
    async with Session.login(LOCKED, portals(target)[0], chap=chap, chap_algorithms=(5,), require_digests=True) as one:
        assert (one.params.header_digest, one.params.data_digest) == (True, True)
    with pytest.raises(AuthError):
        async with Session.login(LOCKED, portals(target)[0], chap=Chap("keeper", "a wrong secret!")):
            raise AssertionError("logged in")
    with pytest.raises(LoginError, match="no such target"):
        async with Session.login(OPEN + ".missing", portals(target)[0]):
            raise AssertionError("logged in")
    with pytest.raises(BadInputError):
        async with Session.login("not a name", portals(target)[0]):
            raise AssertionError("logged in")


async def test_what_cannot_be_a_range_is_refused_before_it_is_sent(target: Target) -> None:
    async with Session.login(OPEN, portals(target)[0]) as session:
        disk = await session.disk()
        for offset, length, code in (
            (1, 512, "not-whole-blocks"),
            (0, 5, "not-whole-blocks"),
            (8 * MIB, 512, "outside-disk"),
        ):
            with pytest.raises(BadInputError) as refused:
                await disk.read(offset, length)
            assert refused.value.code == code
        with pytest.raises(BadInputError):
            await disk.compare_and_write(0, bytes(512), bytes(1024))
        with pytest.raises(BadInputError, match="128 blocks"):
            await disk.compare_and_write(0, bytes(129 * 512), bytes(129 * 512))


async def test_two_hosts_share_a_disk(target: Target) -> None:
    portal = portals(target)[0]
    async with (
        Session.login(OPEN, portal, initiator=ME) as mine,
        Session.login(OPEN, portal, initiator=OTHER) as theirs,
    ):
        disk = await mine.disk()
        old, new = bytes(512), b"mine".ljust(512, b"\0")
        await disk.compare_and_write(0, old, new)
        with pytest.raises(MiscompareError) as lost:
            await (await theirs.disk()).compare_and_write(0, old, new)
        assert lost.value.offset == 0
        await theirs.reserve(Order.REGISTER, 0, new_key=2)
        await theirs.reserve(Order.RESERVE, 2, type=Type.WRITE_EXCLUSIVE)
        with pytest.raises(OSError, match="EBADE"):
            await disk.write(0, old)
        with pytest.raises(RefusedError) as refused:
            await mine.reserve(Order.RELEASE, 1, type=Type.WRITE_EXCLUSIVE)
        assert refused.value.code == "reservation-conflict"
        claims = await mine.claims()
        assert [(one.initiator, one.key, one.holder) for one in claims.others(ME)] == [(OTHER, 2, True)]
        assert claims.others(OTHER) == ()
        with pytest.raises(UnitError, match="invalid field"):
            await theirs.reserve(Order.PREEMPT_AND_ABORT, 2, type=Type.WRITE_EXCLUSIVE)
        done = await mine.execute(bytes.fromhex("280000000000000001000000000000"[:20]), read_length=512)
        assert (done.status, bytes(done.data)) == (Status.GOOD, new)


async def test_a_disk_outlives_one_of_its_paths(target: Target) -> None:
    told: list[str] = []

    def listen(text: str, severity: Severity) -> None:
        told.append(text)

    async with Disk.open(OPEN, portals(target), on_event=listen) as disk:
        assert (len(disk.paths), disk.wwid) == (2, target.config.disks[0].wwid)
        await disk.write(0, b"x" * 4096)
        apply(target, "drop", "1")
        await until(lambda: any("connection" in text for text in told), what="the lost connection")
        assert await disk.read(0, 4096) == b"x" * 4096
        await disk.flush()


async def test_a_disk_opens_over_the_portals_that_work(target: Target) -> None:
    told: list[str] = []
    apply(target, "refuse-login", "2", "on")
    where = [*portals(target), "127.0.0.1:1"]
    async with Disk.open(OPEN, where, on_event=lambda text, _: told.append(text)) as disk:
        assert len(disk.paths) == 1
    assert sum("no session over" in text for text in told) == 2
    with pytest.raises(ConnectionLost):
        async with Disk.open(OPEN, ["127.0.0.1:1"]):
            raise AssertionError("opened")
    with pytest.raises(BadInputError):
        async with Disk.open(OPEN, []):
            raise AssertionError("opened")


async def test_the_same_isid_reinstates_a_session(target: Target) -> None:
    isid = bytes.fromhex("80aabbcc0001")
    where = portals(target)[0]
    async with Session.login(OPEN, where, isid=isid) as first, Session.login(OPEN, where, isid=isid) as second:
        assert first.isid == second.isid == isid
        assert len(target.server.sessions) == 1


async def test_discovery_finds_the_targets(target: Target) -> None:
    found = await discover(portals(target)[0], initiator=ME)
    assert [one.name for one in found] == [OPEN, LOCKED]


# --- the blocking twin ----------------------------------------------------------------------------------------------


def blocked(target_portals: list[str]) -> dict[str, Any]:
    """What a script without an event loop does."""
    seen: dict[str, Any] = {"targets": [one.name for one in blocking.discover(target_portals[0])]}
    with blocking.Session.login(OPEN, target_portals[0]) as session:
        session.write(0, b"w" * 512)
        session.flush()
        seen["read"] = session.read(0, 512)
        seen["luns"] = len(session.luns())
        try:
            session.disk(0).compare_and_write(0, bytes(512), bytes(512))
        except MiscompareError:
            seen["miscompare"] = True
    with blocking.Disk.open(OPEN, target_portals, 1) as disk:
        seen["paths"] = len(disk.info.names), disk.block_bytes
    try:
        with blocking.Session.login(OPEN, "127.0.0.1:1"):
            pass
    except ConnectionLost as error:
        seen["lost"] = error.code
    return seen


async def test_a_script_gets_by_without_an_event_loop(target: Target) -> None:
    seen = await asyncio.to_thread(blocked, portals(target))
    assert seen == {
        "targets": [OPEN, LOCKED],
        "read": b"w" * 512,
        "luns": 2,
        "miscompare": True,
        "paths": (2, 4096),
        "lost": "connect-failed",
    }


@pytest.mark.parametrize("name", ["Session", "Disk", "discover"])
def test_both_faces_take_the_same_arguments(name: str) -> None:
    ours, twin = getattr(api, name), getattr(blocking, name)
    members = [each for each in vars(ours) if not each.startswith("_")] if inspect.isclass(ours) else [None]
    for member in members:
        if member in ("close", "paths"):  # the first is for inside; the second changes under a reader's hands
            continue
        one, other = (getattr(each, member) if member else each for each in (ours, twin))
        if isinstance(one, property):
            assert isinstance(other, property), member
        else:
            assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), member


# --- far corners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lun", [255, 256, 16383])
async def test_a_lun_of_any_number_is_reached(own_folders: Path, lun: int) -> None:
    name = "iqn.2026-11.io.mooring.test:" + "ü" * 97
    assert len(name.encode()) == 222
    config = build(own_folders)
    far = dataclasses.replace(config.targets[0], name=name, luns={lun: "data"})
    running = Target(dataclasses.replace(config, targets=(far,)))
    await running.start()
    try:
        async with Session.login(name, portals(running)[0]) as session:
            assert [unit.lun for unit in await session.luns()] == [lun]
            await session.write(0, b"far" + bytes(509), lun=lun)
            assert (await session.read(0, 512, lun=lun))[:3] == b"far"
    finally:
        await running.close()
