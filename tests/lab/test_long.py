"""A sample, with a seed of its own, of what `make lab-long` does for two hours."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.lab import deaths, races, stacks
from tests.lab.deaths import Stack
from tests.lab.disks import Ground, Stand
from tests.lab.machine import Machine

SEED = 7


def _made(guest: Machine, stand: Stand) -> Iterator[Stack]:
    made = Stack(Ground(guest, [stand], 0x900 + stacks.EVERY.index(stand)), stand, random.Random(SEED))
    yield made
    deaths.remove(made)


@pytest.fixture(scope="module")
def nested(guest: Machine) -> Iterator[Stack]:
    """Mounts in mounts, built and filled; removed in the end."""
    yield from _made(guest, stacks.NESTED)


@pytest.fixture(scope="module")
def mapped(guest: Machine) -> Iterator[Stack]:
    """A file system on a map, built and filled; removed in the end."""
    yield from _made(guest, stacks.XFS)


@pytest.mark.trap("T12")
def test_killed_at_some_of_its_steps(mapped: Stack) -> None:
    chain = deaths.sweep(mapped, between=0.12, within=0.03)
    assert chain.kills >= 2
    assert (chain.removals, chain.undone, chain.stopped) == (1, 1, [])


@pytest.mark.long
@pytest.mark.trap("T12", "T19")
def test_a_nested_one_killed_at_some_of_its_steps(nested: Stack) -> None:
    chain = deaths.sweep(nested, between=0.2, within=0.1)
    assert chain.kills >= 3
    assert (chain.removals, chain.undone, chain.stopped) == (1, 1, [])


@pytest.mark.trap(19, 45, 81, 82)
def test_raced(mapped: Stack) -> None:
    race = races.race(mapped, mapped.chance)
    assert race.tries >= 1
    assert race.outcome


@pytest.mark.long
@pytest.mark.trap("T12", 80)
def test_killed_at_random_moments(mapped: Stack) -> None:
    chain = deaths.wander(mapped, 4)
    assert chain.kills + chain.not_killed >= 1
    assert chain.compared >= deaths.SIZE
