"""`mooring isns …` and `discover --isns`: an iSNS server as a directory of targets."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from initiator import places
from initiator.engine.isns import IsnsClient, Standing, watching
from initiator.engine.whoami import initiator_name
from initiator.errors import OutcomeUnknownError
from initiator.model import Portal
from initiator.names import clean, parse_name, parse_portal
from initiator.protocol.errors import IscsiError
from initiator.protocol.isns import DEFAULT_PORT
from initiator.protocol.isns_nodes import Change, Directory, Node, NodeType, Registered, Registration
from tui.commands.common import emit, preview, print_targets
from tui.exits import Exit, say
from tui.export import table

PATIENCE_S = 10.0
T = TypeVar("T")


def discover(arguments: argparse.Namespace) -> int:
    """`mooring discover --isns SERVER`."""
    server = _server(arguments.isns)
    if arguments.dry_run:
        return preview(arguments, [f"ask the iSNS server {server} for its targets; nothing is kept of the answer"])
    name = _name(arguments)
    found = _run(_nodes(server, name, NodeType.TARGET))
    targets = [{"name": each.name, "portals": [str(portal) for portal in each.portals]} for each in found.targets()]
    if arguments.json:
        emit({"schema": 1, "via": "isns", "server": str(server), "targets": targets, "skipped": found.skipped})
    else:
        print_targets(server, targets)
    _say_what_is_missing(found, name, server)
    return Exit.DONE


def show(arguments: argparse.Namespace) -> int:
    """`mooring isns show SERVER`."""
    server, name = _server(arguments.server), _name(arguments)
    found = _run(_nodes(server, name, None))
    if arguments.json:
        nodes = [_as_json(node) for node in found.nodes]
        emit({"schema": 1, "server": str(server), "as": name, "nodes": nodes, "skipped": found.skipped})
    else:
        headers = ("NODE", "TYPE", "ALIAS", "PORTALS")
        rows = ((node.name, node.type.words, node.alias, _portals(node)) for node in found.nodes)
        print(table(f"Nodes at {server}", headers, rows))
    _say_what_is_missing(found, name, server)
    return Exit.DONE


def register(arguments: argparse.Namespace) -> int:
    """`mooring isns register SERVER`."""
    server, name = _server(arguments.server), _name(arguments)
    alias = arguments.alias if arguments.alias is not None else socket.gethostname()
    done = _run(_register(server, name, alias))
    if arguments.json:
        emit({"schema": 1, "server": str(server), "name": name, **done._asdict()})
    else:
        say(f"{name} is registered at {server} as part of {done.entity}")
        if done.period_s:
            say(f"  the server forgets it after {done.period_s} s unless it is registered again")
    return Exit.DONE


def deregister(arguments: argparse.Namespace) -> int:
    """`mooring isns deregister SERVER`."""
    server, name = _server(arguments.server), _name(arguments)
    entity = _run(_deregister(server, name))
    if arguments.json:
        emit({"schema": 1, "server": str(server), "name": name, "entity": entity})
    else:
        say(f"{name} was not registered at {server}" if entity is None else f"{entity} is not registered any more")
    return Exit.DONE


def watch(arguments: argparse.Namespace) -> int:
    """`mooring isns watch SERVER`: one line for each change until interrupted."""
    server, name = _server(arguments.server), _name(arguments)
    standing = Standing()
    try:
        _run(_watch(server, name, arguments.seconds, standing, as_lines=arguments.json))
    except KeyboardInterrupt:
        if standing.registered:
            raise OutcomeUnknownError(
                f"interrupted: whether {server} still has the registration of this watch is not known",
                fix=f"it forgets it when nobody answers its inquiries; see: mooring isns show {server}",
            ) from None
    return Exit.DONE


def _server(text: str) -> Portal:
    return parse_portal(text, DEFAULT_PORT)


def _name(arguments: argparse.Namespace) -> str:
    return str(parse_name(arguments.initiator)) if arguments.initiator else initiator_name(places.state_dir())


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def _nodes(server: Portal, name: str, kind: NodeType | None) -> Directory:
    async with await IsnsClient.connect(server, PATIENCE_S) as client:
        return await client.nodes(name, kind)


async def _register(server: Portal, name: str, alias: str) -> Registered:
    async with await IsnsClient.connect(server, PATIENCE_S) as client:
        entity = await client.entity(name) or ""
        return await client.register(Registration(name, alias, entity))


async def _deregister(server: Portal, name: str) -> str | None:
    async with await IsnsClient.connect(server, PATIENCE_S) as client:
        entity = await client.entity(name)
        if entity is not None:
            await client.deregister(name, entity)
            if await client.entity(name) == entity:
                raise IscsiError(
                    f"{server} says that it took the registration back, and still has it", code="isns-kept"
                )
        return entity


async def _watch(server: Portal, name: str, seconds: float | None, standing: Standing, *, as_lines: bool) -> None:
    async with watching(server, name, PATIENCE_S, alias=socket.gethostname(), standing=standing) as notices:
        say(f"registered at {server} as {name}; notifications come to {notices.portal}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for change in notices.changes():
                    _print_change(change, as_lines=as_lines)
    if notices.missed:
        say(f"{notices.missed} more changes came too fast to be shown")


def _print_change(change: Change, *, as_lines: bool) -> None:
    if as_lines:
        print(json.dumps({"schema": 1, "event": change.event.words, "name": change.name}), flush=True)
    else:
        print(f"{change.event.words}: {clean(change.name)}", flush=True)


def _portals(node: Node) -> str:
    return ", ".join(f"{portal},{portal.group_tag}" if portal.group_tag else str(portal) for portal in node.portals)


def _as_json(node: Node) -> dict[str, Any]:
    portals = [{"portal": str(portal), "group_tag": portal.group_tag} for portal in node.portals]
    return {"name": node.name, "type": node.type.words, "alias": node.alias, "portals": portals}


def _say_what_is_missing(found: Directory, name: str, server: Portal) -> None:
    if found.skipped:
        say(f"{found.skipped} entries were left out: they are not what RFC 4171 allows, or cannot be shown")
    if not found.nodes:
        say(
            f"{server} shows nothing to {name}: it shows nodes of the same discovery domain only,",
            "and to many servers one has to be known first",
            f"  -> mooring isns register {server}",
        )
