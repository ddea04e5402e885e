"""Removals of disks of the real kernel, by Mooring's own command: bytes compared in the target's own files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import disks
from tests.lab.disks import Ground, Stand
from tests.lab.machine import Machine

LONG = pytest.mark.long


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


def codes(made: dict[str, Any], level: str) -> list[str]:
    return [finding["code"] for finding in made["findings"] if finding["level"] == level]


@pytest.mark.trap(3, 4, 26, 31, 33, 34, 35, 36, 42, 49, 81)
@pytest.mark.parametrize(
    "stand",
    [disks.PLAIN, *(pytest.param(stand, marks=LONG) for stand in (disks.XFS, disks.LVM, disks.LUKS))],
    ids=lambda stand: stand.name,
)
def test_a_disk_goes_with_every_byte(ground: Ground, stand: Stand) -> None:
    device = ground.build(stand)
    checksum = ground.fill(stand)
    if stand is disks.PLAIN:
        name = name_of(device)
        ran = ground.guest.mooring(
            "remove", name, "--confirm", name, "--watch", "1", "--json", seconds=600, check=False, cold=True
        )
    else:
        ran = ground.remove(name_of(device))
    assert ran.code == 0, str(ran)
    assert ground.left(stand) == ""
    assert ground.on_the_target(stand) == checksum
    startups = ground.guest.run(f"iscsiadm -m node -T {stand.target} | grep '^node.startup'").out.splitlines()
    assert set(startups) == {"node.startup = manual"}


@LONG
def test_swap_is_switched_off_first(ground: Ground) -> None:
    device = ground.build(disks.SWAP)
    assert device in ground.guest.run("cat /proc/swaps").out
    ran = ground.remove(name_of(device))
    assert ran.code == 0, str(ran)
    assert device not in ground.guest.run("cat /proc/swaps").out
    assert ground.left(disks.SWAP) == ""


@pytest.mark.trap(1, 2, 30, 38)
@pytest.mark.long
def test_a_session_with_another_disk_stays_until_that_one_goes(ground: Ground) -> None:
    stand = disks.PAIR
    device = ground.build(stand)
    checksum = ground.fill(stand)
    made = ground.plan(name_of(device))
    assert "session-stays" in codes(made, "note")
    assert not [step for step in made["steps"] if step["phase"] == "logout"]
    ran = ground.guest.warm({"do": "run", "journal": made["journal"]})
    assert ran.code == 0, str(ran)
    assert ground.on_the_target(stand) == checksum
    other = ground.device(stand)
    assert other != device
    assert ground.guest.run(f"dd if={other} of=/dev/null bs=1M count=1 status=none").code == 0
    assert ground.remove(name_of(other)).code == 0
    assert ground.left(stand) == ""


@pytest.mark.trap(41)
def test_a_process_in_the_mount_is_named_and_nothing_is_done(ground: Ground, kept: list[Stand]) -> None:
    stand = disks.BUSY
    device = ground.build(stand)
    kept.append(stand)
    ground.guest.run(
        f"cd {stand.mountpoint} && (setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > /run/sleeper)"
    )
    made = ground.plan(name_of(device))
    assert codes(made, "block") == ["open"]
    name = name_of(device)
    assert ground.guest.mooring("remove", name, "--confirm", name, seconds=300, check=False).code == 3
    assert ground.guest.run(f"findmnt -n {stand.mountpoint}").code == 0
    ground.guest.run("kill $(cat /run/sleeper)")
    ground.wait("! kill -0 $(cat /run/sleeper) 2>/dev/null")
    assert codes(ground.plan(name_of(device)), "block") == []


DEATHS = [
    pytest.param("hand-over", "verified", "before", "resume", marks=LONG),
    pytest.param("hand-over", "verified", "after", "undo", marks=LONG),
    pytest.param("offline-2", "verified", "before", "resume", marks=LONG),
    pytest.param("logout-1", "verified", "after", "undo", marks=LONG),
]
"""Each takes one to two minutes under emulation. test_long tries some places, the simulated kernel all of them."""


@pytest.mark.trap("T12")
@pytest.mark.parametrize(("step", "mark", "when", "then"), DEATHS)
def test_killed_at_a_step_nothing_is_lost(ground: Ground, step: str, mark: str, when: str, then: str) -> None:
    stand, guest = disks.KILLED, ground.guest
    device = ground.build(stand)
    checksum = ground.fill(stand, step)
    options = guest.run(f"findmnt -n -o VFS-OPTIONS {stand.mountpoint}").out
    journal = ground.plan(name_of(device))["journal"]
    died = guest.warm({"do": "run", "journal": journal, "die": [step, mark, when]})
    assert died.code == -9, str(died)
    ran = guest.warm({"do": then, "journal": journal})
    assert ran.code == 0, str(ran)
    if then == "undo":
        assert guest.run(f"sha256sum < {stand.mountpoint}/{step}").out.split()[0] == checksum
        assert guest.run(f"findmnt -n -o VFS-OPTIONS {stand.mountpoint}").out == options
        device = ground.device(stand)
        assert device.startswith("/dev/mapper/")
        ran = ground.remove(name_of(device))
        assert ran.code == 0, str(ran)
    assert ground.left(stand) == ""
    assert ground.on_the_target(stand, step) == checksum
