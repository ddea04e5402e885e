"""Steps around the sessions of a disk of the kernel's initiator: know it, keep it from coming back, log out, watch."""

from __future__ import annotations

from initiator.host.scsipaths import Paths, ScsiSession
from initiator.model import Disk, Snapshot
from safety import lanes
from safety.findings import blocks
from safety.guards import examine
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back
from safety.scene import view
from safety.steps_end import LogoutOf, WatchFor
from safety.steps_local import Identify
from safety.work import Work
from safety.world import NotProven, StepError
from safety.world_kernel import Door


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


class LogoutKernel(LogoutOf):
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

    def undo(self, work: Work, step: Step) -> str:
        """Log in again."""
        return bring_back(work)

    def listed(self, work: Work, step: Step) -> ScsiSession | None:
        """The kernel's session."""
        return lanes.listed(work, lanes.door_of(step))


def _out(work: Work) -> list[Door]:
    """The sessions that the plan logs out."""
    return [lanes.door_of(step) for step in work.plan.steps if step.kind == "logout-kernel"]


class WatchKernel(WatchFor):
    """Neither a session nor a path nor the map is there again."""

    def returned(self, work: Work) -> str | None:
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
