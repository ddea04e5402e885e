"""Guards that look at the disk itself, its sessions and what could be read at all."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.model import DiskState, PathState, SessionState, Source
from safety.findings import Finding, Level
from safety.identity import Identity, missing
from safety.scene import Scene, Unit

WORKING = frozenset({PathState.ACTIVE, PathState.STANDBY})
READERS = frozenset({"mounts", "block", "swaps", "engine", "usage", "exports", "system", "journal", "cluster"})
_KERNEL_READERS = READERS | {"iscsi", "lvm", "registrations"}
"""Readers whose word a removal needs. Others (links, TCP round-trip times, sizes) tell nothing about use."""
_LOW_SHARE = 0.05
_LOW_STALL = 10.0


def permitted(scene: Scene) -> Iterator[Finding]:
    """Only root can unmount, claim and detach."""
    if not scene.facts.permitted:
        yield Finding(
            Level.BLOCK,
            "not-permitted",
            "user",
            "Removing an attached disk needs root.",
            "the effective user id is not 0",
            "run the command with sudo",
        )


def readable(scene: Scene) -> Iterator[Finding]:
    """What could not be read may hide a use of the disk."""
    readers = _KERNEL_READERS if scene.facts.kernel is not None else READERS
    for problem in (*scene.snapshot.problems, *scene.facts.problems):
        if problem.source in readers:
            yield Finding(
                Level.BLOCK,
                "unknown",
                f"{problem.source}:{problem.subject}",
                f"It is not known whether the disk is in use: {problem.subject} could not be read.",
                f"{problem.source}: {problem.reason}",
                "make it readable (for most things: run as root), then try again",
            )
    unseen = [problem for problem in scene.facts.problems if problem.source == "openers"]
    if unseen:
        names = ", ".join(problem.subject for problem in unseen[:5]) + (", …" if len(unseen) > 5 else "")
        many = names if len(unseen) == 1 else f"{len(unseen)} processes ({names})"
        seen = f"{names}: {unseen[0].reason}"
        if any(unit.kernel for unit in scene.units):  # a plain open of a path hinders no claim
            text = f"Not even root can examine {many}, so it is not known whether the disk is in use there."
            fix = "run Mooring with all of root's rights (not in a container, not confined), or end them"
            yield Finding(Level.BLOCK, "unexamined", "processes", text, seen, fix)
        else:
            text = f"Not even root can examine {many}; if the disk is in use there, the removal stops."
            yield Finding(Level.NOTE, "unexamined", "processes", text, seen)
    served = any(each.source is Source.ENGINE for each in scene.sessions) or any(not one.kernel for one in scene.units)
    if served and scene.snapshot.engine != "running":
        yield Finding(
            Level.BLOCK,
            "engine-silent",
            "engine",
            "The engine that serves the disk does not answer, so nothing can be flushed.",
            f"engine: {scene.snapshot.engine}",
            "mooring engine status",
        )


def attached(scene: Scene) -> Iterator[Finding]:
    """Only an attached, living disk can be taken away step by step."""
    for unit in scene.units:
        yield from _attached(unit)


def _attached(unit: Unit) -> Iterator[Finding]:
    disk = unit.disk
    evidence = f"state {disk.state}, device {disk.device or 'none'}"
    subject = disk.id
    if disk.state is DiskState.AVAILABLE:
        text = "The disk is not attached: there is nothing to remove."
        yield Finding(Level.BLOCK, "not-attached", subject, text, evidence, "mooring logout SESSION")
    elif disk.state is DiskState.OFFLINE:
        text = "The disk is offline already: another removal was begun."
        yield Finding(Level.BLOCK, "offline", subject, text, evidence, "mooring resume, or mooring undo")
    elif disk.state in (DiskState.DEAD, DiskState.UNKNOWN):
        text = "Nothing serves the disk any more, so what it has not written yet cannot be saved."
        fix = "unmount it, then let Mooring clean up what the dead engine left: mooring engine status"
        yield Finding(Level.BLOCK, "dead", subject, text, disk.reason or evidence, fix)
    elif disk.device is None or unit.node is None:
        text = "The disk is attached, but the kernel does not list its block device."
        yield Finding(Level.BLOCK, "device-unknown", subject, text, evidence, "mooring show " + disk.name)


def identity(scene: Scene) -> Iterator[Finding]:
    """It has to be certain which disk this is, and that the kernel's device is this disk."""
    for unit in scene.units:
        yield from _identity(scene, unit)


