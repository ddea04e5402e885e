"""The last word of a removal: what may be pulled now, and what may not."""

from __future__ import annotations

from initiator.model import Disk, Session, SessionState, Snapshot
from safety.sequence import Phase
from safety.work import Work
from safety.world_kernel import Door


def verdict(work: Work) -> tuple[str, dict[str, list[str]]]:
    """The last sentence of a removal, and which links and portals carry no session any more.

    Returns:
        The sentence, and a mapping with the keys `free` and `busy`, each a list of links and portals.
    """
    snapshot = work.snapshot()
    free: list[str] = []
    busy: list[str] = []
    for step in work.plan.steps:
        if step.phase is not Phase.LOGOUT:
            continue
        link, portal = step.params["link"], step.params["portal"]
        _sort(f"portal {portal}", [one for one in _live(snapshot) if str(one.portal) == portal], free, busy)
        if link is not None:
            name = next((one.name for one in snapshot.links if one.id == link), str(link))
            _sort(f"link {name}", [one for one in _live(snapshot) if one.link == link], free, busy)
    name = work.identity.name
    stay = _staying(work)
    if stay:
        text = f"{name} is safely removed: unmounted, flushed, offline and deleted on every path."
        text += f" These sessions stay, for the other disks that they carry: {', '.join(stay)}."
    else:
        text = f"{name} is safe to pull: unmounted, flushed, offline and logged out on every path."
    if free:
        text += f" No session any more: {', '.join(free)}."
    if busy:
        text += f" Still in use by other sessions: {'; '.join(busy)}."
    seen = still_seen(work, snapshot)
    if seen is not None:
        text += f" The target still shows it over {seen}, where nothing uses it."
    return text, {"free": free, "busy": busy}


def _staying(work: Work) -> list[str]:
    """The portals whose sessions the plan leaves alone, of a disk of the kernel."""
    out = {step.params["door"]["sid"] for step in work.plan.steps if step.kind == "logout-kernel"}
    doors = [Door.from_json(door) for door in work.plan.attach.get("doors", ())]
    return [f"{door.target} at {door.portal}" for door in doors if door.sid not in out]


def _live(snapshot: Snapshot) -> list[Session]:
    return [session for session in snapshot.sessions if session.state is not SessionState.LOGGED_OUT]


def _sort(name: str, users: list[Session], free: list[str], busy: list[str]) -> None:
    if users and not any(entry.startswith(name + " ") for entry in busy):
        busy.append(f"{name} ({', '.join(dict.fromkeys(session.name for session in users))})")
    elif not users and name not in free:
        free.append(name)


def still_seen(work: Work, snapshot: Snapshot) -> str | None:
    """A session of somebody else over which the target shows the disk, as it may after a removal."""
    disk: Disk | None = work.find(snapshot)
    if disk is None:
        return None
    over = {path.session for path in snapshot.paths if path.disk == disk.id}
    return next((session.name for session in _live(snapshot) if session.id in over), None)
