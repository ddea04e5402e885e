"""CDBs: the bytes of the standards, and that the parser is the builders' inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.scsi import commands
from initiator.scsi.commands import FLAT_LUNS, Op, decode_lun, decode_luns, encode_lun, parse_cdb, straight_lun
from initiator.scsi.errors import ScsiFormatError, UnsupportedCommandError


@pytest.mark.parametrize(
    ("cdb", "expected"),
    [
        (commands.test_unit_ready(), "000000000000"),
        (commands.inquiry(), "12000000ff00"),
        (commands.inquiry(True, 0x83, 0x1234), "120183123400"),
        (commands.report_luns(512), "a00000000000000002000000"),
        (commands.mode_sense_caching(), "1a080800fc00"),
        (commands.mode_sense10(0x3F), "5a083f00000000020000"),
        (commands.read_capacity10(), "25000000000000000000"),
        (commands.read_capacity16(), "9e100000000000000000000000200000"),
        (commands.read(0x01020304, 8), "28000102030400000800"),
        (commands.read(0x01020304, 8, fua=True), "28080102030400000800"),
        (commands.read(1 << 32, 1), "88000000000100000000000000010000"),
        (commands.write(7, 0x10000), "8a000000000000000007000100000000"),
        (commands.synchronize_cache16(), "91000000000000000000000000000000"),
        (commands.synchronize_cache10(), "35000000000000000000"),
        (commands.report_target_port_groups(256), "a30a00000000000001000000"),
        (commands.write_same16_zero(2, 3, 512)[0], "93000000000000000002000000030000"),
        (commands.unmap([(1, 2)])[0], "42000000000000001800"),
    ],
)
def test_a_cdb_has_the_bytes_of_the_standard(cdb: bytes, expected: str) -> None:
    assert cdb.hex() == expected


@given(st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.booleans())
def test_reads_and_writes_come_back_from_their_cdb(lba: int, blocks: int, fua: bool) -> None:
    for build, op in ((commands.read, Op.READ), (commands.write, Op.WRITE)):
        parsed = parse_cdb(build(lba, blocks, fua).ljust(16, b"\0"))
        assert (parsed.op, parsed.lba, parsed.blocks, parsed.fua) == (op, lba, blocks, fua)


@given(st.integers(0, 2**63), st.integers(0, 2**32 - 1))
def test_flushes_and_zeroes_come_back_from_their_cdb(lba: int, blocks: int) -> None:
    flush = parse_cdb(commands.synchronize_cache16(lba, blocks))
    assert (flush.op, flush.lba, flush.blocks) == (Op.SYNCHRONIZE_CACHE, lba, blocks)
    cdb, data = commands.write_same16_zero(lba, blocks, 4096, may_unmap=True)
    same = parse_cdb(cdb)
    assert (same.op, same.lba, same.blocks, same.unmap, same.no_data) == (Op.WRITE_SAME, lba, blocks, True, False)
    assert data == bytes(4096)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("081fffff0000", commands.Command(Op.READ, lba=0x1FFFFF, blocks=256)),
        ("0a0000050300", commands.Command(Op.WRITE, lba=5, blocks=3)),
        ("a8080000000500000003 0000", commands.Command(Op.READ, lba=5, blocks=3, fua=True)),
        ("2f020000000100000400", commands.Command(Op.VERIFY, lba=1, blocks=4, byte_check=1)),
        ("41080000000100000400", commands.Command(Op.WRITE_SAME, lba=1, blocks=4, unmap=True)),
        ("93090000000000000001000000040000", commands.Command(Op.WRITE_SAME, 1, 4, unmap=True, no_data=True)),
        ("1b0000000200", commands.Command(Op.START_STOP_UNIT, select=2)),
        ("0300000012 00", commands.Command(Op.REQUEST_SENSE, length=18)),
        ("12018000ff00", commands.Command(Op.INQUIRY, evpd=True, page=0x80, length=255)),
        ("5a08c80100000001 0000", commands.Command(Op.MODE_SENSE_10, page=8, subpage=1, select=3, length=256)),
        ("a32a00000000000001000000", commands.Command(Op.REPORT_TARGET_PORT_GROUPS, length=256, select=1)),
    ],
)
def test_the_target_reads_other_forms_too(text: str, expected: commands.Command) -> None:
    assert parse_cdb(bytes.fromhex(text)) == expected


@given(st.binary(max_size=20))
def test_any_bytes_parse_or_are_refused(cdb: bytes) -> None:
    try:
        parsed = parse_cdb(cdb)
    except ScsiFormatError:
        return
    assert isinstance(parsed.op, Op)


def test_unknown_operations_are_told_apart_from_short_ones() -> None:
    with pytest.raises(UnsupportedCommandError, match="0xff"):
        parse_cdb(b"\xff".ljust(16, b"\0"))
    with pytest.raises(UnsupportedCommandError):
        parse_cdb(bytes.fromhex("9e11").ljust(16, b"\0"))
    with pytest.raises(ScsiFormatError, match="has 10 bytes, needs at least 16"):
        parse_cdb(b"\x88".ljust(10, b"\0"))


@given(st.integers(0, 16383))
def test_a_lun_comes_back(number: int) -> None:
    field = encode_lun(number)
    assert len(field) == 8
    assert decode_lun(field) == number
    assert field[0] >> 6 == (0 if number < 256 else 1)


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("4005000000000000", 0x4005),  # flat, though peripheral would do
        ("8123000000000000", 0x8123),  # logical unit addressing: target 1, bus 1, LUN 3
        ("d200123400000000", 0x1234D200),  # extended flat space
        ("c101000000000000", 0xC101),  # the well known REPORT LUNS
        ("0102000300000000", 0x00030102),  # two levels
    ],
)
def test_every_addressing_method_comes_back(field: str, number: int) -> None:
    assert decode_lun(bytes.fromhex(field)) == number
    assert encode_lun(number).hex() == field


@given(st.binary(min_size=8, max_size=8))
def test_any_lun_field_comes_back_or_is_refused(field: bytes) -> None:
    try:
        number = decode_lun(field)
    except ScsiFormatError:
        assert 0 < field[0] < 0x40
        return
    assert encode_lun(number) == field


@pytest.mark.parametrize("field", [b"", bytes(7), b"\x01" + bytes(7), b"\x3f\xff" + bytes(6)])
def test_other_lun_fields_are_refused(field: bytes) -> None:
    with pytest.raises(ScsiFormatError):
        decode_lun(field)


def test_a_list_of_luns_is_counted_as_its_target_counts() -> None:
    """LIO writes a number without a method of addressing, so its 256 has a bus, and a flat 256 would be its 16640."""
    lio = {number: straight_lun(number) for number in (0, 1, 255, 256, 300, 16640)}
    assert lio[256].hex() == "0100000000000000"
    assert lio[16640] == encode_lun(256)
    assert decode_luns(reversed(lio.values())) == lio
    flat = {number: encode_lun(number) for number in (0, 255, 256, 16383)}
    assert decode_luns(flat.values()) == flat
    assert list(decode_luns([encode_lun(7), encode_lun(3), encode_lun(7)])) == [3, 7]
    assert decode_luns([]) == {}


@given(st.lists(st.binary(min_size=8, max_size=8) | st.integers(0, 1 << 16).map(straight_lun)))
def test_no_two_luns_of_a_list_have_the_same_number(fields: list[bytes]) -> None:
    listed = decode_luns(fields)
    assert set(listed.values()) == set(fields)
    assert list(listed) == sorted(listed)
    for number, field in listed.items():
        assert field in (encode_lun(number), straight_lun(number))
        assert field == encode_lun(number) or number < FLAT_LUNS


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_luns_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(ScsiFormatError):
        encode_lun(number)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=20))
def test_unmap_ranges_come_back(ranges: list[tuple[int, int]]) -> None:
    cdb, data = commands.unmap(ranges)
    assert parse_cdb(cdb).length == len(data)
    assert commands.parse_unmap(data) == tuple(ranges)


def test_unmap_lists_are_bounds_checked() -> None:
    data = commands.unmap([(1, 2)])[1]
    for cut in range(len(data)):
        with pytest.raises(ScsiFormatError):
            commands.parse_unmap(data[:cut])
    with pytest.raises(ScsiFormatError):
        commands.unmap([(0, 0)] * 4096)


@given(st.lists(st.integers(0, 16383), max_size=50))
def test_reported_luns_come_back(luns: list[int]) -> None:
    data = commands.build_report_luns(luns)
    assert [decode_lun(field) for field in commands.parse_report_luns(data)] == luns
    assert commands.report_luns_needs(data) == len(data)


def test_a_cut_lun_list_gives_what_is_there() -> None:
    data = commands.build_report_luns(range(10))
    assert commands.parse_report_luns(data[:20]) == (encode_lun(0),)
    assert commands.report_luns_needs(data[:8]) == 88
    with pytest.raises(ScsiFormatError):
        commands.parse_report_luns(data[:7])
