from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.errors import MooringError
from initiator.model import PathState, Swap
from safety.facts import Memory
from safety.plan import Options, Plan, PlanError, deepest_first, make
from safety.sequence import Phase, SequenceError
from safety.steps import KINDS
from tests.safety import scenes
from tests.safety.simworld import INNER_MOUNT


def plan(snapshot: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> Plan:
    return make(scenes.snapshot(**(snapshot or {})), scenes.facts(**(facts or {})), scenes.SCOPE)


def test_the_steps_of_a_mounted_disk() -> None:
    made = plan()
    assert [step.id for step in made.steps] == [
        "identify",
        "lock",
        "unmount-1",
        "claim",
        "fsync",
        "flush",
        "detach",
        "release",
        "offline",
        "logout-1",
        "logout-2",
        "watch",
    ]
    assert not made.blocked
    assert made.expected_s > 0
    assert made.members[0].attach == {
        "target": scenes.TARGET,
        "lun": 0,
        "portals": ["127.0.0.1:3260", "127.0.0.2:3260"],
        "name": "data",
        "initiator": "iqn.2026-11.example:host",
        "chap_user": None,
        "chap_target_user": None,
        "read_only": False,
    }


def test_every_step_says_what_it_does_and_proves_and_can_be_run() -> None:
    for step in plan().steps:
        assert step.title
        assert step.command
        assert step.proof
        assert step.deadline_s > 0
        assert step.kind in KINDS
        assert step.undo or not step.changing
    text = json.dumps([step.command for step in plan().steps])
    assert "MNT_DETACH" not in text
    assert "MNT_FORCE" not in text
    assert "UMOUNT_NOFOLLOW" in text


def test_a_plan_survives_json() -> None:
    made = plan()
    again = Plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.step("claim").phase is Phase.CLAIM
    with pytest.raises(KeyError):
        again.step("none")


def test_a_blocked_plan_shows_its_steps_all_the_same() -> None:
    made = plan({"swaps": (Swap("/dev/loop3", "partition", 1, scenes.DEV),)})
    assert made.blocked
    assert len(made.steps) == 12
    assert made.to_json()["blocked"] is True


def test_deepest_first() -> None:
    stacked = dataclasses.replace(scenes.DATA_MOUNT, mount_id=60, parent_id=40)
    bind = dataclasses.replace(scenes.DATA_MOUNT, mount_id=61, parent_id=1, mountpoint="/bind")
    own = (scenes.DATA_MOUNT, INNER_MOUNT, stacked, bind)
    order = [mount.mount_id for mount in deepest_first(own, (scenes.ROOT_MOUNT, *own))]
    assert order == [60, 41, 61, 40]


@given(st.permutations([scenes.ROOT_MOUNT, scenes.DATA_MOUNT, INNER_MOUNT]))
def test_the_order_does_not_depend_on_the_order_of_reading(mounts: list[Any]) -> None:
    made = plan(facts={"mounts": tuple(mounts)})
    points = [step.params["mountpoint"] for step in made.steps if step.kind == "unmount"]
    assert points == ["/mnt/data/inner", "/mnt/data"]
    assert [step.params["last"] for step in made.steps if step.kind == "unmount"] == [False, True]


def test_the_digest_is_that_of_the_situation() -> None:
    assert plan().digest == plan({"taken_at": 2000.0}).digest
    assert plan().digest == plan(facts={"memory": Memory(100 << 30, 1 << 30)}).digest
    different = [
        plan({"paths": (scenes.path(1), scenes.path(2, state=PathState.FAILED))}),
        plan({"disks": (scenes.disk(diskseq=8),), "block": (scenes.node(diskseq=8),)}),
        plan({"sessions": (scenes.session(1, id="engine:s:9"), scenes.session(2))}),
        plan(facts={"mounts": (scenes.ROOT_MOUNT,), "superblocks": ()}),
        make(scenes.snapshot(), scenes.facts(), scenes.SCOPE, Options(watch_s=1.0)),
    ]
    digests = {made.digest for made in different} | {plan().digest}
    assert len(digests) == len(different) + 1


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path for key in value for path in _paths(value[key], (*at, key))]
    if isinstance(value, list):
        return [path for index, item in enumerate(value) for path in _paths(item, (*at, index))]
    return [at]


_COSMETIC = {"schema", "made_at", "host", "blocked", "text", "evidence", "fix", "changing"}


@given(data=st.data())
def test_a_changed_plan_is_not_taken(data: st.DataObject) -> None:
    stored = json.loads(json.dumps(plan().to_json()))
    spots = [path for path in _paths(stored) if not _COSMETIC.intersection(path)]
    spot = data.draw(st.sampled_from(spots))
    changed = copy.deepcopy(stored)
    inner = changed
    for key in spot[:-1]:
        inner = inner[key]
    old = inner[spot[-1]]
    inner[spot[-1]] = "changed" if not isinstance(old, str) else old + "x"
    with pytest.raises(MooringError):
        Plan.from_json(changed)


@pytest.mark.parametrize("data", [{}, {"schema": 2}, {"schema": 1}, {"schema": 2, "disks": None}])
def test_what_is_not_a_plan_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(data)


def test_steps_in_a_wrong_order_are_refused_even_with_a_fitting_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan()
    swapped = (*made.steps[:4], made.steps[9], *made.steps[4:9], *made.steps[10:])
    wrong = dataclasses.replace(made, steps=swapped)
    monkeypatch.setattr("safety.plan._digest", lambda *_: wrong.digest)
    with pytest.raises(SequenceError):
        Plan.from_json(wrong.to_json())


def test_no_secret_is_in_a_plan() -> None:
    made = plan({"sessions": (scenes.session(1, chap_user="admin"), scenes.session(2, chap_user="admin"))})
    text = json.dumps(made.to_json())
    assert made.members[0].attach["chap_user"] == "admin"
    assert "secret" not in text
