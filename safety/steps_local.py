"""Steps on this host: lock, unmount, claim, write back, detach, release."""

from __future__ import annotations

from initiator.errors import MooringError
from initiator.host.mounts import Mount
from initiator.host.run import HelperFailed
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import INVALID_OPERATION_CODE, Key, parse_sense
from safety import remount
from safety.journal import Mark
from safety.kind import Kind
from safety.plan import Step
from safety.restore import bring_back
from safety.work import Work
from safety.world import Busy, Claim, NotProven, StepError

_SETTLE_S = 10.0
"""Seconds within which the kernel has to show the effect of a call that has returned."""


_PASSING_S = 3.0
"""Seconds for somebody who uses a mount or device only in passing (a reader of sizes, blkid) to be done."""


class Lock(Kind):
    """The runner holds the lock before it writes its first word; this step says so in the journal."""

    def verify(self, work: Work, step: Step) -> str:
        """The lock and the journal are there, or this would not run."""
        return "this runner holds the lock, and its journal is on stable storage"


class Unmount(Kind):
    """Write a file system back, unmount it, and see that it is gone everywhere."""

    def precheck(self, work: Work, step: Step) -> None:
        """The path must lead to the planned mount of the planned disk."""
        self._confirm(work)
        if not self._shown(work, step):
            return
        point, mount_id = step.params["mountpoint"], step.params["mount_id"]
        if not work.world.on_top(point, mount_id, min(step.deadline_s, 30.0)):
            text = f"{point} is covered by another mount, or was mounted anew."
            raise StepError(text, code="covered", fix=f"unmount what covers {point}, then make a new plan")

    def apply(self, work: Work, step: Step) -> None:
        """syncfs reports the errors that umount does not; then umount."""
        if not self._shown(work, step):
            work.note(f"{step.params['mountpoint']} was unmounted by somebody else meanwhile.")
            return
        point = step.params["mountpoint"]
        self._write_back(work, step)
        end = work.world.now() + _PASSING_S
        while self._shown(work, step):
            try:
                work.world.unmount(point, step.deadline_s)
            except Busy as error:
                who = who_uses(work)
                if who or work.world.now() >= end:
                    raise Busy(f"{point} is in use{who}.", fix="end what uses it, then try again") from error
                work.note(f"{point} is busy, though nobody is seen to use it; trying again.")
                work.world.pause(0.25)
            else:
                return

    def _write_back(self, work: Work, step: Step) -> None:
        point = step.params["mountpoint"]
        try:
            work.world.syncfs(point, step.deadline_s)
        except HelperFailed as error:
            text = f"Writing back {point} failed: {error}. What it has not written yet is still in memory."
            fix = f"leave it mounted; copy what matters from {point} to another disk, then look for the reason"
            raise StepError(text, code="write-back", fix=fix) from error

    def verify(self, work: Work, step: Step) -> str:
        """Not in this namespace any more; after the last one, in none, and no living superblock."""
        work.until(lambda: self._left(work, step), _SETTLE_S)
        trouble = self._trouble(work, step)
        if trouble:
            text = f"The kernel reported errors while {step.params['mountpoint']} was unmounted: {trouble[0]}"
            raise NotProven(text, fix="undo, then look for the reason before trying again")
        if step.params["last"]:
            return "no mount namespace lists the disk, and no superblock of it is alive"
        return f"{step.params['mountpoint']} is not listed any more"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is unmounted."""
        return f"{step.params['mountpoint']} is not mounted" if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether the very mount is still there."""
        return self._shown(work, step)

    def undo(self, work: Work, step: Step) -> str:
        """Mount again at the same place with the same options."""
        return remount.mount_again(work, step)

    def _shown(self, work: Work, step: Step) -> bool:
        return any(self._is(mount, step) for mount in work.world.mounts())

    def _left(self, work: Work, step: Step) -> str | None:
        """What is still there, or None."""
        devs = self._devs(work, step) if step.params["last"] else set()
        for mount in work.world.mounts():
            if self._is(mount, step) or mount.dev in devs:
                where = f" in mount namespace {mount.namespace}" if mount.namespace else ""
                return f"{mount.mountpoint} is still mounted{where}."
        if devs:
            alive = self._alive(work)
            if alive:
                return f"No mount is listed, but a file system on {alive[0]} is still alive: somebody uses it."
        return None

    def _confirm(self, work: Work) -> None:
        work.confirm(device=True)

    def _devs(self, work: Work, step: Step) -> set[str]:
        """Device numbers under which a file system of the disk would show now."""
        return set() if work.device_gone() else set(step.params["devs"])

    def _alive(self, work: Work) -> list[str]:
        """Devices of the disk with a living file system."""
        kname = (work.identity.device or "").removeprefix("/dev/")
        return [name for name in work.world.superblocks() if _belongs(name, kname)]

    def _trouble(self, work: Work, step: Step) -> tuple[str, ...]:
        """What the kernel's log says against it."""
        return work.world.trouble((work.identity.device or "").removeprefix("/dev/"))

    def _is(self, mount: Mount, step: Step) -> bool:
        params = step.params
        same = mount.namespace is None and mount.mount_id == params["mount_id"] and mount.dev == params["dev"]
        return same and mount.mountpoint == params["mountpoint"]


