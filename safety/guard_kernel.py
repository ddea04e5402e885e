"""Guards for disks of the kernel's initiator: the disks, their paths, maps and sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from initiator.model import MapState, Source
from safety.facts_kernel import KernelFacts
from safety.findings import Finding, Level
from safety.scene import Scene, Unit

_ON = frozenset({"running", "absent"})


def known(scene: Scene) -> Iterator[Finding]:
    """Without a reading of its paths and sessions nothing can be said."""
    if scene.facts.kernel is not None:
        return
    held = [unit.disk.name for unit in scene.units if unit.kernel]
    held += [session.name for session in scene.sessions if session.source is Source.KERNEL]
    for name in held:
        text = f"The kernel's own iSCSI holds {name}, and what it says of it was not read."
        fix = "run it on the host itself, as root"
        yield Finding(Level.BLOCK, "kernel-session", name, text, "no reading of its paths", fix)


def kind(scene: Scene) -> Iterator[Finding]:
    """Tapes, changers and the like have no file systems that could be written back."""
    for unit in scene.units:
        if unit.kernel and unit.disk.kind != "disk":
            text = f"{unit.disk.name} is no disk but a {unit.disk.kind}."
            seen = f"peripheral device type: {unit.disk.kind}"
            fix = "stop what uses it, then log out of its session"
            yield Finding(Level.BLOCK, "not-a-disk", unit.disk.id, text, seen, fix)


def sessions(scene: Scene) -> Iterator[Finding]:
    """A session that is not logged in can neither carry a flush nor be logged out of in good order."""
    facts = scene.facts.kernel
    if facts is None:
        return
    names = {session.id: session.name for session in scene.sessions}
    for each in facts.sessions:
        name = names.get(f"kernel:s:{each.sid}", each.target)
        if each.state != "LOGGED_IN":
            text = f"Session {name} is not logged in: its path can neither be flushed nor taken offline."
            fix = "bring its portal back, or wait until the kernel has given it up and log out of it"
            yield Finding(Level.BLOCK, "session-failed", name, text, f"session{each.sid}: state {each.state}", fix)
        elif each.target_state in ("UNBOUND", "UNBINDING"):
            text = f"Somebody else is logging out of session {name}, or a logout was not finished."
            seen = f"session{each.sid}: target_state {each.target_state}"
            yield Finding(Level.BLOCK, "session-unbound", name, text, seen, "wait, then look again: mooring list")
        if each.target in facts.boot:
            text = f"This host boots from {each.target}."
            seen = "the firmware's boot table, or node.startup = onboot in its record"
            fix = "there is no safe way to log out of it while this system runs"
            yield Finding(Level.BLOCK, "boot-session", name, text, seen, fix)
    missing = {path.sid for path in facts.paths} - {each.sid for each in facts.sessions}
    for sid in sorted(missing):
        text = f"Session {sid} of one of its paths cannot be read."
        yield Finding(Level.BLOCK, "session-unknown", str(sid), text, f"session{sid} is not listed", "mooring list")


def twice(scene: Scene) -> Iterator[Finding]:
    """Two sessions that nothing tells apart: nobody could say afterwards which of them has come back."""
    facts = scene.facts.kernel
    if facts is None:
        return
    counted = Counter((each.target, each.portals, each.interface) for each in facts.every_session)
    for each in facts.sessions:
        if counted[each.target, each.portals, each.interface] > 1:
            text = f"There is more than one session to {each.target} over the same portal and interface."
            seen = f"{counted[each.target, each.portals, each.interface]} sessions over interface {each.interface}"
            fix = (
                "they give no second path; set node.session.nr_sessions to 1 and log out of one that has no disk in use"
            )
            yield Finding(Level.BLOCK, "session-twice", str(each.sid), text, seen, fix)


def paths(scene: Scene) -> Iterator[Finding]:
    """Only a path that is running can be taken offline by the kernel's rules."""
    facts = scene.facts.kernel
    if facts is None:
        return
    fix = "bring it back (its session, its cable), or set it running, then make a new plan"
    for path in facts.paths:
        if path.state != "running":
            text = f"Path {path.hctl} ({path.kname or 'no device'}) is not running."
            yield Finding(Level.BLOCK, "path-not-running", path.hctl, text, f"state {path.state or 'unknown'}", fix)
        if path.kname is None or path.dev is None or path.diskseq is None:
            text = f"Path {path.hctl} has no block device that could be claimed."
            seen = f"device {path.kname}, number {path.dev}, sequence number {path.diskseq}"
            yield Finding(Level.BLOCK, "path-no-device", path.hctl, text, seen, "wait for the kernel to make it")
    listed = {f"kernel:p:{path.hctl}" for path in facts.paths}
    planned = {path.id for unit in scene.units if unit.kernel for path in unit.paths}
    if listed != planned:
        text = "The paths changed while they were read."
        seen = ", ".join(sorted(listed.symmetric_difference(planned)))
        yield Finding(Level.BLOCK, "paths-changed", "paths", text, seen, "try again")
    for unit in scene.units:
        own = facts.of(unit.paths)
        if len({path.wwid for path in own}) > 1:
            text = f"The paths of {unit.disk.name} do not lead to the same logical unit."
            seen = ", ".join(f"{path.hctl}: {path.wwid}" for path in own)
            yield Finding(Level.BLOCK, "identity-twice", "paths", text, seen, "multipath -ll; look at the target")


def joined(scene: Scene) -> Iterator[Finding]:
    """It has to be certain whether the kernel joins the paths, and that the map is sound."""
    facts = scene.facts.kernel
    for unit in scene.units:
        if unit.kernel and facts is not None:
            yield from _joined(scene, facts, unit)


