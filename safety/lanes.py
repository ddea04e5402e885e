"""Where the paths, sessions and map of a planned removal are now, read straight from the kernel."""

from __future__ import annotations

from collections.abc import Iterable

from initiator.host.block import above
from initiator.host.scsipaths import Paths, ScsiPath, ScsiSession
from initiator.model import BlockNode
from safety.journal import Mark
from safety.plan import Step
from safety.work import Work
from safety.world import StepError, Unreadable
from safety.world_kernel import Door, PathClaim, Route


def routes(work: Work) -> tuple[Route, ...]:
    """The paths of these disks in the plan."""
    given = [route for member in work.disks for route in member.attach["routes"]]
    return tuple(Route.from_json({key: each[key] for key in each if key != "sid"}) for each in given)


def doors(work: Work) -> tuple[Door, ...]:
    """The sessions of these disks in the plan."""
    return tuple(dict.fromkeys(Door.from_json(each) for member in work.disks for each in member.attach["doors"]))


def look(work: Work) -> Paths:
    """Sessions and paths as they are now.

    Raises:
        Unreadable: not all of them could be read.
    """
    found = work.world.kernel.paths()
    if found.problems:
        first = found.problems[0]
        raise Unreadable(f"The kernel's sessions cannot be read whole: {first.subject}: {first.reason}.")
    return found


def present(paths: Paths, route: Route) -> ScsiPath | None:
    """A path of the plan, if it is still there; another one that got its name is not it."""
    return next((path for path in paths.paths if route.same(path)), None)


def running(work: Work) -> tuple[Route, ...]:
    """Those of these paths that are there and not offline: somebody could open them."""
    paths = look(work)
    found = ((route, present(paths, route)) for route in routes(work))
    return tuple(route for route, path in found if path is not None and path.state != "offline")


def listed(work: Work, door: Door, paths: Paths | None = None) -> ScsiSession | None:
    """The session of the plan, if it is still listed. Its number alone proves nothing: numbers are given again."""
    for session in (paths or look(work)).sessions:
        if (work.rebooted or session.sid == door.sid) and leads_to(session, door):
            return session
    return None


def leads_to(session: ScsiSession, door: Door) -> bool:
    """Whether a session goes to the same target, over the same portal and interface."""
    same = session.target == door.target and session.interface == door.interface
    return same and any((portal.host, portal.port) == (door.host, door.port) for portal in session.portals)


def map_node(work: Work) -> BlockNode | None:
    """The multipath map of the plan as it is now, under whatever name and number; None if it has none or it is gone."""
    joined = work.member.attach["map"]
    if joined is None:
        return None
    return next((node for node in work.world.kernel.nodes() if node.dm_uuid == joined["uuid"]), None)


def ground(work: Work) -> BlockNode | None:
    """The device that carries the disk now: its map, or its only path."""
    nodes = work.world.kernel.nodes()
    joined = work.member.attach["map"]
    if joined is not None:
        return next((node for node in nodes if node.dm_uuid == joined["uuid"]), None)
    names = {path.kname for path in look(work).paths if path.wwid == wwid(work)}
    return next((node for node in nodes if node.kname in names), None)


def wwid(work: Work) -> str | None:
    """How the kernel names the logical unit."""
    return next((route.wwid for route in routes(work)), None)


def stack(work: Work) -> tuple[BlockNode, ...]:
    """The devices of the disks and all that stands on them now."""
    nodes = work.world.kernel.nodes()
    paths = look(work)
    own = {path.dev for route in routes(work) if (path := present(paths, route)) is not None and path.dev}
    joined = {member.attach["map"]["uuid"] for member in work.disks if member.attach["map"] is not None}
    own |= {node.dev for node in nodes if node.dm_uuid in joined}
    every = above(nodes, own)
    return tuple(node for node in nodes if node.dev in every)


def confirm(work: Work) -> None:
    """Make sure that what the plan calls the disks still are the disks.

    Raises:
        StepError: a path of the plan is gone or another one, or its size changed.
    """
    paths = look(work)
    for one in work.each():
        size = one.identity.size_bytes
        for route in routes(one):
            found = present(paths, route)
            if found is None:
                text = f"Path {route.hctl} is gone or another one: it was {route.kname}, number {route.diskseq}."
                raise StepError(text, code="identity-changed", fix="look at it again, then make a new plan")
            if found.size_bytes != size:
                text = f"Path {route.hctl} has {found.size_bytes} bytes now, the plan was for {size}."
                raise StepError(text, code="identity-changed", fix="look at it again, then make a new plan")


def behind(work: Work) -> str | None:
    """Says so if every path is offline or deleted and the flush was proven before: only then nothing can be missing.

    Raises:
        StepError: a path went without that proof.
    """
    paths = look(work)
    found = {route: present(paths, route) for route in routes(work)}
    living = [route for route, path in found.items() if path is not None and path.state != "offline"]
    if not all(flushed(work, route) for route in found if route not in living):
        text = f"A path of {work.identity.name} was taken offline or deleted before its flush was proven."
        raise StepError(text, code="detached-elsewhere", fix="undo brings the disk back; then remove it again")
    return None if living else "every path is offline or deleted, and the flush was proven before"


def flushed(work: Work, route: Route) -> bool:
    """Whether what was written over a path is flushed: proven in this run, or in the one that took it offline then."""
    ends = (work.closed(step, "flush-paths") for step in work.steps("offline-path") if route_of(step) == route)
    return work.flushed("flush-paths") or any(end in (Mark.STARTED, Mark.VERIFIED) for end in ends)


def handed_over(work: Work) -> str | None:
    """Says so if the map is gone after its write-back was proven.

    Raises:
        StepError: it went without that proof.
    """
    if map_node(work) is not None:
        return None
    if work.steps("drop-map"):
        return f"the map {work.identity.name} is gone"
    if work.flushed("fsync-map") or any(work.closed(step, "fsync-map") for step in work.steps("hand-over")):
        return f"the map {work.identity.name} is gone, and what it had in memory was written back before"
    text = f"The map {work.identity.name} was removed before what it had in memory was proven to be written."
    raise StepError(text, code="detached-elsewhere", fix="undo brings the map back; then remove the disk again")


def proven(work: Work, *kinds: str) -> bool:
    """Whether the journal has proof of every step of these kinds for these disks."""
    return all(work.verified(step.id) for step in work.steps(*kinds))


def claims(work: Work, wanted: Iterable[Route]) -> tuple[PathClaim, ...]:
    """The claims on paths.

    Raises:
        StepError: one was lost.
    """
    found = []
    for route in wanted:
        claim = work.held.get(route.hctl)
        if claim is None or not claim.held:
            raise StepError(f"/dev/{route.kname} is not claimed any more.", code="claim-lost")
        found.append(claim)
    return tuple(found)


def route_of(step: Step) -> Route:
    """The path that a step is about."""
    return Route.from_json(step.params["route"])


def door_of(step: Step) -> Door:
    """The session that a step is about."""
    return Door.from_json(step.params["door"])
