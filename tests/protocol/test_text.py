"""Key=value text (RFC 7143, 6.1)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol import address, text
from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError

keys = st.from_regex(r"[A-Za-z][A-Za-z0-9.+@_#/-]{0,62}", fullmatch=True)
values = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60)


@given(st.lists(st.tuples(keys, values), max_size=8))
@settings(max_examples=80)
def test_what_is_written_is_read(pairs: list[tuple[str, str]]) -> None:
    assert text.decode(text.encode(pairs)) == pairs


@given(st.binary(max_size=120))
@settings(max_examples=150)
def test_garbage_gives_pairs_or_a_named_error(data: bytes) -> None:
    problem = ""
    pairs: list[tuple[str, str]] = []
    try:
        pairs = text.decode(data)
    except RemoteProtocolError as error:
        problem = str(error)
    assert problem.isprintable()
    assert problem or text.encode(pairs) == data


@pytest.mark.check(44)
@pytest.mark.parametrize(
    "data",
    [
        b"A=b",
        b"A=b\0C",
        b"\0",
        b"A=b\0\0",
        b"novalue\0",
        b"=value\0",
        b"K" * 64 + b"=v\0",
        b"Key=" + b"v" * 256 + b"\0",
        b"Key=a," + b"v" * 256 + b"\0",
        b"1Key=v\0",
        b"K ey=v\0",
        b"Key=\xff\xfe\0",
        b"K\xc3\xa9y=v\0",
    ],
)
def test_malformed_text(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        text.decode(data)


def test_limits_themselves_are_allowed() -> None:
    assert text.decode(b"K" * 63 + b"=" + b"v" * 255 + b"\0") == [("K" * 63, "v" * 255)]
    assert text.decode(b"CHAP_C=0x" + b"ab" * 1024 + b"\0")[0][1].startswith("0xabab")
    assert text.decode(b"K=\0") == [("K", "")]
    assert text.decode(b"K=a=b\0") == [("K", "a=b")]
    assert text.decode(b"") == []


@pytest.mark.parametrize("pair", [("", "v"), ("K=", "v"), ("K", "a\0b"), ("K" * 64, "v")])
def test_what_cannot_be_written(pair: tuple[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        text.encode([pair])


@pytest.mark.check(47)
@pytest.mark.parametrize(
    ("value", "found"),
    [("0", 0), ("8192", 8192), ("0x2000", 8192), ("0X2000", 8192), ("0x0", 0), ("0x00000000000000000ff", 255),
     ("18446744073709551615", 2**64 - 1), ("0xffffffffffffffff", 2**64 - 1)],
)  # fmt: skip
def test_numbers(value: str, found: int) -> None:
    assert text.number("K", value) == found


@pytest.mark.check(47)
@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", " 1", "1 ", "1k", "0x", "0xg", "01", "1.0", "1e3", "١", "18446744073709551616",
     "0x10000000000000000", "99999999999999999999999999", "No", "1\n"],
)  # fmt: skip
def test_what_is_no_number(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        text.number("K", value)


def test_range_of_a_number() -> None:
    assert text.number("K", "512", 512, 1024) == 512
    for value in ("511", "1025"):
        with pytest.raises(RemoteProtocolError):
            text.number("K", value, 512, 1024)


@pytest.mark.check(46)
@pytest.mark.parametrize("value", ["yes", "NO", "true", "1", "", "Yes ", "Yes,No"])
def test_booleans_are_exact(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        text.boolean("K", value)
    assert (text.boolean("K", "Yes"), text.boolean("K", "No")) == (True, False)


def test_ranges_and_lists() -> None:
    assert text.number_range("K", "1~0x10") == (1, 16)
    for value in ("1", "2~1", "~", "1~", "a~b"):
        with pytest.raises(RemoteProtocolError):
            text.number_range("K", value)
    assert text.listing("K", "a,b") == ("a", "b")
    for value in ("", "a,", ",a", "a,,b"):
        with pytest.raises(RemoteProtocolError):
            text.listing("K", value)


@pytest.mark.check(75)
@given(st.binary(min_size=1, max_size=80))
@settings(max_examples=60)
def test_binary_in_both_notations(data: bytes) -> None:
    for value in (
        "0x" + data.hex(),
        "0X" + data.hex().upper(),
        "0b" + base64.b64encode(data).decode(),
        "0B" + base64.b64encode(data).decode(),
        text.hexadecimal(data),
    ):
        assert text.binary("K", value, 80) == data


def test_odd_count_of_digits() -> None:
    """6.1: (n+1)/2 bytes."""
    assert text.binary("K", "0xabc", 8) == b"\x0a\xbc"
    assert text.binary("K", "0x1", 8) == b"\x01"


@pytest.mark.parametrize(
    "value", ["", "0x", "0b", "abcd", "0xzz", "0b!!!!", "0bAA=A", "0bAAA", "0b====", "0xab\n", "1234", "0x" + "00" * 9]
)
def test_what_is_no_binary_value(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        text.binary("K", value, 8)


def test_texts_of_strangers_are_quoted() -> None:
    shown = text.shorten("\x1b[31m" + "é" * 200)
    assert shown.isascii()
    assert shown.isprintable()


@pytest.mark.check(37)
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("10.1.2.3", ("10.1.2.3", 3260, None)),
        ("10.1.2.3:3261,5", ("10.1.2.3", 3261, 5)),
        ("[fe80::1]", ("fe80::1", 3260, None)),
        ("[FE80:0:0:0:0:0:0:1]:860,0", ("fe80::1", 860, 0)),
        ("Storage-1.Example.COM:3260", ("storage-1.example.com", 3260, None)),
        ("host.", ("host", 3260, None)),
    ],
)
def test_addresses(value: str, found: tuple[str, int, int | None]) -> None:
    portal = address.parse(value)
    assert (portal.host, portal.port, portal.group_tag) == found


@pytest.mark.check(38)
@pytest.mark.parametrize(
    "value",
    ["", ":3260", "10.1.2", "10.1.2.3.4", "256.1.1.1", "[10.1.2.3]", "fe80::1", "[fe80::1", "[::1]x", "host:0",
     "host:65536", "host:port", "host,65536", "host,", "host:3260,1,2", "-host", "ho st", "host\x1b[0m", "a..b",
     "x" * 254, "http://host/"],
)  # fmt: skip
def test_what_is_no_address(value: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        address.parse(value)
    assert str(caught.value).isprintable()
