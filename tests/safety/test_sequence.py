from __future__ import annotations

from collections.abc import Iterable

import pytest

from safety.sequence import ORDER, SEQUENCE, Phase, SequenceError, check_needs, check_order
from safety.step import Step

WHOLE = [
    Phase.IDENTIFY,
    Phase.LOCK,
    Phase.DISMOUNT,
    Phase.CLAIM,
    Phase.FLUSH,
    Phase.OFFLINE,
    Phase.LOGOUT,
    Phase.WATCH,
]


def placed(phases: Iterable[Phase], disk: str = "a") -> list[Step]:
    return [
        Step(f"{disk}-{number}", "kind", phase, "title", "command", "proof", "undo", 1.0, 1.0, disks=(disk,))
        for number, phase in enumerate(phases)
    ]


def test_a_whole_removal_is_allowed_with_and_without_mounts() -> None:
    check_order(placed(WHOLE))
    check_order(placed(phase for phase in WHOLE if phase is not Phase.DISMOUNT))
    check_order(placed(phase for phase in ORDER if phase is not Phase.UNMOUNTED))
    assert list(SEQUENCE) == list(ORDER)


@pytest.mark.parametrize("left_out", [Phase.IDENTIFY, Phase.LOCK, Phase.CLAIM, Phase.FLUSH, Phase.OFFLINE, Phase.WATCH])
def test_no_phase_that_others_stand_on_may_be_left_out(left_out: Phase) -> None:
    with pytest.raises(SequenceError) as caught:
        check_order(placed(phase for phase in WHOLE if phase is not left_out))
    assert str(caught.value)


@pytest.mark.parametrize("first", range(len(WHOLE) - 1))
def test_no_two_phases_may_change_places(first: int) -> None:
    swapped = list(WHOLE)
    swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
    with pytest.raises(SequenceError):
        check_order(placed(swapped))


def test_logout_needs_a_proven_flush_and_offline() -> None:
    with pytest.raises(SequenceError, match="flush, offline"):
        check_needs(Phase.LOGOUT, {Phase.IDENTIFY, Phase.LOCK, Phase.CLAIM})
    with pytest.raises(SequenceError, match="offline"):
        check_needs(Phase.LOGOUT, {Phase.IDENTIFY, Phase.LOCK, Phase.CLAIM, Phase.FLUSH})


def test_every_phase_says_its_evidence_and_every_lasting_one_its_undo() -> None:
    for rule in SEQUENCE.values():
        assert rule.evidence
        assert rule.title
        assert rule.undo or rule.free


UNMOUNTING = [Phase.IDENTIFY, Phase.LOCK, Phase.STOP, Phase.DISMOUNT, Phase.UNMOUNTED]


def test_a_volume_alone_ends_with_the_proof_that_it_is_unmounted_and_goes_no_further() -> None:
    check_order(placed(UNMOUNTING), end=Phase.UNMOUNTED)
    for phases in (UNMOUNTING[:-1], [*UNMOUNTING, Phase.CLAIM], WHOLE, [Phase.IDENTIFY, Phase.LOCK, Phase.UNMOUNTED]):
        with pytest.raises(SequenceError):
            check_order(placed(phases), end=Phase.UNMOUNTED)
    with pytest.raises(SequenceError, match="does not end"):
        check_order(placed(UNMOUNTING))
    with pytest.raises(SequenceError, match="leaves the disk"):
        check_order(placed([*UNMOUNTING, *WHOLE[3:]]))
