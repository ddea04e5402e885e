"""Multipath: maps that do not protect, settings that fight each other, paths that are not what they seem."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from initiator.chain import unjoined
from initiator.model import Access, Disk, Map, Session, Severity, Source
from safety.advice.rule import WORKING, Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("multipath")

SLOW_RECOVERY_S = 30
"""Longer than this a map should not wait for a path before it uses another one."""
SHORT_RECOVERY_S = 60
"""A disk with one path has nothing else to use: it has to sit out a switch that restarts."""
_QUEUEING = re.compile(r"\bqueue_if_no_path\b")
_LIMIT = re.compile(r"(\d+) (chk|sec)")
_GREEDY = frozenset(("off", "no", "greedy"))


def _kernel_maps(host: Host) -> list[Map]:
    return [each for each in host.snapshot.maps if each.source is Source.KERNEL]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else None


@FAMILY.rule(
    "one-path",
    Severity.WARN,
    "A map has one path only",
    "Multipath without a second path protects from nothing: one cable, one port, one switch, and the disk is gone.",
    "discover and log in over the target's other portal; if there is none, this is what the next cable is for",
)
def one_path(host: Host) -> Iterator[Answer]:
    """Counts what the map has, whether it works or not."""
    for each in host.snapshot.maps:
        if each.total == 1 and each.paths:
            yield Hit(each.name, f"{each.device or each.name} has 1 path", about=each.id)
        elif each.total == 1:
            yield Unsure(each.name, "its one path is not of a known session: it may have others that are not iSCSI")


def _devices(host: Host, disk: Disk) -> list[str]:
    return sorted({path.device for path in host.paths(disk) if path.device})


def _pending(host: Host, disk: Disk) -> bool:
    """Whether a map may still come: not over one that is mounted, and not where nobody is there to make it."""
    return disk.multipath is None and not disk.volumes and host.facts.multipath != {}


@FAMILY.rule(
    "not-joined",
    Severity.BAD,
    "A disk has several devices and no map joins them",
    "Each path has a device of its own, and the kernel takes them for different disks. Mounting one while another is"
    " used destroys the file system, and when a path fails nothing moves to the other.",
    "unmount it, then: systemctl enable --now multipathd; multipath -a DEVICE; multipath -r",
)
def not_joined(host: Host) -> Iterator[Answer]:
    """Several block devices for one identity."""
    for disk in host.disks:
        if not unjoined(disk, host.paths(disk)):
            continue
        if _pending(host, disk):
            yield Unsure(disk.name, "multipathd does not tell what it does with its paths")
        else:
            yield Hit(disk.name, ", ".join(_devices(host, disk)), about=disk.id)


@FAMILY.rule(
    "queue-forever",
    Severity.WARN,
    "A map queues without limit when it has no path",
    "Everything that touches the disk then hangs until a path comes back: programs cannot be killed, the host cannot be"
    " shut down, and memory fills with what could not be written.",
    "in multipath.conf: no_path_retry 12 (a minute) instead of queue, and no queue_if_no_path in features; then:"
    " multipathd reconfigure",
)
def queue_forever(host: Host) -> Iterator[Answer]:
    """multipathd's own word for what it does."""
    for each in _kernel_maps(host):
        if each.queueing is None and "features" not in each.details:
            yield Unsure(each.name, "multipathd does not tell whether it queues")
        elif each.queueing == "on" or (
            not _LIMIT.match(each.queueing or "")
            and each.queueing != "off"
            and _QUEUEING.search(each.details.get("features", ""))
        ):
            evidence = f"queueing {each.queueing or 'unknown'}, features {each.details.get('features', 'unknown')}"
            yield Hit(each.name, evidence, about=each.id)


