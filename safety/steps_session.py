"""Steps on sessions of the kernel's initiator: keep them from coming back, and log out."""

from __future__ import annotations

from initiator.host.scsipaths import ScsiSession
from safety import lanes
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back, log_in
from safety.steps_end import LogoutOf
from safety.work import Work
from safety.world import NotProven, StepError
from safety.world_kernel import Door

_BACK_S = 10.0
"""Seconds for a session to come back by itself before its logout."""


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

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether no record of it says manual: of several, one may have been set."""
        return "manual" not in (work.world.kernel.startup(lanes.door_of(step)) or "").split(", ")

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
        door = lanes.door_of(step)
        self._reaches(work, door)
        paths = lanes.look(work)
        session = lanes.listed(work, door, paths)
        if session is None:
            return
        flushed = all(lanes.flushed(one, route) for one in work.each() for route in lanes.routes(one))
        if not flushed or not lanes.proven(work, "give-up"):
            raise StepError("The flush is not proven.", code="not-flushed", fix="undo")
        left = [path for path in paths.paths if path.sid == session.sid and path.may_hold_data]
        if left:
            text = f"The session to {door.target} has a disk by now: {left[0].kname or left[0].hctl}."
            raise StepError(text, code="shared-session", fix="resume when it is removed, or undo")

    def _reaches(self, work: Work, door: Door) -> None:
        """It is logged in. An iscsid that starts anew logs in again to every session that it finds, in a while."""
        if (reason := _away(work, door)) is None:
            return
        work.note(f"{reason} It has {_BACK_S:.0f} s to come back.")
        try:
            work.until(lambda: _away(work, door), _BACK_S)
        except NotProven as error:
            raise StepError(str(error), code="session-failed", fix="bring its portal back, then resume") from None

    def apply(self, work: Work, step: Step) -> None:
        """By the session's number, whatever record it came from."""
        if lanes.listed(work, lanes.door_of(step)) is not None:
            self.follow(work, step)
            work.world.kernel.logout(lanes.door_of(step).sid)

    def undo(self, work: Work, step: Step) -> str:
        """Log in again."""
        if work.disks:
            return bring_back(work)
        door = lanes.door_of(step)
        log_in(work, door, step.params["chap_user"])
        return f"there is a session to {door.target} at {door.portal} again"

    def listed(self, work: Work, step: Step) -> ScsiSession | None:
        """The kernel's session."""
        return lanes.listed(work, lanes.door_of(step))


def _away(work: Work, door: Door) -> str | None:
    session = lanes.listed(work, door)
    if session is None or session.state == "LOGGED_IN":
        return None
    return f"The session to {door.target} is {session.state}: its logout would not reach the target."
