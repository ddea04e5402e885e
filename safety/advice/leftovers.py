"""What was left behind: it does no work, hides what does, and is in the way when something goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.host.kernelview import session_of
from initiator.host.nodes import NodeRecord
from initiator.model import DiskState, PathState, SessionState, Severity, Source
from safety.advice.rule import Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("leftovers")

OLD_S = 300.0
"""A path that has failed for so long does not come back by itself."""


@FAMILY.rule(
    "orphan-map",
    Severity.WARN,
    "A map has no path any more",
    "Its disk was taken away under it. Whatever still reads from it gets errors or hangs, and a new disk of that name"
    " cannot be made.",
    "stop what uses it (lsblk, fuser -vm), then: multipath -f NAME",
)
def orphan_map(host: Host) -> Iterator[Answer]:
    """Maps without any path beneath."""
    for each in host.snapshot.maps:
        if each.total == 0:
            yield Hit(
                each.name, f"{each.device or each.name} has no path", command("multipath", "-f", each.name), each.id
            )
        elif not each.paths:
            yield Unsure(each.name, "none of its paths is of a known session")


@FAMILY.rule(
    "dead-path",
    Severity.WARN,
    "A path is dead",
    "The disk goes on over its other paths, if it has any, and the next failure takes it away.",
    "bring the cable, the portal or the target back; if the path is gone for good, log out of its session, unless that"
    " carries other disks",
)
def dead_path(host: Host) -> Iterator[Answer]:
    """Paths that have failed for some minutes, or whose session has been given up."""
    for path in host.snapshot.paths:
        session = host.sessions.get(path.session)
        given_up = session is not None and session.state is SessionState.FREE
        if path.state is PathState.UNKNOWN:
            yield Unsure(path.name, path.reason or "nobody tells its state")
        elif path.state is PathState.FAILED:
            lasted = host.snapshot.taken_at - path.since if path.since is not None else None
            if given_up or (lasted is not None and lasted > OLD_S):
                yield Hit(path.name, path.reason or "failed", about=path.id)
            elif lasted is None:
                yield Unsure(path.name, "since when it has failed is not known")


@FAMILY.rule(
    "transport-offline",
    Severity.WARN,
    "A device is still there although its session is gone or given up",
    "Each access to it fails or hangs: programs that look at all disks (lsblk, LVM, updates of the boot loader) stumble"
    " over it.",
    "bring the session back (mooring login), or remove the disk (mooring remove NAME)",
)
def transport_offline(host: Host) -> Iterator[Answer]:
    """The kernel's own state of each path, and disks that nothing serves."""
    for path in host.snapshot.paths:
        if not path.id.startswith("kernel:"):
            continue
        detail = (host.facts.luns or {}).get(path.id)
        if detail is None or detail.state is None:
            yield Unsure(path.name, f"its state cannot be read: {host.facts.why('luns')}")
        elif detail.state in ("transport-offline", "offline"):
            yield Hit(path.name, f"{path.device or path.name}: state {detail.state}", about=path.id)
    for disk in host.disks:
        if disk.state is DiskState.DEAD and disk.source is Source.ENGINE:
            yield Hit(disk.name, disk.reason or "dead", command("mooring", "engine", "cleanup", disk.name), disk.id)


@FAMILY.rule(
    "session-empty",
    Severity.NOTE,
    "A session has no LUN",
    "It holds a connection and brings nothing. Usually the storage has not mapped anything to this host's name, or the"
    " LUN was taken away and the session forgotten.",
    "map a LUN to this initiator and look again (mooring rescan NAME), or log out: mooring logout NAME",
)
def session_empty(host: Host) -> Iterator[Answer]:
    """Sessions that are logged in."""
    disks_unknown = any(problem.source in ("iscsi", "engine") for problem in host.snapshot.problems)
    for session in host.snapshot.sessions:
        if session.state is SessionState.LOGGED_IN and not session.luns:
            if disks_unknown:
                yield Unsure(session.name, "its LUNs could not be read")
            else:
                yield Hit(
                    session.name,
                    f"logged in to {session.target}, no LUN",
                    command("mooring", "logout", session.name),
                    session.id,
                )


@FAMILY.rule(
    "record-idle",
    Severity.NOTE,
    "There are node records that no session belongs to",
    "A record is a note how to log in. One that is not used is either a path that is missing, or a target that has"
    " gone: with automatic start-up the boot waits for it.",
    "log in (mooring login TARGET), or forget it: iscsiadm -m node -T TARGET -p PORTAL -I INTERFACE -o delete",
)
def record_idle(host: Host) -> Iterator[Answer]:
    """Records against the kernel's sessions, told together for each target."""
    if host.facts.records is None:
        yield Unsure("node records", host.facts.why("records"))
        return
    for target, (records, sessions) in host.by_target.items():
        idle = [record for record in records if session_of(record, sessions) is None]
        if idle:
            portals = sorted(f"{record.portal} ({record.startup or 'unknown'})" for record in idle)
            fix = f"log in: {command('mooring', 'login', target)}; or forget it: {'; '.join(map(_forget, idle))}"
            yield Hit(target, f"no session at {', '.join(portals)}", fix)


def _forget(record: NodeRecord) -> str:
    """Without portal and interface iscsiadm would delete the target's other records as well."""
    place = ["-p", str(record.portal), "-I", record.interface]
    return command("iscsiadm", "-m", "node", "-T", record.target, *place, "-o", "delete")
