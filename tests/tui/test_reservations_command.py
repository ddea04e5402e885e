"""`mooring reservations` over a session of its own: who is registered, and who holds the disk."""

from __future__ import annotations

import asyncio
import json

import pytest

from initiator.api import Order, Session, Type
from initiator.practice.target import Target
from initiator.scsi.reservations import Claims, Keys, Registration, Reservation, registered
from tests.practice.conftest import OPEN, target
from tui import cli
from tui.exits import Exit

__all__ = ["target"]

OTHER = "iqn.2026-11.io.mooring.test:other"


async def ask(target: Target, *more: str) -> int:
    where = str(target.config.portals[0]).partition(",")[0]
    return await asyncio.to_thread(cli.main, ["reservations", OPEN, "--portal", where, "--lun", "1", *more])


async def test_another_host_that_holds_a_disk_is_named(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert await ask(target) == Exit.DONE
    assert "nobody is registered" in capsys.readouterr().out
    async with Session.login(
        OPEN, target.config.portals[0], initiator=OTHER, isid=bytes.fromhex("80aabbcc0001")
    ) as one:
        await one.reserve(Order.REGISTER, 0, new_key=0xB0A7, lun=1)
        await one.reserve(Order.RESERVE, 0xB0A7, type=Type.WRITE_EXCLUSIVE, lun=1)
        assert await ask(target) == Exit.DONE
        shown = capsys.readouterr().out
        assert OTHER in shown
        assert "another host" in shown
        assert await ask(target, "--json") == Exit.DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["registered"] == [
        {
            "key": "0x000000000000b0a7",
            "initiator": OTHER,
            "isid": "80aabbcc0001",
            "port": 1,
            "holds": "write exclusive",
            "ours": False,
        }
    ]


def test_keys_without_names_are_shown_too() -> None:
    keys = Keys(7, (1, 2))
    told = (Registration(1, None, holder=True, type=5), Registration(2, None, type=5))
    assert registered(Claims(keys, Reservation(1, 5))) == told
    assert [each.holder for each in registered(Claims(keys))] == [False, False]
    assert [each.holder for each in registered(Claims(keys, Reservation(0, 8)))] == [True, True]
