"""Steps on a multipath map: claim it, write it back, hand the claim over to its paths."""

from __future__ import annotations

from safety import lanes, steps_local
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back
from safety.steps_kernel import all_claimed, keep, take
from safety.steps_local import Fsync, claimed
from safety.work import Work
from safety.world import StepError

_SETTLE_S = 10.0


class LeaveMap(Kind):
    """Have a map let go of one path; it goes on over the others."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned path, and another one in the map that works."""
        lanes.confirm(work)
        if self._held(work, step) and not self._others(work):
            text = f"The map {work.identity.name} has no other path that is running by now."
            raise StepError(text, code="last-live-path", fix="bring another path back first")

    def apply(self, work: Work, step: Step) -> None:
        """Tell multipathd; whether it did is for the kernel to show."""
        if not self._held(work, step):
            return
        if not work.world.kernel.forget(lanes.route_of(step)):
            text = f"multipathd does not let go of {lanes.route_of(step).kname}."
            raise StepError(text, code="multipathd", fix="look at: systemctl status multipathd; multipath -ll")
        work.proofs[step.id] = "multipathd agreed"

    def verify(self, work: Work, step: Step) -> str:
        """Nothing holds the path, and the map holds another that is running."""
        work.until(lambda: self._left(work, step), _SETTLE_S)
        others = ", ".join(self._others(work))
        return f"nothing holds {lanes.route_of(step).kname}; the map {work.identity.name} goes on over {others}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is out of the map."""
        return f"{lanes.route_of(step).kname} is out of the map" if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether the path is held, and multipathd has not agreed: it may let go of a path after its answer."""
        return self._held(work, step) and step.id not in work.proofs

    def undo(self, work: Work, step: Step) -> str:
        """Have multipathd take it up again."""
        return bring_back(work)

    def _held(self, work: Work, step: Step) -> bool:
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        return found is not None and bool(found.holders)

    def _others(self, work: Work) -> list[str]:
        node, mine = lanes.map_node(work), lanes.routes(work)
        seen = lanes.look(work).paths if node is not None else ()
        return [
            str(path.kname)
            for path in seen
            if node is not None and node.kname in path.holders and path.state == "running"
            if not any(route.same(path) for route in mine)
        ]

    def _left(self, work: Work, step: Step) -> str | None:
        if self._held(work, step):
            return f"/dev/{lanes.route_of(step).kname} is still held."
        return None if self._others(work) else f"The map {work.identity.name} has no running path left."


class ClaimMap(Kind):
    """Open the map exclusively and keep it open until its paths are claimed."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned map over the planned paths."""
        lanes.confirm(work)
        node = lanes.map_node(work)
        if node is None:
            text = f"The map {work.identity.name} is gone: somebody else removed it."
            raise StepError(text, code="detached-elsewhere", fix="undo brings the map back; then remove the disk again")
        if work.fresh and (node.dev, node.diskseq) != (work.identity.dev, work.identity.diskseq):
            raise StepError(f"The map {work.identity.name} is another one now.", code="identity-changed")
        for path in lanes.look(work).paths:
            if any(route.same(path) for route in lanes.routes(work)) and path.holders != (node.kname,):
                text = f"/dev/{path.kname} is held by {', '.join(path.holders) or 'nothing'}, not by the map alone."
                raise StepError(text, code="path-outside-map", fix="look at: multipath -ll")

    def apply(self, work: Work, step: Step) -> None:
        """Claim it; somebody who opens a device in passing gets a moment to leave."""
        node = lanes.map_node(work)
        if node is None:
            raise StepError(f"The map {work.identity.name} is gone.", code="gone")
        steps_local.take(work, f"/dev/{node.kname}", node.dev, node.diskseq, step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """The descriptor is open on the device."""
        claimed(work)
        return f"the map {work.identity.name} is claimed: a mount of it would fail now"

    def standing(self, work: Work, step: Step) -> str | None:
        """A claim dies with its process; it is behind us only when the map was handed over."""
        return lanes.handed_over(work)

    def undo(self, work: Work, step: Step) -> str:
        """Close it."""
        work.drop()
        return "the claim is released"


class FsyncMap(Fsync):
    """Write back the page cache of the map itself: its paths have page caches of their own."""

    def precheck(self, work: Work, step: Step) -> None:
        """Only under the claim."""
        lanes.confirm(work)
        claimed(work)

    def standing(self, work: Work, step: Step) -> str | None:
        """Proven once and for all when the map went under the claim that it was proven under."""
        return lanes.handed_over(work)

    def _kname(self, work: Work) -> str:
        node = lanes.map_node(work)
        return node.kname if node is not None else ""


class HandOver(Kind):
    """Have the map vanish under its claim, and hold its paths in the same moment."""

    def precheck(self, work: Work, step: Step) -> None:
        """With the map still there: under its claim, after its write-back. Else it was done before."""
        if lanes.map_node(work) is not None:
            lanes.confirm(work)
            claimed(work)
        else:
            lanes.handed_over(work)

    def apply(self, work: Work, step: Step) -> None:
        """Hand over; when the map went in an earlier run, only its paths are left to be claimed."""
        if lanes.map_node(work) is None:
            take(work, lanes.running(work), step.deadline_s)
        else:
            claim, work.claim = claimed(work), None
            wanted = lanes.running(work)
            keep(work, work.world.kernel.hand_over(claim, step.params["uuid"], wanted, step.deadline_s))
        for route in lanes.running(work):
            if not work.world.kernel.forget(route):
                work.note(f"multipathd did not have {route.kname}.")

    def verify(self, work: Work, step: Step) -> str:
        """No map with its UUID, nothing else on the paths, and all of them ours."""
        work.until(lambda: self._left(work), _SETTLE_S)
        return f"the map {work.identity.name} is gone; {all_claimed(work)}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Behind us when its paths are offline or deleted after a proven flush."""
        return None if lanes.handed_over(work) is None else lanes.behind(work)

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether the map is still there."""
        return lanes.map_node(work) is not None

    def undo(self, work: Work, step: Step) -> str:
        """Release the paths, and have multipathd make the map again."""
        return bring_back(work)

    def _left(self, work: Work) -> str | None:
        if lanes.map_node(work) is not None:
            return f"The map {work.identity.name} is still there, or there again."
        paths = lanes.look(work)
        for route in lanes.routes(work):
            path = lanes.present(paths, route)
            if path is not None and path.holders:
                return f"/dev/{route.kname} is held by {', '.join(path.holders)}."
        return None
