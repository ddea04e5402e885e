"""All guards, and the one function that asks them.

A guard is a pure function of a `Scene`. It yields findings; a finding of level `block` forbids the removal, and
nothing overrides it. A guard that cannot know yields `block`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from initiator.model import Snapshot
from safety import guard_agents, guard_dead, guard_disk, guard_kernel, guard_path, guard_stack, guard_use, guard_volume
from safety.facts import Facts
from safety.findings import Finding, Level, blocks, in_order
from safety.scene import Scene, view
from safety.scope import Scope

__all__ = ["GUARDS", "Facts", "Finding", "Level", "blocks", "check", "examine"]


class Guard(NamedTuple):
    """A guard, and when it is asked."""

    ask: Callable[[Scene], Iterable[Finding]]
    volume: bool = True
    """Also where just a volume is dismounted; False for what only a disk, a path or a session meets that goes away."""
    resumed: bool = True
    """Also when a removal is resumed; False for what it trips itself once it was begun."""

    def counts(self, scene: Scene) -> bool:
        """Whether it is asked here."""
        return (self.volume or not scene.volume) and (self.resumed or not scene.resuming)


GUARDS: tuple[Guard, ...] = (
    Guard(guard_disk.permitted),
    Guard(guard_dead.dead, volume=False, resumed=False),
    Guard(guard_dead.lost, volume=False),
    Guard(guard_disk.readable),
    Guard(guard_disk.attached, resumed=False),
    Guard(guard_kernel.known),
    Guard(guard_kernel.kind),
    Guard(guard_disk.identity),
    Guard(guard_use.system),
    Guard(guard_disk.only_one, resumed=False),
    Guard(guard_use.users),
    Guard(guard_use.mounts),
    Guard(guard_use.overlays),
    Guard(guard_use.invisible),
    Guard(guard_use.swap),
    Guard(guard_use.above),
    Guard(guard_use.loops),
    Guard(guard_use.exports),
    Guard(guard_stack.groups, volume=False),
    Guard(guard_stack.arrays, volume=False),
    Guard(guard_stack.encrypted, volume=False),
    Guard(guard_stack.spanning, volume=False),
    Guard(guard_stack.swaps),
    Guard(guard_volume.known),
    Guard(guard_volume.reachable),
    Guard(guard_disk.paths, volume=False, resumed=False),
    Guard(guard_path.engine),
    Guard(guard_path.last_path, resumed=False),
    Guard(guard_path.settled, volume=False, resumed=False),
    Guard(guard_path.carried),
    Guard(guard_kernel.sessions, volume=False),
    Guard(guard_kernel.twice, volume=False),
    Guard(guard_kernel.paths, volume=False, resumed=False),
    Guard(guard_kernel.joined, volume=False, resumed=False),
    Guard(guard_kernel.daemons, volume=False),
    Guard(guard_kernel.traffic, volume=False, resumed=False),
    Guard(guard_kernel.other_units, volume=False),
    Guard(guard_disk.neighbours, volume=False),
    Guard(guard_agents.owners),
    Guard(guard_agents.cluster),
    Guard(guard_agents.autofs),
    Guard(guard_agents.automounts),
    Guard(guard_agents.entries),
    Guard(guard_agents.registrations, volume=False),
    Guard(guard_disk.memory),
)
"""In the order in which their findings are shown, within one level."""


def check(snapshot: Snapshot, facts: Facts, scope: Scope) -> tuple[Finding, ...]:
    """What speaks against a removal, the worst first.

    Raises:
        BadInputError: there is no such thing.
    """
    return examine(view(snapshot, facts, scope.on(snapshot)))


def examine(scene: Scene) -> tuple[Finding, ...]:
    """As `check`, for a scene that was worked out already.

    When a removal is resumed, the guards are left out that it would trip itself: that the disk is offline by now, and
    that a removal of it was begun. The steps check what they need of it themselves.
    """
    found = (finding for guard in GUARDS if guard.counts(scene) for finding in guard.ask(scene))
    return in_order(guard_dead.demoted(found, scene))