@FAMILY.rule(
    "timers",
    Severity.WARN,
    "The timers of session and map fight each other",
    "Three clocks decide how long a program waits when a cable is pulled. The ping (noop) notices; recovery_tmo is how"
    " long the kernel then holds commands back; only after that does multipath use another path, or queue"
    " (no_path_retry). With several paths recovery has to be short, so that the other path is used at once; with one"
    " it has to be long.",
    "node.session.timeo.replacement_timeout: 5 to 20 with multipath, 120 without; node.conn[0].timeo.noop_out_interval"
    " 5 and noop_out_timeout 5; set with: iscsiadm -m node -o update -n NAME -v VALUE, then log in again",
)
def timers(host: Host) -> Iterator[Answer]:
    """Each kernel session's timers against whether its disks have a map."""
    mapped = {path.session for path in host.snapshot.paths if path.map is not None}
    loose = {path.session for path in host.snapshot.paths if path.map is None}
    limits = _queue_limits(host)
    for session in host.snapshot.sessions:
        if session.source is not Source.KERNEL:
            continue
        recovery = _whole(session.details.get("recovery_timeout_s"))
        interval = _whole(session.details.get("ping_interval_s"))
        patience = _whole(session.details.get("ping_timeout_s"))
        if recovery is None or interval is None or patience is None:
            yield Unsure(session.name, "the kernel does not tell its timers")
            continue
        wrong = []
        if session.id in mapped and not 0 <= recovery <= SLOW_RECOVERY_S:
            wrong.append(f"recovery_tmo {recovery} s holds commands back although there is another path to use")
        if session.id in loose - mapped and 0 <= recovery < SHORT_RECOVERY_S:
            wrong.append(f"recovery_tmo {recovery} s fails writes early although there is no other path")
        if interval == 0 or patience == 0:
            wrong.append(f"ping every {interval} s, time-out {patience} s: 0 is off, a silent target is never noticed")
        elif interval + patience > 30:
            wrong.append(f"ping every {interval} s, time-out {patience} s: a silent target goes unnoticed too long")
        wrong += [
            f"recovery_tmo {recovery} s is longer than {name} queues without a path ({seconds} s)"
            for name, seconds in limits.get(session.id, {}).items()
            if seconds < recovery
        ]
        if wrong:
            yield Hit(session.name, "; ".join(wrong), about=session.id)


def _queue_limits(host: Host) -> dict[str, dict[str, int]]:
    """For each session, how long each of its maps queues when it has no path: where there is a limit, by its name."""
    polling = _whole((host.facts.multipath or {}).get("polling_interval")) or 5
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for path in host.snapshot.paths:
        joined = host.maps.get(path.map or "")
        limit = _LIMIT.match(joined.queueing or "") if joined is not None else None
        if joined is not None and limit is not None:
            each = polling if limit[2] == "chk" else 1
            found[path.session][joined.name] = int(limit[1]) * each
    return found


@FAMILY.rule(
    "wwid-mismatch",
    Severity.BAD,
    "The paths of one disk do not have one identity",
    "The identity (WWID) is what says that two paths lead to the same blocks. If a path of a map has another one, the"
    " storage has given this LUN to another disk, and writes go to both.",
    "stop using the disk; compare: multipath -ll, and /sys/block/sdX/device/wwid of each path; log out of the wrong"
    " one",
)
def wwid_mismatch(host: Host) -> Iterator[Answer]:
    """The kernel's identity of each path, against the others of its disk."""
    for disk in host.disks:
        paths = [path for path in host.paths(disk) if path.id.startswith("kernel:")]
        if len(paths) < 2:
            continue
        details = [(path, host.facts.luns.get(path.id)) for path in paths] if host.facts.luns is not None else []
        found = {detail.wwid: path for path, detail in details if detail is not None and detail.wwid is not None}
        if len(found) > 1:
            yield Hit(disk.name, ", ".join(f"{path.name}: {wwid}" for wwid, path in found.items()), about=disk.id)
        elif len([1 for _, detail in details if detail is not None and detail.wwid is not None]) < len(paths):
            yield Unsure(disk.name, f"not every path tells its identity: {host.facts.why('luns')}")


