"""Mooring's own engine against LIO, in the guest: prints one JSON object of what came of each step."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import lio  # type: ignore[import-not-found]

from initiator.api import Chap, Disk, MiscompareError, Order, Session, Type, discover
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.errors import MooringError
from initiator.model import Severity
from initiator.names import parse_portal

TARGET = "iqn.2026-11.io.mooring.lab:peer"
PORTALS = ("127.0.0.1:3299", "127.0.0.2:3299")
ME, OTHER = "iqn.2026-11.io.mooring.lab:me", "iqn.2026-11.io.mooring.lab:other"
CHAP = Chap("harry", "a secret of harry", "lio", "a secret of lio itself")
MIB = 1 << 20
FIRST = 60
"""Numbers of LIO's stores that no scenario of the kernel's initiator uses."""
SPEC: dict[str, Any] = {
    "first": FIRST,
    "disks": {f"peer{number}": {"size": 32 * MIB, "serial": f"b000000{number}"} for number in range(3)},
    "targets": {
        TARGET: {
            "luns": ["peer0", "peer1", "peer2"],
            "portals": list(PORTALS),
            "chap": [CHAP.user, CHAP.secret],
            "mutual": [CHAP.target_user, CHAP.target_secret],
            "digests": "CRC32C,None",
        }
    },
}
STORE = lio.ROOT / f"core/fileio_{FIRST}/peer0"
GROUP = lio.ROOT / "iscsi" / TARGET / "tpgt_1"
ACCESS = STORE / "alua/default_tg_pt_gp/alua_access_state"


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for something; False if it did not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


async def algorithms() -> dict[str, Any]:
    """Mutual CHAP with each hash, and what a wrong proof of the target leads to."""
    found: dict[str, Any] = {}
    for number in (5, 6, 7, 8):
        order = tuple(dict.fromkeys((number, 5)))
        config = SessionConfig(TARGET, parse_portal(PORTALS[0]), ME, chap=CHAP, chap_algorithms=order)
        session = EngineSession(config)
        await session.start()
        found[str(number)] = [line for line in session.dialogue if "CHAP_A=" in line and line.startswith("<-")]
        await session.logout()
    for name, chap in (
        ("wrong secret", Chap(CHAP.user, "not the secret at all")),
        ("wrong target", Chap(CHAP.user, CHAP.secret, "lio", "not what lio has")),
        ("none", None),
    ):
        try:
            async with Session.login(TARGET, PORTALS[0], initiator=ME, chap=chap):
                found[name] = "let in"
        except MooringError as error:
            found[name] = error.code
    return found


async def data() -> dict[str, Any]:
    """Both digests, several units, and every kind of write."""
    async with Session.login(TARGET, PORTALS[0], initiator=ME, chap=CHAP, require_digests=True) as session:
        params = session.params
        units = await session.luns()
        disk = await session.disk(0)
        written = os.urandom(3 * MIB)
        await disk.write(0, written)
        await disk.flush()
        same = await disk.read(0, len(written)) == written
        await disk.write_zeroes(MIB, MIB)
        zeroed = await disk.read(MIB, MIB) == bytes(MIB)
        await disk.discard(2 * MIB, MIB)
        old = await disk.read(0, disk.block_bytes)
        await disk.compare_and_write(0, old, b"new".ljust(disk.block_bytes, b"\0"))
        try:
            await disk.compare_and_write(0, old, old)
            lost = "nothing"
        except MiscompareError as error:
            lost = str(error.offset)
        limits = disk.info.limits
        return {
            "digests": [params.header_digest, params.data_digest],
            "recovery": params.error_recovery_level,
            "r2ts": params.max_outstanding_r2t,
            "units": [(unit.lun, unit.kind, unit.wwid) for unit in units],
            "same": same,
            "zeroed": zeroed,
            "swapped": (await disk.read(0, disk.block_bytes))[:3].decode(),
            "miscompare": lost,
            "compare_limit": limits.maximum_compare if limits is not None else None,
            "write_cache": disk.info.write_cache,
        }


async def reservations() -> dict[str, Any]:
    """One initiator keeps another one out, who sees by whom."""
    mine = Session.login(TARGET, PORTALS[0], initiator=ME, chap=CHAP)
    theirs = Session.login(TARGET, PORTALS[0], initiator=OTHER, chap=CHAP)
    async with mine as one, theirs as two:
        await one.reserve(Order.REGISTER, 0, new_key=0xA, lun=1)
        await one.reserve(Order.RESERVE, 0xA, type=Type.WRITE_EXCLUSIVE, lun=1)
        claims = await two.claims(lun=1)
        disk = await two.disk(1)
        try:
            await disk.write(0, bytes(512))
            refused = "nothing"
        except OSError as error:
            refused = str(error.strerror)
        await two.reserve(Order.REGISTER, 0, new_key=0xB, lun=1)
        await two.reserve(Order.PREEMPT, 0xB, new_key=0xA, type=Type.WRITE_EXCLUSIVE, lun=1)
        await disk.write(0, bytes(512))
        after = await two.claims(lun=1)
        await two.reserve(Order.CLEAR, 0xB, lun=1)
        return {
            "holder": claims.reservation is not None and [claims.reservation.key, claims.reservation.words],
            "others": [[each.initiator, each.key, each.holder] for each in claims.others(OTHER)],
            "refused": refused,
            "after": list(after.keys.keys),
            "cleared": list((await one.claims(lun=1)).keys.keys),
        }


async def access() -> dict[str, Any]:
    """Port groups that stop serving, and the order to serve again; a group that the target leaves away."""
    told: list[str] = []

    def listen(text: str, severity: Severity) -> None:
        told.append(text)

    async with Disk.open(TARGET, PORTALS, 0, chap=CHAP, initiator=ME, on_event=listen) as disk:
        await disk.write(0, b"a" * 4096)
        paths = len(disk.paths)
        before = [path.access.value for path in disk.paths]
        lio.write(ACCESS, "1")
        await disk.read(0, 4096)
        slower = await until(lambda: all(path.access.value == "active/non-optimized" for path in disk.paths))
        lio.write(ACCESS, "2")
        served = await disk.read(0, 4096) == b"a" * 4096
        return {
            "paths": paths,
            "before": before,
            "explicit": disk.info.explicit_alua,
            "slower": slower,
            "served": served,
            "state": ACCESS.read_text().strip(),
            "ordered": [text for text in told if "ordered to serve" in text],
        }


async def reconfigured() -> dict[str, Any]:
    """The target is switched off and on under a disk in use; a unit comes and goes."""
    async with Disk.open(TARGET, PORTALS, 2, chap=CHAP, initiator=ME) as disk:
        await disk.write(0, b"b" * 4096)
        lio.write(GROUP / "enable", "0")
        reading = asyncio.create_task(disk.read(0, 4096))
        lost = await until(lambda: not any(path.in_use for path in disk.paths))
        lio.write(GROUP / "enable", "1")
        async with asyncio.timeout(100):
            again = await reading == b"b" * 4096
        await disk.write(4096, b"c" * 4096)
        await disk.flush()
    async with Session.login(TARGET, PORTALS[0], chap=CHAP, initiator=ME) as session:
        before = len(await session.luns())
        lun = GROUP / "lun/lun_2000"
        lun.mkdir()
        os.symlink(lio.ROOT / f"core/fileio_{FIRST + 2}/peer2", lun / "disk")
        numbers = [unit.lun for unit in await session.luns()]
        (lun / "disk").unlink()
        lun.rmdir()
    return {"lost": lost, "again": again, "before": before, "numbers": numbers}


async def main() -> None:
    """Every step; one that fails says why and does not keep the others from running."""
    lio.make(SPEC)
    lio.write(STORE / "attrib/emulate_tpu", "1")
    answer: dict[str, Any] = {"discovered": None}
    found = await discover(PORTALS[0], initiator=ME)
    answer["discovered"] = [[each.name, sorted(f"{at.host}:{at.port}" for at in each.portals)] for each in found]
    for step in (algorithms, data, reservations, access, reconfigured):
        try:
            answer[step.__name__] = await step()
        except (MooringError, OSError, TimeoutError) as error:
            answer[step.__name__] = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main())
