"""The last word of a removal: what may be pulled now, and what may not."""

from __future__ import annotations

from collections.abc import Sequence

from initiator.model import Disk, Session, Snapshot
from safety import cables, lanes
from safety.plan import Plan
from safety.scope import Reach
from safety.sequence import Phase
from safety.work import Work


def verdict(work: Work) -> tuple[str, dict[str, list[str]]]:
    """The last sentence of a removal, and which links and portals carry no session any more.

    Returns:
        The sentence, and a mapping with the keys `free` and `busy`, each a list of links and portals.
    """
    if work.plan.scope.reach is Reach.VOLUME:
        return _unmounted(work.plan), {}
    snapshot = work.snapshot()
    free: list[str] = []
    busy: list[str] = []
    for step in work.plan.steps:
        if step.phase is not Phase.LOGOUT:
            continue
        portal = step.params["portal"]
        _sort(f"portal {portal}", [one for one in cables.live(snapshot) if str(one.portal) == portal], free, busy)
        _sort_links(step.params["link"], snapshot, free, busy)
    said = [*_disks(work), *_scope(work.plan, snapshot)]
    if free:
        said.append(f"No session any more: {', '.join(free)}.")
    if busy:
        said.append(f"Still in use by other sessions: {'; '.join(busy)}.")
    for one in work.each():
        seen = still_seen(one, snapshot) if one.member.whole else None
        if seen is not None:
            said.append(f"The target still shows {one.identity.name} over {seen}, where nothing uses it.")
    return " ".join(said), {"free": free, "busy": busy}


def _unmounted(plan: Plan) -> str:
    """A volume: its disk is as much attached as before, and must not be pulled."""
    disks = ", ".join(member.identity.name for member in plan.members)
    stay = f"{disks} stay" if len(plan.members) > 1 else f"{disks} stays"
    return f"{plan.name} is unmounted: written back, and mounted nowhere on this host. {stay} attached."


def _disks(work: Work) -> list[str]:
    """What became of the disks, and of the sessions that stay."""
    plan = work.plan
    stay = [f"{each.target} at {each.portal}" for each in plan.touched if not each.ends]
    gone = [member.identity.name for member in plan.members if member.whole]
    said = []
    if gone and stay and not plan.lossy:
        be = "is" if len(gone) == 1 else "are"
        said.append(f"{', '.join(gone)} {be} safely removed: unmounted, flushed, offline and deleted on every path.")
    elif gone and plan.lossy:
        said.append(f"{', '.join(gone)} was given up and is gone. What it had not written before is lost.")
    elif gone:
        be = "is" if len(gone) == 1 else "are"
        said.append(f"{', '.join(gone)} {be} safe to pull: unmounted, flushed, offline and logged out on every path.")
    for one in work.each():
        if not one.member.whole:
            paths = ", ".join(route.kname for route in lanes.routes(one))
            said.append(f"{paths} is out of {one.identity.name}, which goes on over its other paths.")
    if stay:
        said.append(f"These sessions stay, for the other disks that they carry: {', '.join(stay)}.")
    return said


def _scope(plan: Plan, snapshot: Snapshot) -> list[str]:
    """Whether that which was named is free of this host's sessions."""
    if plan.scope.reach is Reach.TARGET:
        left = [one.name for one in cables.live(snapshot) if one.target == plan.scope.subjects[0]]
        if left:
            return [f"Sessions of this host to {plan.name} that began meanwhile: {', '.join(left)}."]
        others = sorted({name for member in plan.members for name in member.attach.get("others", ())})
        known = f"; other hosts, by their registrations: {', '.join(others)}" if others else ""
        return [f"No session of this host to {plan.name} remains{known}."]
    ended = [each.name for each in plan.touched if each.ends]
    return [] if plan.members or not ended else [f"Logged out: {', '.join(ended)}."]


def _sort_links(link_id: str | None, snapshot: Snapshot, free: list[str], busy: list[str]) -> None:
    """The link of a session that has ended, and what that stands on: the cable is below a VLAN or a bond."""
    link = next((one for one in snapshot.links if one.id == link_id), None)
    for each in cables.below(snapshot, link) if link is not None else ():
        found = cables.carried(snapshot, each.id)
        users, name = found.alone + found.shared, f"link {each.name}"
        if users or not found.unknown:
            _sort(name, users, free, busy)
        elif not any(entry.startswith(name + " ") for entry in busy):
            busy.append(f"{name} (perhaps {cables.names(found.unknown)}: it is not known over which link)")


def _sort(name: str, users: Sequence[Session], free: list[str], busy: list[str]) -> None:
    if users and not any(entry.startswith(name + " ") for entry in busy):
        busy.append(f"{name} ({cables.names(users)})")
    elif not users and name not in free:
        free.append(name)


def still_seen(work: Work, snapshot: Snapshot) -> str | None:
    """A session of somebody else over which the target shows the disk, as it may after a removal."""
    disk: Disk | None = work.find(snapshot)
    if disk is None:
        return None
    over = {path.session for path in snapshot.paths if path.disk == disk.id}
    return next((session.name for session in cables.live(snapshot) if session.id in over), None)
