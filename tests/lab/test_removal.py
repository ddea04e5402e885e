"""Removals of disks of the real kernel, by Mooring's own command: bytes compared in the target's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import disks
from tests.lab.disks import Ground, Stand
from tests.lab.machine import Machine


@pytest.fixture(scope="module")
def ground(guest: Machine) -> Ground:
    return Ground(guest)


@pytest.fixture
def kept(ground: Ground) -> Iterator[list[Stand]]:
    """Stands whose disk is still there when the test ends."""
    stands: list[Stand] = []
    yield stands
    for stand in stands:
        ground.forget(stand)


def name_of(device: str) -> str:
    return device.rpartition("/")[2]


def plan(ground: Ground, device: str) -> dict[str, Any]:
    ran = ground.guest.mooring("plan", name_of(device), "--json", check=False)
    assert ran.out, str(ran)
    made: dict[str, Any] = json.loads(ran.out)
    return made


def codes(made: dict[str, Any], level: str) -> list[str]:
    return [finding["code"] for finding in made["findings"] if finding["level"] == level]


@pytest.mark.parametrize("stand", [disks.PLAIN, disks.XFS, disks.LVM, disks.LUKS], ids=lambda stand: stand.name)
def test_a_disk_goes_with_every_byte(ground: Ground, stand: Stand) -> None:
    device = ground.build(stand)
    checksum = ground.fill(stand)
    made = plan(ground, device)
    assert not made["blocked"], made["findings"]
    ran = ground.remove(name_of(device), check=False)
    assert ran.code == 0, str(ran)
    assert ground.left(stand) == ""
    assert ground.on_the_target(stand) == checksum
    startups = ground.guest.run(f"iscsiadm -m node -T {stand.target} | grep '^node.startup'").out.splitlines()
    assert set(startups) == {"node.startup = manual"}


def test_swap_is_switched_off_first(ground: Ground) -> None:
    device = ground.build(disks.SWAP)
    assert device in ground.guest.run("cat /proc/swaps").out
    ran = ground.remove(name_of(device), check=False)
    assert ran.code == 0, str(ran)
    assert device not in ground.guest.run("cat /proc/swaps").out
    assert ground.left(disks.SWAP) == ""


def test_a_session_with_another_disk_stays_until_that_one_goes(ground: Ground) -> None:
    stand = disks.PAIR
    device = ground.build(stand)
    checksum = ground.fill(stand)
    made = plan(ground, device)
    assert "session-stays" in codes(made, "note")
    assert not [step for step in made["steps"] if step["phase"] == "logout"]
    assert ground.remove(name_of(device)).code == 0
    assert ground.on_the_target(stand) == checksum
    other = ground.device(stand)
    assert other != device
    assert ground.guest.run(f"dd if={other} of=/dev/null bs=1M count=1 status=none").code == 0
    assert ground.remove(name_of(other)).code == 0
    assert ground.left(stand) == ""


def test_a_process_in_the_mount_is_named_and_nothing_is_done(ground: Ground, kept: list[Stand]) -> None:
    stand = disks.BUSY
    device = ground.build(stand)
    kept.append(stand)
    ground.guest.run(
        f"cd {stand.mountpoint} && (setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > /run/sleeper)"
    )
    made = plan(ground, device)
    assert codes(made, "block") == ["open"]
    assert ground.remove(name_of(device), check=False).code == 3
    assert ground.guest.run(f"findmnt -n {stand.mountpoint}").code == 0
    ground.guest.run("kill $(cat /run/sleeper)")
    ground.wait("! kill -0 $(cat /run/sleeper) 2>/dev/null")
    assert codes(plan(ground, device), "block") == []


DEATHS = [
    ("hand-over", "verified", "before", "resume"),
    ("hand-over", "verified", "after", "undo"),
    ("offline-2", "verified", "before", "resume"),
    ("logout-1", "verified", "after", "undo"),
]
"""Each takes most of a minute under emulation; every other place is tried in the simulated kernel."""


@pytest.mark.parametrize(("step", "mark", "when", "then"), DEATHS)
def test_killed_at_a_step_nothing_is_lost(ground: Ground, step: str, mark: str, when: str, then: str) -> None:
    stand, guest = disks.KILLED, ground.guest
    device = ground.build(stand)
    checksum = ground.fill(stand, step)
    options = guest.run(f"findmnt -n -o VFS-OPTIONS {stand.mountpoint}").out
    died = guest.run(
        f"/opt/mooring/bin/python /opt/lab/mortal.py {name_of(device)} {step} {mark} {when}", seconds=200, check=False
    )
    assert died.code in (-9, 137), str(died)
    journal = died.out.strip()
    if then == "undo":
        ran = guest.mooring("undo", journal, seconds=300, check=False)
        assert ran.code == 0, str(ran)
        assert guest.run(f"sha256sum < {stand.mountpoint}/{step}").out.split()[0] == checksum
        assert guest.run(f"findmnt -n -o VFS-OPTIONS {stand.mountpoint}").out == options
        device = ground.device(stand)
        assert device.startswith("/dev/mapper/")
        assert ground.remove(name_of(device), check=False).code == 0
    else:
        ran = guest.mooring("resume", journal, seconds=300, check=False)
        assert ran.code == 0, str(ran)
    assert ground.left(stand) == ""
    assert ground.on_the_target(stand, step) == checksum
