"""No field of the model is left out: a new one that no test of this folder compares makes this fail."""

from __future__ import annotations

import dataclasses

import pytest

from tests.lab.noted import CLASSES, Noted

OWN = {
    "snapshot": {
        "host", "taken_at", "engine", "practice", "schema", "problems",  # what Mooring says of itself
    },
    "maps": {"answered_at"},  # only while multipathd is silent
}  # fmt: skip


@pytest.mark.parametrize("kind", list(CLASSES))
def test_every_field_is_compared(seen: Noted, kind: str) -> None:
    fields = {field.name for field in dataclasses.fields(CLASSES[kind])}
    assert fields - OWN.get(kind, set()) - Noted.looked_at[kind] == set()


@pytest.mark.parametrize("kind", ["sessions", "maps"])
def test_every_detail_is_compared(seen: Noted, kind: str) -> None:
    there = {name for item in seen[kind] for name in item["details"]}
    assert there - Noted.looked_at[f"{kind} details"] - {"boot"} == set()


def test_nothing_could_not_be_read(seen: Noted) -> None:
    assert seen["problems"] == []
