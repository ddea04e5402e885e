"""What is not as it was between two plans of the same removal, in sentences: for who confirmed the older one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from safety.identity import differences
from safety.plan import PASSING, Member, Plan

_FEW = 4
"""More sentences than these are counted only."""


def changes(read: Plan, now: Plan) -> tuple[str, ...]:
    """One sentence for each thing that differs, what weighs most first; none if the plans have one digest.

    Disks come first, then findings, sessions, steps and options. Times are not compared.
    """
    if read.digest == now.digest:
        return ()
    told = [*_disks(read, now), *_findings(read, now), *_sessions(read, now), *_steps(read, now)]
    told += [f"What was chosen differs: {read.options} and {now.options}."] if read.options != now.options else []
    more = len(told) - _FEW
    return tuple(told) if more <= 1 else (*told[:_FEW], f"And {more} more.")


def _disks(read: Plan, now: Plan) -> Iterator[str]:
    was, found = _by_id(read), _by_id(now)
    for disk, member in was.items():
        if disk not in found:
            yield f"{member.identity.name} is not among the disks any more."
            continue
        changed = differences(member.identity, found[disk].identity)
        if changed:
            another = "another disk" if {"wwid", "serial"} & {each.field for each in changed} else "not as it was"
            yield f"{member.identity.name} is {another} now: {'; '.join(map(str, changed))}."
        elif member.whole != found[disk].whole:
            yield f"{member.identity.name} {'stays' if member.whole else 'goes'} now."
        elif member.attach != found[disk].attach:
            every = dict.fromkeys((*member.attach, *found[disk].attach))
            keys = (key for key in every if member.attach.get(key) != found[disk].attach.get(key))
            yield f"What brings {member.identity.name} back differs: {', '.join(keys)}."
    yield from (f"{found[disk].identity.name} is among the disks now." for disk in found if disk not in was)


def _by_id(plan: Plan) -> dict[str, Member]:
    return {member.id: member for member in plan.members}


def _findings(read: Plan, now: Plan) -> Iterator[str]:
    was, found = (
        {(one.level, one.code, one.subject): one.text for one in plan.findings if one.code not in PASSING}
        for plan in (read, now)
    )
    yield from (f"New: {text}" for key, text in found.items() if key not in was)
    yield from (f"Not so any more: {text}" for key, text in was.items() if key not in found)


def _sessions(read: Plan, now: Plan) -> Iterator[str]:
    was, found = ({each.id: each for each in plan.touched} for plan in (read, now))
    yield from (f"It reaches session {found[key].number}, too." for key in found if key not in was)
    yield from (f"It does not reach session {was[key].number} any more." for key in was if key not in found)
    for key in was:
        if key in found and was[key] != found[key]:
            yield f"Session {was[key].number} differs: {_fields(was[key], found[key])}."


def _steps(read: Plan, now: Plan) -> Iterator[str]:
    was, found = ({step.id: step for step in plan.steps} for plan in (read, now))
    yield from (f"A step more: {found[key].title}." for key in found if key not in was)
    yield from (f"A step less: {was[key].title}." for key in was if key not in found)
    for key in was:
        if key in found and was[key] != found[key]:
            yield f"Step {was[key].title} differs: {_fields(was[key], found[key])}."


def _fields(one: object, other: object) -> str:
    """`title was a, is b` for each field of two values of one dataclass."""
    assert dataclasses.is_dataclass(one)
    pairs = ((field.name, getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return "; ".join(f"{name} was {was}, is {found}" for name, was, found in pairs if was != found)
