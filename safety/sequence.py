"""The sequence of a removal, as data: which phase may follow which, and on what evidence.

    identify -> lock -> stop what brings it back -> dismount -> claim -> map -> flush -> offline -> delete -> logout
      -> watch

A plan lists its steps in this order and may leave phases out only where the table allows it. The same table is asked
when a plan is made, when one is read back from a journal, and before each step is run, so that no route through the
code reaches `logout` of an attached disk except through a proven flush.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

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


def check_order(phases: Iterable[Phase]) -> None:
    """Check that steps with these phases, in this order, form a whole removal.

    Raises:
        SequenceError: a step comes too early, a phase that others need is missing, or there is no end to it.
    """
    seen: list[Phase] = []
    for phase in phases:
        if seen and ORDER.index(phase) < ORDER.index(seen[-1]):
            raise SequenceError(f"“{phase}” may not come after “{seen[-1]}”.")
        check_needs(phase, seen)
        seen.append(phase)
    if not seen or seen[-1] is not Phase.WATCH:
        raise SequenceError("The plan does not end by watching that nothing comes back.")


def check_needs(phase: Phase, proven: Iterable[Phase]) -> None:
    """Check that a step of `phase` may start when the phases in `proven` are behind it.

    Raises:
        SequenceError: a phase that this one stands on has not been proven.
    """
    missing = SEQUENCE[phase].needs.difference(proven)
    if missing:
        names = ", ".join(item for item in ORDER if item in missing)
        raise SequenceError(f"“{phase}” may not start: not proven yet: {names}.")
