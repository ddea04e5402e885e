"""Bringing a disk of the kernel's initiator back: sessions, paths, map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from initiator.host.scsipaths import Paths, ScsiPath
from initiator.model import BlockNode
from safety import lanes, stand
from safety.plan import Step
from safety.remount import Ground
from safety.work import Work
from safety.world import NotProven, StepError
from safety.world_kernel import Door, Route

_LOGIN_S = 60.0
_SCAN_S = 60.0
_MAP_S = 60.0
_NODE_S = 60.0
_ONLINE_S = 60.0


def bring_back(work: Work) -> str:
    """Have the disks as block devices again, with all their paths. Doing it twice does no harm.

    Raises:
        StepError: a login failed, or another disk answers in its place.
        NotProven: a path or the map does not show.
    """
    return "; ".join(_bring_back(one) for one in work.each())


def _bring_back(work: Work) -> str:
    work.drop()
    for door in lanes.doors(work):
        log_in(work, door)
    paths = lanes.look(work)
    for route in lanes.routes(work):
        found = lanes.present(paths, route)
        if found is not None and found.state == "offline":
            work.world.kernel.online(route, _ONLINE_S)
    for door in lanes.doors(work):
        if _path_over(work, door, lanes.look(work)) is None:
            work.world.kernel.rescan(_sid(work, door))
    work.until(lambda: _missing(work), _SCAN_S)
    _check(work)
    if work.member.attach["map"] is not None:
        _join(work)
    node = lanes.ground(work)
    if node is None:
        raise NotProven(f"{work.identity.name} does not show as a block device.")
    return f"{work.identity.name} is back as {stand.path_of(node)}, with {_paths(len(lanes.routes(work)))}"


def _paths(number: int) -> str:
    return "its only path" if number == 1 else f"{number} paths"


def ground(work: Work, step: Step) -> Ground:
    """Where a file system of the disk lies now, after bringing the disk back."""
    bring_back(work)
    node = resolve(work, step.params["stand"])
    disks = [base.dev for one in work.each() if (base := lanes.ground(one)) is not None]
    # the kernel makes /dev/dm-3 itself; the name under /dev/mapper comes later, from udev
    return Ground.of(step, f"/dev/{node.kname}", node.dev, work.world.kernel.nodes(), disks)


def resolve(work: Work, place: Mapping[str, Any]) -> BlockNode:
    """The device of today for one of the plan.

    Raises:
        NotProven: it does not show.
    """
    name = place.get("name") or place.get("kname") or work.name
    work.until(lambda: None if standing_now(work, place) else f"{name} does not show on the disk.", _NODE_S)
    node = standing_now(work, place)
    if node is None:
        raise NotProven(f"{name} does not show on the disk.")
    return node


def standing_now(work: Work, place: Mapping[str, Any]) -> BlockNode | None:
    """The device of today for one of the plan; None while there is none."""
    world, base = work.world.kernel, lanes.ground(work.on((place["disk"],)))
    return stand.find(place, world.nodes(), base.dev if base else None, world.array_uuids())


def log_in(work: Work, door: Door, chap_user: str | None = None) -> None:
    """Have a session again. What the target has to prove in mutual CHAP is in the node record, and stays there.

    Raises:
        StepError: the login failed, or needs a secret.
        NotProven: it does not show as logged in.
    """
    if any(lanes.leads_to(session, door) for session in lanes.look(work).sessions):
        return
    user = next((member.attach["chap_user"] for member in work.disks if member.attach["chap_user"]), chap_user)
    secret = work.secrets.own if user else None
    try:
        work.world.kernel.login(door, user, secret)
    except StepError as error:
        if user and secret is None:
            text = f"{str(error).rstrip('.')}. The target asks for a CHAP secret, which no journal holds."
            raise StepError(
                text, code="secret-needed", fix="undo again with --chap-secret-file FILE; the dashboard asks for it"
            ) from error
        raise
    work.until(lambda: None if _logged_in(work, door) else f"{door.target} is not logged in.", _LOGIN_S)


def _logged_in(work: Work, door: Door) -> bool:
    found = (session for session in lanes.look(work).sessions if lanes.leads_to(session, door))
    return any(session.state == "LOGGED_IN" for session in found)


def _sid(work: Work, door: Door) -> int:
    for session in lanes.look(work).sessions:
        if lanes.leads_to(session, door):
            return session.sid
    raise NotProven(f"There is no session to {door.target} at {door.portal}.")


def _path_over(work: Work, door: Door, paths: Paths) -> ScsiPath | None:
    sids = {session.sid for session in paths.sessions if lanes.leads_to(session, door)}
    wanted = lanes.wwid(work)
    return next((path for path in paths.paths if path.sid in sids and path.wwid == wanted), None)


def _missing(work: Work) -> str | None:
    paths = lanes.look(work)
    for door in lanes.doors(work):
        found = _path_over(work, door, paths)
        if found is None:
            return f"The disk does not show over {door.target} at {door.portal}."
        if found.kname is None or found.state != "running":
            return f"Path {found.hctl} is {found.state}, device {found.kname or 'none'}."
    return None


def _check(work: Work) -> None:
    for path in lanes.look(work).paths:
        if path.wwid == lanes.wwid(work) and path.size_bytes != work.identity.size_bytes:
            text = f"{path.kname} has {path.size_bytes} bytes, the disk had {work.identity.size_bytes}."
            raise StepError(text, code="identity-changed", fix="look at it before using it: mooring list")


def _join(work: Work) -> None:
    """Have multipathd make the map again, over every path."""
    asked = work.world.now() - 3.0

    def look() -> str | None:
        nonlocal asked
        node = lanes.map_node(work)
        mine = [path for path in lanes.look(work).paths if path.wwid == lanes.wwid(work)]
        loose = [path for path in mine if node is None or node.kname not in path.holders]
        if node is not None and not loose:
            return None
        if work.world.now() >= asked + 3.0:
            asked = work.world.now()
            known = [work.world.kernel.remember(Route.of(path)) for path in loose]
            if not any(known):
                return "There is no multipathd that could make the map: systemctl start multipathd, then undo again."
        return f"multipathd has not made the map of {work.identity.name} again."

    work.until(look, _MAP_S)
