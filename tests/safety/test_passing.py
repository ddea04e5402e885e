"""Who opens a disk's device only in passing is waited for; who keeps it is a use."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from initiator.host.helper import HELPER
from initiator.host.usage import Kind, Opener, Usage
from safety import evidence
from safety.facts import UDEV


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def opener(comm: str) -> Opener:
    return Opener(7, comm, "root", "fd 5", "/dev/sda", Kind.DEVICE)


def looked(monkeypatch: pytest.MonkeyPatch, found: Iterable[str | None]) -> tuple[Usage, float]:
    """What is seen in the end and how long that took, if this is seen one after the other."""
    clock, seen = Clock(), iter(found)

    def read(root: Path, devs: set[str], bare: set[str]) -> Usage:
        comm = next(seen)
        return Usage(openers=() if comm is None else (opener(comm),))

    monkeypatch.setattr(evidence, "time", clock)
    monkeypatch.setattr(evidence, "read_usage", read)
    return evidence._settled_usage(Path("/"), {"8:0"}, set(), claims=False), clock.now


@pytest.mark.parametrize("comm", [*sorted(UDEV), HELPER])
def test_udev_and_helpers_are_waited_for(monkeypatch: pytest.MonkeyPatch, comm: str) -> None:
    usage, took = looked(monkeypatch, [comm] * 18 + [None])
    assert usage.openers == ()
    assert took == pytest.approx(2.7)


def test_a_udev_that_does_not_come_to_an_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    usage, took = looked(monkeypatch, ["(udev-worker)"] * 1000)
    assert [one.comm for one in usage.openers] == ["(udev-worker)"]
    assert 15 <= took < 16


def test_a_helper_that_does_not_come_to_an_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    usage, took = looked(monkeypatch, [HELPER] * 1000)
    assert [one.comm for one in usage.openers] == [HELPER]
    assert 3 <= took < 4


def test_others_have_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    usage, took = looked(monkeypatch, ["blkid", "blkid", "blkid", None])
    assert usage.openers == ()
    usage, took = looked(monkeypatch, ["qemu"] * 1000)
    assert [one.comm for one in usage.openers] == ["qemu"]
    assert took < 0.5


@pytest.mark.parametrize("claims", [False, True])
def test_the_claims_of_a_runner_are_no_use(claims: bool) -> None:
    """Its open files are: the removal would take its ground away."""
    own = dataclasses.replace(opener("python3"), pid=os.getpid())
    usage = Usage(openers=(own, opener("dd"), dataclasses.replace(own, kind=Kind.FILE)))
    found = evidence._foreign(usage, claims=claims)
    assert found == (usage.openers[1:] if claims else usage.openers)


def test_a_checker_of_paths_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    _, took = looked(monkeypatch, ["multipathd"])
    assert took == 0
