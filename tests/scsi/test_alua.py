"""REPORT TARGET PORT GROUPS answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.model import Access
from initiator.scsi.alua import (
    PortGroup,
    access_of,
    build_port_groups,
    parse_port_groups,
    parse_set_port_groups,
    port_groups_need,
    set_port_groups,
)
from initiator.scsi.errors import ScsiFormatError

GROUPS = (
    PortGroup(1, Access.OPTIMIZED, preferred=True, ports=(1, 2)),
    PortGroup(2, Access.NON_OPTIMIZED, ports=(3,), status=2),
    PortGroup(3, Access.TRANSITIONING),
)

groups = st.lists(
    st.builds(
        PortGroup,
        group=st.integers(0, 65535),
        access=st.sampled_from([item for item in Access if item is not Access.UNKNOWN]),
        preferred=st.booleans(),
        ports=st.lists(st.integers(0, 65535), max_size=4).map(tuple),
        supported=st.integers(0, 255),
        status=st.integers(0, 255),
    ),
    max_size=5,
    unique_by=lambda item: item.group,
)


@given(groups)
def test_groups_come_back(items: list[PortGroup]) -> None:
    data = build_port_groups(items)
    assert parse_port_groups(data) == tuple(items)
    assert port_groups_need(data) == len(data)


def test_the_bytes_of_the_standard() -> None:
    expected = "0000000c" + "818f0002" + "00020001" + "00000003"
    assert build_port_groups([PortGroup(2, Access.NON_OPTIMIZED, True, (3,), status=2)]).hex() == expected


def test_the_extended_header_is_understood() -> None:
    plain = build_port_groups(GROUPS)
    extended = (len(plain)).to_bytes(4, "big") + bytes((0x10, 30, 0, 0)) + plain[4:]
    assert parse_port_groups(extended) == GROUPS


def test_an_unknown_state_stays_unknown() -> None:
    assert parse_port_groups(bytes.fromhex("00000008") + bytes.fromhex("0700000100000000"))[0].access is Access.UNKNOWN


def test_a_cut_or_doubled_answer_is_refused() -> None:
    data = build_port_groups(GROUPS)
    for cut in range(len(data)):
        with pytest.raises(ScsiFormatError):
            parse_port_groups(data[:cut])
    with pytest.raises(ScsiFormatError, match="twice"):
        parse_port_groups(build_port_groups([GROUPS[0], GROUPS[0]]))


def test_a_path_finds_its_state() -> None:
    assert access_of(GROUPS, 2, None) == (Access.NON_OPTIMIZED, False)
    assert access_of(GROUPS, None, 2) == (Access.OPTIMIZED, True)
    assert access_of(GROUPS, 9, 1) == (Access.UNKNOWN, False)
    assert access_of((), None, None) == (Access.UNKNOWN, False)


def test_states_are_ordered_with_the_bytes_of_the_standard() -> None:
    cdb, data = set_port_groups([(2, Access.STANDBY), (0x1234, Access.OPTIMIZED)])
    assert (cdb.hex(), data.hex()) == ("a40a000000000000000c0000", "00000000" + "02000002" + "00001234")
    assert parse_set_port_groups(data) == ((2, Access.STANDBY), (0x1234, Access.OPTIMIZED))


def test_a_malformed_order_is_refused() -> None:
    for text in ("000000", "0000000001", "00000000" + "0f000001", "00000000" + "07000001"):
        with pytest.raises(ScsiFormatError):
            parse_set_port_groups(bytes.fromhex(text))
