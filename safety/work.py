"""What a step has at hand while it runs: the plan, the world, the claim, and ways to look until something is so."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from initiator.engine.rpc import EngineError, EngineNotRunning, EngineSilent
from initiator.errors import MooringError
from initiator.host.scsipaths import Traffic
from initiator.model import Disk, DiskState, Snapshot, Source
from safety import flushed
from safety.identity import Identity, differences
from safety.journal import Mark, Record
from safety.plan import Member, Plan, Step
from safety.scope import Extent, Reach, dismounted, extent
from safety.world import Claim, Ends, NotProven, StepError, Unreadable, World
from safety.world_kernel import PathClaim

LIVING = frozenset({DiskState.ATTACHED, DiskState.DEGRADED, DiskState.NO_PATH})
"""States in which the engine serves the disk as a block device."""


_ADOPT_S = 10.0
"""Seconds within which the workers of an engine that was killed report to the next one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Secrets:
    """CHAP secrets for logging in again, as far as the caller has them; no journal holds them."""

    own: str | None = dataclasses.field(default=None, repr=False)
    target: str | None = dataclasses.field(default=None, repr=False)
    """Mutual CHAP: the one that the target has to know."""


NO_SECRETS = Secrets()


@dataclasses.dataclass(slots=True)
class Work:
    """The running of one plan. Shared by all its steps."""

    plan: Plan
    world: World
    note: Callable[[str], object]
    """Writes a sentence into the journal."""
    secrets: Secrets = NO_SECRETS
    verified: Callable[[str], bool] = lambda step_id: False
    """Whether the journal has proof of a step, of whatever run."""
    records: Sequence[Record] = ()
    """What is in the journal."""
    fresh: bool = True
    """True for the first run of a plan, False when it is resumed."""
    rebooted: bool = False
    """True when the machine was restarted since the plan was made: its devices, mounts and sessions are gone, and what
    has their names now is something else."""
    members: tuple[Member, ...] | None = None
    """The disks that this is about: those of one step, or all of the plan when None."""
    claims: dict[str, Claim] = dataclasses.field(default_factory=dict)
    """Claims on devices of whole disks, by the disk's id."""
    held: dict[str, PathClaim] = dataclasses.field(default_factory=dict)
    """Claims on paths of disks of the kernel, by H:C:T:L."""
    counted: dict[str, Traffic] = dataclasses.field(default_factory=dict)
    """Counters of these paths after their flush."""
    proofs: dict[str, str] = dataclasses.field(default_factory=dict)
    """What was answered to steps whose effect no state shows (flushes), by step, in this run."""
    newer: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """TCP connections that a session has made since the plan, as there, by the step that logs it out."""

    def on(self, disks: Collection[str]) -> Work:
        """The same work, about these disks alone."""
        found = tuple(member for member in self.plan.members if member.id in disks)
        return dataclasses.replace(self, members=found)

    @property
    def disks(self) -> tuple[Member, ...]:
        """The disks that this is about."""
        return self.plan.members if self.members is None else self.members

    def each(self) -> Iterator[Work]:
        """The same work, about one disk after the other."""
        return (self.on((member.id,)) for member in self.disks)

    @property
    def member(self) -> Member:
        """The disk that a step of one disk is about.

        Raises:
            StepError: it is about several, or none.
        """
        if len(self.disks) != 1:
            raise StepError(f"A step for one disk was given {len(self.disks)}.", code="plan")
        return self.disks[0]

    @property
    def identity(self) -> Identity:
        """What makes that disk this disk."""
        return self.member.identity

    @property
    def name(self) -> str:
        """The disks, for a person."""
        return ", ".join(member.identity.name for member in self.disks) or self.plan.name

    @property
    def claim(self) -> Claim | None:
        """The claim on the device of the disk."""
        return self.claims.get(self.member.id)

    @claim.setter
    def claim(self, claim: Claim | None) -> None:
        if claim is None:
            self.claims.pop(self.member.id, None)
        else:
            self.claims[self.member.id] = claim

    def steps(self, *kinds: str) -> list[Step]:
        """The steps of these kinds that are about any of these disks."""
        own = {member.id for member in self.disks}
        return [step for step in self.plan.steps if step.kind in kinds and own.intersection(step.disks)]

    def flushed(self, *kinds: str) -> bool:
        """Whether every step of these kinds for these disks was proven in this run, which holds its claims still."""
        return flushed.live(self.records, {step.id for step in self.steps(*kinds)})

    def closed(self, closing: Step, *kinds: str) -> Mark | None:
        """How the last attempt ended to close something right after every step of these kinds, in whatever run."""
        return flushed.closed(self.records, {step.id for step in self.steps(*kinds)}, closing.id)

    def extent(self, snapshot: Snapshot) -> Extent:
        """What is left of these disks: all of a disk that leaves the host, else the paths of the plan's sessions.

        Of a volume: the devices that carry it, whether it is mounted still or not.
        """
        if self.plan.scope.reach is Reach.VOLUME:
            found = [disk for one in self.each() if (disk := one.find(snapshot)) is not None]
            nodes = [node for step in self.plan.steps if step.kind == "unmounted" for node in step.params["nodes"]]
            return dismounted(snapshot, found, [node["dev"] for node in nodes])
        wanted: list[tuple[Disk, set[str] | None]] = []
        for one in self.each():
            disk = one.find(snapshot)
            if disk is not None:
                own = {touched.id for touched in self.plan.touched if touched.paths}
                gone = {path.id for path in snapshot.paths if path.disk == disk.id and path.session in own}
                wanted.append((disk, None if one.member.whole else gone))
        return extent(snapshot, wanted)

    def snapshot(self) -> Snapshot:
        """A new reading of the host.

        Raises:
            Unreadable: the engine does not answer.
        """
        snapshot = self.world.snapshot()
        if snapshot.engine not in ("running", "not running"):
            raise Unreadable(f"The engine does not answer: {snapshot.engine}.", fix="mooring engine status")
        return snapshot

    def awake(self) -> Snapshot:
        """A new reading of the host, with an engine that runs and knows the disk again if anything of it is left.

        An engine that was killed leaves its workers behind; the next one needs a moment to hear from them.

        Raises:
            StepError: no engine comes up.
            Unreadable: it does not answer.
        """
        snapshot = self.snapshot()
        if snapshot.engine == "running":
            return snapshot
        self.note("The engine has ended; starting it again.")
        try:
            self.world.wake()
        except EngineSilent as error:
            raise Unreadable(str(error), fix=error.fix) from error
        except EngineError as error:
            raise StepError(str(error), code="engine", fix=error.fix) from error
        end = self.world.now() + _ADOPT_S
        while not self._settled(snapshot := self.snapshot()) and self.world.now() < end:
            self.world.pause(0.25)
        return snapshot

    def _settled(self, snapshot: Snapshot) -> bool:
        """Whether the worker of each disk, if there is one, has reported; others' sessions may only show the disk."""
        return all(one._adopted(snapshot) for one in self.each() if one.identity.source == Source.ENGINE)

    def _adopted(self, snapshot: Snapshot) -> bool:
        listed = {session.id for session in snapshot.sessions}
        logouts = self.steps("logout")
        if any(step.params["session"] not in listed and self.connection_of(step) is not None for step in logouts):
            return False
        disk = self.find(snapshot)
        if disk is None or disk.state is DiskState.AVAILABLE:
            return self.device_gone()
        return not logouts or any(step.params["session"] in listed for step in logouts)

    def connection_of(self, step: Step) -> Ends | None:
        """The TCP connection of the session that a logout step is about, as long as it is open.

        Raises:
            Unreadable: the kernel does not tell.
        """
        known = (*step.params["connections"], *self.newer.get(step.id, ()))
        own = {(ends["local_port"], ends["peer_host"], ends["peer_port"]) for ends in known}
        for found in self.world.connections():
            if (found.local_port, found.peer_host, found.peer_port) in own:
                return found
        return None

    def find(self, snapshot: Snapshot) -> Disk | None:
        """The disk of the plan, by its id or, when it was attached again, by its identification."""
        own = [disk for disk in snapshot.disks if disk.source == self.identity.source]
        for disk in own:
            if disk.id == self.identity.disk:
                return disk
        for disk in own:
            if self.identity.wwid is not None and disk.wwid == self.identity.wwid:
                return disk
        return None

    def confirm(self, *, device: bool) -> Disk:
        """Read the identity again and compare it with the plan.

        Args:
            device: Compare the block device too, with the kernel's own sequence number.

        Raises:
            StepError: the disk is not there, or is not the one that was planned.
        """
        disk = self.find(self.snapshot())
        if disk is None:
            raise StepError(f"{self.identity.name} is not listed any more.", code="gone", fix="mooring list")
        changed = [str(item) for item in differences(self.identity, Identity.of(disk), device=device)]
        if device:
            state = self.world.loop(self.identity.dev or "")
            if state is None or state.backing_file is None:
                changed.append(f"{self.identity.device} is not attached any more")
            elif state.diskseq != self.identity.diskseq:
                changed.append(f"diskseq was {self.identity.diskseq}, is {state.diskseq}")
        if changed:
            text = f"{self.identity.name} is not the disk that was planned: {'; '.join(changed)}."
            raise StepError(text, code="identity-changed", fix="look at it again, then make a new plan")
        return disk

    def device_gone(self) -> bool:
        """Whether the planned block device has been detached, even if its name serves another one by now."""
        if self.rebooted:
            return True
        dev = self.identity.dev
        if dev is None:
            raise Unreadable("The plan does not say which device carries the disk.")
        state = self.world.loop(dev)
        return state is None or state.backing_file is None or state.diskseq != self.identity.diskseq

    def drop(self) -> None:
        """Close every claim on these disks. The kernel would do so with the process."""
        for member in self.disks:
            claim = self.claims.pop(member.id, None)
            with contextlib.suppress(MooringError):
                if claim is not None and claim.held:
                    self.world.release(claim, 30.0)
            hctls = [route["hctl"] for route in member.attach.get("routes", ())]
            held = [self.held.pop(hctl) for hctl in hctls if hctl in self.held]
            with contextlib.suppress(MooringError):
                if held:
                    self.world.kernel.let_go(held)

    def until(self, look: Callable[[], str | None], seconds: float) -> None:
        """Look again and again until `look` gives None.

        Raises:
            NotProven: after `seconds` it still gives a reason.
        """
        end = self.world.now() + seconds
        wait = 0.01
        while (reason := look()) is not None:
            if self.world.now() >= end:
                raise NotProven(reason)
            self.world.pause(wait)
            wait = min(wait * 2, 0.25)

    def proof(self, step: Step) -> str:
        """What was answered to a step in this run.

        Raises:
            NotProven: nothing.
        """
        if step.id not in self.proofs:
            raise NotProven(f"{step.title}: there is no answer that proves it.")
        return self.proofs[step.id]

    def engine(self, method: str, step: Step | None, timeout: float = 30.0, **params: Any) -> Any:
        """Ask the engine.

        Raises:
            StepError: it refused or failed.
            Unreadable: it did not answer, so nobody knows.
        """
        limit = step.deadline_s if step is not None else timeout
        given: Mapping[str, Any] = {name: value for name, value in params.items() if value is not None}
        try:
            return self.world.engine(method, limit, given)
        except EngineSilent as error:
            raise Unreadable(str(error), fix=error.fix) from error
        except EngineNotRunning as error:
            raise StepError(str(error), code="engine", fix="the engine ended: mooring engine status") from error
        except EngineError as error:
            raise StepError(str(error), code=error.code, fix=error.fix) from error
