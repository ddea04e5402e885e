"""Commands that only read: list, show, watch."""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime

from initiator.errors import BadInputError
from initiator.model import Event
from initiator.names import clean
from tui.commands.common import emit, snapshot
from tui.exits import Exit
from tui.export import SHEETS, as_json, csv_list, human_fields, human_list, snapshot_json
from tui.find import find_any


def list_all(arguments: argparse.Namespace) -> int:
    """`mooring list [KIND …]`."""
    if arguments.csv and len(arguments.kind) != 1:
        raise BadInputError("--csv makes one table", fix=f"name one of {', '.join(SHEETS)}")
    found = snapshot()
    if arguments.json:
        whole = snapshot_json(found)
        about = ("schema", "host", "taken_at", "problems", *arguments.kind)
        emit({key: whole[key] for key in about} if arguments.kind else whole)
    elif arguments.csv:
        print(csv_list(found, arguments.kind[0]), end="")
    else:
        print(human_list(found, arguments.kind))
    return Exit.DONE


def show(arguments: argparse.Namespace) -> int:
    """`mooring show NAME`."""
    found = snapshot()
    item = find_any(found, arguments.name)
    if arguments.json:
        emit({"schema": found.schema, **as_json(item)})
    else:
        print(human_fields(item))
    return Exit.DONE


def watch(arguments: argparse.Namespace) -> int:
    """`mooring watch`: one line for each change until interrupted."""
    from initiator import inventory

    if arguments.interval <= 0:
        raise BadInputError(f"--interval {arguments.interval} is not above zero")
    end = time.monotonic() + arguments.seconds if arguments.seconds is not None else None
    old = snapshot()
    try:
        while end is None or time.monotonic() < end:
            time.sleep(arguments.interval if end is None else max(0.0, min(arguments.interval, end - time.monotonic())))
            new = snapshot()
            for event in inventory.diff(old, new):
                _print_event(event, as_lines=arguments.json)
            old = new
    except KeyboardInterrupt:
        pass
    return Exit.DONE


def _print_event(event: Event, *, as_lines: bool) -> None:
    if as_lines:
        print(json.dumps({"schema": 1, **as_json(event)}), flush=True)
    else:
        moment = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
        print(f"{moment}  {event.severity.upper():4}  {clean(event.text)}", flush=True)
