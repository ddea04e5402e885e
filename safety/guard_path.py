"""Guards for disks that stay and only lose paths, and for sessions that a person wants to end."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.model import PathState
from initiator.settled import unsettled
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


def settled(scene: Scene) -> Iterator[Finding]:
    """A path that came back a moment ago may go again in the middle: it is not relied on before it has held a while."""
    told = scene.facts.kernel.back if scene.facts.kernel is not None else ()
    for unit in scene.units:
        relied = [path for path in unit.kept or unit.paths if path.state in WORKING]
        found = unsettled(scene.snapshot, unit.disk.id, dict(told or ()), scene.facts.settle_s)
        late = {each.path.id: each for each in found if each.path in relied}
        name = unit.disk.name
        if late and len(late) == len(relied):
            best = min(late.values(), key=lambda each: each.left_s)
            text = f"Every path that {name} has to rely on came back only a moment ago and may go again."
            seen = ", ".join(f"{each.path.name} came back {each.back_s:.0f} s ago" for each in late.values())
            level = Level.BLOCK if unit.kept else Level.WARN
            yield Finding(level, "unsettled", unit.disk.id, text, seen, f"wait {best.left_s:.0f} s and look again")
        elif told is None and unit.kernel and unit.kept:
            text = f"Nobody can say whether the paths that {name} goes on over came back only a moment ago."
            seen = "the kernel's log (/dev/kmsg) may not be read here"
            yield Finding(Level.WARN, "settle-unknown", unit.disk.id, text, seen, "see: journalctl -k | grep multipath")


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
