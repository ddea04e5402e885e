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
from tui.export import as_json, human_fields, human_list, snapshot_json
from tui.find import find_any


def list_all(arguments: argparse.Namespace) -> int:
    """`mooring list`."""
    found = snapshot()
    if arguments.json:
        emit(snapshot_json(found))
    else:
        print(human_list(found))
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
