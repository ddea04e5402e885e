"""The sequence of a removal, as data: which phase may follow which, and on what evidence.

    identify -> lock -> stop what brings it back -> dismount -> claim -> map -> flush -> offline -> delete -> logout
      -> watch

A volume that is dismounted while its disk stays goes another way from there: dismount -> unmounted.

A plan of any number of disks lists its steps in this order and may leave phases out only where the table allows it. The
same table is asked, for each disk, when a plan is made, when one is read back from a journal, and before each step is
run, so that no route through the code reaches `logout` of an attached disk except through a proven flush.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from initiator.errors import MooringError


class SequenceError(MooringError):
    """Steps are in an order that the sequence does not allow."""

    code = "sequence"
    fix = "Make a new plan; do not edit plans or journals by hand."


class Phase(enum.StrEnum):
    """The phases of a removal, in their order."""

    IDENTIFY = "identify"
    LOCK = "lock"
    STOP = "stop"
    """Keep agents from bringing the disk back: automatic logins, automounts, map daemons."""
    DISMOUNT = "dismount"
    UNMOUNTED = "unmounted"
    """The end where only a volume is dismounted and its disk stays."""
    CLAIM = "claim"
    MAP = "map"
    """Flush a multipath map and hand the claim on it over to its paths."""
    FLUSH = "flush"
    OFFLINE = "offline"
    DELETE = "delete"
    LOGOUT = "logout"
    WATCH = "watch"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What the sequence demands of one phase."""

    title: str
    needs: frozenset[Phase]
    """Phases of which every step has to be proven before a step of this one may start."""
    evidence: str
    """What has to be seen, from the kernel or the target, before the next phase."""
    free: bool
    """True while stopping here has changed nothing that the host cannot do without."""
    undo: str
    """How it is taken back, in one sentence; an empty string where there is nothing to take back."""


SEQUENCE: Mapping[Phase, Rule] = MappingProxyType(
    {
        Phase.IDENTIFY: Rule(
            title="Know the disk",
            needs=frozenset(),
            evidence="identification, size, target, LUN and device are those of the plan, and no guard says no",
            free=True,
            undo="",
        ),
        Phase.LOCK: Rule(
            title="Lock it and open the journal",
            needs=frozenset({Phase.IDENTIFY}),
            evidence="this runner alone holds the lock of the disk, and the journal is on stable storage",
            free=True,
            undo="",
        ),
        Phase.STOP: Rule(
            title="Stop what would bring it back",
            needs=frozenset({Phase.LOCK}),
            evidence="each agent's own state shows that it is stopped",
            free=False,
            undo="Start the agents again, with the values they had.",
        ),
        Phase.DISMOUNT: Rule(
            title="Unmount",
            needs=frozenset({Phase.LOCK}),
            evidence="no mount namespace lists the disk and its file system's superblock is gone",
            free=False,
            undo="Mount again at the same place with the same options.",
        ),
        Phase.UNMOUNTED: Rule(
            title="See that nothing of it is mounted",
            needs=frozenset({Phase.LOCK, Phase.DISMOUNT}),
            evidence="no mount namespace lists the file system, nothing of it is alive, and its device is free",
            free=True,
            undo="",
        ),
        Phase.CLAIM: Rule(
            title="Claim the device",
            needs=frozenset({Phase.LOCK}),
            evidence="an exclusive open succeeded, on the device with the planned sequence number",
            free=True,
            undo="Release the claim.",
        ),
        Phase.MAP: Rule(
            title="Hand the map over to its paths",
            needs=frozenset({Phase.CLAIM}),
            evidence="fsync of the map returned without error, the map is gone, and every path of it is claimed",
            free=False,
            undo="Release the claims and have multipathd make the map again.",
        ),
        Phase.FLUSH: Rule(
            title="Flush",
            needs=frozenset({Phase.CLAIM}),
            evidence="fsync returned without error and the target answered SYNCHRONIZE CACHE with GOOD",
            free=True,
            undo="",
        ),
        Phase.OFFLINE: Rule(
            title="Take it offline",
            needs=frozenset({Phase.CLAIM, Phase.FLUSH}),
            evidence="the device is gone, nobody had it open, and nothing can reach the disk through this host",
            free=False,
            undo="Bring the device back over the sessions that are still there.",
        ),
        Phase.DELETE: Rule(
            title="Delete its paths",
            needs=frozenset({Phase.FLUSH, Phase.OFFLINE}),
            evidence="the kernel lists none of its paths",
            free=False,
            undo="Scan the sessions again.",
        ),
        Phase.LOGOUT: Rule(
            title="Log out",
            needs=frozenset({Phase.FLUSH, Phase.OFFLINE}),
            evidence="the session is not listed any more and its TCP connection is closed",
            free=False,
            undo="Log in and attach again.",
        ),
        Phase.WATCH: Rule(
            title="Watch that nothing comes back",
            needs=frozenset({Phase.FLUSH, Phase.OFFLINE}),
            evidence="no session, device or mount of the disk came back while watched",
            free=True,
            undo="",
        ),
    }
)
"""The state table. Its keys are in the order of the sequence."""

