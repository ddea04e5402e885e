"""Values that are made through their slots are what the standard library makes."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import pickle
import weakref
from collections.abc import Mapping

import pytest

from initiator import model
from initiator.quick import MANY, quick, unsearched


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    one: int
    two: str = "two"
    three: Mapping[str, str] = dataclasses.field(default_factory=dict)


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Quick:
    one: int
    two: str = "two"
    three: Mapping[str, str] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(("words", "named"), [((1,), {}), ((1, "x"), {"three": {"a": "b"}}), ((), {"one": 3})])
def test_the_same_values_come_out(words: tuple[object, ...], named: dict[str, object]) -> None:
    plain, made = Plain(*words, **named), Quick(*words, **named)  # type: ignore[arg-type]
    assert dataclasses.asdict(made) == dataclasses.asdict(plain)
    assert repr(made) == repr(plain).replace("Plain", "Quick")
    assert made == Quick(*words, **named)  # type: ignore[arg-type]
    assert copy.copy(made) == pickle.loads(pickle.dumps(made)) == dataclasses.replace(made) == made
    assert dataclasses.replace(made, two="y").two == "y"


def test_what_a_factory_makes_belongs_to_one_value() -> None:
    assert Quick(1).three == {}
    assert Quick(1).three is not Quick(1).three


def test_it_is_still_frozen_and_still_complains() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Quick(1).one = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"Quick\.__init__\(\) missing 1 required positional argument: 'one'"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'four'"):
        Quick(1, four=4)  # type: ignore[call-arg]
    assert str(inspect.signature(Quick)) == str(inspect.signature(Plain))


@pytest.mark.parametrize("kind", [model.Session, model.Path, model.Disk, model.Map, model.BlockNode])
def test_every_default_of_the_model_is_what_its_field_says(kind: type) -> None:
    fields = dataclasses.fields(kind)
    made = kind(*[field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING])
    for field in fields:
        if field.default is not dataclasses.MISSING:
            assert getattr(made, field.name) is field.default, field.name
        elif field.default_factory is not dataclasses.MISSING:
            assert getattr(made, field.name) == field.default_factory(), field.name
        else:
            assert getattr(made, field.name) == field.name


def test_many_new_objects_are_old_at_once_and_a_cycle_among_them_is_found_all_the_same() -> None:
    class Cycle:
        itself: object = None

    gc.unfreeze()
    with unsearched():
        assert not gc.isenabled()
        kept = [[number] for number in range(MANY + 1000)]
        cycle = Cycle()
        cycle.itself = cycle
        left = weakref.ref(cycle)
        del cycle
    assert gc.isenabled()
    assert gc.get_count()[0] < MANY
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert left() is None
    assert len(kept) == MANY + 1000


def test_who_has_switched_the_search_off_finds_it_off() -> None:
    gc.disable()
    try:
        with unsearched():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
