"""Orders to the kernel's initiator: discover, login, logout, start-up, rescan, and the node records."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from initiator.errors import BadInputError, MooringError, RefusedError
from initiator.host.chaprecord import Credentials
from initiator.host.iscsi import SessionReader
from initiator.host.iscsiadm import Iscsiadm
from initiator.host.kernelview import session_of, sid_of
from initiator.host.nodes import NodeRecord, Records, read_records
from initiator.model import Portal, Session, Snapshot, Source, holds_data
from initiator.names import clean, parse_name, parse_portal
from tui.commands.common import credentials, emit, need_root, preview, print_disks, print_targets, snapshot
from tui.exits import Exit, exit_for, say, say_error
from tui.export import human_size, table
from tui.find import find_sessions

_WHO = "the kernel's initiator"
T = TypeVar("T")


def discover(arguments: argparse.Namespace) -> int:
    """`mooring discover PORTAL` through open-iscsi; makes node records for what is new."""
    need_root(_WHO)
    portal = parse_portal(arguments.portal)
    if arguments.dry_run:
        return preview(arguments, [f"ask {portal} for its targets, and make a node record for each that has none"])
    before = {record.path for record in read_records().nodes}
    found = Iscsiadm().discover(portal, _chap(arguments))
    made = [record for record in read_records().nodes if record.path not in before]
    by_name: dict[str, list[str]] = {}
    for each in found:
        by_name.setdefault(each.target, []).append(str(each.portal))
    targets = [{"name": name, "portals": portals} for name, portals in by_name.items()]
    if arguments.json:
        records = [str(record.path) for record in made]
        emit({"schema": 1, "via": Source.KERNEL, "portal": str(portal), "targets": targets, "new_records": records})
    else:
        print_targets(portal, targets)
        startups = ", ".join(sorted({record.startup or "unknown" for record in made}))
        say(f"{len(made)} new node records{f', start-up {startups}' if made else ''}; see: mooring records")
    return Exit.DONE


def login(arguments: argparse.Namespace) -> int:
    """`mooring login TARGET [--portal P]` through open-iscsi; without a portal, with every record of the target."""
    need_root(_WHO)
    target = str(parse_name(arguments.target, tolerant=True))
    portals = [parse_portal(text) for text in arguments.portal or ()]
    ways = _ways(read_records(), target, portals, arguments.interface)
    if arguments.dry_run:
        return preview(arguments, [_would_log_in(target, way) for way in ways])
    chap = _chap(arguments)
    old = {session.sid for session in SessionReader().read().sessions}
    orders = Iscsiadm()
    done, failed = _each(
        ways, lambda way: (way, orders.login(target, way.portal, way.interface, chap)), lambda way: str(way.portal)
    )
    for way, session in done:
        again = " already" if session.sid in old else ""
        say(f"logged in{again} to {target} at {way.portal} (session {session.sid})")
    if arguments.json:
        emit({
            "schema": 1,
            "via": Source.KERNEL,
            "sessions": [
                {"session": f"kernel:s:{session.sid}", "portal": str(way.portal), "new": session.sid not in old}
                for way, session in done
            ],
            "failed": _failures(failed),
        })  # fmt: skip
    else:
        print_disks(snapshot(), target)
    return _ending(failed)


def logout(sessions: Sequence[Session], found: Snapshot) -> Callable[[Session], None]:
    """Makes sure that nothing uses any of these sessions; gives what logs out of one.

    Raises:
        RefusedError: one carries a disk; nothing was done to any.
    """
    need_root(_WHO)
    for session in sessions:
        refuse(session, found)
    orders = Iscsiadm()
    return lambda session: orders.logout(sid_of(session))


def refuse(session: Session, found: Snapshot) -> None:
    """Refuses to log out of a session that carries a disk.

    Raises:
        RefusedError: it does; names the disks and the way out.
    """
    carried = {path.disk for path in found.paths if path.session == session.id}
    disks = [disk for disk in found.disks if disk.id in carried and holds_data(disk.kind)]
    if disks:
        mounted = {volume.id: volume.mountpoint for volume in found.volumes}
        names = ", ".join(
            f"{disk.name} ({', '.join([disk.device or 'no device', *(mounted[key] for key in disk.volumes)])})"
            for disk in disks
        )
        raise RefusedError(
            f"session {session.name} carries {names}: to log out is to pull its cable",
            code="attached",
            fix=" and ".join(f"mooring remove {disk.name}" for disk in disks),
        )


def startup(arguments: argparse.Namespace) -> int:
    """`mooring startup TARGET [PORTAL] automatic|manual|onboot`."""
    need_root(_WHO)
    target = str(parse_name(arguments.target, tolerant=True))
    portals = [parse_portal(arguments.portal)] if arguments.portal else []
    records = _matching(read_records(), target, portals, arguments.interface)
    if not records:
        where = f" at {portals[0]}" if portals else ""
        raise BadInputError(f"there is no node record of {target}{where}", fix="see: mooring records, mooring discover")
    places = [(record.portal, record.interface, record.startup) for record in records]
    places = [place for n, place in enumerate(places) if place[:2] not in [other[:2] for other in places[:n]]]
    if arguments.dry_run:
        lines = [f"set node.startup of {target} at {at}: {was} -> {arguments.mode}" for at, _, was in places]
        return preview(arguments, lines)
    orders = Iscsiadm()
    done, failed = _each(
        places,
        lambda place: (place[0], orders.set_startup(target, place[0], arguments.mode, place[1])),
        lambda place: str(place[0]),
    )
    if arguments.json:
        changed = [{"portal": str(at), "before": was, "after": arguments.mode} for at, was in done]
        emit({"schema": 1, "target": target, "records": changed, "failed": _failures(failed)})
    else:
        rows = [(str(at), was, arguments.mode) for at, was in done]
        print(table(f"node.startup of {target}", ("PORTAL", "BEFORE", "NOW"), rows))
    return _ending(failed)


def rescan(arguments: argparse.Namespace) -> int:
    """`mooring rescan NAME`: a session, or every kernel session of a target."""
    need_root(_WHO)
    chosen = [each for each in find_sessions(snapshot(), arguments.name) if each.source is Source.KERNEL]
    if not chosen:
        raise BadInputError(f"{clean(arguments.name)} is not a session of the kernel", fix="see: mooring list")
    if arguments.dry_run:
        lines = [f"have the kernel look for LUNs of {each.name} that are new or have another size" for each in chosen]
        return preview(arguments, lines)
    orders = Iscsiadm()
    done, failed = _each(chosen, lambda each: (each, orders.rescan(sid_of(each))), lambda each: each.name)
    if arguments.json:
        told = [
            {
                "session": session.id,
                "appeared": list(seen.appeared),
                "vanished": list(seen.vanished),
                "resized": [{"device": f"/dev/{k}", "before_bytes": a, "after_bytes": b} for k, a, b in seen.resized],
            }
            for session, seen in done
        ]
        emit({"schema": 1, "sessions": told, "failed": _failures(failed)})
    else:
        rows = [
            *((session.name, hctl, "appeared") for session, seen in done for hctl in seen.appeared),
            *((session.name, hctl, "vanished") for session, seen in done for hctl in seen.vanished),
            *(
                (session.name, f"/dev/{kname}", f"{human_size(was)} -> {human_size(now)}")
                for session, seen in done
                for kname, was, now in seen.resized
            ),
        ]
        print(table("Changed by the rescan", ("SESSION", "WHAT", "HOW"), rows))
    return _ending(failed)


def records(arguments: argparse.Namespace) -> int:
    """`mooring records`: what open-iscsi knows how to log in to."""
    known = read_records()
    sessions = snapshot().sessions
    rows = [(record, session_of(record, sessions)) for record in known.nodes]
    if arguments.json:
        emit({
            "schema": 1,
            "records": [
                {
                    "target": record.target,
                    "portal": str(record.portal),
                    "interface": record.interface,
                    "startup": record.startup,
                    "chap_user": record.chap_user,
                    "path": record.path,
                    "session": session.id if session else None,
                }
                for record, session in rows
            ],
            "problems": list(known.problems),
        })  # fmt: skip
    else:
        headers = ("TARGET", "PORTAL", "INTERFACE", "STARTUP", "CHAP USER", "SESSION")
        cells = (
            (each.target, each.portal, each.interface, each.startup, each.chap_user, session and session.name)
            for each, session in rows
        )
        print(table("Node records", headers, cells))
        say(*(f"{problem.subject}: {problem.reason}" for problem in known.problems))
    return Exit.DONE


# --- what they share ---


class _Way:
    """One way to a target: a portal and an interface, with the record there is."""

    def __init__(self, portal: Portal, interface: str, record: NodeRecord | None) -> None:
        self.portal = portal
        self.interface = interface
        self.record = record


def _ways(known: Records, target: str, portals: Sequence[Portal], interface: str | None) -> list[_Way]:
    """Every record of the target at these portals, and for a portal without one the way that a new record gives."""
    found: dict[tuple[str, int, str], _Way] = {}
    for record in _matching(known, target, portals, interface):
        key = (record.portal.host, record.portal.port, record.interface)
        found.setdefault(key, _Way(record.portal, record.interface, record))
    there = {key[:2] for key in found}
    for portal in portals:
        if (portal.host, portal.port) not in there:
            name = interface or "default"
            found[portal.host, portal.port, name] = _Way(portal, name, None)
    if not found:
        raise BadInputError(f"there is no node record of {target}", fix="give --portal P, or first: mooring discover P")
    return list(found.values())


def _matching(known: Records, target: str, portals: Sequence[Portal], interface: str | None) -> list[NodeRecord]:
    places = [(portal.host, portal.port) for portal in portals]
    return [
        record
        for record in known.nodes
        if record.target == target
        and (not places or (record.portal.host, record.portal.port) in places)
        and interface in (None, record.interface)
    ]


def _would_log_in(target: str, way: _Way) -> str:
    start = f"with its node record (start-up {way.record.startup})" if way.record else "with a new node record"
    return f"log in to {target} at {way.portal} through interface {way.interface} {start}"


def _chap(arguments: argparse.Namespace) -> Credentials | None:
    """What this host shows the target, and what it wants to see of it."""
    given = credentials(arguments)
    user, theirs = given.get("chap_target_user"), given.get("chap_target_secret")
    if "chap_user" not in given:
        return None
    return Credentials(given["chap_user"], given["chap_secret"], user, theirs)


S = TypeVar("S")


def _each(
    things: Iterable[S], order: Callable[[S], T], name: Callable[[S], str]
) -> tuple[list[T], list[tuple[str, MooringError]]]:
    """One order for each; one that fails keeps none of the others from being tried."""
    done: list[T] = []
    failed: list[tuple[str, MooringError]] = []
    for thing in things:
        try:
            done.append(order(thing))
        except MooringError as error:
            failed.append((name(thing), error))
    return done, failed


def _failures(failed: Iterable[tuple[str, MooringError]]) -> list[dict[str, str]]:
    return [{"what": what, "code": error.code, "reason": str(error), "fix": error.fix} for what, error in failed]


def _ending(failed: Sequence[tuple[str, MooringError]]) -> int:
    """Tells what failed; that an outcome is unknown outweighs everything else."""
    for _, error in failed:
        say_error(error)
    codes = [exit_for(error) for _, error in failed]
    return Exit.UNKNOWN if Exit.UNKNOWN in codes else codes[0] if codes else Exit.DONE