ORDER: tuple[Phase, ...] = tuple(SEQUENCE)


BARE = frozenset({Phase.IDENTIFY, Phase.LOCK})
"""All that a step without any disk can stand on: a session that carries nothing has nothing to flush."""


class Placed(Protocol):
    """A step, as far as the sequence is concerned."""

    @property
    def id(self) -> str: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def disks(self) -> tuple[str, ...]: ...


def check_order(steps: Iterable[Placed], *, end: Phase = Phase.WATCH) -> None:
    """Check that these steps, in this order, form a whole removal of every disk that they are about.

    Args:
        steps: The steps.
        end: The phase of the last one: `UNMOUNTED` where a volume alone is dismounted.

    Raises:
        SequenceError: a step comes too early, a phase that others need is missing, or there is no end to it.
    """
    every = tuple(steps)
    for number, step in enumerate(every):
        if number and ORDER.index(step.phase) < ORDER.index(every[number - 1].phase):
            raise SequenceError(f"“{step.phase}” may not come after “{every[number - 1].phase}”.")
        check_turn(step, every, [one.id for one in every[:number]])
    if len({step.id for step in every}) != len(every):
        raise SequenceError("Two steps have the same id.")
    if not every or every[-1].phase is not end:
        raise SequenceError(f"The plan does not end with “{end}”.")
    if end is not Phase.UNMOUNTED and any(step.phase is Phase.UNMOUNTED for step in every):
        raise SequenceError("Only a plan that leaves the disk where it is ends with the unmounting.")


def check_turn(step: Placed, steps: Sequence[Placed], proven: Collection[str]) -> None:
    """Check that it is a step's turn when the steps with the ids in `proven` are behind it.

    For each disk that it is about, every phase that it stands on has to be proven for that very disk, and no step of
    an earlier phase may be open, of whatever disk: all are dismounted before the first is claimed, and so on.

    Raises:
        SequenceError: it is not.
    """
    done = set(proven)
    mine = ORDER.index(step.phase)
    for other in steps:
        if ORDER.index(other.phase) < mine and other.id not in done:
            raise SequenceError(f"“{step.id}” may not start: not proven yet: {other.id}.")
    for disk in step.disks or (None,):
        own = [one for one in steps if disk is None or disk in one.disks]
        phases = {one.phase for one in own if one.id in done} - {one.phase for one in own if one.id not in done}
        check_needs(step.phase, phases, bare=disk is None)


def check_needs(phase: Phase, proven: Iterable[Phase], *, bare: bool = False) -> None:
    """Check that a step of `phase` may start when the phases in `proven` are behind it.

    Args:
        phase: The phase of the step.
        proven: What is behind it, of the disk that it is about.
        bare: It is about no disk.

    Raises:
        SequenceError: a phase that this one stands on has not been proven.
    """
    before = frozenset(ORDER[: ORDER.index(phase)])
    missing = (BARE & before if bare else SEQUENCE[phase].needs).difference(proven)
    if bare and phase in _OF_A_DISK:
        raise SequenceError(f"“{phase}” is about a disk, and there is none.")
    if missing:
        names = ", ".join(item for item in ORDER if item in missing)
        raise SequenceError(f"“{phase}” may not start: not proven yet: {names}.")


_OF_A_DISK = frozenset(
    {Phase.DISMOUNT, Phase.UNMOUNTED, Phase.CLAIM, Phase.MAP, Phase.FLUSH, Phase.OFFLINE, Phase.DELETE}
)
