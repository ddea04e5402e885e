"""Mooring's own initiator against LIO: makes targets, runs every scenario over the library, takes the targets away.

Prints `{SCENARIO: {"found": {...}, "seconds": S} or {"failed": TRACEBACK}}`; what has to be found is said in
tests/lab/test_lio.py. All in one process, because under emulation Python's start takes longer than a scenario.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from initiator.api import Chap, Disk, Offer, Order, Session, Type, discover
from initiator.errors import MooringError
from initiator.scsi.commands import parse_report_luns, report_luns, straight_lun, test_unit_ready
from initiator.scsi.sense import parse_sense
from tests.lab.guest import lio, peer_changes

NAME = "iqn.2026-11.io.mooring.peer"
OPEN, LOCKED, MUTUAL, STRICT, WIDE, TWO = (
    f"{NAME}:{name}" for name in ("open", "locked", "mutual", "strict", "wide", "two")
)
ME, OTHER = "iqn.2026-11.io.mooring.host:one", "iqn.2026-11.io.mooring.host:two"
PORTAL, SECOND = "127.0.0.1:3281", "127.0.0.1:3282"
USER, SECRET, TARGET_USER, TARGET_SECRET = "keeper", "right$secret\\1", "harbour", "other$secret\\2"
MIB = 1 << 20
DISKS = ("open0", "open1", "open2", "locked0", "strict0", "wide0", "wide1", "wide2", "wide3", "two0")
WIDE_LUNS = {0: "wide0", 256: "wide1", 300: "wide2", 16640: "wide3"}
"""LIO counts without a method of addressing: its 16640 is what others mean by a flat 256."""
SPEC: dict[str, dict[str, Any]] = {
    "disks": {f"peer-{name}": {"size": 16 * MIB, "serial": f"d000000{at:x}"} for at, name in enumerate(DISKS)},
    "targets": {
        OPEN: {"luns": ["peer-open0", "peer-open1"], "portals": [PORTAL]},
        LOCKED: {"luns": ["peer-locked0"], "portals": [PORTAL], "chap": [USER, SECRET]},
        MUTUAL: {
            "luns": ["peer-locked0"],
            "portals": [PORTAL],
            "chap": [USER, SECRET],
            "mutual": [TARGET_USER, TARGET_SECRET],
        },
        STRICT: {"luns": ["peer-strict0"], "portals": [PORTAL], "digests": "CRC32C"},
        WIDE: {"luns": {number: f"peer-{name}" for number, name in WIDE_LUNS.items()}, "portals": [PORTAL]},
        TWO: {"luns": ["peer-two0"], "portals": [PORTAL]},
        f"{TWO},2": {"luns": ["peer-two0"], "portals": [SECOND]},
    },
}
Found = dict[str, Any]


def stored(disk: str, offset: int, length: int) -> bytes:
    """What LIO has in the file behind a disk."""
    with open(lio.STORE / f"peer-{disk}.img", "rb") as file:
        file.seek(offset)
        return file.read(length)


async def refused(login: Any) -> Found:
    """The error that a login ends with."""
    try:
        async with login:
            return {"error": None}
    except MooringError as error:
        return {
            "error": type(error).__name__,
            "code": error.code,
            "text": str(error),
            "retry": getattr(error, "retry", None),
        }


async def a_plain_login() -> Found:
    """No authentication, no digests."""
    listed = await discover(PORTAL, initiator=ME)
    data = random.Random(1).randbytes(3 * MIB + 512)
    plain = Offer(header_digest=("None",), data_digest=("None",))
    async with Session.login(OPEN, PORTAL, initiator=ME, offer=plain) as session:
        units = await session.luns()
        await session.write(512, data)
        await session.flush()
        return {
            "listed": {one.name: sorted(str(portal) for portal in one.portals) for one in listed},
            "params": session.params.as_text(),
            "units": [(one.lun, one.standard.vendor, one.standard.product, one.serial, one.wwid) for one in units],
            "sizes": [one.capacity.size_bytes for one in units if one.capacity],
            "read": await session.read(512, len(data)) == data,
            "stored": stored("open0", 512, len(data)) == data,
            "missing": await refused(Session.login(f"{NAME}:nowhere", PORTAL, initiator=ME)),
        }


async def chap() -> Found:
    """Every hash that LIO knows, both directions, and all that has to fail."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("initiator")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    ours, both = Chap(USER, SECRET), Chap(USER, SECRET, TARGET_USER, TARGET_SECRET)
    chosen: dict[str, Any] = {}
    for algorithms in ((5,), (6, 5), (7, 5), (8, 5)):
        for target, who in ((LOCKED, ours), (MUTUAL, both)):
            began = len(said)
            async with Session.login(target, PORTAL, initiator=ME, chap=who, chap_algorithms=algorithms) as session:
                await session.read(0, 512)
            answers = [line for line in said[began:] if "<-" in line and "CHAP_A=" in line]
            chosen[f"{algorithms[0]} {target}"] = answers[0].partition("CHAP_A=")[2].partition(",")[0]

    def login(target: str, who: Chap | None) -> Awaitable[Found]:
        return refused(Session.login(target, PORTAL, initiator=ME, chap=who))

    found = {
        "chosen": chosen,
        "wrong secret": await login(LOCKED, Chap(USER, "a-wrong-secret-77")),
        "wrong user": await login(LOCKED, Chap("nobody", SECRET)),
        "no secret": await login(LOCKED, None),
        "target wrong": await login(MUTUAL, Chap(USER, SECRET, TARGET_USER, "not-the-targets-1")),
        "target unable": await login(LOCKED, both),
    }
    logger.removeHandler(handler)
    return found | {"said": "\n".join(said)}


