"""The vocabulary itself."""

from __future__ import annotations

import dataclasses
import enum

import pytest

from initiator import model
from initiator.model import Disk, DiskState, Link, LinkState, Portal, Snapshot, Source


def test_a_portal_is_written_as_people_write_it() -> None:
    assert str(Portal("192.0.2.7")) == "192.0.2.7:3260"
    assert str(Portal("2001:db8::7", 860, 1)) == "[2001:db8::7]:860"


def test_everything_with_an_id_is_found_by_it() -> None:
    disk = Disk("d1", "data", DiskState.ATTACHED, Source.ENGINE, None, 1)
    link = Link("link:lo", "lo", LinkState.UP)
    assert Snapshot("host", 0.0, disks=(disk,), links=(link,)).index() == {"d1": disk, "link:lo": link}


def classes() -> list[type]:
    return [item for item in vars(model).values() if isinstance(item, type) and dataclasses.is_dataclass(item)]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_values_cannot_be_changed(kind: type) -> None:
    params = kind.__dataclass_params__  # type: ignore[attr-defined]
    assert params.frozen
    assert hasattr(kind, "__slots__")
    assert kind.__doc__


def test_states_are_words_fit_for_a_screen() -> None:
    for item in vars(model).values():
        if isinstance(item, type) and issubclass(item, enum.StrEnum) and item is not enum.StrEnum:
            assert all(str(word) == word.value and word.value.islower() for word in item)
            assert item.__doc__
