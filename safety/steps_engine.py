"""Steps that the engine takes part in: flush, offline, logout."""

from __future__ import annotations

from initiator.model import DiskState, Session, SessionState
from safety.kind import Kind
from safety.plan import Step
from safety.restore import bring_back
from safety.steps_end import LogoutOf
from safety.steps_local import claimed, flushed_and_gone, nothing_to_flush
from safety.work import LIVING, Work
from safety.world import StepError, Unreadable


class Flush(Kind):
    """SYNCHRONIZE CACHE, with the target's answer."""

    def precheck(self, work: Work, step: Step) -> None:
        """Under the claim, so that nothing is mounted between this and the detach."""
        work.confirm(device=True)
        claimed(work)

    def apply(self, work: Work, step: Step) -> None:
        """Ask, and look at status and sense."""
        work.proofs[step.id] = synchronize(work, step)

    def verify(self, work: Work, step: Step) -> str:
        """The answer was the proof; the claim still has to be ours."""
        claimed(work)
        return work.proof(step)

    def standing(self, work: Work, step: Step) -> str | None:
        """Proven once and for all when the device went under the claim that it was proven under."""
        return flushed_and_gone(work)


def synchronize(work: Work, step: Step) -> str:
    """One SYNCHRONIZE CACHE through the engine.

    Raises:
        StepError: the target did not say GOOD, and it has a cache or may have one.
    """
    answer = work.engine("flush", step, disk=work.identity.disk)
    try:
        status, explain, sense = int(answer["status"]), str(answer["explain"]), str(answer["sense"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"The engine's answer to a flush makes no sense: {answer!r}") from error
    if status == 0:
        return "the target answered SYNCHRONIZE CACHE with GOOD"
    if nothing_to_flush(work, _bytes(sense)):
        return f"the target has no write cache and does not know SYNCHRONIZE CACHE ({explain})"
    text = f"The target did not write its cache to stable storage: {explain}."
    raise StepError(text, code="flush-failed", fix="undo, then look at the target")


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class Offline(Kind):
    """Close the engine's gate: no command of this host reaches the disk any more."""

    def precheck(self, work: Work, step: Step) -> None:
        """The device is gone, so nobody can write; what was written last is flushed once more."""
        if not work.device_gone():
            raise StepError(f"{work.identity.device} is still attached.", code="attached")
        if self.standing(work, step) is not None:
            return
        work.confirm(device=False)
        synchronize(work, step)

    def apply(self, work: Work, step: Step) -> None:
        """Tell the engine."""
        if self.standing(work, step) is None:
            work.engine("offline", step, disk=work.identity.disk)

    def verify(self, work: Work, step: Step) -> str:
        """The engine says so, and the FUSE mount is gone from every namespace."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        return "the engine takes no command for the disk, and nothing on this host leads to it"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is offline, or gone from the engine altogether; only after a proven flush."""
        gone = flushed_and_gone(work)
        return gone if gone is not None and self._left(work, step) is None else None

    def undo(self, work: Work, step: Step) -> str:
        """Have the engine bring it back."""
        return bring_back(work)

    def _left(self, work: Work, step: Step) -> str | None:
        snapshot = work.snapshot()
        own = [one.params["session"] for one in work.steps("logout")]
        listed = [session.id for session in snapshot.sessions if session.id in own]
        disk = work.find(snapshot)
        if disk is not None and disk.state is not DiskState.OFFLINE and (listed or disk.state in LIVING):
            return f"The engine shows {disk.name} as {disk.state}."
        number, point = step.params["fuse_dev"], step.params["fuse_point"]
        for mount in work.world.mounts():
            # The kernel gives the number of a mount that is gone to the next one. Another namespace may add a prefix.
            same = number is not None and mount.dev == number and mount.mountpoint.endswith(point)
            if same and mount.fstype.startswith("fuse"):
                return f"The engine's FUSE mount at {mount.mountpoint} is still there."
        return None


class Logout(LogoutOf):
    """Log one session out. The only logout of an attached disk's session in all of Mooring."""

    def precheck(self, work: Work, step: Step) -> None:
        """Its disks are offline and the planned ones, and nothing else uses the session."""
        if self.listed(work, step) is None:
            return
        for one in work.each():
            if flushed_and_gone(one) is None:
                raise StepError(f"{one.identity.device} is still attached.", code="attached")
            disk = one.confirm(device=False)
            if disk.state is not DiskState.OFFLINE:
                raise StepError(f"{disk.name} is {disk.state}, not offline.", code="attached")
        snapshot = work.snapshot()
        own = {found.id for one in work.each() if (found := one.find(snapshot)) is not None}
        for other in snapshot.disks:
            shared = {path.session for path in snapshot.paths if path.disk == other.id}
            if other.id not in own and other.state is not DiskState.AVAILABLE and step.params["session"] in shared:
                text = f"{other.name} uses the session {step.params['name']} by now."
                raise StepError(text, code="shared-session", fix=f"remove {other.name} first")

    def apply(self, work: Work, step: Step) -> None:
        """Tell the engine."""
        if self.listed(work, step) is not None:
            self.follow(work, step)
            work.engine("logout", step, session=step.params["session"])

    def undo(self, work: Work, step: Step) -> str:
        """Have the engine log in and attach again."""
        if work.disks:
            return bring_back(work)
        if self.listed(work, step) is None:
            work.engine("login", step, target=step.params["target"], portals=[step.params["portal"]])
        return f"there is a session to {step.params['target']} again"

    def listed(self, work: Work, step: Step) -> Session | None:
        """The engine's session."""
        for session in work.snapshot().sessions:
            if session.id == step.params["session"] and session.state is not SessionState.LOGGED_OUT:
                return session
        return None
