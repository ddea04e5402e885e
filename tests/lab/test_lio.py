"""Mooring's own initiator against LIO, the kernel's target: `guest/peer.py` does it, here is what has to come of it."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.guest.peer import (
    LOCKED,
    ME,
    MUTUAL,
    NAME,
    OPEN,
    OTHER,
    PORTAL,
    SECOND,
    SECRET,
    SPEC,
    STRICT,
    TARGET_SECRET,
    TWO,
    USER,
    WIDE,
    WIDE_LUNS,
)
from tests.lab.machine import Machine

Found = dict[str, Any]
MIB = 1 << 20
MOST_SECONDS = 90.0
RUN = """
mkdir -p /opt/peer/tests/lab && ln -sfn /opt/lab /opt/peer/tests/lab/guest
cd /opt/peer && exec /opt/mooring/bin/python -m tests.lab.guest.peer
"""


@pytest.fixture(scope="module")
def told(guest: Machine) -> Iterator[Found]:
    """What every scenario found; nothing of LIO's is left behind."""
    ran = guest.run(RUN, seconds=900)
    told = json.loads(ran.out)
    print(json.dumps({name: each["seconds"] for name, each in told.items()}))
    yield told
    left = guest.run("cd /sys/kernel/config/target; ls -d iscsi/* core/*/*; true").out
    assert NAME not in left
    assert "peer-" not in left


def found(told: Found, scenario: str) -> Found:
    """What a scenario found, if it came to its end."""
    assert "found" in told[scenario], told[scenario]["failed"]
    answer: Found = told[scenario]["found"]
    return answer


def test_it_takes_no_more_time_than_it_may(told: Found) -> None:
    assert sum(each["seconds"] for each in told.values()) < MOST_SECONDS


def test_a_plain_login_lists_reads_and_writes(told: Found) -> None:
    plain = found(told, "a_plain_login")
    # other scenarios of the same boot have targets of their own there
    assert {target: portals for target, portals in plain["listed"].items() if target.startswith(NAME)} == {
        **{target: [PORTAL] for target in (OPEN, LOCKED, MUTUAL, STRICT, WIDE)},
        TWO: [PORTAL, SECOND],
    }
    agreed = {"HeaderDigest": "None", "DataDigest": "None", "TargetPortalGroupTag": "1", "MaxConnections": "1"}
    assert agreed.items() <= plain["params"].items()
    assert [unit[:3] for unit in plain["units"]] == [[0, "LIO-ORG", "FILEIO"], [1, "LIO-ORG", "FILEIO"]]
    assert [unit[4].startswith("naa.6001405d000000") for unit in plain["units"]] == [True, True]
    assert plain["sizes"] == [16 * MIB, 16 * MIB]
    assert (plain["read"], plain["stored"]) == (True, True)
    # LIO says of a target that it does not know that the service is unavailable (0301), which may pass
    assert (plain["missing"]["error"], plain["missing"]["retry"]) == ("LoginError", True)


def test_chap_with_every_hash_in_one_direction_and_in_both(told: Found) -> None:
    chosen = found(told, "chap")["chosen"]
    assert chosen == {f"{number} {target}": str(number) for number in (5, 6, 7, 8) for target in (LOCKED, MUTUAL)}


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("wrong secret", "authentication", "does not accept our CHAP name or secret"),
        ("wrong user", "authentication", "does not accept our CHAP name or secret"),
        ("target wrong", "target-authentication", "the target could not prove who it is"),
        ("target unable", "authentication", "the target"),
    ],
)
def test_who_cannot_prove_who_he_is_is_refused(told: Found, case: str, code: str, words: str) -> None:
    refused = found(told, "chap")[case]
    assert (refused["error"], refused["code"], refused["retry"]) == ("AuthError", code, False), refused
    assert words in refused["text"]


def test_who_offers_no_chap_is_cut_off_without_a_word(told: Found) -> None:
    """LIO closes the connection instead of a login response with a status."""
    refused = found(told, "chap")["no secret"]
    assert (refused["error"], refused["code"]) == ("ConnectionLost", "closed-by-target"), refused
    assert "in the security stage of the login" in refused["text"]


def test_secrets_are_in_no_error_and_no_log(told: Found) -> None:
    everything = json.dumps(found(told, "chap"))
    assert f"CHAP_N={USER}" in everything, "the negotiation is in the log"
    for secret in (SECRET, TARGET_SECRET, "a-wrong-secret-77", "not-the-targets-1"):
        assert json.dumps(secret)[1:-1] not in everything


@pytest.mark.parametrize("way", ["Yes Yes", "Yes No", "No Yes", "No No"])
def test_data_under_both_digests_are_in_the_file_behind_the_disk(told: Found, way: str) -> None:
    one = found(told, "digests_and_data")["ways"][way]
    r2t, immediate = way.split()
    agreed = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C", "InitialR2T": r2t, "ImmediateData": immediate}
    assert agreed.items() <= one["params"].items()
    assert one["good"]