async def digests_and_data() -> Found:
    """Both digests demanded on both sides, with each way that data may go to the target."""
    found: Found = {"ways": {}}
    group = lio.ROOT / "iscsi" / STRICT / "tpgt_1"
    dice = random.Random(2)
    for r2t in ("Yes", "No"):
        for immediate in ("Yes", "No"):
            lio.write(group / "param/InitialR2T", r2t)
            lio.write(group / "param/ImmediateData", immediate)
            good = True
            async with Session.login(STRICT, PORTAL, initiator=ME, require_digests=True) as session:
                params = session.params.as_text()
                for length in (512, 8192, 65536 + 512, 2 * MIB + 3584):
                    offset, data = 512 * dice.randrange(8192), dice.randbytes(length)
                    await session.write(offset, data)
                    good = good and await session.read(offset, length) == data == stored("strict0", offset, length)
            found["ways"][f"{r2t} {immediate}"] = {"params": params, "good": good}
    none = Offer(header_digest=("None",), data_digest=("None",))
    found["without"] = await refused(Session.login(STRICT, PORTAL, initiator=ME, offer=none))
    lio.write(group / "param/HeaderDigest", "None")
    lio.write(group / "param/DataDigest", "None")
    found["demanded"] = await refused(Session.login(STRICT, PORTAL, initiator=ME, require_digests=True))
    return found


async def recovery_levels() -> Found:
    """What LIO offers beyond what we speak is negotiated away."""
    group = lio.ROOT / "iscsi" / OPEN / "tpgt_1"
    found: Found = {}
    for level in ("2", "1", "0"):
        lio.write(group / "param/ErrorRecoveryLevel", level)
        lio.write(group / "param/MaxConnections", "4")
        async with Session.login(OPEN, PORTAL, initiator=ME) as session:
            params = session.params.as_text()
            read = await session.read(0, 4096)
        found[level] = {"params": params, "read": len(read)}
    return found