@FAMILY.rule(
    "find-multipaths",
    Severity.WARN,
    "find_multipaths leaves a disk out of multipath",
    "With find_multipaths strict (the default) multipathd takes only a disk that was in a map before; with yes also one"
    " of which it sees a second path. A disk whose map is not made in time is mounted from its first path, and then the"
    " map can no longer be made.",
    "multipath -a DEVICE before it is mounted, or find_multipaths greedy in multipath.conf; then: multipath -r",
)
def find_multipaths(host: Host) -> Iterator[Answer]:
    """Disks without a map that have a second path, or whose target has another portal in the records."""
    if host.facts.multipath == {}:
        return  # who does not run leaves nothing out: that is what daemon-off and not-joined tell
    portals = defaultdict(set)
    for record in host.facts.records.nodes if host.facts.records else ():
        portals[record.target].add(record.portal.host)
    mode = (host.facts.multipath or {}).get("find_multipaths")
    for disk in host.disks:
        if disk.source is not Source.KERNEL or disk.map is not None or disk.device is None or mode in _GREEDY:
            continue
        several, count = unjoined(disk, host.paths(disk)), len(portals[disk.target or ""])
        if mode is None:
            yield Unsure(disk.name, f"whether it should have a map: {host.facts.why('multipath')}")
        elif _pending(host, disk):
            yield Unsure(disk.name, "multipathd does not tell what it does with its paths")
        elif several and mode != "strict" and not disk.volumes:
            text = f"with find_multipaths {mode} its second path is reason enough: something else leaves it out"
            yield Unsure(disk.name, f"why nothing joins {', '.join(_devices(host, disk))}: {text}")
        elif several:
            yield _left_out(disk, f"find_multipaths {mode}; no map joins {', '.join(_devices(host, disk))}")
        elif host.facts.records is None:
            yield Unsure(disk.name, f"whether it should have a map: {host.facts.why('records')}")
        elif count > 1:
            text = f"{disk.device} has no map, its target has {count} portals in the records"
            yield _left_out(disk, f"find_multipaths {mode}; {text}")


def _left_out(disk: Disk, evidence: str) -> Hit:
    fix = f"{command('multipath', '-a', disk.device or '')}; multipath -r, before it is mounted;"
    return Hit(disk.name, evidence, f"{fix} or find_multipaths greedy in multipath.conf", disk.id)


@FAMILY.rule(
    "no-alua",
    Severity.WARN,
    "The array has good and less good ports, and nothing here tells them apart",
    "An ALUA array says which of its controllers owns a disk. Without the handler, I/O goes to both: every second"
    " command takes the detour, or makes the array move the disk back and forth between its controllers.",
    'in multipath.conf: hardware_handler "1 alua", prio alua, path_grouping_policy group_by_prio, failback immediate;'
    " modprobe scsi_dh_alua",
)
def no_alua(host: Host) -> Iterator[Answer]:
    """Paths that announce ALUA and have no handler, or no known state."""
    for path in host.snapshot.paths:
        if path.map is None or not path.id.startswith("kernel:"):
            continue
        detail = (host.facts.luns or {}).get(path.id)
        if detail is None or detail.alua is None:
            yield Unsure(path.name, f"its INQUIRY data cannot be read: {host.facts.why('luns')}")
        elif detail.alua and detail.handler != "alua":
            yield Hit(path.name, f"the target announces ALUA; handler {detail.handler or 'none'}", about=path.id)
        elif detail.alua and path.access is Access.UNKNOWN and path.state in WORKING:
            yield Unsure(path.name, "the handler has not learnt its state yet")


