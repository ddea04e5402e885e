"""INQUIRY data and VPD pages, both directions, and that no bytes of a target can break a parser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.scsi import alua, designators, inquiry, parameters
from initiator.scsi.errors import ScsiFormatError

printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8)


@given(
    st.builds(
        inquiry.StandardInquiry,
        vendor=printable,
        product=printable,
        revision=printable.map(lambda text: text[:4]),
        device_type=st.integers(0, 31),
        qualifier=st.integers(0, 7),
        removable=st.booleans(),
        tpgs=st.integers(0, 3),
        command_queuing=st.booleans(),
    )
)
def test_standard_data_come_back(item: inquiry.StandardInquiry) -> None:
    data = inquiry.build_standard(item)
    assert len(data) == 36
    assert inquiry.parse_standard(data) == item


def test_control_codes_of_a_target_become_question_marks() -> None:
    data = bytearray(inquiry.build_standard(inquiry.StandardInquiry("V", "P", "1")))
    data[16:21] = b"\x1b[31m"
    data[8:10] = b"\xff\x07"
    parsed = inquiry.parse_standard(data)
    assert parsed.product == "?[31m"
    assert parsed.vendor == "??"


def test_only_a_connected_disk_is_usable() -> None:
    assert inquiry.StandardInquiry("", "", "").usable
    assert not inquiry.StandardInquiry("", "", "", qualifier=3, device_type=0x1F).usable
    assert not inquiry.StandardInquiry("", "", "", device_type=0x0C).usable


def test_pages_are_checked_for_code_and_length() -> None:
    page = inquiry.build_serial("beaf11")
    assert page == bytes.fromhex("00800006") + b"beaf11"
    assert inquiry.parse_serial(page + b"more") == "beaf11"
    assert inquiry.page_needs(page) == len(page)
    with pytest.raises(ScsiFormatError, match="asked for VPD page 83h, got 80h"):
        inquiry.parse_page(page, 0x83)
    for cut in range(len(page)):
        with pytest.raises(ScsiFormatError):
            inquiry.parse_serial(page[:cut])


@given(st.sets(st.integers(1, 255)))
def test_supported_pages_come_back(pages: set[int]) -> None:
    data = inquiry.build_supported_pages(pages)
    assert inquiry.parse_supported_pages(data) == pages | {0}
    assert list(data[4:]) == sorted(data[4:])


u32 = st.integers(0, 2**32 - 1)


@given(
    st.builds(
        inquiry.BlockLimits,
        maximum_compare=st.integers(0, 255),
        maximum_transfer=u32,
        optimal_transfer=u32,
        optimal_granularity=st.integers(0, 65535),
        maximum_unmap_blocks=u32,
        maximum_unmap_ranges=u32,
        unmap_granularity=u32,
        unmap_alignment=st.none() | st.integers(0, 2**31 - 1),
        maximum_write_same=st.integers(0, 2**64 - 1),
        write_same_non_zero=st.booleans(),
    )
)
def test_block_limits_come_back(item: inquiry.BlockLimits) -> None:
    data = inquiry.build_block_limits(item)
    assert len(data) == 64
    assert inquiry.parse_block_limits(data) == item


def test_block_limits_sit_where_the_standard_says() -> None:
    data = bytearray(64)
    data[1], data[3] = 0xB0, 0x3C
    data[8:12] = (2048).to_bytes(4, "big")
    data[20:24] = (4096).to_bytes(4, "big")
    data[24:28] = (4).to_bytes(4, "big")
    data[36:44] = (99).to_bytes(8, "big")
    parsed = inquiry.parse_block_limits(data)
    assert parsed.maximum_transfer == 2048
    assert (parsed.maximum_unmap_blocks, parsed.maximum_unmap_ranges, parsed.maximum_write_same) == (4096, 4, 99)


def test_a_short_page_of_block_limits_counts_as_zero() -> None:
    parsed = inquiry.parse_block_limits(inquiry.build_page(0xB0, bytes.fromhex("000000000000040000000080")))
    assert parsed == inquiry.BlockLimits(maximum_transfer=1024, optimal_transfer=128)


@given(st.builds(inquiry.Provisioning, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 7), st.just(9)))
def test_provisioning_comes_back(item: inquiry.Provisioning) -> None:
    assert inquiry.parse_provisioning(inquiry.build_provisioning(item)) == item


@given(
    st.builds(
        parameters.Capacity,
        blocks=st.integers(1, 2**40),
        block_bytes=st.sampled_from([512, 1024, 4096]),
        physical_exponent=st.integers(0, 15),
        thin=st.booleans(),
        reads_zero=st.booleans(),
        protection=st.booleans(),
        lowest_aligned=st.integers(0, 0x3FFF),
    )
)
def test_capacity_comes_back(item: parameters.Capacity) -> None:
    data = parameters.build_capacity16(item)
    assert len(data) == 32
    assert parameters.parse_capacity16(data) == item
    small = parameters.parse_capacity10(parameters.build_capacity10(item))
    assert small == (parameters.Capacity(item.blocks, item.block_bytes) if item.blocks < 2**32 else None)


@pytest.mark.parametrize("block_bytes", [0, 1, 256, 520, 131072, 2**31])
def test_odd_block_lengths_are_refused(block_bytes: int) -> None:
    with pytest.raises(ScsiFormatError, match="block length"):
        parameters.parse_capacity16((1000).to_bytes(8, "big") + block_bytes.to_bytes(4, "big"))


def test_an_impossible_capacity_is_refused() -> None:
    with pytest.raises(ScsiFormatError, match="8 EiB"):
        parameters.parse_capacity16(b"\xff" * 8 + (512).to_bytes(4, "big"))


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_mode_pages_come_back(cache: bool, ten: bool, protected: bool, fua: bool) -> None:
    pages = [parameters.caching_page(cache), parameters.control_page()]
    data = parameters.build_mode(pages, ten=ten, write_protected=protected, fua=fua)
    mode = parameters.parse_mode(data, ten)
    assert (mode.write_cache, mode.write_protected, mode.fua) == (cache, protected, fua)
    assert mode.pages[parameters.PAGE_CONTROL] == pages[1]
    for cut in range(len(data)):
        with pytest.raises(ScsiFormatError):
            parameters.parse_mode(data[:cut], ten)


def test_a_mode_answer_with_block_descriptor_and_subpage() -> None:
    body = bytes(8) + bytes.fromhex("4a010002ffff") + parameters.caching_page(True)
    mode = parameters.parse_mode(bytes((len(body) + 3, 0, 0x80, 8)) + body)
    assert mode.write_cache is True
    assert mode.write_protected
    assert list(mode.pages) == [parameters.PAGE_CACHING]
    assert parameters.parse_mode(bytes((3, 0, 0, 0))).write_cache is None


def parse_mode10(data: bytes) -> parameters.Mode:
    return parameters.parse_mode(data, ten=True)


@pytest.mark.parametrize(
    "parse",
    [
        inquiry.parse_standard,
        inquiry.parse_supported_pages,
        inquiry.parse_serial,
        inquiry.parse_block_limits,
        inquiry.parse_provisioning,
        designators.parse_designators,
        parameters.parse_capacity16,
        parameters.parse_capacity10,
        parameters.parse_mode,
        parse_mode10,
        alua.parse_port_groups,
    ],
)
@given(st.data())
def test_no_bytes_break_a_parser(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    page = data.draw(st.sampled_from([0x00, 0x80, 0x83, 0xB0, 0xB2]))
    size = data.draw(st.integers(0, 40))
    head = bytes((0, page, 0, size)) if data.draw(st.booleans()) else b""
    raw = head + data.draw(st.binary(max_size=60))
    outcome: object = None
    try:
        outcome = parse(raw)
    except ScsiFormatError as error:
        outcome = str(error)
    assert outcome is not None or parse is parameters.parse_capacity10
