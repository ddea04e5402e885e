"""Commands about health: path, lose."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from initiator.chain import chain_of
from initiator.errors import BadInputError
from initiator.fabric import Fabric
from initiator.health import assess
from initiator.losses import Loss, losses, unplaced
from initiator.model import Disk, Path, Session, Snapshot, Source
from initiator.names import clean
from tui.commands.common import emit
from tui.exits import Exit
from tui.export import as_json
from tui.find import find_any
from tui.healthtext import chain_json, chain_lines, loss_json, rates, ways_line


def path(arguments: argparse.Namespace) -> int:
    """`mooring path NAME`: what a path, or each path of a disk or session, consists of and how it is."""
    if arguments.interval < 0:
        raise BadInputError(f"--interval {arguments.interval} is below zero")
    before, after, fabric, seconds = _look_twice(arguments.interval)
    chosen = _paths(after, arguments.name)
    health = assess(after, fabric)
    old = {each.id: each for each in before.paths}
    found: list[dict[str, Any]] = []
    for each in chosen:
        chain = chain_of(each, after, fabric)
        judgement = health.judgements.get(each.id)
        done = rates(old[each.id], each, seconds) if each.id in old and seconds > 0 else None
        counts = _counts(chain.lane.session) if chain.lane is not None else {}
        if arguments.json:
            found.append(chain_json(chain, judgement, {"rates": as_json(done), "session_counters": counts}))
        else:
            print("\n".join(chain_lines(chain, judgement, done, counts)), end="\n\n")
    if arguments.json:
        ways = {each.disk: as_json(health.ways.get(each.disk)) for each in chosen}
        problems = as_json((*after.problems, *fabric.problems))
        emit({"schema": after.schema, "paths": found, "ways": ways, "problems": problems})
    else:
        names = {disk.id: disk.name for disk in after.disks}
        for key in dict.fromkeys(each.disk for each in chosen):
            if key in health.ways:
                print(f"Disk {clean(names[key])}: {health.judgements[key].verdict}, {ways_line(health.ways[key])}")
    return Exit.DONE


def lose(arguments: argparse.Namespace) -> int:
    """`mooring lose [NAME]`: what is lost with a link, portal, switch or controller."""
    _, snapshot, fabric, _ = _look_twice(0.0)
    found = losses(snapshot, fabric)
    if arguments.name is not None:
        found = _named(found, arguments.name, unplaced(snapshot, fabric))
    if arguments.json:
        emit({"schema": snapshot.schema, "losses": [loss_json(each) for each in found]})
    elif not found:
        print("no link, portal, switch or controller carries iSCSI here")
    else:
        print("\n".join(clean(each.text, 1000) for each in found))
    return Exit.DONE


def _named(found: tuple[Loss, ...], name: str, doubtful: Sequence[str] = ()) -> tuple[Loss, ...]:
    named = tuple(
        each for each in found if name in (each.name, each.name.partition(" (")[0], f"{each.kind}:{each.name}")
    )
    if not named:
        known = ", ".join(clean(each.name) for each in found[:20])
        doubt = f", but nobody knows through which link these go: {clean(', '.join(doubtful), 300)}" if doubtful else ""
        raise BadInputError(
            f"nothing that is known to carry iSCSI is called {clean(name)!r}{doubt}",
            fix=f"there is: {known}" if known else "",
        )
    return named


def _paths(snapshot: Snapshot, name: str) -> list[Path]:
    """The paths that a name means: one by its name, id or device, or all of a disk, session, link or target."""
    direct = [each for each in snapshot.paths if name in (each.device, (each.device or "").removeprefix("/dev/"))]
    if direct:
        return direct
    target = {each.id for each in snapshot.sessions if name in (each.target, each.target.rpartition(":")[2])}
    if target:
        return [each for each in snapshot.paths if each.session in target]
    item = find_any(snapshot, name)
    found = [each for each in snapshot.paths if item.id in (each.id, each.disk, each.session, each.map, each.link)]
    if not found:
        kind = "disk" if isinstance(item, Disk) else "session" if isinstance(item, Session) else "thing"
        raise BadInputError(f"the {kind} {clean(item.name)} has no path", fix="mooring list shows what has")
    return found


def _look_twice(interval: float) -> tuple[Snapshot, Snapshot, Fabric, float]:
    """Two readings of this host, some time apart, what lies around the second, and the seconds between them."""
    from initiator.engine.client import EngineClient
    from initiator.host.fabric import FabricReader
    from initiator.host.sockets import kernel_connections
    from initiator.inventory import Inventory

    with Inventory(engine=EngineClient(), tcp=kernel_connections) as inventory:
        before = after = inventory.read()
        began = time.monotonic()
        if interval > 0:
            time.sleep(interval)
            after = inventory.read()
        seconds = time.monotonic() - began if interval > 0 else 0.0
        return before, after, FabricReader().read(after), seconds


def _counts(session: Session) -> dict[str, int]:
    """What only iscsid can be asked for; nothing of engine sessions, whose paths carry their own counters."""
    if session.source is not Source.KERNEL:
        return {}
    from initiator.host.kernelview import sid_of
    from initiator.host.sessionstats import read_stats

    return read_stats(sid_of(session))
