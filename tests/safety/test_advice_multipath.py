"""Disks without a map: what is told where multipathd is off, leaves them out, or cannot be asked."""

from __future__ import annotations

import pytest

from safety.advice.catalogue import RULES, Advice, advise
from tests.safety import advice_host as host
from tests.safety.advice_cases import LOOSE, SINGLE, Changed, both, disk, facts, map_

FREE = both(LOOSE, disk(map=None, multipath=False, volumes=()))
"""Two paths, no map, and nothing mounted."""
AWAITED = both(LOOSE, disk(map=None, multipath=None, volumes=()))
"""The same disk, which was in a map before: multipathd would join it again."""
OFF, UNASKED = facts(multipath={}), facts(multipath=None)


def mode(name: str) -> Changed:
    return facts(multipath={"find_multipaths": name})


def told(rule: str, *changes: Changed) -> Advice:
    """What one rule says of a host with these changes."""
    case = Changed({}, {})
    for change in changes:
        case = both(case, change)
    return advise(*case.build(), rules=[each for each in RULES if each.id == f"multipath/{rule}"])


@pytest.mark.parametrize("loose", [LOOSE, FREE, AWAITED], ids=["mounted", "free", "awaited"])
def test_without_multipathd_two_paths_of_one_disk_stay_two_devices(loose: Changed) -> None:
    (off,) = told("daemon-off", loose, OFF).findings
    assert off.evidence == "nothing answers at its socket; without a map: mail (/dev/sdb, /dev/sdc)"
    (apart,) = told("not-joined", loose, OFF).findings
    assert apart.evidence == "/dev/sdb, /dev/sdc"


def test_without_multipathd_maps_and_what_has_none_are_told_together() -> None:
    other = host.disk(id="kernel:d:other", name="other", map=None, multipath=False)
    apart = tuple(
        host.path(number, id=f"kernel:p:{number}:0:0:1", disk=other.id, map=None, device=f"/dev/sd{'def'[number]}")
        for number in host.NUMBERS
    )
    more = Changed(
        {"disks": (host.disk(), other), "paths": (*(host.path(number) for number in host.NUMBERS), *apart)}, {}
    )
    (off,) = told("daemon-off", more, OFF).findings
    assert off.evidence == "nothing answers at its socket; maps: mail; without a map: other (/dev/sde, /dev/sdf)"


def test_nobody_needs_multipathd_for_a_disk_with_one_path() -> None:
    assert told("daemon-off", SINGLE, OFF) == told("daemon-off", LOOSE) == Advice((), (), 1000.0)
    assert told("find-multipaths", SINGLE, OFF) == Advice((), (), 1000.0), "who does not run leaves nothing out"


@pytest.mark.parametrize("loose", [LOOSE, map_()], ids=["two devices", "a map"])
def test_a_multipathd_that_cannot_be_asked_may_be_off(loose: Changed) -> None:
    advice = told("daemon-off", loose, UNASKED)
    assert (advice.findings, [each.subject for each in advice.unknown]) == ((), ["multipathd"])


@pytest.mark.parametrize(("loose", "name"), [(FREE, "strict"), (LOOSE, "strict"), (LOOSE, "yes"), (LOOSE, "smart")])
def test_two_paths_that_multipathd_leaves_out(loose: Changed, name: str) -> None:
    """Strict takes only what was in a map before; the others come too late for what is mounted."""
    (found,) = told("find-multipaths", loose, mode(name), facts(records=None)).findings
    assert found.evidence == f"find_multipaths {name}; no map joins /dev/sdb, /dev/sdc"
    assert found.fix.startswith("multipath -a /dev/")


@pytest.mark.parametrize(
    ("loose", "change"),
    [(LOOSE, OFF), (FREE, OFF), (AWAITED, OFF), (LOOSE, mode("greedy")), (SINGLE, mode("off")), (map_(), mode("yes"))],
)
def test_where_find_multipaths_leaves_nothing_out(loose: Changed, change: Changed) -> None:
    assert told("find-multipaths", loose, change) == Advice((), (), 1000.0)


@pytest.mark.parametrize(
    ("loose", "change", "words"),
    [
        (LOOSE, UNASKED, "whether it should have a map"),
        (FREE, mode("yes"), "something else leaves it out"),
        (AWAITED, mode("strict"), "multipathd does not tell what it does with its paths"),
        (SINGLE, facts(records=None), "whether it should have a map"),
    ],
)
def test_where_nobody_knows_whether_find_multipaths_left_it_out(loose: Changed, change: Changed, words: str) -> None:
    advice = told("find-multipaths", loose, change)
    assert advice.findings == ()
    assert [(each.subject, words in each.reason) for each in advice.unknown] == [("mail", True)]


def test_of_a_disk_that_was_in_a_map_before_one_may_come() -> None:
    advice = told("not-joined", AWAITED)
    assert (advice.findings, [each.subject for each in advice.unknown]) == ((), ["mail"])
