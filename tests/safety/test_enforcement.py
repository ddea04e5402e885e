"""Every order of calls, with every fault in between: a logout before the offline, or an offline before the dismount,
cannot be reached, neither through the runner's gate nor by calling the steps directly."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from initiator.errors import MooringError
from safety.execute import Run
from safety.facts import User
from safety.journal import Journal, Kind, Mark
from safety.plan import Plan
from safety.scope import Scope, disks, target
from safety.sequence import SequenceError, check_turn
from safety.steps import KINDS
from safety.world_kernel import Answer, PathClaim
from tests.safety.removals import begin
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import TARGET
from tests.safety.simworld import Crash
from tests.safety.test_removal_kernel import NOT_READY, planned

GOOD = Answer(0, 0, 0, b"")


class Watched(SimKernel):
    """Holds each call that can lose something against what has to be behind it."""

    def offline(self, claim: PathClaim, deadline: float) -> None:
        lane = self.lanes[claim.route.hctl]
        disk = self.disks[lane["disk"]]
        assert not self._in_use(disk), "offline before dismount"
        assert disk.map_seq is None, "offline under a map"
        assert disk.device_dirty == disk.target_dirty == 0, "offline before the flush"
        super().offline(claim, deadline)

    def logout(self, sid: int) -> None:
        assert not any(lane["sid"] == sid for lane in self.lanes.values()), "logout before offline"
        super().logout(sid)


class AnyOrder(RuleBasedStateMachine):
    """A removal whose steps are called in any order while everything goes wrong."""

    @initialize(group=st.booleans(), whole=st.booleans(), mapped=st.booleans())
    def start(self, group: bool, whole: bool, mapped: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mooring-order-"))
        self.patch = mock.patch("safety.journal.os.fsync", return_value=None)
        self.patch.start()
        self.world = Watched(2 if mapped else 1, disks=2, mapped=mapped, group=group)
        self.written = self.world.written
        snapshot = self.world.snapshot()
        scope: Scope = target(TARGET) if whole else disks(*snapshot.disks)
        self.plan = planned(self.world, scope)
        assert not self.plan.blocked
        self.path = begin(self.folder, self.plan)
        self._live()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.journal.close()
            self.patch.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _live(self) -> None:
        """A new life of the runner."""
        self.journal = Journal.open(self.path, boot="boot-1", now=lambda: 2.0)
        self.journal.append(Kind.RUN, "resume")
        made = Plan.from_json(self.journal.records[0].data["plan"])
        self.run = Run(made, self.journal, self.world)

    def _die(self) -> None:
        self.world.process_died()
        self.journal.close()
        self._live()

    def _proven(self) -> list[str]:
        return [step.id for step in self.plan.steps if self.run.mark(step.id) is Mark.VERIFIED]

    @rule(data=st.data())
    def one_step_through_the_gate(self, data: st.DataObject) -> None:
        """The runner itself would take them in order; here any is asked for."""
        step = data.draw(st.sampled_from(self.plan.steps))
        proven = [one for one in self.plan.steps if one.id in self._proven()]
        try:
            self.run._one(step, proven)
        except Crash:
            self._die()
        except MooringError:
            return

    @rule(many=st.integers(1, 30))
    def the_next_steps(self, many: int) -> None:
        """Most orders stop early; so the right one gets its chance too."""
        for _ in range(many):
            proven = self._proven()
            following = next((step for step in self.plan.steps if step.id not in proven), None)
            if following is None:
                return
            try:
                self.run._one(following, [one for one in self.plan.steps if one.id in proven])
            except Crash:
                self._die()
                return
            except MooringError:
                return

    @rule(data=st.data())
    def one_step_directly(self, data: st.DataObject) -> None:
        """Whoever goes round the gate meets the check of each step."""
        step = data.draw(st.sampled_from(self.plan.steps[2:]))
        work = self.run._work.on(step.disks)
        try:
            KINDS[step.kind].precheck(work, step)
            KINDS[step.kind].apply(work, step)
        except Crash:
            self._die()
        except MooringError:
            return

    @rule(after=st.integers(0, 3), before=st.booleans())
    def die_soon(self, after: int, before: bool) -> None:
        moment = len(self.world.calls) + 1 + after
        setattr(self.world, "die_before" if before else "die_after", moment)

    @rule()
    def somebody_mounts_what_can_be_mounted(self) -> None:
        self.world.intruder = True

    @rule()
    def who_mounted_it_leaves_again(self) -> None:
        """What they wrote is in the memory of the device, after whatever flush there was."""
        tops = [(volume, self.world.top(volume)) for volume in self.world.volumes]
        for mount in [each for each in self.world.mounted if each.mountpoint == "/mnt/intruder"]:
            for volume in (volume for volume, top in tops if top is not None and top.dev == mount.dev):
                self.world.mounted.remove(mount)
                self.world._write_back(volume)

    @rule(good=st.booleans())
    def the_target_answers(self, good: bool) -> None:
        self.world.answer = GOOD if good else Answer(2, 0, 8, NOT_READY)

    @rule(there=st.booleans())
    def a_process_sits_in_the_mount(self, there: bool) -> None:
        self.world.users = (User(9, "bash", "current folder", "/mnt/data"),) if there else ()

    @precondition(lambda self: bool(self.world.lanes))
    @rule(data=st.data())
    def a_session_drops_and_comes_back(self, data: st.DataObject) -> None:
        """Its paths are running again, whatever they were."""
        sid = data.draw(st.sampled_from(sorted({lane["sid"] for lane in self.world.lanes.values()})))
        for lane in self.world.lanes.values():
            if lane["sid"] == sid:
                lane["state"] = "running"

    @rule()
    def it_is_resumed(self) -> None:
        try:
            self.run.forward()
        except Crash:
            self._die()

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "world"):
            assert self.world.lost == 0
            assert self.world.written >= self.written


AnyOrder.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase


def test_the_gate_lets_no_step_through_before_what_it_stands_on() -> None:
    """For each step of a plan with two disks, each step before it in the table is needed for that very disk."""
    made = planned(SimKernel(disks=2), disks(*SimKernel(disks=2).snapshot().disks))
    every = [step.id for step in made.steps]
    for number, step in enumerate(made.steps):
        check_turn(step, made.steps, every[:number])
        for left_out in (one for one in made.steps[:number] if one.phase is not step.phase):
            proven = [one for one in every[:number] if one != left_out.id]
            assert _refused(step.id, made, proven), (step.id, left_out.id)


def _refused(step_id: str, made: Plan, proven: Sequence[str]) -> bool:
    try:
        check_turn(made.step(step_id), made.steps, proven)
    except SequenceError:
        return True
    return False
