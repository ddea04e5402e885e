"""Who else has a disk in use: `mooring reservations`. Of a disk of either initiator, or over a session made for it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

from initiator.engine import probe
from initiator.engine.claims import read_claims
from initiator.engine.client import EngineClient
from initiator.engine.report import from_json
from initiator.engine.session import EngineSession
from initiator.errors import MooringError
from initiator.host.lundetails import read_registrations
from initiator.model import Disk, Snapshot, Source
from initiator.names import clean
from initiator.scsi.reservations import Claims, Registration, Reservation, registered
from tui.commands.common import emit, login_config, need_root, snapshot
from tui.exits import Exit
from tui.export import table
from tui.find import find_disk


def reservations(arguments: argparse.Namespace) -> int:
    """`mooring reservations NAME`, or `mooring reservations TARGET --portal P --lun N`."""
    if arguments.portal:
        ours, registered = asyncio.run(_over_own_session(arguments))
        name = f"{arguments.name} LUN {arguments.lun}"
    else:
        found = snapshot()
        disk = find_disk(found, arguments.name)
        name = disk.name
        ours, registered = _of_engine(disk) if disk.source is Source.ENGINE else _of_kernel(found, disk)
    rows = [_row(each, ours) for each in registered]
    if arguments.json:
        emit({"schema": 1, "disk": name, "initiator": ours, "registered": rows})
    else:
        print(_table(name, rows))
    return Exit.DONE


async def _over_own_session(arguments: argparse.Namespace) -> tuple[str, Sequence[Registration]]:
    config = login_config(arguments, arguments.name)
    session = EngineSession(config)
    await session.start()
    try:
        field = await probe.field_of(session, arguments.lun)
        return config.initiator, registered(await probe.run(session, field, read_claims()))
    finally:
        await session.logout()


def _of_engine(disk: Disk) -> tuple[str, Sequence[Registration]]:
    answer = EngineClient().call("claims", timeout=60.0, disk=disk.id)
    return str(answer["initiator"]), registered(from_json(Claims, answer["claims"]))


def _of_kernel(found: Snapshot, disk: Disk) -> tuple[str, Sequence[Registration]]:
    need_root("asking a disk who is registered with it")
    told, problems = read_registrations([disk])
    if disk.id not in told:
        why = problems[0].reason if problems else "it has no device to ask"
        raise MooringError(f"{clean(disk.name)}: {why}", code="not-told")
    names = {session.initiator for session in found.sessions if session.target == disk.target and session.initiator}
    return next(iter(names), ""), told[disk.id]


def _row(each: Registration, ours: str) -> dict[str, Any]:
    return {
        "key": f"{each.key:#018x}",
        "initiator": each.initiator,
        "isid": each.isid,
        "port": None if each.all_ports else each.port or None,
        "holds": Reservation(each.key, each.type).words if each.holder else None,
        "ours": each.initiator == ours if each.initiator and ours else None,
    }


def _table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return f"{clean(name)}: nobody is registered"
    who = {True: "this host", False: "another host", None: "not known"}
    lines = ((row["key"], row["initiator"], row["port"], row["holds"], who[row["ours"]]) for row in rows)
    return table(f"Registered with {clean(name)}", ("KEY", "INITIATOR", "PORT", "HOLDS", "WHO"), lines)
