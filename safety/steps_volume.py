"""Steps that dismount a file system whose disk stays, be it a disk of the kernel or of the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from initiator.model import BlockNode, Snapshot, Source
from safety import remount, stand
from safety.identity import Identity, differences
from safety.kind import Kind
from safety.plan import Step
from safety.remount import Ground
from safety.steps_local import Unmount, who_uses
from safety.steps_stack import SwapOff
from safety.work import Work
from safety.world import Busy, NotProven, StepError

_LOOK_EVERY_S = 0.25
_PASSING_S = 3.0
_NODE_S = 10.0


def confirm(work: Work, *, device: bool = True) -> Snapshot:
    """Make sure that the disks are there and are those of the plan.

    Args:
        work: The disks.
        device: Compare their block devices too.

    Returns:
        The reading that showed it.

    Raises:
        StepError: one is not there, or is another one.
    """
    served = any(one.identity.source == Source.ENGINE for one in work.each())
    snapshot = work.awake() if served else work.snapshot()
    for one in work.each():
        disk = one.find(snapshot)
        if disk is None:
            fix = "bring the disk back (mooring login, mooring attach, or undo its removal), then try again"
            raise StepError(f"{one.identity.name} is not listed any more.", code="gone", fix=fix)
        changed = differences(one.identity, Identity.of(disk), device=device)
        if changed:
            text = f"{one.identity.name} is not the disk that was planned: {'; '.join(map(str, changed))}."
            raise StepError(text, code="identity-changed", fix="look at it again, then make a new plan")
    return snapshot


class UnmountVolume(Unmount):
    """Write a file system back, unmount it, and see that it is gone everywhere. Others of its disk go on."""

    def verify(self, work: Work, step: Step) -> str:
        """As for a disk, but what is said is said of the file system."""
        said = super().verify(work, step)
        return "no mount namespace lists it, and no superblock of it is alive" if step.params["last"] else said

    def undo(self, work: Work, step: Step) -> str:
        """Mount again at the same place with the same options."""
        return remount.mount_again(work, step, _ground)

    def _confirm(self, work: Work) -> None:
        confirm(work)

    def _devs(self, work: Work, step: Step) -> set[str]:
        return set(step.params["devs"])

    def _left(self, work: Work, step: Step) -> str | None:
        reason = super()._left(work, step)
        if reason is None and step.params["last"]:
            return _alive(work, step)
        return reason

    def _alive(self, work: Work) -> list[str]:
        return []  # what else the disk carries may be alive; `_left` looks for this file system alone

    def _trouble(self, work: Work, step: Step) -> tuple[str, ...]:
        return tuple(line for kname in step.params["knames"] for line in work.world.trouble(kname))


class SwapOffFile(SwapOff):
    """Have the kernel read back what is in a swap file, and leave it."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned disk."""
        confirm(work)

    def undo(self, work: Work, step: Step) -> str:
        """Switch it on again: its file system is mounted by now."""
        path = step.params["path"]
        if not any(area.path == path for area in work.world.kernel.swaps()):
            work.world.kernel.swap_on(path, step.deadline_s)
        return f"swap is on in {path}"


class Unmounted(Kind):
    """Keep looking for a while: agents mount again seconds later."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned disk."""
        confirm(work)

    def apply(self, work: Work, step: Step) -> None:
        """Look until the time is up.

        Raises:
            NotProven: it was mounted again.
        """
        end = work.world.now() + float(step.params["seconds"])
        while True:
            _look(work, step)
            if work.world.now() >= end:
                return
            work.world.pause(_LOOK_EVERY_S)

    def verify(self, work: Work, step: Step) -> str:
        """Once more, and by an exclusive open, which sees also what no list shows."""
        _look(work, step)
        for node in step.params["nodes"]:
            _open_alone(work, node)
        return f"nothing of it is mounted or alive, for {step.params['seconds']:g} s and more; its device is free"


def _look(work: Work, step: Step) -> None:
    devs = set(step.params["devs"])
    found = next((mount for mount in work.world.mounts() if mount.dev in devs), None)
    reason = _alive(work, step)
    if found is not None:
        where = f" in mount namespace {found.namespace}" if found.namespace else ""
        reason = f"{found.mountpoint} is mounted{where}."
    if reason is not None:
        raise NotProven(reason, fix="find what mounts it, then resume; or undo")


def _alive(work: Work, step: Step) -> str | None:
    own = set(step.params["knames"])
    name = next((name for name in work.world.superblocks() if name in own), None)
    return f"No mount is listed, but a file system on {name} is still alive: somebody uses it." if name else None


def _open_alone(work: Work, node: Mapping[str, Any]) -> None:
    """Open a device exclusively for a moment; somebody who has it in passing gets a moment to leave."""
    end = work.world.now() + _PASSING_S
    while True:
        try:
            claim = work.world.claim(node["device"], node["dev"], node["diskseq"], 30.0)
        except Busy as error:
            if work.world.now() >= end:
                raise NotProven(f"{error}{who_uses(work)}", fix="find what holds it, then resume; or undo") from error
            work.world.pause(0.5)
        else:
            work.world.release(claim, 30.0)
            return


def _ground(work: Work, step: Step) -> Ground:
    """Where the file system lies now; its disk is not brought back for it, as this did not take it away."""
    place = step.params.get("stand")
    if place is None:
        text = f"Nobody knows which device carried {step.params['mountpoint']}."
        raise StepError(text, code="gone", fix="mount it by hand")
    one = work.on((place["disk"],))
    snapshot = confirm(work, device=False)
    with contextlib.suppress(NotProven):
        work.until(lambda: None if _node(one, place, one.snapshot()) else "not there yet", _NODE_S)
        snapshot = one.snapshot()
    node = _node(one, place, snapshot)
    if node is None:
        name = place.get("name") or place.get("kname") or one.identity.name
        text = f"{name} does not show on {one.identity.name}."
        raise StepError(text, code="gone", fix="have it back (partprobe, vgchange --activate y, …), then undo again")
    found = [disk.dev for each in work.each() if (disk := each.find(snapshot)) is not None and disk.dev is not None]
    return Ground.of(step, f"/dev/{node.kname}", node.dev, snapshot.block, found)


def _node(work: Work, place: Mapping[str, Any], snapshot: Snapshot) -> BlockNode | None:
    disk = work.find(snapshot)
    uuids = work.world.kernel.array_uuids() if place["is"] == "md" else {}
    return stand.find(place, snapshot.block, disk.dev if disk is not None else None, uuids)
