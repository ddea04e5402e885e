"""Steps around the sessions of a disk of the kernel's initiator: know it, keep it from coming back, log out, watch."""

from __future__ import annotations

from initiator.host.scsipaths import Paths
from initiator.model import Disk, Snapshot
from safety import lanes
from safety.findings import blocks
from safety.guards import examine
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back
from safety.scene import view
from safety.steps_local import Identify
from safety.work import Work
from safety.world import NotProven, StepError
from safety.world_kernel import Door

_LOOK_EVERY_S = 0.25


class IdentifyKernel(Identify):
    """Make sure that this is the disk, that nothing changed since the plan was shown, and that no guard says no."""

    def precheck(self, work: Work, step: Step) -> None:
        """Fresh: the situation is exactly the one that was confirmed. Resumed: nothing new uses the disk."""
        snapshot = work.snapshot()
        disk = work.find(snapshot)
        if work.fresh and disk is None:
            raise StepError(f"{work.identity.name} is not listed any more.", code="gone", fix="mooring list")
        if work.fresh:
            lanes.confirm(work)
        if disk is not None and work.fresh:
            self._fresh(work, snapshot, disk)
        elif disk is not None:
            self._resumed(work, snapshot, disk)

    def _resumed(self, work: Work, snapshot: Snapshot, disk: Disk) -> None:
        found = blocks(examine(view(snapshot, work.world.facts(snapshot, disk), disk), resuming=True))
        if found:
            text = " ".join(finding.text for finding in found)
            raise StepError(text, code=found[0].code, fix=found[0].fix)


class Startup(Kind):
    """Keep a session from being logged in to at boot."""

    def apply(self, work: Work, step: Step) -> None:
        """Set the record."""
        work.world.kernel.set_startup(lanes.door_of(step), "manual")

    def verify(self, work: Work, step: Step) -> str:
        """Read it back."""
        found = work.world.kernel.startup(lanes.door_of(step))
        if found != "manual":
            raise NotProven(f"node.startup of {lanes.door_of(step).target} is {found}, not manual.")
        return "the record on disk says manual"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it says manual."""
        found = work.world.kernel.startup(lanes.door_of(step))
        return "the record on disk says manual" if found == "manual" else None

    def undo(self, work: Work, step: Step) -> str:
        """Set it to what it was."""
        door, was = lanes.door_of(step), str(step.params["was"])
        if work.world.kernel.startup(door) != was:
            work.world.kernel.set_startup(door, was)
        found = work.world.kernel.startup(door)
        if found != was:
            raise NotProven(f"node.startup of {door.target} is {found}, not {was}.")
        return f"node.startup is {was} again"


class LogoutKernel(Kind):
    """Log one session out. The only logout of a session of the kernel that had the disk."""

    def precheck(self, work: Work, step: Step) -> None:
        """The paths of the disk are gone, and so is everything else that the session carried."""
        paths = lanes.look(work)
        door = lanes.door_of(step)
        session = lanes.listed(work, door, paths)
        if session is None:
            return
        if not lanes.proven(work, "flush-paths"):
            raise StepError("The flush is not proven.", code="not-flushed", fix="undo")
        left = [path for path in paths.paths if path.sid == session.sid and path.may_hold_data]
        if left:
            text = f"The session to {door.target} has a disk by now: {left[0].kname or left[0].hctl}."
            raise StepError(text, code="shared-session", fix="resume when it is removed, or undo")
        if session.state != "LOGGED_IN":
            text = f"The session to {door.target} is {session.state}: its logout would not reach the target."
            raise StepError(text, code="session-failed", fix="bring its portal back, then resume")

    def apply(self, work: Work, step: Step) -> None:
        """By the session's number, whatever record it came from."""
        if lanes.listed(work, lanes.door_of(step)) is not None:
            work.world.kernel.logout(lanes.door_of(step).sid)

    def verify(self, work: Work, step: Step) -> str:
        """Neither sysfs nor the kernel's TCP table has it any more."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        known = any(ends["local_port"] is not None for ends in step.params["connections"])
        tcp = "its TCP connection is closed" if known else "which TCP connection it had is not known"
        return f"{step.params['name']} is not listed any more, and {tcp}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is logged out."""
        return f"{step.params['name']} is logged out" if self._left(work, step) is None else None

    def undo(self, work: Work, step: Step) -> str:
        """Log in again."""
        return bring_back(work)

    def _left(self, work: Work, step: Step) -> str | None:
        session = lanes.listed(work, lanes.door_of(step))
        if session is not None:
            return f"The session {step.params['name']} is still {session.state}."
        found = work.connection_of(step)
        if found is not None:
            return f"A TCP connection from port {found.local_port} to {step.params['portal']} is still open."
        return None


class WatchKernel(Kind):
    """Keep looking for a while: agents bring disks back seconds later."""

    def apply(self, work: Work, step: Step) -> None:
        """Look until the time is up.

        Raises:
            NotProven: something came back.
        """
        end = work.world.now() + float(step.params["seconds"])
        while True:
            reason = returned(work)
            if reason is not None:
                raise NotProven(reason, fix="find what brings it back, then resume; or undo")
            if work.world.now() >= end:
                return
            work.world.pause(_LOOK_EVERY_S)

    def verify(self, work: Work, step: Step) -> str:
        """Once more."""
        reason = returned(work)
        if reason is not None:
            raise NotProven(reason, fix="find what brings it back, then resume; or undo")
        return f"nothing came back in {step.params['seconds']:g} s"


def returned(work: Work) -> str | None:
    """What of the disk is there again, as a sentence; None if nothing is."""
    paths: Paths = lanes.look(work)
    for door in _out(work):
        for session in paths.sessions:
            if lanes.leads_to(session, door):
                return f"There is a session to {door.target} at {door.portal} again."
    for path in paths.paths:
        if path.wwid is not None and path.wwid == lanes.wwid(work):
            return f"The disk is there again as {path.kname or path.hctl}."
    if lanes.map_node(work) is not None:
        return f"The map {work.identity.name} is there again."
    for step in work.plan.steps:
        if step.kind == "startup" and work.world.kernel.startup(lanes.door_of(step)) != "manual":
            return f"Somebody set node.startup of {lanes.door_of(step).target} again."
    return None


def _out(work: Work) -> list[Door]:
    """The sessions that the plan logs out."""
    return [lanes.door_of(step) for step in work.plan.steps if step.kind == "logout-kernel"]
