"""Mooring's own engine against the kernel's target: one run in the guest, looked at from many sides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.machine import Machine

TARGET = "iqn.2026-11.io.mooring.lab:peer"
ME = "iqn.2026-11.io.mooring.lab:me"


@pytest.fixture(scope="module")
def told(guest: Machine) -> dict[str, Any]:
    """What `peer.py` saw."""
    ran = guest.run("cd / && /opt/mooring/bin/python /opt/lab/peer.py", seconds=400)
    answer: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return answer


def test_it_is_discovered_with_all_portals(told: dict[str, Any]) -> None:
    assert [TARGET, ["127.0.0.1:3299", "127.0.0.2:3299"]] in told["discovered"]


@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_both_sides_prove_themselves_with_every_hash(told: dict[str, Any], number: int) -> None:
    assert f"CHAP_A={number}" in told["algorithms"][str(number)][0]


def test_wrong_proofs_are_told_apart(told: dict[str, Any]) -> None:
    found = told["algorithms"]
    assert found["wrong secret"] == "authentication"
    assert found["wrong target"] == "target-authentication"
    assert found["none"] == "authentication-required"


def test_data_go_both_ways_with_both_digests(told: dict[str, Any]) -> None:
    found = told["data"]
    assert "failed" not in found, found
    assert found["digests"] == [True, True]
    assert found["recovery"] == 0
    assert (found["same"], found["zeroed"], found["swapped"]) == (True, True, "new")
    assert found["miscompare"] != "nothing"
    assert found["compare_limit"] == 1
    assert found["write_cache"] is True


def test_every_unit_has_an_identity_of_its_own(told: dict[str, Any]) -> None:
    units = told["data"]["units"]
    assert [unit[0] for unit in units] == [0, 1, 2]
    assert all(wwid.startswith("naa.6001405b000000") for _, _, wwid in units)
    assert len({wwid for _, _, wwid in units}) == 3


def test_a_reservation_is_seen_and_kept(told: dict[str, Any]) -> None:
    found = told["reservations"]
    assert "failed" not in found, found
    assert found["holder"] == [0xA, "write exclusive"]
    assert found["others"] == [[ME, 0xA, True]]
    assert found["refused"] == "EBADE"
    assert (found["after"], found["cleared"]) == ([0xB], [])


def test_access_states_are_followed_and_ordered(told: dict[str, Any]) -> None:
    found = told["access"]
    assert "failed" not in found, found
    assert (found["paths"], found["explicit"]) == (2, True)
    assert found["before"] == ["active/optimized"] * 2
    assert (found["slower"], found["served"], found["state"]) == (True, True, "0")
    assert found["ordered"]


def test_a_target_that_is_switched_off_and_on_loses_nothing(told: dict[str, Any]) -> None:
    found = told["reconfigured"]
    assert "failed" not in found, found
    assert (found["lost"], found["again"]) == (True, True)
    assert (found["before"], found["numbers"]) == (3, [0, 1, 2, 2000])