async def luns() -> Found:
    """LUNs beyond 255, the LUN fields that LIO has for them, and whether each leads to its own disk."""
    found: Found = {"units": [], "reached": {}}
    async with Session.login(WIDE, PORTAL, initiator=ME) as session:
        answer = await session.execute(report_luns(), read_length=16384)
        found["fields"] = sorted(field.hex() for field in parse_report_luns(answer.data))
        found["units"] = [(one.lun, one.field.hex(), one.serial) for one in await session.luns()]
        for number, name in WIDE_LUNS.items():
            data = random.Random(number).randbytes(4096)
            await session.write(8192, data, lun=number)
            done = await session.execute(test_unit_ready(), lun=number)
            keys = (await session.claims(lun=number)).keys.keys
            found["reached"][number] = (stored(name, 8192, 4096) == data, done.status, len(keys))
        nowhere = await session.execute(test_unit_ready(), lun=301)
        found["nowhere"] = f"{parse_sense(nowhere.sense).code:04X}"
    async with Disk.open(WIDE, [PORTAL], 300, initiator=ME) as disk:
        found["opened"] = await disk.read(8192, 4096) == stored("wide2", 8192, 4096)
    found["linux"] = {number: straight_lun(number).hex() for number in WIDE_LUNS}
    return found


async def reservations() -> Found:
    """Two initiators and one disk: who may write, who is told what."""
    found: Found = {}
    kind = Type.WRITE_EXCLUSIVE

    async def outcome(work: Awaitable[object]) -> str:
        try:
            await work
        except OSError as error:
            return f"errno {error.errno}"
        except MooringError as error:
            return error.code
        return "done"

    async with (
        Session.login(OPEN, PORTAL, initiator=ME) as one,
        Session.login(OPEN, PORTAL, initiator=OTHER) as two,
    ):
        data = bytes(512)
        for session in (one, two):
            await session.read(0, 512)
        await one.reserve(Order.REGISTER, 0, new_key=0xA1)
        await two.reserve(Order.REGISTER, 0, new_key=0xB2)
        await one.reserve(Order.RESERVE, 0xA1, type=kind)
        claims = await two.claims()
        found["registered"] = sorted((each.initiator, each.key, each.holder) for each in claims.registrations)
        found["held"] = claims.reservation and (claims.reservation.key, claims.reservation.words)
        found["holder writes"] = await outcome(one.write(0, data))
        found["other writes"] = await outcome(two.write(0, data))
        found["other reads"] = await outcome(two.read(0, 512))
        found["other reserves"] = await outcome(two.reserve(Order.RESERVE, 0xB2, type=kind))
        await two.reserve(Order.PREEMPT, 0xB2, new_key=0xA1, type=kind)
        found["told"] = [code async for code in peer_changes.attentions(one)]
        found["preempted writes"] = await outcome(one.write(0, data))
        await two.reserve(Order.CLEAR, 0xB2)
        left = await one.claims()
        found["left"] = (left.reservation, left.keys.keys)
        found["free"] = await outcome(one.write(0, data))
    return found


SCENARIOS: tuple[Callable[[], Awaitable[Found]], ...] = (
    a_plain_login,
    chap,
    digests_and_data,
    recovery_levels,
    luns,
    reservations,
    *peer_changes.scenarios(OPEN, TWO, (PORTAL, SECOND), (ME, OTHER)),
)


async def run(wanted: list[str]) -> dict[str, Any]:
    """Every scenario, or those that are named; one that fails does not keep the others from running."""
    told: dict[str, Any] = {}
    for scenario in SCENARIOS:
        if wanted and scenario.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            async with asyncio.timeout(100):
                told[scenario.__name__] = {"found": await scenario()}
        except (MooringError, OSError, TimeoutError, AssertionError, LookupError):
            told[scenario.__name__] = {"failed": traceback.format_exc()}
        told[scenario.__name__]["seconds"] = round(time.monotonic() - began, 1)
    return told


def main() -> None:
    """See above; words are names of scenarios."""
    for name in DISKS:
        (lio.STORE / f"peer-{name}.img").unlink(missing_ok=True)
    try:
        lio.make(SPEC)
        print(json.dumps(asyncio.run(run(sys.argv[1:]))))
    finally:
        lio.clear(f"{NAME}:*", "peer-*")


if __name__ == "__main__":
    main()
