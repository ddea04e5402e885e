"""Steps on the paths of a disk of the kernel's initiator: claim, flush, silence, offline, delete."""

from __future__ import annotations

from collections.abc import Iterable

from initiator.host.run import HelperFailed
from initiator.host.scsipaths import Traffic
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import Key, explain, parse_sense
from safety import lanes
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back
from safety.steps_local import nothing_to_flush, who_uses
from safety.work import Work
from safety.world import Busy, NotProven, StepError, Unreadable
from safety.world_kernel import Answer, PathClaim, Route

_SETTLE_S = 10.0
_QUIET_S = 0.2
_TRIES = 4
_NO_CONNECT = frozenset({1, 2, 3, 4, 5, 8, 14, 15})
"""Host status of a command that did not come through: DID_NO_CONNECT and its kin (scsi/scsi_status.h)."""


class ClaimPaths(Kind):
    """Open the only path exclusively, locked against udev, and keep it open until it is deleted."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned paths."""
        if work.fresh:
            lanes.confirm(work)

    def apply(self, work: Work, step: Step) -> None:
        """Claim every path that can be opened."""
        take(work, lanes.running(work), step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """The descriptors are open on the devices."""
        return all_claimed(work)

    def standing(self, work: Work, step: Step) -> str | None:
        """A claim dies with its process; nobody needs one on paths that are offline or deleted."""
        return lanes.behind(work)

    def undo(self, work: Work, step: Step) -> str:
        """Close them."""
        work.drop()
        return "the claims are released"


class FlushPaths(Kind):
    """fsync and SYNCHRONIZE CACHE over each path, with the target's answer."""

    def precheck(self, work: Work, step: Step) -> None:
        """Under the claims, so that nothing is written between this and the offline."""
        lanes.claims(work, lanes.running(work))

    def apply(self, work: Work, step: Step) -> None:
        """One answer GOOD is enough, as the cache is the logical unit's; a path that is dead by now is noted."""
        good: list[str] = []
        failed: list[str] = []
        for claim in lanes.claims(work, lanes.running(work)):
            reason = self._flush(work, step, claim)
            (good if reason is None else failed).append(f"{claim.route.kname}: {reason or 'GOOD'}")
        if not good:
            text = f"The target did not write its cache to stable storage: {'; '.join(failed) or 'no path is left'}."
            raise StepError(text, code="flush-failed", fix="undo, then look at the target and the paths")
        for reason in failed:
            work.note(f"A path could not be flushed, another one could: {reason}.")
        work.proofs[step.id] = f"the target answered SYNCHRONIZE CACHE with GOOD ({', '.join(good)})"
        for route in lanes.running(work):  # what failed until now was judged here
            work.counted[route.hctl] = _count(work, route)

    def _flush(self, work: Work, step: Step, claim: PathClaim) -> str | None:
        """Why a path that does not carry commands could not be flushed; None if it was.

        Raises:
            StepError: the target itself said no.
        """
        try:
            work.world.kernel.fsync_path(claim, step.deadline_s)
        except HelperFailed as error:
            return str(error)
        for _ in range(_TRIES):
            answer = work.world.kernel.synchronize(claim, step.deadline_s)
            verdict = judge(answer, work)
            if verdict != "again":
                return verdict
        raise StepError(
            "The target answers UNIT ATTENTION again and again.", code="flush-failed", fix="look at the target"
        )

    def verify(self, work: Work, step: Step) -> str:
        """The answer was the proof; the claims still have to be ours."""
        lanes.claims(work, lanes.running(work))
        return work.proof(step)

    def standing(self, work: Work, step: Step) -> str | None:
        """Proven once and for all when the paths went offline under the claims that it was proven under."""
        return lanes.behind(work)


def judge(answer: Answer, work: Work) -> str | None:
    """What an answer to SYNCHRONIZE CACHE means: None for GOOD, `again`, or why the path does not carry commands.

    Raises:
        StepError: the target did not do it.
    """
    if answer.status == 0 and answer.host == 0 and answer.driver & 0x0F in (0, 8):
        return None
    if answer.host in _NO_CONNECT and answer.status == 0:
        return f"the command did not come through (host status {answer.host})"
    try:
        sense = parse_sense(answer.sense)
    except ScsiFormatError:
        sense = None
    if sense is not None and sense.key in (Key.UNIT_ATTENTION, Key.ABORTED_COMMAND):
        return "again"
    if sense is not None and sense.key in (Key.NO_SENSE, Key.RECOVERED_ERROR) and not sense.deferred:
        return None
    words = explain(answer.status, answer.sense)
    if nothing_to_flush(work, answer.sense):
        work.note(f"The target has no write cache and does not know SYNCHRONIZE CACHE: {words}.")
        return None
    text = f"The target did not write its cache to stable storage: {words} (host status {answer.host})."
    raise StepError(text, code="flush-failed", fix="undo, then look at the target")


class Silent(Kind):
    """See that nobody writes or reads any more: an exclusive open does not keep out those who had it open before."""

    def precheck(self, work: Work, step: Step) -> None:
        """Under the claims."""
        lanes.claims(work, lanes.running(work))

    def apply(self, work: Work, step: Step) -> None:
        """Look twice, until nothing happens in between."""
        end = work.world.now() + step.deadline_s
        while (reason := self._noise(work) or self._openers(work)) is not None:
            if work.world.now() >= end:
                raise Busy(reason, fix="find who reads or writes and end it, then resume")
            work.world.pause(_QUIET_S)

    def _noise(self, work: Work) -> str | None:
        first = {route.hctl: _count(work, route) for route in lanes.running(work)}
        for hctl, seen in first.items():
            if seen.in_flight != 0 or seen.busy != 0:
                text = f"Commands are under way on {hctl}: {seen.in_flight} in flight, {seen.busy} sent"
                return f"{text}{who_uses(work)}."
        work.world.pause(_QUIET_S)
        for route in lanes.running(work):
            if first.get(route.hctl) != _count(work, route):
                return f"Something reads from or writes to /dev/{route.kname}{who_uses(work)}."
        return None

    def _openers(self, work: Work) -> str | None:
        """Who opened a path plainly, what an exclusive open does not prevent, and may have written to memory only."""
        found = work.world.kernel.openers(lanes.running(work))
        names = (f"{user.command} (process {user.pid}) has {user.path} open" for user in found)
        return f"{', '.join(names)}: what it wrote since the flush would be lost." if found else None

    def verify(self, work: Work, step: Step) -> str:
        """No new error since the flush."""
        for route in lanes.running(work):
            before, now = work.counted.get(route.hctl), _count(work, route)
            if before is not None and (before.errors, before.timeouts) != (now.errors, now.timeouts):
                text = f"Commands failed on /dev/{route.kname} since it was flushed."
                raise NotProven(text, fix="undo, then look for the reason: dmesg")
        lanes.claims(work, lanes.running(work))
        return (
            "no request is in flight, none ended in between, no process has it open, "
            "and no error was counted since the flush"
        )

    def standing(self, work: Work, step: Step) -> str | None:
        """As the flush."""
        return lanes.behind(work)


class OfflinePath(Kind):
    """Close one path for commands."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned path, claimed, and in a state from which the kernel allows it."""
        route = lanes.route_of(step)
        found = lanes.present(lanes.look(work), route)
        if found is None or found.state == "offline":
            self.standing(work, step)
            return
        lanes.claims(work, (route,))
        if not work.flushed("flush-paths", "silent"):
            raise StepError("The flush is not proven.", code="not-flushed", fix="resume, or undo")
        if found.state != "running":
            text = f"Path {route.hctl} is {found.state}, not running: the kernel would refuse."
            raise StepError(text, code="path-not-running", fix="bring its session back, then resume; or undo")

    def apply(self, work: Work, step: Step) -> None:
        """Write through the descriptor that was opened with the claim: it cannot hit another device."""
        route = lanes.route_of(step)
        if self.standing(work, step) is None:
            (claim,) = lanes.claims(work, (route,))
            try:
                work.world.kernel.offline(claim, step.deadline_s)
            except HelperFailed as error:
                text = f"Path {route.hctl} could not be taken offline: {error}."
                raise StepError(text, code="kernel-said-no", fix="look at its session, then resume; or undo") from error

    def verify(self, work: Work, step: Step) -> str:
        """Read back."""
        work.until(lambda: self._left(work, step), _SETTLE_S)
        return f"the kernel says that path {lanes.route_of(step).hctl} is offline"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is offline or deleted, after a proven flush."""
        return _after_flush(work, step, "taken offline") if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether it is running."""
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        return found is not None and found.state == "running"

    def undo(self, work: Work, step: Step) -> str:
        """Set it running."""
        return bring_back(work)

    def _left(self, work: Work, step: Step) -> str | None:
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        return None if found is None or found.state == "offline" else f"Path {found.hctl} is {found.state}."


class DeletePath(Kind):
    """Have the kernel take one path away."""

    def precheck(self, work: Work, step: Step) -> None:
        """Offline still: a session that drops and comes back sets its paths running again."""
        route = lanes.route_of(step)
        found = lanes.present(lanes.look(work), route)
        if found is None:
            return
        if found.state != "offline":
            text = f"Path {route.hctl} is {found.state} again: its session dropped and came back."
            raise StepError(text, code="not-offline", fix="resume")
        if not lanes.flushed(work, route):
            raise StepError("The flush is not proven.", code="not-flushed", fix="undo")

    def apply(self, work: Work, step: Step) -> None:
        """Write through the descriptor that was opened with the claim, then let go of it."""
        route = lanes.route_of(step)
        if lanes.present(lanes.look(work), route) is None:
            return
        claim = work.held.get(route.hctl)
        try:
            work.world.kernel.delete(claim, route, step.deadline_s)
        except HelperFailed as error:
            text = f"Path {route.hctl} could not be deleted: {error}."
            raise StepError(text, code="kernel-said-no", fix="resume, or undo") from error
        if claim is not None:
            del work.held[route.hctl]
            work.world.kernel.let_go((claim,))

    def verify(self, work: Work, step: Step) -> str:
        """Not listed, not even as a new one."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        again = [path for path in lanes.look(work).paths if path.hctl == lanes.route_of(step).hctl]
        if again and again[0].wwid == lanes.route_of(step).wwid:
            text = f"Path {again[0].hctl} was found again by a scan."
            raise NotProven(text, fix="find what scans the session (multipathd, rescan-scsi-bus.sh), then undo")
        return f"the kernel does not list path {lanes.route_of(step).hctl} any more"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is deleted, after a proven flush."""
        return _after_flush(work, step, "deleted") if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether it is there."""
        return self._left(work, step) is not None

    def undo(self, work: Work, step: Step) -> str:
        """Have the session scanned again."""
        return bring_back(work)

    def _left(self, work: Work, step: Step) -> str | None:
        found = lanes.present(lanes.look(work), lanes.route_of(step))
        return None if found is None else f"Path {found.hctl} is still listed, as {found.state}."


def _after_flush(work: Work, step: Step, done: str) -> str:
    """Says that a path was taken away after a proven flush.

    Raises:
        StepError: it was not proven before.
    """
    hctl = lanes.route_of(step).hctl
    if not lanes.flushed(work, lanes.route_of(step)):
        text = f"Path {hctl} was {done} before the flush was proven."
        raise StepError(text, code="detached-elsewhere", fix="undo brings it back; then remove the disk again")
    return f"path {hctl} was {done}, and the flush was proven before"


def _count(work: Work, route: Route) -> Traffic:
    seen = work.world.kernel.traffic(route)
    if seen is None or seen.in_flight is None or seen.busy is None or seen.ended is None:
        raise Unreadable(f"The counters of /dev/{route.kname} cannot be read.")
    return seen


def take(work: Work, wanted: Iterable[Route], deadline: float) -> None:
    """Claim paths; somebody who opens a device in passing gets a moment to leave."""
    routes = tuple(wanted)
    try:
        keep(work, work.world.kernel.claim_paths(routes, deadline))
    except Busy as error:
        raise Busy(f"{error}{who_uses(work)}", fix=error.fix) from error


def keep(work: Work, claims: Iterable[PathClaim]) -> None:
    """Remember claims."""
    for claim in claims:
        work.held[claim.route.hctl] = claim


def all_claimed(work: Work) -> str:
    """That every path which could be opened is ours, as the proof of a claim."""
    found = lanes.claims(work, lanes.running(work))
    return "claimed and locked: " + (", ".join(f"/dev/{claim.route.kname}" for claim in found) or "none is left")
