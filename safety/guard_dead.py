"""Guards for giving up what no path reaches any more: only what is dead for good, and what is lost is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from safety.findings import Finding, Level
from safety.scene import Scene

DEAD = frozenset({"transport-offline", "offline"})
"""States in which the kernel answers every command of a path with an error (scsi_device_types, scsi/scsi_device.h)."""
EXPECTED = frozenset({"no-path", "last-path", "session-failed", "path-not-running", "queueing", "map-suspended"})
"""Codes of findings that forbid an ordinary removal and are the very reason for this one."""


def demoted(findings: Iterable[Finding], scene: Scene) -> Iterator[Finding]:
    """With what is expected as warnings, when the person gives up what cannot be reached."""
    for finding in findings:
        expected = scene.abandon and finding.code in EXPECTED and finding.level is Level.BLOCK
        yield dataclasses.replace(finding, level=Level.WARN) if expected else finding


def dead(scene: Scene) -> Iterator[Finding]:
    """A path that works, or may come back by itself, forbids to give the disk up."""
    facts = scene.facts.kernel
    if not scene.abandon:
        return
    for unit in scene.units:
        if not unit.kernel or facts is None:
            text = f"{unit.disk.name} is not a disk of the kernel: there is nothing here that could give it up."
            yield Finding(Level.BLOCK, "not-dead", unit.disk.id, text, str(unit.disk.source), "mooring engine status")
            continue
        for path in facts.of(unit.paths):
            if path.state == "running":
                text = f"Path {path.hctl} works: the disk can be removed without a loss."
                fix = f"remove it in the ordinary way: mooring remove {unit.disk.name}"
                yield Finding(Level.BLOCK, "not-dead", path.hctl, text, "state running", fix)
            elif path.state not in DEAD:
                text = f"The kernel still waits for path {path.hctl} to come back."
                fix = "wait until its recovery time-out (recovery_tmo of the session) has passed"
                yield Finding(Level.BLOCK, "not-dead", path.hctl, text, f"state {path.state}", fix)


def lost(scene: Scene) -> Iterator[Finding]:
    """What is lost, in words."""
    if not scene.abandon:
        return
    for unit in scene.whole:
        places = ", ".join(mount.mountpoint for mount in scene.own_mounts if mount.dev in unit.devs)
        what = f"the file systems at {places}" if places else "programs and the kernel"
        text = f"What {what} have not written to {unit.disk.name} yet is lost, however much it is; nobody can say."
        seen = "no path carries a flush; the page cache does not tell how much of it belongs to which disk"
        fix = "bring one path back, if there is any way to"
        yield Finding(Level.WARN, "lost", unit.disk.id, text, seen, fix)
