"""Which switch is at the other end of each cable, where lldpd runs (IEEE 802.1AB)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

from initiator.errors import MooringError
from initiator.fabric import Neighbour
from initiator.host import run
from initiator.names import clean

PROGRAM = "lldpctl"
_DEADLINE = 2.0
_LONGEST = 80


class LldpError(MooringError):
    """lldpd does not answer, or not as any known version of it."""

    code = "lldp"
    fix = "look at the output of: lldpctl -f json0"


def read_neighbours() -> dict[str, Neighbour] | None:
    """The switch at each interface, by name; None where lldpd is not installed.

    Raises:
        LldpError: it is installed and gives no answer.
        Stuck: it hangs.
    """
    if shutil.which(PROGRAM) is None:
        return None
    # json0 has the same shape however many neighbours there are; json has not (lldpcli(8)).
    done = run.run([PROGRAM, "-f", "json0"], _DEADLINE)
    if done.returncode != 0:
        raise LldpError(f"{PROGRAM}: {clean(done.stderr.strip() or f'ended with {done.returncode}', 200)}")
    return parse_neighbours(done.stdout)


def parse_neighbours(text: str) -> dict[str, Neighbour]:
    """The output of `lldpctl -f json0`; of several neighbours at one interface the first.

    Raises:
        LldpError: it is something else.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LldpError(f"{PROGRAM} gives no JSON: {clean(text, 60)!r}") from error
    found: dict[str, Neighbour] = {}
    for interface in _members(document, "lldp", "interface"):
        name = interface.get("name")
        switch = _value(interface, "chassis", "id")
        if isinstance(name, str) and switch is not None and name not in found:
            port = _value(interface, "port", "descr") or _value(interface, "port", "id")
            found[name] = Neighbour(switch, _value(interface, "chassis", "name"), port)
    return found


def _members(document: Any, *keys: str) -> Iterator[dict[str, Any]]:
    """The objects at the end of a way of keys, whose values are lists of objects."""
    if not keys:
        if isinstance(document, dict):
            yield document
        return
    inner = document.get(keys[0]) if isinstance(document, dict) else None
    for member in inner if isinstance(inner, list) else ():
        yield from _members(member, *keys[1:])


def _value(interface: dict[str, Any], *keys: str) -> str | None:
    for member in _members(interface, *keys):
        text = member.get("value")
        if isinstance(text, str) and (shown := clean(text, _LONGEST).strip()):
            return shown
    return None
