"""Guards for disks that stay and only lose paths, and for sessions that a person wants to end."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.model import PathState
from safety.findings import Finding, Level
from safety.guard_disk import WORKING
from safety.scene import Scene


def engine(scene: Scene) -> Iterator[Finding]:
    """The engine holds all sessions of a disk in one worker, and does not let go of one of them."""
    for unit in scene.kept:
        if not unit.kernel:
            text = f"{unit.disk.name} is attached by Mooring's engine, which cannot give up one of its paths."
            seen = f"it keeps {', '.join(path.name for path in unit.kept)}"
            yield Finding(Level.BLOCK, "engine-path", unit.disk.id, text, seen, f"mooring remove {unit.disk.name}")


def last_path(scene: Scene) -> Iterator[Finding]:
    """A disk that goes on needs another path that works."""
    for unit in scene.kept:
        left = [path for path in unit.kept if path.state in WORKING]
        seen = ", ".join(f"{path.name} {path.state}" for path in unit.kept)
        name = unit.disk.name
        if not any(path.state is PathState.ACTIVE for path in left):
            text = f"No other path of {name} works: without this one everything that uses it stops."
            fix = f"bring another path back first; or remove the disk: mooring remove {name}"
            yield Finding(Level.BLOCK, "last-live-path", unit.disk.id, text, seen, fix)
        elif len(left) == 1:
            text = f"{name} goes on over one path only; when that one fails, everything that uses it stops."
            yield Finding(Level.WARN, "one-path-left", unit.disk.id, text, seen, "bring the other paths back first")


def carried(scene: Scene) -> Iterator[Finding]:
    """A session that was named has to end, so all that it carries has to be in the plan."""
    facts = scene.facts.kernel
    for session in scene.sessions:
        if facts is None or session.id not in scene.named or not session.id.startswith("kernel:s:"):
            continue
        for other in facts.stays(int(session.id.rpartition(":")[2])):
            text = f"Session {session.name} also carries LUN {other.lun}, a {other.kind} that no plan can take away."
            seen = f"{other.hctl}: {other.kname or 'no block device'}"
            fix = "stop what uses it and delete it by hand, then look again"
            yield Finding(Level.BLOCK, "unit-unknown", other.hctl, text, seen, fix)