class ClaimDevice(Kind):
    """Open the device exclusively and keep it open."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned disk on the planned device; what was detached without a proven flush is not passed over."""
        if work.device_gone():
            text = f"{work.identity.device} was detached before its flush was proven."
            fix = "undo brings the disk back; then remove it again"
            raise StepError(text, code="detached-elsewhere", fix=fix)
        work.confirm(device=True)

    def apply(self, work: Work, step: Step) -> None:
        """Claim it; somebody who opens a device in passing gets a moment to leave."""
        identity = work.identity
        assert identity.device is not None  # a plan for a disk without a device is blocked
        assert identity.dev is not None
        take(work, identity.device, identity.dev, identity.diskseq, step.deadline_s)

    def verify(self, work: Work, step: Step) -> str:
        """The descriptor is open on the device."""
        if work.claim is None or not work.claim.held:
            raise NotProven(f"{work.identity.device} is not claimed.")
        return f"{work.identity.device} is claimed, sequence number {work.identity.diskseq}"

    def standing(self, work: Work, step: Step) -> str | None:
        """A claim dies with its process; it is behind us only when the device went, after a proven flush."""
        return flushed_and_gone(work)

    def undo(self, work: Work, step: Step) -> str:
        """Close it."""
        if work.claim is not None and work.claim.held:
            work.world.release(work.claim, step.deadline_s)
        work.claim = None
        return "the claim is released"


class Fsync(Kind):
    """Write back the page cache of the device itself."""

    def precheck(self, work: Work, step: Step) -> None:
        """Only under the claim."""
        work.confirm(device=True)
        claimed(work)

    def apply(self, work: Work, step: Step) -> None:
        """fsync on the claimed descriptor: its return is the kernel's word."""
        try:
            work.world.fsync(claimed(work), step.deadline_s)
            work.proofs[step.id] = "fsync returned without error"
        except HelperFailed as error:
            text = f"Writing back {work.identity.device} failed: {error}."
            raise StepError(text, code="write-back", fix="undo, then look for the reason") from error

    def verify(self, work: Work, step: Step) -> str:
        """No error, and the kernel's log has none either."""
        claimed(work)
        trouble = work.world.trouble(self._kname(work))
        if trouble:
            raise NotProven(f"The kernel reported errors: {trouble[0]}", fix="undo, then look for the reason")
        return f"{work.proof(step)}, and the kernel's log has no error for the device"

    def _kname(self, work: Work) -> str:
        return (work.identity.device or "").removeprefix("/dev/")

    def standing(self, work: Work, step: Step) -> str | None:
        """Proven once and for all when the device went under the claim that it was proven under."""
        return flushed_and_gone(work)


class Detach(Kind):
    """Take the file from the loop device, in a way that lets nobody in between."""

    def precheck(self, work: Work, step: Step) -> None:
        """Only under the claim, on the planned disk, after its flush."""
        work.confirm(device=True)
        claimed(work)
        if not work.flushed("fsync", "flush"):
            raise StepError("The flush is not proven.", code="not-flushed", fix="resume, or undo")

    def apply(self, work: Work, step: Step) -> None:
        """Succeeds only when nobody else has the device open, not even without O_EXCL."""
        if not work.world.seal(claimed(work), step.deadline_s):
            text = f"{work.identity.device} is open elsewhere{who_uses(work)}."
            raise Busy(text, fix="end what has it open, then try again")

    def verify(self, work: Work, step: Step) -> str:
        """The kernel shows that the device goes with its last user, which is us."""
        state = work.world.loop(work.identity.dev or "")
        if work.device_gone():
            return f"{work.identity.device} is detached"
        if state is None or not state.autoclear:
            raise NotProven(f"{work.identity.device} is not marked to be detached.")
        return f"nobody else has {work.identity.device} open, and nobody can open it any more"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone, after a proven flush."""
        return flushed_and_gone(work)

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether it is there, and will be when its last user leaves."""
        state = work.world.loop(work.identity.dev or "")
        return not work.device_gone() and state is not None and not state.autoclear

    def undo(self, work: Work, step: Step) -> str:
        """Have the engine bring the device back."""
        return bring_back(work)


