"""What is told of a situation that is not the one somebody confirmed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.model import PathState
from safety.changes import changes
from safety.facts import Memory
from safety.plan import Options, Plan, make
from tests.safety import scenes


def plan(snapshot: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> Plan:
    return make(scenes.snapshot(**(snapshot or {})), scenes.facts(**(facts or {})), scenes.SCOPE)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (plan({"disks": (scenes.disk(wwid="naa.5fff"),)}), "data is another disk now: wwid was naa.5000000000000001"),
        (plan({"disks": (scenes.disk(size_bytes=1 << 20),)}), "data is not as it was now: size_bytes was"),
        (plan({"paths": (scenes.path(1), scenes.path(2, state=PathState.FAILED))}), "New: "),
        (
            plan({"sessions": (scenes.session(1, id="engine:s:9"), scenes.session(2))}),
            "not reach session 1 any more.",
        ),
        (plan(facts={"mounts": (scenes.ROOT_MOUNT,), "superblocks": ()}), "A step less: "),
        (make(scenes.snapshot(), scenes.facts(), scenes.SCOPE, Options(watch_s=1.0)), "What was chosen differs"),
    ],
)
def test_what_differs_is_named(now: Plan, told: str) -> None:
    assert told in " ".join(changes(plan(), now))


def test_what_is_over_is_named_too() -> None:
    failed = plan({"paths": (scenes.path(1), scenes.path(2, state=PathState.FAILED))})
    assert any(told.startswith("Not so any more: ") for told in changes(failed, plan()))


def test_what_passes_by_itself_is_no_change() -> None:
    assert changes(plan(), plan({"taken_at": 2000.0}, {"memory": Memory(100 << 30, 1 << 30)})) == ()


def test_one_field_of_a_step_is_named() -> None:
    read = plan()
    slower = dataclasses.replace(read.steps[0], deadline_s=77.0)
    now = dataclasses.replace(read, steps=(slower, *read.steps[1:]), digest="another")
    (told,) = changes(read, now)
    assert "deadline_s was " in told
    assert "is 77.0" in told


def test_many_changes_are_told_in_few_sentences() -> None:
    read = plan()
    now = dataclasses.replace(read, steps=(), touched=(), digest="another")
    told = changes(read, now)
    assert len(told) == 5
    assert told[-1] == f"And {len(read.steps) + len(read.touched) - 4} more."
