"""Steps on paths that the kernel has given up: nothing is flushed, and nothing may come back to life in between."""

from __future__ import annotations

from initiator.host.run import HelperFailed
from initiator.host.scsipaths import ScsiPath
from safety import lanes
from safety.guard_dead import DEAD
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back
from safety.steps_kernel import DeletePath
from safety.steps_local import claimed
from safety.steps_session import LogoutKernel
from safety.steps_stack import UnmountKernel
from safety.work import Work
from safety.world import NotProven, StepError
from safety.world_kernel import Door

_SETTLE_S = 15.0
_OFF = (None, "off", "-")


class FailQueue(Kind):
    """Have a map answer what it queues with errors, or nothing above it could ever be closed."""

    def precheck(self, work: Work, step: Step) -> None:
        """Only while every path is dead."""
        _all_dead(work)

    def apply(self, work: Work, step: Step) -> None:
        """Tell multipathd."""
        if self.standing(work, step) is None:
            work.world.kernel.queue(step.params["map"], on=False)

    def verify(self, work: Work, step: Step) -> str:
        """What multipathd says of the map."""
        work.until(lambda: None if self.standing(work, step) else "The map still queues.", _SETTLE_S)
        return f"the map {work.identity.name} does not queue"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is off, or the map gone."""
        disk = work.find(snapshot := work.snapshot())
        found = next((each for each in snapshot.maps if disk is not None and each.id == disk.map), None)
        return "the map does not queue" if found is None or found.queueing in _OFF else None

    def undo(self, work: Work, step: Step) -> str:
        """As multipath.conf has it."""
        if lanes.map_node(work) is not None:
            work.world.kernel.queue(step.params["map"], on=True)
        return "the map queues again as it is configured to; what it had queued is lost"


class UnmountLost(UnmountKernel):
    """Unmount a file system whose disk is dead: errors are what is expected, and are written down."""

    def _write_back(self, work: Work, step: Step) -> None:
        try:
            work.world.syncfs(step.params["mountpoint"], step.deadline_s)
        except HelperFailed as error:
            work.note(f"{step.params['mountpoint']} could not be written back: {error}. What was not written is lost.")

    def _trouble(self, work: Work, step: Step) -> tuple[str, ...]:
        return ()


class ClaimDead(Kind):
    """A dead path cannot be opened, by nobody; so nobody can get in."""

    def precheck(self, work: Work, step: Step) -> None:
        """Dead, all of them."""
        _all_dead(work)

    def verify(self, work: Work, step: Step) -> str:
        """And nothing holds them."""
        for path in _there(work):
            if path.holders:
                raise NotProven(f"/dev/{path.kname} is held by {', '.join(path.holders)}.")
        return f"nothing holds the paths, and the kernel lets nobody open them: {_all_dead(work)}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Behind us when the paths are gone."""
        return None if _there(work) else "the paths are gone"


class DropMap(Kind):
    """Have a map vanish under its claim."""

    def precheck(self, work: Work, step: Step) -> None:
        """Under its claim, with dead paths."""
        if lanes.map_node(work) is not None:
            claimed(work)
            _all_dead(work)

    def apply(self, work: Work, step: Step) -> None:
        """Mark it to go and let go of it."""
        if lanes.map_node(work) is not None:
            claim, work.claim = claimed(work), None
            work.world.kernel.hand_over(claim, step.params["uuid"], (), step.deadline_s)
        for route in lanes.routes(work):
            work.world.kernel.forget(route)

    def verify(self, work: Work, step: Step) -> str:
        """Gone, and nothing holds a path."""
        work.until(lambda: self._left(work), _SETTLE_S)
        return f"the map {work.identity.name} is gone, and nothing holds its paths"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone."""
        return f"the map {work.identity.name} is gone" if self._left(work) is None else None

    def undo(self, work: Work, step: Step) -> str:
        """When its paths are back."""
        return bring_back(work)

    def _left(self, work: Work) -> str | None:
        if lanes.map_node(work) is not None:
            return f"The map {work.identity.name} is still there."
        held = [path for path in _there(work) if path.holders]
        return f"/dev/{held[0].kname} is held by {', '.join(held[0].holders)}." if held else None


class GiveUp(Kind):
    """Nothing can be flushed: see that this is so, and say what it means."""

    def precheck(self, work: Work, step: Step) -> None:
        """A path that lives could still carry a flush."""
        _all_dead(work)

    def verify(self, work: Work, step: Step) -> str:
        """The kernel's word on each path."""
        seen = _all_dead(work)
        if work.member.whole:
            return f"no path reaches the target ({seen}): what {work.identity.name} had not written is lost"
        return f"{seen}; the map writes over its other paths"

    def standing(self, work: Work, step: Step) -> str | None:
        """Behind us when the paths are gone."""
        return None if _there(work) else "the paths are gone"


class DeadPath(Kind):
    """A path is dead still: a session that came back sets it running."""

    def verify(self, work: Work, step: Step) -> str:
        """The kernel's word."""
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        if found is not None and found.state not in DEAD:
            text = f"Path {found.hctl} is {found.state}: it is alive again."
            raise NotProven(text, fix="undo, then remove the disk in the ordinary way")
        return f"path {lanes.route_of(step).hctl} is {found.state if found else 'gone'}"

    def undo(self, work: Work, step: Step) -> str:
        """Nothing was done to it."""
        return "nothing was done to the path"


class DeleteDead(DeletePath):
    """Have the kernel take a dead path away; nobody could claim it."""

    def precheck(self, work: Work, step: Step) -> None:
        """Dead still, and given up on purpose."""
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        if found is not None and found.state not in DEAD:
            text = f"Path {found.hctl} is {found.state}: it is alive again."
            raise StepError(text, code="alive", fix="undo, then remove the disk in the ordinary way")
        if not lanes.proven(work, "give-up"):
            raise StepError("Nobody has seen that the disk is dead.", code="not-given-up", fix="undo")

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone."""
        return f"path {lanes.route_of(step).hctl} is gone" if self._left(work, step) is None else None


class LogoutDead(LogoutKernel):
    """Log out of a session that may not reach its target any more; only that the kernel drops it counts."""

    def _reaches(self, work: Work, door: Door) -> None:
        return


def _there(work: Work) -> list[ScsiPath]:
    """The paths of the plan that are still listed."""
    paths = lanes.look(work)
    return [path for route in lanes.routes(work) if (path := lanes.present(paths, route)) is not None]


def _all_dead(work: Work) -> str:
    """The states of the paths.

    Raises:
        StepError: one lives.
    """
    found = _there(work)
    living = [path for path in found if path.state not in DEAD]
    if living:
        text = f"Path {living[0].hctl} is {living[0].state}: it may carry a flush."
        raise StepError(text, code="alive", fix="undo, then remove the disk in the ordinary way")
    return ", ".join(f"{path.hctl} {path.state}" for path in found) or "they are gone"
