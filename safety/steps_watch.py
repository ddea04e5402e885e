"""The last step: nothing of what was removed comes back."""

from __future__ import annotations

from initiator.host.scsipaths import Paths
from initiator.model import DiskState, SessionState, Snapshot, Source
from safety import lanes
from safety.kind import Kind
from safety.plan import Step
from safety.work import Work
from safety.world import NotProven

_LOOK_EVERY_S = 0.25


class Watch(Kind):
    """Keep looking for a while: agents bring disks back seconds later."""

    def apply(self, work: Work, step: Step) -> None:
        """Look until the time is up.

        Raises:
            NotProven: something came back.
        """
        end = work.world.now() + float(step.params["seconds"])
        while True:
            _look(work)
            if work.world.now() >= end:
                return
            work.world.pause(_LOOK_EVERY_S)

    def verify(self, work: Work, step: Step) -> str:
        """Once more."""
        _look(work)
        return f"nothing came back in {step.params['seconds']:g} s"


def _look(work: Work) -> None:
    reason = _engine_again(work) or _kernel_again(work)
    if reason is not None:
        raise NotProven(reason, fix="find what brings it back, then resume; or undo")


def _engine_again(work: Work) -> str | None:
    own = {step.params["session"] for step in work.plan.steps if step.kind == "logout"}
    disks = [one for one in work.each() if one.identity.source == Source.ENGINE]
    if not own and not disks:
        return None
    snapshot = work.snapshot()
    for session in snapshot.sessions:
        if session.id in own and session.state is not SessionState.LOGGED_OUT:
            return f"The session {session.name} is {session.state}."
    return next((reason for one in disks if (reason := _attached_again(one, snapshot)) is not None), None)


def _attached_again(work: Work, snapshot: Snapshot) -> str | None:
    for disk in snapshot.disks:
        same = disk.id == work.identity.disk or (disk.wwid is not None and disk.wwid == work.identity.wwid)
        if same and (disk.state is not DiskState.AVAILABLE or disk.device is not None):
            return f"{disk.name} is {disk.state} as {disk.device or 'no device'} again."
    return None if work.device_gone() else f"{work.identity.device} is attached."


def _kernel_again(work: Work) -> str | None:
    doors = [lanes.door_of(step) for step in work.plan.steps if step.kind in ("logout-kernel", "logout-dead")]
    disks = [one for one in work.each() if one.identity.source == Source.KERNEL]
    if not doors and not disks:
        return None
    paths = lanes.look(work)
    for door in doors:
        if any(lanes.leads_to(session, door) for session in paths.sessions):
            return f"There is a session to {door.target} at {door.portal} again."
    for step in work.plan.steps:
        if step.kind == "startup" and work.world.kernel.startup(lanes.door_of(step)) != "manual":
            return f"Somebody set node.startup of {lanes.door_of(step).target} again."
    return next((reason for one in disks if (reason := _path_again(one, paths)) is not None), None)


def _path_again(work: Work, paths: Paths) -> str | None:
    """A path of the disk; of a disk that only lost paths, one over the same session."""
    doors = lanes.doors(work)
    over = {each.sid for each in paths.sessions if any(lanes.leads_to(each, door) for door in doors)}
    for path in paths.paths:
        if path.wwid is not None and path.wwid == lanes.wwid(work) and (work.member.whole or path.sid in over):
            return f"{work.identity.name} is there again as {path.kname or path.hctl}."
    if work.member.whole and lanes.map_node(work) is not None:
        return f"The map {work.identity.name} is there again."
    return None
