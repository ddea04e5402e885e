"""The two lines at the top: what there is, and what is wrong first."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.judgement import RANK, Judgement, Verdict
from initiator.model import Disk, DiskState, Link, LinkState, Session, Severity
from tui.feed import UNJUDGED, Judged
from tui.words import count, say, short_target, span
from tui.world import World, works

_SEVERITY = (Severity.BAD, Severity.WARN, Severity.NOTE)
_TOLD = (Verdict.AT_RISK, Verdict.DEGRADED)


def counts(world: World) -> tuple[str, ...]:
    """How many of each kind there are. A file system that is mounted twice is one volume."""
    snapshot = world.snapshot
    return (
        count(len([target for target in world.targets if target.name]), "target"),
        count(len(snapshot.sessions), "session"),
        count(len(snapshot.disks), "disk"),
        count(len(snapshot.paths), "path"),
        count(len({volume.dev for volume in snapshot.volumes if volume.disks}), "volume"),
    )


def troubles(world: World, now: float, judged: Judged = UNJUDGED) -> Iterator[tuple[Severity, str, str]]:
    """What is wrong, worst first: severity, one sentence, and the id of the thing to look at.

    A disk that is in trouble speaks for its paths, and a path for its session, so that one pulled cable is not told
    three times. Among equals, what was judged worse comes first.
    """
    yield from sorted(_troubles(world, now, judged), key=lambda found: _weight(found[0], found[2], judged))


def judgement(key: str, judged: Judged) -> Judgement | None:
    """What is judged of a thing; None where nobody judges it."""
    return judged.health.judgements.get(key) if judged.health is not None else None


def well(key: str, judged: Judged) -> bool | None:
    """Whether a thing is judged to be as it should be; None where nobody judges it.

    A disk that was never meant to have more than one path, and has it, counts as well here.
    """
    found = judgement(key, judged)
    return None if found is None else found.verdict is Verdict.OK or _meant(found, judged)


def _meant(found: Judgement, judged: Judged) -> bool:
    ways = judged.health.ways.get(found.subject) if judged.health is not None else None
    single = ways is not None and ways.total == ways.working == 1
    return single and found.verdict is Verdict.AT_RISK and len(found.evidence) == 1


def _weight(severity: Severity, key: str, judged: Judged) -> tuple[int, int]:
    found = judgement(key, judged)
    return _SEVERITY.index(severity), -RANK.index(found.verdict) if found is not None else 0


def _troubles(world: World, now: float, judged: Judged) -> Iterator[tuple[Severity, str, str]]:
    disks = [disk for target in world.targets for disk in target.disks]
    for disk in disks:
        if disk.state is DiskState.DEAD:
            yield Severity.BAD, f"{say(disk.name)} is dead: nothing serves {say(disk.device or 'it')} any more", disk.id
    for disk in disks:
        if disk.state is DiskState.NO_PATH:
            yield Severity.BAD, f"{say(disk.name)} has no working path: I/O to it waits or fails", disk.id
    for disk in disks:
        if disk.state is DiskState.DEGRADED:
            yield Severity.WARN, _degraded(world, disk, now), disk.id
    for disk in disks:
        if disk.state is DiskState.UNKNOWN:
            yield Severity.WARN, f"nobody can say how {say(disk.name)} is{_because(disk.reason)}", disk.id
    for session in world.idle_failures:
        yield Severity.WARN, _session(session), session.id
    for disk in disks:
        if disk.state is DiskState.OFFLINE:
            yield Severity.WARN, f"{say(disk.name)} is offline for a removal", disk.id
    for link in world.links:
        if link.state is LinkState.DOWN and link.id in world.used_links:
            yield Severity.WARN, f"link {say(link.name)} is down", link.id
    yield from _judged(world, judged)
    for problem in world.snapshot.problems:
        text = f"could not read {say(problem.source)}: {say(problem.subject)}{_because(problem.reason)}"
        yield Severity.WARN, text, ""


def _judged(world: World, judged: Judged) -> Iterator[tuple[Severity, str, str]]:
    """What only a judgement sees: disks and links that are at risk or worse than they should be while they work."""
    for each in judged.health.wrong() if judged.health is not None else ():
        link = world.index.get(each.subject) if each.kind == "link" else None
        if isinstance(link, Link) and link.state is LinkState.UP and each.verdict in _TOLD:
            word = "at risk" if each.verdict is Verdict.AT_RISK else "degraded"
            yield Severity.WARN, f"link {say(link.name)} is {word}: {say(each.reason)}", link.id
        disk = world.disk(each.subject) if each.kind == "disk" else None
        if disk is None or disk.state is not DiskState.ATTACHED or each.verdict not in _TOLD:
            continue
        if _meant(each, judged):
            continue  # somebody has made it so; its own page says what that means
        bad = each.verdict is Verdict.AT_RISK
        text = f"{say(disk.name)} is {'at risk' if bad else 'degraded'}: {say(each.reason)}"
        yield Severity.WARN, text, disk.id


def verdict(world: World, now: float, judged: Judged = UNJUDGED) -> tuple[Severity, str, int]:
    """The worst trouble, or that all is well; and how many troubles more there are."""
    found = list(troubles(world, now, judged))
    if not found:
        return Severity.NOTE, _well(world), 0
    severity, text, _ = found[0]
    return severity, text, len(found) - 1


def _degraded(world: World, disk: Disk, now: float) -> str:
    paths = world.paths_of(disk)
    broken = [path for path in paths if not works(path)]
    if not broken:
        return f"{say(disk.name)} is degraded{_because(disk.reason)}"
    newest = max(broken, key=lambda path: path.since or 0.0)
    ago = f" {span(now - newest.since)} ago" if newest.since is not None else ""
    where = f"{newest.state.value} via {say(world.portal_of(newest))}"
    return f"{say(disk.name)} lost {len(broken)} of {count(len(paths), 'path')}{ago}: {where}{_because(newest.reason)}"


def _because(reason: str | None) -> str:
    return f", {say(reason)}" if reason else ""


def _session(session: Session) -> str:
    text = f"session with {say(short_target(session.target))} over {say(str(session.portal))} is lost"
    return text + _because(session.reason)


def _well(world: World) -> str:
    working = world.working
    if not world.snapshot.paths:
        return "nothing is wrong"
    return "the only path works" if working == 1 else f"all {count(working, 'path')} work"