def _identity(scene: Scene, unit: Unit) -> Iterator[Finding]:
    disk, node = unit.disk, unit.node
    fix = "look at both: mooring list; mooring show " + disk.name
    for name in missing(Identity.of(disk)):
        text = f"It is not certain which disk this is: its {name} is not known."
        yield Finding(Level.BLOCK, "identity-unknown", name, text, f"{name} is not reported", fix)
    if disk.wwid is not None:
        for other in scene.snapshot.disks:
            if other.id != disk.id and other.wwid == disk.wwid:
                text = f"{other.name} has the same identification: one of the two is not what it seems."
                yield Finding(Level.BLOCK, "identity-twice", other.id, text, f"both are {disk.wwid}", fix)
    if node is None:
        return
    if node.diskseq is not None and disk.diskseq is not None and node.diskseq != disk.diskseq:
        text = f"{disk.device} is another device now than the one that was attached."
        seen = f"sequence number {node.diskseq}, attached as {disk.diskseq}"
        yield Finding(Level.BLOCK, "identity-changed", "diskseq", text, seen, fix)
    if node.size_bytes is not None and disk.size_bytes is not None and node.size_bytes != disk.size_bytes:
        text = f"{disk.device} does not have the size of the logical unit."
        seen = f"{node.size_bytes} bytes, the target says {disk.size_bytes}"
        yield Finding(Level.BLOCK, "identity-changed", "size", text, seen, fix)


def paths(scene: Scene) -> Iterator[Finding]:
    """Without a working path nothing can be flushed; with one only, a failure stops the removal part-way."""
    for unit in scene.whole:
        if unit.disk.device is not None:
            yield from _paths(scene, unit)
    for session in scene.sessions:
        if session.state is not SessionState.LOGGED_IN and session.source is Source.ENGINE:
            text = f"Session {session.name} is not logged in; its logout cannot be proven by the target's answer."
            seen = f"state {session.state}" + (f": {session.reason}" if session.reason else "")
            yield Finding(Level.WARN, "session-failed", session.id, text, seen, "bring its portal back first")


def _paths(scene: Scene, unit: Unit) -> Iterator[Finding]:
    disk = unit.disk
    known = {session.id for session in scene.sessions}
    for path in unit.paths:
        if path.session not in known:
            text = f"The session of path {path.name} is not listed."
            yield Finding(Level.BLOCK, "session-unknown", path.id, text, f"session {path.session}", "mooring list")
    working = [path for path in unit.paths if path.state in WORKING]
    seen = ", ".join(f"{path.name} {path.state}" for path in unit.paths) or "it has no path"
    if not working:
        text = "No path of the disk works: what it has not written yet cannot be written."
        yield Finding(Level.BLOCK, "no-path", disk.id, text, seen, "bring a path back (cable, portal, target) first")
    elif len(working) == 1:
        text = "Only one path works; if it fails during the removal, the removal stops part-way."
        level = Level.NOTE if len(unit.paths) == 1 else Level.WARN
        yield Finding(level, "last-path", disk.id, text, seen, "bring the other paths back first, if you can")


def neighbours(scene: Scene) -> Iterator[Finding]:
    """A logout takes away every disk of the session. Sessions of the kernel that have more than one disk stay."""
    disks = {disk.id: disk for disk in scene.snapshot.disks}
    names = {session.id: session.name for session in scene.sessions if session.source is Source.ENGINE}
    going = {unit.disk.id for unit in scene.units}
    for path in scene.snapshot.paths:
        if path.session not in names or path.disk in going:
            continue
        other = disks.get(path.disk)
        seen = f"LUN {path.lun} of session {names[path.session]}"
        if other is None or other.state is not DiskState.AVAILABLE or other.device is not None:
            name = other.name if other else path.disk
            text = f"{name} uses a session of this disk; logging out would tear it away."
            fix = f"remove {name} first: mooring remove {name}"
            yield Finding(Level.BLOCK, "shared-session", path.id, text, seen, fix)
        else:
            text = f"{other.name}, which is not attached, is seen over the same session and goes from view with it."
            yield Finding(Level.NOTE, "other-lun", path.id, text, seen)


def only_one(scene: Scene) -> Iterator[Finding]:
    """One removal of a disk at a time, and an unfinished one is finished first."""
    for other in scene.facts.others:
        text = "A removal of this disk is under way." if other.running else "A removal of this disk was not finished."
        fix = "wait for it: mooring watch" if other.running else "mooring resume, or mooring undo"
        code = "second-runner" if other.running else "unfinished"
        yield Finding(Level.BLOCK, code, other.journal, text, f"{other.journal}: {other.reason}", fix)


def memory(scene: Scene) -> Iterator[Finding]:
    """Writing back needs memory; under pressure an unmount can take very long, or not end at all."""
    found = scene.facts.memory
    if found is None:
        return
    low = found.available_bytes < found.total_bytes * _LOW_SHARE
    stalled = found.stalled_percent is not None and found.stalled_percent > _LOW_STALL
    if low or stalled:
        share = 100 * found.available_bytes / max(found.total_bytes, 1)
        stall = "" if found.stalled_percent is None else f", tasks waited {found.stalled_percent:.0f} % of the time"
        text = "Memory is short: writing back what is dirty can take very long."
        evidence = f"{share:.1f} % of memory available{stall}"
        level = Level.BLOCK if low and stalled and scene.own_mounts else Level.WARN
        yield Finding(level, "memory-pressure", "memory", text, evidence, "stop what uses the memory first")
