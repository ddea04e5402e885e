from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from safety.identity import DEVICE, LOGICAL_UNIT, Identity, differences, missing
from tests.safety import scenes


def test_nothing_differs_from_itself() -> None:
    identity = Identity.of(scenes.disk())
    assert differences(identity, identity) == ()
    assert Identity.from_json(identity.to_json()) == identity
    assert missing(identity) == ()


@pytest.mark.parametrize("field", [*LOGICAL_UNIT, *DEVICE])
def test_each_field_that_changes_is_named(field: str) -> None:
    planned = Identity.of(scenes.disk())
    value = getattr(planned, field)
    other: Any = {str: "other", int: 99, tuple: ("other",)}[type(value)]
    found = differences(planned, dataclasses.replace(planned, **{field: other}))
    assert [item.field for item in found] == [field]
    assert "other" in str(found[0]) or "99" in str(found[0])


@pytest.mark.parametrize("field", [*LOGICAL_UNIT, *DEVICE])
def test_a_field_that_is_not_known_any_more_differs(field: str) -> None:
    planned = Identity.of(scenes.disk())
    lost: Any = () if field == "designators" else None
    found = differences(planned, dataclasses.replace(planned, **{field: lost}))
    assert [item.found for item in found] == ["unknown"]


def test_the_device_is_not_compared_when_it_is_meant_to_be_gone() -> None:
    planned = Identity.of(scenes.disk())
    detached = dataclasses.replace(planned, device=None, dev=None, diskseq=None)
    assert differences(planned, detached, device=False) == ()
    assert len(differences(planned, detached)) == 3


@pytest.mark.parametrize("field", ["wwid", "size_bytes", "target", "lun", "dev", "diskseq"])
def test_what_is_needed_and_not_known_is_missing(field: str) -> None:
    assert missing(Identity.of(scenes.disk(**{field: None}))) == (field,)


def test_the_key_is_the_units_and_not_the_devices() -> None:
    here = Identity.of(scenes.disk())
    assert here.key() == Identity.of(scenes.disk(device="/dev/loop9", dev="7:9", diskseq=99, name="x")).key()
    assert here.key() != Identity.of(scenes.disk(wwid="naa.5000000000000002")).key()
    assert here.key().isalnum()
