"""Commands that read once: list, show."""

from __future__ import annotations

import argparse
from typing import Any

from initiator.errors import BadInputError
from initiator.fabric import Fabric
from initiator.health import assess
from initiator.losses import losses
from initiator.model import Session, Snapshot
from tui.commands.common import emit, snapshot
from tui.exits import Exit
from tui.export import SHEETS, as_json, csv_list, human_fields, human_list, snapshot_json
from tui.healthtext import health_json, health_lines


def list_all(arguments: argparse.Namespace) -> int:
    """`mooring list [KIND …]`."""
    if arguments.csv and len(arguments.kind) != 1:
        raise BadInputError("--csv makes one table", fix=f"name one of {', '.join(SHEETS)}")
    found = snapshot()
    if arguments.json:
        whole = snapshot_json(found)
        about = ("schema", "host", "taken_at", "problems", *arguments.kind)
        if arguments.kind:
            emit({key: whole[key] for key in about})
        else:
            fabric = _fabric(found)
            emit({**whole, "health": health_json(assess(found, fabric), losses(found, fabric))})
    elif arguments.csv:
        print(csv_list(found, arguments.kind[0]), end="")
    else:
        print(human_list(found, arguments.kind))
        if not arguments.kind:
            print("", *health_lines(assess(found, _fabric(found))), sep="\n")
    return Exit.DONE


def show(arguments: argparse.Namespace) -> int:
    """`mooring show NAME`."""
    from tui.find import find_any

    found = snapshot()
    item = find_any(found, arguments.name)
    if arguments.json:
        emit({"schema": found.schema, **as_json(item), **_health_of(found, item.id)})
    else:
        print(human_fields(item))
        print(human_fields(_health_of(found, item.id)))
    return Exit.DONE


def _health_of(found: Snapshot, key: str) -> dict[str, Any]:
    """The verdict on one thing, how redundant it is if it is a disk, and what is lost with it if it carries others."""
    fabric = _fabric(found)
    health = assess(found, fabric)
    item = found.index()[key]
    names = {item.name, str(item.portal)} if isinstance(item, Session) else {item.name}
    told = [loss.text for loss in losses(found, fabric) if loss.name in names and loss.kind in ("link", "portal")]
    more = {"health": health.judgements.get(key), "ways": health.ways.get(key), "if_lost": told or None}
    return {name: as_json(value) for name, value in more.items() if value is not None}


def _fabric(found: Snapshot) -> Fabric:
    """What lies around the paths, without what costs much to ask: `mooring path` asks for that too."""
    from initiator.host.fabric import FabricReader

    return FabricReader(ask_routes=None, ask_neighbours=None).read(found)
