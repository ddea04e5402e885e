"""Steps on who would keep or bring back a mount: processes that use it, and units of systemd."""

from __future__ import annotations

from safety.kind import Kind
from safety.plan import Step
from safety.work import Work
from safety.world import Busy, NotProven

_SETTLE_S = 10.0


class EndUsers(Kind):
    """End the processes that use a file system, because the person chose so."""

    def apply(self, work: Work, step: Step) -> None:
        """Ask each to end; one that has another start time by now is another process."""
        for user in step.params["users"]:
            work.world.terminate(user["pid"], user["started"])

    def verify(self, work: Work, step: Step) -> str:
        """They are gone."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        return "none of these processes is there any more"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether they are gone."""
        return "none of these processes is there any more" if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether all of them are there: one that was ended does not come back."""
        return all(work.world.alive(user["pid"], user["started"]) for user in step.params["users"])

    def undo(self, work: Work, step: Step) -> str:
        """Nobody here knows how they were started."""
        return "a process that was ended does not come back by itself"

    def _left(self, work: Work, step: Step) -> str | None:
        left = [str(user["pid"]) for user in step.params["users"] if work.world.alive(user["pid"], user["started"])]
        return f"Process {', '.join(left)} does not end when asked to." if left else None


class UnmountThere(Kind):
    """Unmount in the mount namespace of somebody else, because the person chose so."""

    def apply(self, work: Work, step: Step) -> None:
        """Through a process that is in it; written back first, as umount does not tell what it could not write."""
        params = step.params
        if self.standing(work, step) is None:
            namespace, point = params["namespace"], params["mountpoint"]
            work.world.unmount_in(params["pid"], namespace, point, step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """Its namespace does not list it."""
        params = step.params
        point = params["mountpoint"]
        work.until(lambda: None if self.standing(work, step) else f"{point} is still mounted there.", _SETTLE_S)
        trouble = [line for kname in params.get("knames", ()) for line in work.world.trouble(kname)]
        if trouble:
            text = f"The kernel reported errors while {point} was unmounted there: {trouble[0]}"
            raise NotProven(text, fix="undo, then look for the reason before trying again")
        return f"mount namespace {params['namespace']} does not list {point}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone."""
        wanted = (step.params["namespace"], step.params["mount_id"])
        listed = any((mount.namespace, mount.mount_id) == wanted for mount in work.world.mounts())
        return None if listed else f"{step.params['mountpoint']} is not mounted there"

    def undo(self, work: Work, step: Step) -> str:
        """Only whoever made the namespace knows what belongs into it."""
        return "what was mounted in the namespace of somebody else is for them to mount again"


class MaskMount(Kind):
    """Keep a mount unit from being started, so that the automount above it can mount nothing any more."""

    def apply(self, work: Work, step: Step) -> None:
        """Mask it until the next boot."""
        work.world.systemctl(("mask", "--runtime", step.params["mount"]), step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """systemd's own link."""
        return _masked(work, step.params["mount"])

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is masked."""
        return _masked(work, step.params["mount"]) if work.world.masked(step.params["mount"]) else None

    def undo(self, work: Work, step: Step) -> str:
        """Let it go."""
        return _unmask(work, step.params["mount"], step.deadline_s)


class StopAutomount(Kind):
    """Stop an automount whose mount is gone: systemd would take away lazily what is still mounted there."""

    def precheck(self, work: Work, step: Step) -> None:
        """Nothing but the automount itself is mounted there."""
        where = step.params["where"]
        if any(fstype != "autofs" for fstype in _at(work, where)):
            text = f"{where} was mounted again."
            raise Busy(text, fix=f"umount {where}, then resume; or undo")

    def apply(self, work: Work, step: Step) -> None:
        """Mask it, so that nothing starts it again, and stop it."""
        work.world.systemctl(("mask", "--runtime", step.params["unit"]), step.deadline_s)
        self.precheck(work, step)
        if _at(work, step.params["where"]):
            work.world.systemctl(("stop", step.params["unit"]), step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """No autofs there any more."""
        where = step.params["where"]
        work.until(lambda: f"Something is mounted at {where}." if _at(work, where) else None, _SETTLE_S)
        return f"nothing is mounted at {where}; {_masked(work, step.params['unit'])}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is stopped and masked."""
        there = bool(_at(work, step.params["where"])) or not work.world.masked(step.params["unit"])
        return None if there else f"{step.params['unit']} is stopped and masked"

    def undo(self, work: Work, step: Step) -> str:
        """Start it again: before the mount comes back, as systemd starts none over something that is mounted."""
        unit, where = step.params["unit"], step.params["where"]
        said = _unmask(work, unit, step.deadline_s)
        if not _at(work, where):
            work.world.systemctl(("start", unit), step.deadline_s)
        work.until(lambda: None if _at(work, where) else f"No automount is at {where}.", _SETTLE_S)
        return f"{said}, and started"


def _at(work: Work, where: str) -> list[str]:
    """Types of what is mounted at a place."""
    return [mount.fstype for mount in work.world.mounts() if mount.namespace is None and mount.mountpoint == where]


def _masked(work: Work, unit: str) -> str:
    if not work.world.masked(unit):
        raise NotProven(f"{unit} is not masked.")
    return f"{unit} is masked until the next boot"


def _unmask(work: Work, unit: str, deadline: float) -> str:
    if work.world.masked(unit):
        work.world.systemctl(("unmask", "--runtime", unit), deadline)
    if work.world.masked(unit):
        raise NotProven(f"{unit} is still masked.")
    return f"{unit} is unmasked"
