"""Names, portals, sizes, and text made fit for a screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.model import Portal
from initiator.names import NameKind, clean, parse_iqn, parse_name, parse_portal, parse_size


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("iqn.2001-04.com.example:storage:diskarrays-sn-a8675309", None),
        ("iqn.2001-04.com.example", None),
        ("iqn.1992-01.com.example:storage.tape1.sys1.xyz", None),
        ("iqn.2003-01.org.linux-iscsi.host.x8664:sn.0123", None),
        ("IQN.2001-04.COM.Example:Storage", "iqn.2001-04.com.example:storage"),
        ("  iqn.2001-04.com.example:a  ", "iqn.2001-04.com.example:a"),
        ("eui.02004567A425678D", "eui.02004567a425678d"),
        ("naa.52004567BA64678D", "naa.52004567ba64678d"),
        ("naa.62004567BA64678D0123456789ABCDEF", "naa.62004567ba64678d0123456789abcdef"),
        ("iqn.2001-04.com.example:straße", "iqn.2001-04.com.example:strasse"),
        ("iqn.2001-04.com.example:ＤＩＳＫ", "iqn.2001-04.com.example:disk"),
        ("iqn.2001-04.com.example:a\u00adb", "iqn.2001-04.com.example:ab"),
        ("iqn.2001-04.com.example:記憶", None),
    ],
)
def test_a_name_is_read_and_brought_to_its_normal_form(text: str, normal: str | None) -> None:
    assert str(parse_name(text)) == (text if normal is None else normal)


def test_the_parts_of_an_iqn_are_told_apart() -> None:
    name = parse_iqn("iqn.2001-04.com.example:a:b")
    assert (name.kind, name.date, name.authority, name.unique) == (NameKind.IQN, "2001-04", "com.example", "a:b")
    assert parse_iqn("iqn.2001-04.com.example").unique is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("iqn", "begin with"),
        ("disk1", "begin with"),
        ("wwn.2001-04.com.example", "begin with"),
        ("iqn.2001-4.com.example", "date"),
        ("iqn.01-04.com.example", "date"),
        ("iqn.2001-13.com.example", "no month 13"),
        ("iqn.2001-00.com.example", "no month 00"),
        ("iqn.2001-04.", "date"),
        ("iqn.2001-04.com..example", "empty part"),
        ("iqn.2001-04.com.example.:x", "empty part"),
        ("iqn.2001-04.com.example:a b", "U+0020"),
        ("iqn.2001-04.com.example:a_b", "U+005F"),
        ("iqn.2001-04.com.example:a/b", "U+002F"),
        ("iqn.2001-04.com.example:a\x1b[2J", "U+001B"),
        ("iqn.2001-04.com.example:a\n", "U+000A"),
        ("iqn.2001-04.com.example:\u202eevil", "U+202E"),
        ("iqn.2001-04.com.example:\u05d0", "U+05D0"),
        ("iqn.2001-04.com.example:\ud800", "U+D800"),
        ("eui.02004567A425678", "16 hexadecimal"),
        ("eui.02004567A425678G", "16 hexadecimal"),
        ("naa.520045", "16 or 32"),
    ],
)
def test_what_is_no_name_is_refused_with_the_rule(text: str, reason: str) -> None:
    with pytest.raises(BadInputError, match="is no iSCSI name") as refused:
        parse_name(text)
    assert reason in str(refused.value)
    assert clean(str(refused.value)) == str(refused.value)
    assert refused.value.fix


def test_a_name_may_have_223_bytes_and_no_more() -> None:
    head = "iqn.2001-04.com.example:"
    assert len(str(parse_name(head + "a" * (223 - len(head))))) == 223
    with pytest.raises(BadInputError, match="224 bytes"):
        parse_name(head + "a" * (224 - len(head)))
    with pytest.raises(BadInputError, match="225 bytes"):
        parse_name(head + "記" * 67)


def test_the_underscore_passes_only_where_it_is_asked_for() -> None:
    assert str(parse_name("iqn.2000-01.com.example:my_nas", tolerant=True)) == "iqn.2000-01.com.example:my_nas"
    with pytest.raises(BadInputError):
        parse_name("iqn.2000-01.com.example:my_nas")


def test_only_an_iqn_is_an_iqn() -> None:
    with pytest.raises(BadInputError, match="an iqn"):
        parse_iqn("eui.02004567A425678D")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(max_size=60).map("iqn.2001-04.com.example:{}".format))
def test_every_text_is_a_name_or_a_clean_refusal(text: str) -> None:
    try:
        name = parse_name(text)
    except BadInputError as refused:
        text = str(refused)
        assert clean(text) == text
    else:
        assert parse_name(name.text) == name
        assert len(name.text.encode()) <= 223
        assert name.text == unicodedata.normalize("NFKC", name.text)


@pytest.mark.parametrize(
    ("text", "portal"),
    [
        ("192.0.2.7", Portal("192.0.2.7", 3260)),
        ("192.0.2.7:3261", Portal("192.0.2.7", 3261)),
        ("192.0.2.7:3260,1", Portal("192.0.2.7", 3260, 1)),
        ("192.0.2.7,65535", Portal("192.0.2.7", 3260, 65535)),
        ("[2001:db8::7]:860", Portal("2001:db8::7", 860)),
        ("[2001:DB8:0:0::7]", Portal("2001:db8::7", 3260)),
        ("2001:db8::7", Portal("2001:db8::7", 3260)),
        ("[2001:db8::7]:3260,2", Portal("2001:db8::7", 3260, 2)),
        ("fe80::7%eth0", Portal("fe80::7%eth0", 3260)),
        ("[fe80::7%bond0.12]:3260", Portal("fe80::7%bond0.12", 3260)),
        ("::1", Portal("::1", 3260)),
        ("Storage.Example.", Portal("storage.example", 3260)),
        ("nas:13260", Portal("nas", 13260)),
        ("xn--bcher-kva.example", Portal("xn--bcher-kva.example", 3260)),
    ],
)
def test_a_portal_is_read(text: str, portal: Portal) -> None:
    assert parse_portal(text) == portal
    assert parse_portal(str(portal)) == Portal(portal.host, portal.port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "host is missing"),
        (":3260", "host is missing"),
        ("192.0.2.7:", "port"),
        ("192.0.2.7:0", "port cannot be 0"),
        ("192.0.2.7:65536", "up to 65535"),
        ("192.0.2.7:-1", "up to 65535"),
        ("192.0.2.7:٣", "up to 65535"),
        ("192.0.2.7:3260,x", "portal group tag"),
        ("192.0.2.7:3260,65536", "portal group tag"),
        ("256.1.1.1", "no IPv4"),
        ("10.0.0", "no IPv4"),
        ("1.2.3.4.5", "no IPv4"),
        ("010.1.2.3", "no IPv4"),
        ("[2001:db8::7", "bracket"),
        ("[2001:db8::7]3260", "bracket"),
        ("[192.0.2.7]:3260", "no IPv6"),
        ("2001:db8::g", "no IPv6"),
        ("2001:db8::7:3260:1:2:3:4:5:6", "no IPv6"),
        ("fe80::7%", "no IPv6"),
        ("fe80::7%eth0/1", "no IPv6"),
        ("fe80::7%an-interface-too-long", "no interface"),
        ("0.0.0.0", "no single host"),
        ("::", "no single host"),
        ("239.1.2.3", "no single host"),
        ("ff02::1", "no single host"),
        ("-nas", "no host name"),
        ("a..b", "no host name"),
        ("nas_1", "no host name"),
        ("my host", "no host name"),
        ("x" * 64, "no host name"),
        ("a." * 127 + "b", "no host name"),
        ("http://nas", "portal"),
        ("nas\x1b]0;x\x07", "no host name"),
    ],
)
def test_what_is_no_portal_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadInputError, match="is no portal") as refused:
        parse_portal(text)
    assert reason in str(refused.value)
    assert clean(str(refused.value)) == str(refused.value)


@given(st.ip_addresses(), st.integers(1, 65535))
@settings(max_examples=100, deadline=None)
def test_every_address_comes_back_as_it_went_out(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    try:
        portal = parse_portal(text)
    except BadInputError as refused:
        assert "no single host" in str(refused)  # noqa: PT017 - both ends are right
    else:
        assert parse_portal(str(portal)) == portal
        assert portal.port == port


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("10G", 10 * 2**30),
        ("512MiB", 512 * 2**20),
        ("512 MiB", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2TB", 2 * 10**12),
        ("1kb", 1000),
        ("1k", 1024),
        ("7B", 7),
        ("0.5K", 512),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "-1", "+1", "1e3", "10 X", "1.2.3G", "0.3B", "1.0001k", "8E", "9223372036854775808", "٣G", "1,5G", "∞"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is no size") as refused:
        parse_size(text)
    assert refused.value.code == "bad-input"


@given(st.integers(0, 2**40), st.sampled_from("KMG"))
@settings(max_examples=50, deadline=None)
def test_a_letter_with_and_without_ib_is_the_same(number: int, letter: str) -> None:
    if number * 1024 ** ("KMG".index(letter) + 1) < 2**63:
        assert parse_size(f"{number}{letter}") == parse_size(f"{number}{letter}iB")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("harbour data", "harbour data"),
        ("a\x1b[31mred\x1b[0m", "a[31mred[0m"),
        ("a\x9b31mred", "a31mred"),
        ("one\r\ntwo\tthree", "one two three"),
        ("\x1b]0;title\x07", "]0;title"),
        ("abc\u202edcba\u2066x", "abcdcbax"),
        ("a\u200bb\ufeffc\u2060d\u00ade", "abcde"),
        ("\u2028line", " line"),
        ("bad\udcffbyte", "badbyte"),
        ("[red]markup[/]", "[red]markup[/]"),
        ("naïve 記憶 😀", "naïve 記憶 😀"),
        ("\U000e0041tag", "tag"),
    ],
)
def test_clean_takes_out_what_a_terminal_acts_on(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_clean_cuts_to_a_limit() -> None:
    assert clean("abcdef", 4) == "abc…"
    assert clean("abcd", 4) == "abcd"


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_clean_leaves_nothing_that_controls_and_changes_nothing_twice(text: str) -> None:
    shown = clean(text)
    assert clean(shown) == shown
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert not any(
        unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        for char in shown
    )
    shown.encode()