def test_a_digest_that_one_side_demands_is_not_given_up(told: Found) -> None:
    strict = found(told, "digests_and_data")
    for case in ("without", "demanded"):
        refused = strict[case]
        assert (refused["error"], refused["code"], refused["retry"]) == ("LoginError", "login-refused", False), refused


@pytest.mark.parametrize("level", ["0", "1", "2"])
def test_recovery_levels_beyond_ours_are_negotiated_away(told: Found, level: str) -> None:
    one = found(told, "recovery_levels")[level]
    assert {"ErrorRecoveryLevel": "0", "MaxConnections": "1"}.items() <= one["params"].items()
    assert one["read"] == 4096


def test_luns_beyond_255_are_those_that_lio_means(told: Found) -> None:
    """LIO writes its number into the LUN field as it is, as Linux does as an initiator."""
    luns = found(told, "luns")
    assert luns["fields"] == sorted(luns["linux"].values())
    assert luns["linux"]["256"] == "0100000000000000"
    named = {lun: (field, serial) for lun, field, serial in luns["units"]}
    serials = {number: SPEC["disks"][f"peer-{name}"]["serial"] for number, name in WIDE_LUNS.items()}
    assert named == {number: (luns["linux"][str(number)], serial) for number, serial in serials.items()}
    assert luns["reached"] == {str(number): [True, 0, 0] for number in WIDE_LUNS}
    assert luns["nowhere"] == "2500"
    assert luns["opened"]


def test_two_initiators_and_one_disk(told: Found) -> None:
    two = found(told, "reservations")
    assert two["registered"] == [[ME, 0xA1, True], [OTHER, 0xB2, False]]
    assert two["held"] == [0xA1, "write exclusive"]
    assert two["holder writes"] == two["other reads"] == "done"
    assert two["other writes"] == f"errno {errno.EBADE}"
    assert two["other reserves"] == "reservation-conflict"
    assert "2A05" in two["told"] or "2A03" in two["told"], two["told"]
    assert two["preempted writes"] == f"errno {errno.EBADE}"
    assert two["left"] == [None, []]
    assert two["free"] == "done"


def test_a_lun_that_comes_or_goes_is_told_by_the_others(told: Found) -> None:
    luns = found(told, "luns_that_come_and_go")
    assert luns["quiet"] == []
    assert luns["added"] == luns["removed"] == ["3F0E"]
    assert any("06/3F/0E" in text for text in luns["neighbour"]), luns["neighbour"]
    assert luns["before"] == luns["after"] == [0, 1]
    assert luns["then"] == [0, 1, 7]


def test_io_to_a_lun_that_is_gone_fails_and_goes_on_when_it_is_back(told: Found) -> None:
    luns = found(told, "luns_that_come_and_go")
    assert luns["ended"] == [errno.EIO, errno.EIO]
    assert luns["state"][0][0] == "failed"
    assert "logical unit not supported" in luns["state"][0][1]
    assert luns["again"] == "seven"
    assert any("no path has worked" in text for text in luns["told"]), luns["told"]


def test_io_follows_the_access_states(told: Found) -> None:
    states = found(told, "access_states_under_load")
    assert states["groups"] == [21, 22]
    assert states["steps"] == [
        ["left", "active/non-optimized", [f"{SECOND}"]],
        ["right", "standby", [f"{PORTAL}"]],
        ["left", "active/optimized", [f"{PORTAL}"]],
        ["right", "active/optimized", [f"{PORTAL}", f"{SECOND}"]],
        ["left", "unavailable", [f"{SECOND}"]],
        ["left", "active/optimized", [f"{PORTAL}", f"{SECOND}"]],
    ]
    assert states["failed"] == []


def test_where_no_group_serves_io_waits_or_is_told(told: Found) -> None:
    states = found(told, "access_states_under_load")
    assert states["waited"]
    assert states["hasty"] == errno.EIO


def test_a_size_that_changes_in_silence_is_found_out(told: Found) -> None:
    sizes = found(told, "sizes_that_change")
    assert sizes["asked"] == [24 * MIB]
    assert sizes["sizes"] == [16 * MIB, 24 * MIB, 8 * MIB]
    assert sizes["stored"] == "new"
    assert sizes["beyond"] == errno.EIO
    assert any(f"the size changed from {24 * MIB} to {8 * MIB} bytes" in text for text in sizes["told"])


def test_a_disabled_portal_group_is_waited_for(told: Found) -> None:
    away = found(told, "a_portal_group_that_is_disabled")
    assert away["reason"]
    assert away["waited"]
    assert away["failed"] == []
    assert away["read"] == 512
