"""Commands on sessions: discover, login and logout (of either initiator), attach, engine status and stop."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import Any

from initiator.engine.client import EngineClient, EngineNotRunning
from initiator.errors import BadInputError
from initiator.model import Disk, DiskState, Portal, Session, Snapshot, Source
from initiator.names import clean, parse_name, parse_portal
from tui import via
from tui.commands.common import credentials, emit, need_root, preview, print_disks, print_targets, snapshot
from tui.exits import Exit, say
from tui.export import human_fields
from tui.find import find_disk, find_sessions

LOGIN_DEADLINE = 60.0
"""Seconds that a login or attach may take, several portals included."""


def discover(arguments: argparse.Namespace) -> int:
    """`mooring discover PORTAL` or `discover --isns SERVER`."""
    if (arguments.portal is None) == (arguments.isns is None):
        raise BadInputError("give a portal or --isns SERVER, one of the two", fix="mooring discover 192.0.2.7")
    if arguments.isns is not None:
        from tui.commands import isns

        if arguments.via is not None:
            raise BadInputError("--via is for a portal: this process asks an iSNS server itself", fix="leave --via out")
        return isns.discover(arguments)
    portal = parse_portal(arguments.portal)
    if _goes_to_kernel(arguments, None, portal):
        from tui.commands import kernel

        return kernel.discover(arguments)
    if arguments.dry_run:
        return preview(arguments, [f"ask {portal} for its targets; nothing is kept of the answer"])
    given = credentials(arguments)
    answer = _engine().call("discover", timeout=LOGIN_DEADLINE, portal=str(portal), **given)
    found = [
        {"name": target["name"], "portals": [str(Portal(**where)) for where in target["portals"]]}
        for target in answer["targets"]
    ]
    if arguments.json:
        emit({"schema": 1, "via": Source.ENGINE, "portal": str(portal), "targets": found})
    else:
        print_targets(portal, found)
    return Exit.DONE


def login(arguments: argparse.Namespace) -> int:
    """`mooring login TARGET --portal P`."""
    if _goes_to_kernel(arguments, arguments.target, None):
        from tui.commands import kernel

        return kernel.login(arguments)
    target = str(parse_name(arguments.target))
    portals = [str(parse_portal(text)) for text in arguments.portal or ()]
    if not portals:
        raise BadInputError("the engine keeps no records: it has to be told where the target is", fix="--portal P")
    if arguments.interface:
        raise BadInputError("--interface is for the kernel's initiator", fix="--via kernel")
    if arguments.dry_run:
        return preview(arguments, [f"log in to {target} at {portal}; nothing is attached" for portal in portals])
    given = credentials(arguments)
    named = {name: getattr(arguments, name) for name in ("selector", "digests") if getattr(arguments, name)}
    if named:
        given["options"] = {**given.get("options", {}), **named}
    answer = _engine().call("login", timeout=LOGIN_DEADLINE, target=target, portals=portals, **given)
    found = snapshot()
    for refused in answer["failed"]:
        say(f"no session over {refused['portal']}: {refused['reason']}")
    if arguments.json:
        emit({"schema": 1, "via": Source.ENGINE, **answer})
    else:
        print_disks(found, target)
    return Exit.DONE


def _goes_to_kernel(arguments: argparse.Namespace, target: str | None, portal: Portal | None) -> bool:
    """Whom this order goes to, and says so."""
    from initiator.host import openiscsi

    held = ""
    if arguments.via is None:
        with contextlib.suppress(EngineNotRunning):
            held = via.held_by_engine(EngineClient().snapshot().sessions, target, portal)
    facts = via.Facts(openiscsi.why_not(), os.geteuid() == 0, held, _only_engine(arguments))
    choice = via.choose(arguments.via, facts)
    say(str(choice))
    return choice.source is Source.KERNEL


def _only_engine(arguments: argparse.Namespace) -> str:
    """An option that open-iscsi has no ear for."""
    names = ("initiator", "chap_algorithms", "selector", "digests")
    given = [name for name in names if getattr(arguments, name, None)]
    return f"--{given[0].replace('_', '-')}" if given else ""


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
    params.update(credentials(arguments))
    answer = _engine().call("attach", timeout=LOGIN_DEADLINE, **params)
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
    """`mooring logout NAME`: a session of either initiator; refused where it carries a disk."""
    found = snapshot()
    named = find_sessions(found, arguments.name)
    chosen = [session for session in named if arguments.via in (None, session.source)]
    if not chosen:
        raise BadInputError(f"{clean(arguments.name)} has no session of the {arguments.via}", fix="see: mooring list")
    of_kernel = [session for session in chosen if session.source is Source.KERNEL]
    ways: dict[Source, Callable[[Session], None]] = {Source.ENGINE: _engine_logout}
    if of_kernel:
        from tui.commands import kernel

        ways[Source.KERNEL] = kernel.logout(of_kernel, found)
    if arguments.dry_run:
        return preview(arguments, [f"log out {each.name} via {via.NAMES[each.source]}" for each in chosen])
    done = []
    for session in chosen:
        ways[session.source](session)
        done.append(session.id)
        say(f"logged out {session.name} via {via.NAMES[session.source]}")
        if session.details.get("startup") in ("automatic", "onboot"):
            where = session.details.get("persistent_portal", str(session.portal))
            say(f"  its node record logs in again at boot: mooring startup {session.target} {where} manual")
    if arguments.json:
        emit({"schema": 1, "logged_out": done})
    return Exit.DONE


def _engine_logout(session: Session) -> None:
    EngineClient().call("logout", timeout=LOGIN_DEADLINE, session=session.id)


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
