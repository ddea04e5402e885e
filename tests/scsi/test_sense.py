"""Sense data in both formats, and the words for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.scsi.commands import Status
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import Key, Sense, build_sense, explain, parse_sense

byte = st.integers(0, 255)


@pytest.mark.check(107)
@given(
    st.builds(
        Sense,
        key=st.sampled_from(Key),
        asc=byte,
        ascq=byte,
        deferred=st.booleans(),
        information=st.none() | st.integers(0, 2**32 - 1),
        descriptor=st.booleans(),
    )
)
def test_sense_comes_back(item: Sense) -> None:
    assert parse_sense(build_sense(item)) == item


def test_fixed_sense_has_the_bytes_of_the_standard() -> None:
    assert (
        build_sense(Sense(Key.UNIT_ATTENTION, 0x29, 0x00)).hex()
        == "70000600000000" + "0a" + "00000000" + "2900" + "00000000"
    )
    assert build_sense(Sense(Key.MEDIUM_ERROR, 0x11, 0, information=0x1234)).hex().startswith("f0000300001234")


def test_a_large_lba_only_fits_the_descriptor_format() -> None:
    assert parse_sense(build_sense(Sense(Key.MEDIUM_ERROR, 0x11, information=2**40))).information is None
    wide = Sense(Key.MEDIUM_ERROR, 0x11, information=2**40, descriptor=True)
    assert parse_sense(build_sense(wide)).information == 2**40


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        text = parse_sense(data).explain()
    except ScsiFormatError as error:
        text = str(error)
    assert text


@pytest.mark.check(107)
def test_sense_that_was_cut_still_names_its_key() -> None:
    full = build_sense(Sense(Key.NOT_READY, 0x04, 0x0B))
    assert parse_sense(full[:13]) == Sense(Key.NOT_READY, 0x04, 0)
    assert parse_sense(full[:3]) == Sense(Key.NOT_READY)
    with pytest.raises(ScsiFormatError):
        parse_sense(full[:2])
    with pytest.raises(ScsiFormatError, match="unknown format"):
        parse_sense(bytes(18))


def test_words_for_people() -> None:
    assert explain(0) == "GOOD"
    assert explain(0x28) == "TASK SET FULL"
    assert explain(0x99) == "status 0x99"
    assert explain(Status.CHECK_CONDITION, build_sense(Sense(Key.NOT_READY, 0x04, 0x0B))) == (
        "CHECK CONDITION, NOT READY: target port in standby state (02/04/0B)"
    )
    assert explain(Status.CHECK_CONDITION) == "CHECK CONDITION, sense data has 0 bytes, needs at least 3"
    assert Sense(Key.MEDIUM_ERROR, 0x11, 0x99).explain() == "MEDIUM ERROR: unrecovered read error (03/11/99)"
    assert Sense(Key.NO_SENSE).explain() == "NO SENSE (00/00/00)"
    late = Sense(Key.HARDWARE_ERROR, 0x44, deferred=True).explain()
    assert late == "HARDWARE ERROR: internal target failure (04/44/00, about an earlier command)"