class Release(Kind):
    """Close the claim; the device is gone with it."""

    def precheck(self, work: Work, step: Step) -> None:
        """Until now it must be the planned device."""
        if not work.device_gone():
            claimed(work)

    def apply(self, work: Work, step: Step) -> None:
        """Close the descriptor."""
        if work.claim is not None:
            work.world.release(work.claim, step.deadline_s)
            work.claim = None

    def verify(self, work: Work, step: Step) -> str:
        """No backing file, or another sequence number: that device is no more."""
        name = work.identity.device
        work.until(lambda: None if work.device_gone() else f"{name} is still attached.", step.deadline_s)
        return f"{name} is detached"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone, after a proven flush."""
        return flushed_and_gone(work)

    def undo(self, work: Work, step: Step) -> str:
        """Have the engine bring the device back."""
        return bring_back(work)


def take(work: Work, device: str, dev: str, diskseq: int | None, deadline: float) -> None:
    """Claim a device; somebody who opens it only in passing gets a moment to leave.

    Raises:
        Busy: it stays in use; names who has it, if that can be seen.
    """
    end = work.world.now() + _PASSING_S
    while True:
        try:
            work.claim = work.world.claim(device, dev, diskseq, deadline)
        except Busy as error:
            if work.world.now() >= end:
                raise Busy(f"{error}{who_uses(work)}", fix=error.fix) from error
            work.note(f"{device} is busy; trying again.")
            work.world.pause(0.5)
        else:
            return


def claimed(work: Work) -> Claim:
    """The claim.

    Raises:
        StepError: it was lost.
    """
    if work.claim is None or not work.claim.held:
        raise StepError(f"{work.identity.device} is not claimed any more.", code="claim-lost")
    return work.claim


def flushed_and_gone(work: Work) -> str | None:
    """Says so if the device is gone and every flush was proven before: only then nothing can be missing.

    Raises:
        StepError: it went without that proof.
    """
    if not work.device_gone():
        return None
    ends = [work.closed(step, "fsync", "flush") for step in work.steps("detach")]
    if work.flushed("fsync", "flush") or any(end in (Mark.STARTED, Mark.VERIFIED) for end in ends):
        return f"{work.identity.device} is detached, and its flush was proven before"
    text = f"{work.identity.device} was detached before its flush was proven."
    raise StepError(text, code="detached-elsewhere", fix="undo brings the disk back; then remove it again")


def nothing_to_flush(work: Work, sense: bytes) -> bool:
    """Whether a target that refused SYNCHRONIZE CACHE does not know the command, and says that it has no write cache.

    One that refuses for another reason (a logical unit that is gone), or of which the cache is not known, may have lost
    what it acknowledged.
    """
    try:
        said = parse_sense(sense)
    except ScsiFormatError:
        return False
    unknown = said.key is Key.ILLEGAL_REQUEST and said.asc == INVALID_OPERATION_CODE and not said.deferred
    disk = work.find(work.snapshot()) if unknown else None
    return disk is not None and disk.write_cache is False


def who_uses(work: Work) -> str:
    """Who uses the disks now, as a part of a sentence; empty if nobody can be named."""
    try:
        snapshot = work.world.snapshot()
        users = work.world.facts(snapshot, work.extent(snapshot)).users
    except MooringError:
        return ""  # that it is busy is known all the same
    names = [f"{user.command} (process {user.pid}, {user.how} {user.path})" for user in users]
    return f" by {', '.join(names)}" if names else ""


def _belongs(name: str, kname: str) -> bool:
    """Whether a kernel name is the disk or one of its partitions."""
    rest = name.removeprefix(kname)
    return name == kname or (rest != name and rest.startswith("p") and rest[1:].isdigit())