def _joined(scene: Scene, facts: KernelFacts, unit: Unit) -> Iterator[Finding]:
    disk = unit.disk
    if disk.multipath is None:
        text = f"It is not certain whether multipath joins the paths of {disk.name}."
        fix = "look at: multipath -ll; systemctl status multipathd"
        yield Finding(Level.BLOCK, "multipath-unknown", disk.id, text, f"multipathd: {facts.multipathd}", fix)
    if disk.map is not None:
        yield from _map(scene, facts, unit)
    elif len(unit.paths) + len(unit.kept) > 1:
        text = "Several devices are this one disk and no map joins them: writes through one are unknown to the others."
        seen = ", ".join(path.device or path.name for path in (*unit.paths, *unit.kept))
        yield Finding(Level.BLOCK, "no-map", disk.id, text, seen, "start multipathd, or log out of the other paths")


def _map(scene: Scene, facts: KernelFacts, unit: Unit) -> Iterator[Finding]:
    disk = unit.disk
    if facts.multipathd not in _ON:
        text = "multipathd does not tell what it does with the map."
        fix = "look at: systemctl status multipathd"
        yield Finding(Level.BLOCK, "multipathd-silent", disk.id, text, facts.multipathd, fix)
    kname = unit.node.kname if unit.node else None
    for path in facts.of(unit.paths):
        if path.holders != (kname,):
            text = f"Path {path.kname or path.hctl} is not held by the map alone."
            seen = f"held by {', '.join(path.holders) or 'nothing'}, the map is {kname}"
            fix = f"multipathd add path {path.kname}, or find what holds it"
            yield Finding(Level.BLOCK, "path-outside-map", path.hctl, text, seen, fix)
    found = next((each for each in scene.snapshot.maps if each.id == disk.map), None)
    if found is None:
        return
    if found.state is MapState.SUSPENDED:
        text = f"The map {found.name} is suspended: everything that is written to it waits."
        fix = f"find who suspended it; dmsetup resume {found.name}"
        yield Finding(Level.BLOCK, "map-suspended", found.id, text, "dm/suspended is 1", fix)
    if found.state is MapState.NO_PATH and found.queueing not in (None, "off", "-"):
        text = f"The map {found.name} queues and has no live path: a flush would hang, removing it lose the queue."
        yield Finding(Level.BLOCK, "queueing", found.id, text, f"queueing {found.queueing}", "bring a path back first")
    if found.answered_at is not None:
        text = "What is known of the map's paths is an old answer."
        yield Finding(
            Level.BLOCK, "multipathd-silent", found.id, text, "multipathd has not answered since", "try again"
        )


def other_units(scene: Scene) -> Iterator[Finding]:
    """A session that carries more than this disk stays; the plan says so."""
    facts = scene.facts.kernel
    if facts is None:
        return
    names = {session.id: session.name for session in scene.sessions}
    for each in facts.sessions:
        stay = facts.stays(each.sid)
        if stay:
            name = names.get(f"kernel:s:{each.sid}", each.target)
            text = f"Session {name} carries other disks too: only what is planned is deleted, and the session stays."
            seen = ", ".join(f"LUN {path.lun} ({path.kname or path.kind})" for path in stay)
            yield Finding(Level.NOTE, "session-stays", name, text, seen)
        elif facts.record(each.sid) is None or facts.record(each.sid).startup is None:  # type: ignore[union-attr]
            name = names.get(f"kernel:s:{each.sid}", each.target)
            text = (
                f"Session {name} has no node record: taking the removal back would have to make one, without secrets."
            )
            fix = "discover the target first, if it needs CHAP"
            yield Finding(Level.WARN, "no-record", name, text, "no record under /etc/iscsi or /var/lib/iscsi", fix)


def daemons(scene: Scene) -> Iterator[Finding]:
    """Who carries out a logout, and who would log in again."""
    facts = scene.facts.kernel
    if facts is None:
        return
    if not facts.iscsid:
        text = "iscsid does not run: nobody could log out, and a session that drops would not come back."
        yield Finding(
            Level.BLOCK, "iscsid-dead", "iscsid", text, "nothing listens for iscsiadm", "systemctl start iscsid"
        )
    for each in facts.discoveryd:
        text = f"iscsid discovers by itself ({each}) and logs in to what it finds."
        fix = "set use_discoveryd to No in that discovery record"
        yield Finding(Level.WARN, "discoveryd", each, text, "discovery record with use_discoveryd = Yes", fix)
    for session in facts.sessions:
        record = facts.record(session.sid)
        if record is not None and record.startup is not None and record.startup.startswith("several"):
            text = f"{session.target} has node records with different start-ups."
            fix = "set all to the same value: iscsiadm -m node -T TARGET -o update -n node.startup -v manual"
            yield Finding(Level.BLOCK, "records-differ", str(session.sid), text, record.startup, fix)


def traffic(scene: Scene) -> Iterator[Finding]:
    """Commands under way on a disk that nothing seen uses come from somebody unseen."""
    facts = scene.facts.kernel
    if facts is None or scene.facts.users:
        return
    used = {mount.dev for mount in scene.mounts} | {node.dev for node in scene.above}
    used |= {area.dev for area in scene.snapshot.swaps if area.dev is not None}
    counters = dict(facts.traffic)
    for unit in scene.whole:
        for path in () if used & unit.devs else facts.of(unit.paths):
            each = counters.get(path.hctl)
            if each is not None and each.in_flight:
                text = f"Commands are under way on path {path.hctl}, though nothing is seen to use the disk."
                seen = f"{each.in_flight} in flight"
                yield Finding(Level.BLOCK, "in-flight", path.hctl, text, seen, "find who reads or writes, or try again")
