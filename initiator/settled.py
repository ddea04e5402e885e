"""Whether paths have come back so lately that they are not to be relied on yet. Pure; the safety guards ask.

A process that has just started has seen nothing fall. So besides the age of a path's state, where somebody watched, the
kernel's own log counts (`initiator.host.kmsg.reinstated`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from initiator.health import WORKING, settling
from initiator.judgement import SETTLE
from initiator.model import Path, Snapshot


class Unsettled(NamedTuple):
    """A path that has to hold for a while yet."""

    path: Path
    back_s: float
    """For how many seconds it has been back."""
    left_s: float


def unsettled(
    snapshot: Snapshot, disk: str, reinstated: Mapping[str, float] | None = None, settle_s: float = SETTLE
) -> tuple[Unsettled, ...]:
    """The working paths of a disk that came back less than `settle_s` seconds ago.

    Args:
        snapshot: What there is now.
        disk: The disk's id.
        reinstated: When paths came back, Unix time by `major:minor`; None where nobody could say.
        settle_s: How long a path has to hold.
    """
    numbers = {f"/dev/{node.kname.replace('!', '/')}": node.dev for node in snapshot.block}
    found = []
    for path in snapshot.paths:
        if path.disk != disk or path.state not in WORKING:
            continue
        since = _back_since(path, (reinstated or {}).get(numbers.get(path.device or "", "")))
        back = None if since is None else max(snapshot.taken_at - since, 0.0)
        left = settling(back, settle_s)
        if back is not None and left is not None:
            found.append(Unsettled(path, back, left))
    return tuple(found)


def _back_since(path: Path, reinstated: float | None) -> float | None:
    """When a path came back last; a state that was entered without a failure before it is no return."""
    entered = path.since if path.failures else None
    known = [at for at in (entered, reinstated) if at is not None]
    return max(known) if known else None
