"""Persistent reservations: the bytes of the standard, and that the parsers are the builders' inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.scsi import reservations
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.reservations import Ask, Capabilities, Keys, Order, Registration, Reservation, Type

Answer = TypeVar("Answer")
keys = st.integers(1, 2**64 - 1)
names = st.from_regex(r"iqn\.2026-11\.io\.mooring:[a-z0-9.-]{1,60}", fullmatch=True)
registrations = st.builds(
    lambda key, name, isid, holder, kind, all_ports, port: Registration(
        key, name, isid, holder, kind if holder else 0, all_ports, 0 if all_ports else port
    ),
    keys,
    names,
    st.none() | st.binary(min_size=6, max_size=6).map(bytes.hex),
    st.booleans(),
    st.sampled_from(Type).map(int),
    st.booleans(),
    st.integers(0, 65535),
)


def test_the_commands_have_the_bytes_of_the_standard() -> None:
    assert reservations.reserve_in(Ask.READ_RESERVATION, 0x1234).hex() == "5e010000000000123400"
    cdb, data = reservations.reserve_out(Order.PREEMPT, 0x11, 0x22, Type.WRITE_EXCLUSIVE_REGISTRANTS, persist=True)
    assert cdb.hex() == "5f040500000000001800"
    assert data.hex() == "0000000000000011" + "0000000000000022" + "00000000" + "01000000"


@given(st.integers(0, 2**32 - 1), st.lists(keys, max_size=40).map(tuple))
def test_keys_come_back(generation: int, found: tuple[int, ...]) -> None:
    data = reservations.build_keys(Keys(generation, found))
    assert reservations.parse_keys(data) == Keys(generation, found)
    assert reservations.answer_needs(data) == len(data)
    for cut in range(len(data)):
        with pytest.raises(ScsiFormatError):
            reservations.parse_keys(data[:cut])


def test_an_answer_that_ends_inside_a_key_is_refused() -> None:
    with pytest.raises(ScsiFormatError, match="inside a key"):
        reservations.parse_keys(bytes.fromhex("0000000000000004") + bytes(4))


@given(st.integers(0, 2**32 - 1), st.none() | st.builds(Reservation, keys, st.integers(0, 15)))
def test_a_reservation_comes_back(generation: int, item: Reservation | None) -> None:
    data = reservations.build_reservation(generation, item)
    assert reservations.parse_reservation(data) == item
    for cut in range(len(data)):
        with pytest.raises(ScsiFormatError):
            reservations.parse_reservation(data[:cut])


@given(st.lists(registrations, max_size=6).map(tuple))
def test_a_full_status_comes_back(items: tuple[Registration, ...]) -> None:
    data = reservations.build_full_status(7, items)
    assert reservations.parse_full_status(data) == items
    for cut in range(0, len(data), 7):
        with pytest.raises(ScsiFormatError):
            reservations.parse_full_status(data[:cut])


def read(parse: Callable[[bytes], Answer], data: bytes) -> Answer | None:
    try:
        return parse(data)
    except ScsiFormatError:
        return None


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    told = read(reservations.parse_keys, data)
    assert told is None or data.startswith(reservations.build_keys(told))
    held = read(reservations.parse_reservation, data)
    assert reservations.parse_reservation(reservations.build_reservation(0, held)) == held
    everybody = read(reservations.parse_full_status, data)
    assert everybody is None or 24 * len(everybody) <= len(data)
    able = read(reservations.parse_capabilities, data)
    assert able is None or reservations.parse_capabilities(reservations.build_capabilities(able)) == able


def test_who_uses_another_transport_still_counts() -> None:
    fibre = bytes.fromhex("00" * 8 + "2100000000000001" + "00" * 8)
    descriptor = bytes.fromhex("000000000000abcd" + "00000000" + "0105" + "00000000" + "0001" + "00000018") + fibre
    data = bytes.fromhex("00000001") + len(descriptor).to_bytes(4, "big") + descriptor
    (found,) = reservations.parse_full_status(data)
    assert (found.key, found.initiator, found.holder, found.type) == (0xABCD, None, True, 5)


def test_a_transport_id_without_an_isid_is_padded_to_its_smallest_size() -> None:
    made = reservations.build_transport("iqn.a", None)
    assert (made[:4].hex(), len(made), made[4:10]) == ("05000014", 24, b"iqn.a\0")


@given(st.frozensets(st.sampled_from(Type).map(int)), st.booleans(), st.booleans(), st.booleans())
def test_capabilities_come_back(types: frozenset[int], persist: bool, persisting: bool, all_ports: bool) -> None:
    item = Capabilities(types, persist, persisting, all_ports)
    assert reservations.parse_capabilities(reservations.build_capabilities(item)) == item


@given(keys, keys, st.sampled_from(Order), st.sampled_from(Type), st.booleans(), st.booleans())
def test_an_order_comes_back(key: int, new: int, order: Order, kind: Type, all_ports: bool, persist: bool) -> None:
    found = reservations.parse_reserve_out(
        *reservations.reserve_out(order, key, new, kind, all_ports=all_ports, persist=persist)
    )
    assert (found.order, found.key, found.new_key, found.type, found.scope) == (order, key, new, kind, 0)
    assert (found.all_ports, found.persist, found.named_ports) == (all_ports, persist, False)


def test_types_say_what_they_keep_from_others() -> None:
    assert Type.WRITE_EXCLUSIVE_REGISTRANTS.words == "write exclusive, registrants only"
    assert Type.EXCLUSIVE_ACCESS_ALL.words == "exclusive access, all registrants"
    assert [kind for kind in Type if kind.guards_reads] == [3, 6, 8]
    assert [kind for kind in Type if kind.of_registrants] == [5, 6, 7, 8]
    assert [kind for kind in Type if kind.of_all] == [7, 8]
    assert Reservation(1, 2).words == "type 2h"
