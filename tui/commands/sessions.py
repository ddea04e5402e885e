"""Commands on sessions of Mooring's own engine: discover, login, attach, logout, engine status and stop."""

from __future__ import annotations

import argparse
from typing import Any

from initiator.engine.client import EngineClient
from initiator.errors import BadInputError
from initiator.model import Disk, DiskState, Portal, Snapshot
from initiator.names import clean, parse_name, parse_portal
from tui.commands.common import credentials, emit, need_root, snapshot
from tui.exits import Exit, say
from tui.export import human_fields, human_size, table
from tui.find import find_disk, find_sessions

LOGIN_DEADLINE = 60.0
"""Seconds that a login or attach may take, several portals included."""


def discover(arguments: argparse.Namespace) -> int:
    """`mooring discover PORTAL`."""
    portal = parse_portal(arguments.portal)
    answer = _engine().call("discover", timeout=LOGIN_DEADLINE, portal=str(portal), **credentials(arguments))
    found = [
        {"name": target["name"], "portals": [str(Portal(**where)) for where in target["portals"]]}
        for target in answer["targets"]
    ]
    if arguments.json:
        emit({"schema": 1, "portal": str(portal), "targets": found})
    else:
        print(
            table(f"Targets at {portal}", ("TARGET", "PORTALS"), ((t["name"], ", ".join(t["portals"])) for t in found))
        )
    return Exit.DONE


def login(arguments: argparse.Namespace) -> int:
    """`mooring login TARGET --portal P`."""
    target = str(parse_name(arguments.target))
    portals = [str(parse_portal(text)) for text in arguments.portal]
    answer = _engine().call("login", timeout=LOGIN_DEADLINE, target=target, portals=portals, **credentials(arguments))
    found = snapshot()
    for refused in answer["failed"]:
        say(f"no session over {refused['portal']}: {refused['reason']}")
    seen = [disk for disk in found.disks if disk.target == target]
    if arguments.json:
        emit({"schema": 1, **answer})
    else:
        print(
            table(
                f"Disks of {target}",
                ("NAME", "STATE", "LUN", "SIZE", "WWID"),
                ((d.name, d.state, d.lun, human_size(d.size_bytes), d.wwid) for d in seen),
            )
        )
    return Exit.DONE


def attach(arguments: argparse.Namespace) -> int:
    """`mooring attach NAME` or `mooring attach TARGET --lun N --portal P`."""
    need_root("attaching a disk")
    params: dict[str, Any] = {"name": arguments.label} if arguments.label else {}
    if arguments.portal:
        params["target"] = str(parse_name(arguments.name))
        params["lun"] = arguments.lun or 0
        params["portals"] = [str(parse_portal(text)) for text in arguments.portal]
    else:
        found = snapshot()
        disk = _available(found, arguments.name, arguments.lun)
        params.update(target=disk.target, lun=disk.lun)
    answer = _engine().call("attach", timeout=LOGIN_DEADLINE, **params, **credentials(arguments))
    if arguments.json:
        emit({"schema": 1, **answer})
    else:
        print(human_fields(answer))
    return Exit.DONE


def _available(found: Snapshot, text: str, lun: int | None) -> Disk:
    of_target = [disk for disk in found.disks if disk.target == text and disk.lun == (lun or 0)]
    disk = of_target[0] if len(of_target) == 1 else find_disk(found, text)
    if disk.state is not DiskState.AVAILABLE:
        raise BadInputError(
            f"{clean(disk.name)} is {disk.state}, not available", fix=f"see `mooring show {clean(disk.name)}`"
        )
    return disk


def logout(arguments: argparse.Namespace) -> int:
    """`mooring logout NAME`; the engine refuses where a disk is attached."""
    chosen = find_sessions(snapshot(), arguments.name)
    done = []
    for session in chosen:
        EngineClient().call("logout", timeout=LOGIN_DEADLINE, session=session.id)
        done.append(session.id)
        say(f"logged out {session.name}")
    if arguments.json:
        emit({"schema": 1, "logged_out": done})
    return Exit.DONE


def engine_status(arguments: argparse.Namespace) -> int:
    """`mooring engine status`."""
    client = EngineClient()
    running = client.running()
    answer: dict[str, Any] = {"schema": 1, "running": running}
    if running:
        answer.update(client.call("status"))
    if arguments.json:
        emit(answer)
    else:
        print(human_fields(answer))
    return Exit.DONE


def engine_stop(arguments: argparse.Namespace) -> int:
    """`mooring engine stop`."""
    client = EngineClient()
    if client.running():
        client.call("stop", timeout=30.0)
        say("the engine has ended")
    else:
        say("the engine was not running")
    return Exit.DONE


def engine_cleanup(arguments: argparse.Namespace) -> int:
    """`mooring engine cleanup NAME`."""
    need_root("taking a dead device away")
    disk = find_disk(snapshot(), arguments.name)
    for line in _engine().call("cleanup", timeout=30.0, disk=disk.id)["evidence"]:
        say(line)
    return Exit.DONE


def _engine() -> EngineClient:
    client = EngineClient()
    client.ensure()
    return client
