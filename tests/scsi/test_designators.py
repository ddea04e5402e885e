"""Identity: which designator becomes the WWID, and when two paths are the same logical unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.scsi.designators import (
    Association,
    Designator,
    Kind,
    build_designators,
    parse_designators,
    port_group,
    relative_port,
    same_unit,
    unit_names,
    wwid,
)
from initiator.scsi.errors import ScsiFormatError

NAA6 = Designator(Kind.NAA, bytes.fromhex("6001405a1b2c3d4e5f60718293a4b5c6"))
NAA5 = Designator(Kind.NAA, bytes.fromhex("5000c50012345678"))
NAA3 = Designator(Kind.NAA, bytes.fromhex("3000000100000001"))
NAA2 = Designator(Kind.NAA, bytes.fromhex("2000000100000001"))
EUI8 = Designator(Kind.EUI64, bytes.fromhex("0011223344556677"))
EUI16 = Designator(Kind.EUI64, bytes.fromhex("00112233445566778899aabbccddeeff"))
T10 = Designator(Kind.T10, b"IET     00010001", code_set=2)
NAME = Designator(Kind.SCSI_NAME, b"iqn.2026-11.io.mooring.practice:harbour,L,0x1\0", code_set=3)
PORT = Designator(Kind.RELATIVE_PORT, bytes.fromhex("00000002"), Association.PORT, protocol=5)
GROUP = Designator(Kind.PORT_GROUP, bytes.fromhex("00000101"), Association.PORT, protocol=5)


@given(
    st.lists(
        st.builds(
            Designator,
            kind=st.integers(0, 15),
            value=st.binary(max_size=40),
            association=st.sampled_from(Association),
            code_set=st.integers(0, 15),
            protocol=st.none() | st.integers(0, 15),
        ),
        max_size=8,
    )
)
def test_designators_come_back(items: list[Designator]) -> None:
    found = parse_designators(build_designators(items))
    assert found == tuple(items)
    assert wwid(found) == next(iter(unit_names(found)), None)


def test_a_designator_has_the_bytes_of_the_standard() -> None:
    assert build_designators([NAA6]).hex() == "0083001401030010" + NAA6.value.hex()
    assert build_designators([PORT]).hex() == "0083000851940004" + "00000002"


def test_a_cut_designator_is_refused() -> None:
    page = bytearray(build_designators([NAA6]))
    page[7] += 1
    with pytest.raises(ScsiFormatError, match="inside a designator"):
        parse_designators(page)
    with pytest.raises(ScsiFormatError):
        build_designators([Designator(Kind.VENDOR, bytes(256))])


def test_the_best_designator_becomes_the_wwid() -> None:
    ladder = [NAA6, NAA5, NAA3, NAA2, EUI16, EUI8, T10, NAME]
    names = [
        "naa.6001405a1b2c3d4e5f60718293a4b5c6",
        "naa.5000c50012345678",
        "naa.3000000100000001",
        "naa.2000000100000001",
        "eui.00112233445566778899aabbccddeeff",
        "eui.0011223344556677",
        "t10.IET%20%20%20%20%2000010001",
        "iqn.2026-11.io.mooring.practice:harbour%2CL%2C0x1",
    ]
    for index, name in enumerate(names):
        assert wwid(reversed(ladder[index:])) == name
    assert unit_names(reversed(ladder)) == tuple(names)


@pytest.mark.parametrize(
    "item",
    [
        Designator(Kind.NAA, b""),
        Designator(Kind.NAA, bytes.fromhex("6001405a1b2c3d4e")),
        Designator(Kind.NAA, bytes.fromhex("5000000000000000") + b"\0"),
        Designator(Kind.NAA, bytes(8)),
        Designator(Kind.EUI64, bytes(8)),
        Designator(Kind.EUI64, bytes(range(7))),
        Designator(Kind.T10, b"IET     "),
        Designator(Kind.T10, b"IET         \0\0"),
        Designator(Kind.SCSI_NAME, b"naa."),
        Designator(Kind.VENDOR, b"anything"),
        Designator(Kind.MD5, bytes(range(16))),
        Designator(Kind.NAA, NAA6.value, Association.PORT),
        Designator(Kind.NAA, NAA6.value, Association.TARGET),
    ],
)
def test_what_does_not_identify_the_unit_gives_no_wwid(item: Designator) -> None:
    assert wwid([item]) is None
    assert not same_unit([item], [item])


def test_target_text_cannot_leave_the_safe_alphabet() -> None:
    name = wwid([Designator(Kind.T10, b"[red]\x1b[0mX\xff/..")])
    assert name == "t10.%5Bred%5D%1B%5B0mX%FF%2F.."


def test_paths_join_only_when_they_are_certainly_one_unit() -> None:
    assert same_unit([NAA6, T10, PORT], [GROUP, T10, NAA6])
    assert same_unit([NAA6, T10], [NAA6])
    assert not same_unit([NAA6], [NAA5])
    assert not same_unit([NAA6, T10], [T10])
    assert not same_unit([], [])
    other = Designator(Kind.T10, b"IET     00010002", code_set=2)
    assert not same_unit([NAA6, T10], [NAA6, other])


def test_the_port_that_answered_is_named() -> None:
    assert port_group([NAA6, PORT, GROUP]) == 0x101
    assert relative_port([NAA6, PORT, GROUP]) == 2
    assert port_group([Designator(Kind.PORT_GROUP, bytes(4))]) is None
