"""All guards, and the one function that asks them.

A guard is a pure function of a `Scene`. It yields findings; a finding of level `block` forbids the removal, and
nothing overrides it. A guard that cannot know yields `block`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from initiator.model import Snapshot
from safety import guard_agents, guard_dead, guard_disk, guard_kernel, guard_path, guard_stack, guard_use, guard_volume
from safety.facts import Facts
from safety.findings import Finding, Level, blocks, in_order
from safety.scene import Scene, view
from safety.scope import Scope

__all__ = ["GUARDS", "Facts", "Finding", "Level", "blocks", "check", "examine"]

Guard = Callable[[Scene], Iterable[Finding]]

GUARDS: tuple[Guard, ...] = (
    guard_disk.permitted,
    guard_dead.dead,
    guard_dead.lost,
    guard_disk.readable,
    guard_disk.attached,
    guard_kernel.known,
    guard_kernel.kind,
    guard_disk.identity,
    guard_use.system,
    guard_disk.only_one,
    guard_use.users,
    guard_use.mounts,
    guard_use.overlays,
    guard_use.invisible,
    guard_use.swap,
    guard_use.above,
    guard_use.loops,
    guard_use.exports,
    guard_stack.groups,
    guard_stack.arrays,
    guard_stack.encrypted,
    guard_stack.spanning,
    guard_stack.swaps,
    guard_volume.known,
    guard_volume.reachable,
    guard_disk.paths,
    guard_path.engine,
    guard_path.last_path,
    guard_path.settled,
    guard_path.carried,
    guard_kernel.sessions,
    guard_kernel.twice,
    guard_kernel.paths,
    guard_kernel.joined,
    guard_kernel.daemons,
    guard_kernel.traffic,
    guard_kernel.other_units,
    guard_disk.neighbours,
    guard_agents.owners,
    guard_agents.cluster,
    guard_agents.autofs,
    guard_agents.automounts,
    guard_agents.entries,
    guard_agents.registrations,
    guard_disk.memory,
)
"""In the order in which their findings are shown, within one level."""

_TAKING_AWAY = frozenset(
    {
        guard_dead.dead,
        guard_dead.lost,
        guard_stack.groups,
        guard_stack.arrays,
        guard_stack.encrypted,
        guard_stack.spanning,
        guard_disk.paths,
        guard_path.settled,
        guard_kernel.sessions,
        guard_kernel.twice,
        guard_kernel.paths,
        guard_kernel.joined,
        guard_kernel.daemons,
        guard_kernel.traffic,
        guard_kernel.other_units,
        guard_disk.neighbours,
        guard_agents.registrations,
    }
)
"""Guards of what only a disk, a path or a session that goes away meets: not asked where just a volume is dismounted."""

_STANDING = frozenset(
    {
        guard_disk.attached,
        guard_disk.paths,
        guard_disk.only_one,
        guard_path.last_path,
        guard_path.settled,
        guard_kernel.paths,
        guard_kernel.joined,
        guard_kernel.traffic,
        guard_dead.dead,
    }
)


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
    left_out = (_STANDING if scene.resuming else frozenset()) | (_TAKING_AWAY if scene.volume else frozenset())
    asked = (guard for guard in GUARDS if guard not in left_out)
    found = (finding for guard in asked for finding in guard(scene))
    return in_order(guard_dead.demoted(found, scene))