@FAMILY.rule(
    "session-twice",
    Severity.WARN,
    "There is more than one session over the same path",
    "Two sessions over the same portal and interface look like two paths and fail together. They only use up the"
    " target's session limit.",
    "log out of one (mooring logout NAME), and set node.session.nr_sessions to 1 in its record",
)
def session_twice(host: Host) -> Iterator[Answer]:
    """Same initiator side, same target, same portal."""
    for session in host.snapshot.sessions:
        if session.portal.host == "unknown":
            yield Unsure(session.name, "the kernel does not tell its portal")
    carried = defaultdict(set)
    for path in host.snapshot.paths:
        carried[path.session].add(path.disk)
    ways = defaultdict(list)
    for session in host.snapshot.sessions:
        # the engine has a worker for each disk, and each worker sessions of its own
        disks = frozenset(carried[session.id]) if session.source is Source.ENGINE else None
        ways[_way(session), disks].append(session)
    for found in ways.values():
        if len(found) > 1:
            session = found[0]
            count = len(found)
            evidence = f"{count} sessions to {session.target} at {session.portal}"
            fix = f"{command('mooring', 'logout', session.id)}; and node.session.nr_sessions = 1 in its record"
            yield Hit(session.name, evidence, fix, session.id)


def _way(session: Session) -> tuple[str, str, str, int, str]:
    interface = session.details.get("interface", "")
    return session.source, session.target, session.portal.host, session.portal.port, interface


@FAMILY.rule(
    "round-robin-unequal",
    Severity.WARN,
    "Round-robin spreads I/O over paths that are not equal",
    "Round-robin gives each path the same number of requests, however long they take. With one slower path the queue of"
    " the whole disk waits for it.",
    'in multipath.conf: path_selector "service-time 0" (or "queue-length 0"); then: multipathd reconfigure',
)
def round_robin_unequal(host: Host) -> Iterator[Answer]:
    """The selector of the map, and the speed and latency of the paths it uses."""
    for each in _kernel_maps(host):
        if each.policy is None:
            yield Unsure(each.name, "multipathd does not tell its path selector")
            continue
        if not each.policy.startswith("round-robin"):
            continue
        used = [path for path in host.snapshot.paths if path.map == each.id and path.in_use]
        speeds = {link.speed_mbps for path in used if (link := host.links.get(path.link or "")) and link.speed_mbps}
        waits = [path.latency_us for path in used if path.latency_us]
        if len(speeds) > 1:
            evidence = f"{each.policy} over links of {', '.join(map(str, sorted(speeds)))} Mb/s"
            yield Hit(each.name, evidence, about=each.id)
        elif len(waits) > 1 and max(waits) > 2 * min(waits) and max(waits) > 1000:
            evidence = f"{each.policy} over paths of {min(waits) / 1000:.1f} to {max(waits) / 1000:.1f} ms"
            yield Hit(each.name, evidence, about=each.id)


@FAMILY.rule(
    "daemon-off",
    Severity.BAD,
    "There are disks with several paths, and multipathd does not run",
    "Only multipathd joins the paths of a disk into a map, and only it brings a path back into one: the kernel"
    " itself just moves I/O away from a path that fails. Without it a disk that has no map gets none, and in a map each"
    " path that was ever lost stays lost, until none is left.",
    "systemctl enable --now multipathd; a disk that still has no map then: see multipath/not-joined",
)
def daemon_off(host: Host) -> Iterator[Answer]:
    """Maps of the kernel that carry iSCSI paths, disks that should have one, and who answers for them."""
    maps = [each.name for each in _kernel_maps(host) if each.paths]
    loose = [
        f"{disk.name} ({', '.join(_devices(host, disk))})" for disk in host.disks if unjoined(disk, host.paths(disk))
    ]
    if not maps and not loose:
        return
    if host.facts.multipath is None:
        yield Unsure("multipathd", host.facts.why("multipath"))
    elif not host.facts.multipath:
        told = [f"maps: {', '.join(maps)}"] if maps else []
        told += [f"without a map: {', '.join(loose)}"] if loose else []
        yield Hit("multipathd", "; ".join(("nothing answers at its socket", *told)))
