"""Which removals that were done can be taken back: those that nothing later has overtaken. Pure.

The runner itself makes sure of each disk before it touches it. This is about what a person means: a disk that was
removed, came back by hand and was removed again is the same disk, and is not to be put where it was before the first
time.
"""

from __future__ import annotations

from collections.abc import Sequence

from initiator.errors import MooringError, RefusedError
from safety.journal import Outcome
from safety.past import Past
from safety.plan import Plan


def newest_done(removals: Sequence[Past], name: str | None) -> Past | None:
    """The newest removal of this name that was done and not taken back; None where there is none.

    Args:
        removals: All that are known, newest first.
        name: What was removed as the person called it, or its journal; None for whatever can be taken back.

    Raises:
        RefusedError: something came after the one that is named, so that the host is not as that one left it.
    """
    for number, past in enumerate(removals):
        if past.outcome is not Outcome.DONE or not (name is None or _is_called(past, name)):
            continue
        why = overtaken(past, removals[:number])
        if not why:
            return past
        if name is not None:
            raise RefusedError(
                f"{past.name} is not as {past.path} left it: {why}", code="overtaken", fix="see: mooring list"
            )
    return None


def _is_called(past: Past, name: str) -> bool:
    return name in (past.name, past.path.name, str(past.path), *past.records[0].data.get("keys", ()))


def overtaken(past: Past, later: Sequence[Past]) -> str:
    """What came after a removal and was about the same; an empty string where nothing was.

    Args:
        past: The removal.
        later: All that were begun after it, newest first.
    """
    mine = _plan(past)
    if mine is None:
        return "its plan cannot be read"
    for each in reversed(later):
        plan = _plan(each)
        if plan is None:
            return f"what {each.path} did cannot be read"
        if not set(mine.keys) & set(plan.keys) or each.outcome is Outcome.REFUSED or not _has_changed(each, plan):
            continue
        # A disk that had left the host was back before it could be a part of anything else. What stays (a volume, the
        # other paths of a map) stays with the disk: that has to go for good, or the very same has to be done again.
        back_meanwhile = _whole(mine) & set(plan.keys) or plan.name == mine.name
        gone_since = set(mine.keys) & _whole(plan) and each.outcome is not Outcome.UNDONE
        if back_meanwhile or gone_since:
            return f"then {each.name} was removed or unmounted ({each.path}, {each.outcome or 'not ended'})"
    return ""


def _plan(past: Past) -> Plan | None:
    try:
        return Plan.from_json(past.records[0].data["plan"])
    except (MooringError, IndexError, KeyError):
        return None


def _has_changed(past: Past, plan: Plan) -> bool:
    changing = {step.id for step in plan.steps if step.changing}
    return any(record.step in changing for record in past.records)


def _whole(plan: Plan) -> set[str]:
    """The keys of the disks that leave the host."""
    return {member.identity.key() for member in plan.members if member.whole}
