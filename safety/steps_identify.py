"""The first step: these are the disks, nothing changed since the plan was shown, and no guard says no."""

from __future__ import annotations

import dataclasses

from initiator.model import Snapshot, Source
from safety import lanes, steps_volume
from safety.changes import changes
from safety.findings import Finding, blocks
from safety.guards import examine
from safety.kind import Kind
from safety.plan import Step, make
from safety.scene import view
from safety.scope import Extent, Part, Reach
from safety.work import Work
from safety.world import StepError


class Identify(Kind):
    """Make sure of what is removed, and that nothing stands against it."""

    def precheck(self, work: Work, step: Step) -> None:
        """Fresh: the situation is exactly the one that was confirmed. Resumed: nothing new uses the disks."""
        if work.fresh:
            self._fresh(work)
        else:
            self._resumed(work)

    def _fresh(self, work: Work) -> None:
        snapshot = work.snapshot()
        for one in work.each():
            if one.find(snapshot) is None:
                raise StepError(f"{one.identity.name} is not listed any more.", code="gone", fix="mooring list")
            if one.identity.source == Source.KERNEL:
                lanes.confirm(one)
            else:
                one.confirm(device=True)
        scope = work.plan.scope
        now = make(snapshot, work.world.facts(snapshot, scope.on(snapshot)), scope, work.plan.options)
        _refuse(blocks(now.findings))
        if now.digest != work.plan.digest:
            text = " ".join(["The situation is not the one that the plan was made for.", *changes(work.plan, now)])
            raise StepError(text, code="changed", fix="look at the new plan and confirm that one")

    def _resumed(self, work: Work) -> None:
        if work.plan.scope.reach is Reach.VOLUME:
            snapshot = steps_volume.confirm(work)
            self._ask(work, snapshot, work.extent(snapshot))
            return
        logouts = [one for one in work.plan.steps if one.kind == "logout"]
        over = all(work.verified(one.id) for one in logouts)
        snapshot = work.snapshot() if over else work.awake()
        self._ask(work, *_left(work, snapshot, {one.params["session"] for one in logouts}))

    def _ask(self, work: Work, snapshot: Snapshot, left: Extent) -> None:
        facts = work.world.facts(snapshot, left)
        scene = view(snapshot, facts, left, work.plan.options, resuming=True)
        _refuse(blocks(examine(scene)))

    def verify(self, work: Work, step: Step) -> str:
        """What the disks are."""
        known = (one.identity for one in work.each())
        said = [f"{one.wwid}, {one.size_bytes} bytes, LUN {one.lun} of {one.target}" for one in known]
        return "; ".join(said) or "the sessions carry nothing"


def _left(work: Work, snapshot: Snapshot, ours: set[str]) -> tuple[Snapshot, Extent]:
    """What is left of the disks of a begun removal, as the guards may look at it.

    The device of a disk of the engine may be gone: its name may serve somebody else by now, and the inventory misses
    it; both are no news. Once the engine's own sessions (`ours`) are gone, the target still shows the disk over the
    sessions of other disks, which stay.
    """
    found = work.extent(snapshot)
    parts = []
    for part in found.parts:
        (one,) = (one for one in work.each() if one.find(snapshot) == part.disk)
        if one.identity.source == Source.KERNEL:
            parts.append(part)
            continue
        disk = part.disk
        if one.device_gone():
            disk = dataclasses.replace(disk, device=None, dev=None, diskseq=None)
            missed = ("block", disk.name)
            problems = tuple(each for each in snapshot.problems if (each.source, each.subject) != missed)
            snapshot = dataclasses.replace(snapshot, problems=problems)
        parts.append(Part(disk, tuple(path for path in part.paths if path.session in ours)))
    over = {path.session for part in parts for path in part.paths}
    sessions = tuple(session for session in found.sessions if session.id in over)
    return snapshot, Extent(tuple(parts), sessions)


def _refuse(found: tuple[Finding, ...]) -> None:
    if found:
        text = " ".join(finding.text for finding in found)
        raise StepError(text, code=found[0].code, fix=found[0].fix)
