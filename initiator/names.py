"""What people type and what targets send: iSCSI names, portals, sizes; and text made fit for a screen.

Nothing here looks anything up: a host name stays a host name. Every refusal is a `BadInputError` that quotes the
offending text with everything taken out that a terminal would act on.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import re

from initiator.errors import BadInputError
from initiator.model import Portal

NAME_BYTES = 223
"""Longest iSCSI name in bytes of UTF-8 (RFC 7143, 4.2.7.1)."""
DEFAULT_PORT = 3260

# The patterns are texts and not compiled here: `re` keeps what it has compiled, and most commands need few of them.
_SPACES = r"[\t\n\v\f\r\x85\u2028\u2029]+"
_UNSEEN = (
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 with ESC, DEL, C1 with the one-byte CSI
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners and fillers without a shape
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi marks, embeddings, overrides, isolates
    "\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\ud800-\udfff"  # lone surrogates, as os.fsdecode makes them: no terminal can print them
    "\U000e0000-\U000e007f"
    "]"
)


def clean(text: str, limit: int | None = None) -> str:
    """Takes out of `text` all that would change the screen instead of being shown on it.

    Line breaks and tabs become one space; control, escape, bidi, zero-width and other invisible characters go.

    Args:
        text: Anything from outside: a target's alias, a volume's label, a file name, an error.
        limit: Longest result in characters; what is longer ends in `…`.
    """
    shown = text if text.isascii() and text.isprintable() else re.sub(_UNSEEN, "", re.sub(_SPACES, " ", text))
    return shown if limit is None or len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def _quoted(text: str) -> str:
    return f'"{clean(text, 80)}"'


class NameKind(enum.StrEnum):
    """The three types of iSCSI names (RFC 7143, 4.2.7.2)."""

    IQN = "iqn"
    EUI = "eui"
    NAA = "naa"


@dataclasses.dataclass(frozen=True, slots=True)
class IscsiName:
    """A name of an initiator or target in its normal form; `str()` gives what goes on the wire."""

    text: str
    kind: NameKind
    date: str | None = None
    """iqn only: `yyyy-mm`, when the authority owned its domain."""
    authority: str | None = None
    """iqn only: the reversed domain name."""
    unique: str | None = None
    """iqn only: what follows the first colon."""

    def __str__(self) -> str:
        return self.text


_IQN = r"iqn\.(\d{4}-(\d{2}))\.([^:]+)(?::(.*))?"
_HEX = r"[0-9a-f]+"


def parse_name(text: str, *, tolerant: bool = False) -> IscsiName:
    """Reads an iSCSI name of any type and brings it to its normal form (RFC 7143, 4.2.7; RFC 3722).

    Args:
        text: What was typed or received.
        tolerant: Let the underscore pass, which RFC 3722 forbids and some arrays use nevertheless.

    Raises:
        BadInputError: it is none; the text says which rule it breaks.
    """
    name = _prepared(text.strip(" "), text, tolerant)
    kind, dot, rest = name.partition(".")
    if not dot or kind not in list(NameKind):
        raise _bad_name(text, "it has to begin with iqn., eui. or naa.")
    if kind == NameKind.IQN:
        return _iqn(name, text)
    lengths = (16,) if kind == NameKind.EUI else (16, 32)
    if len(rest) not in lengths or not re.fullmatch(_HEX, rest):
        wanted = " or ".join(str(length) for length in lengths)
        raise _bad_name(text, f"after {kind}. come {wanted} hexadecimal digits")
    return IscsiName(name, NameKind(kind))


def parse_iqn(text: str, *, tolerant: bool = False) -> IscsiName:
    """Like `parse_name`, for places where only an iqn. name will do."""
    name = parse_name(text, tolerant=tolerant)
    if name.kind is not NameKind.IQN:
        raise _bad_name(text, "an iqn. name is needed here")
    return name


def _bad_name(text: str, reason: str) -> BadInputError:
    return BadInputError(
        f"{_quoted(text)} is no iSCSI name: {reason}", fix="write it like iqn.2001-04.com.example:storage.disk1"
    )


def _iqn(name: str, text: str) -> IscsiName:
    found = re.fullmatch(_IQN, name, re.ASCII)
    if not found:
        raise _bad_name(text, "after iqn. come a date yyyy-mm, a dot and a reversed domain name")
    date, month, authority, unique = found.groups()
    if not 1 <= int(month) <= 12:
        raise _bad_name(text, f"there is no month {month}")
    if not all(authority.split(".")):
        raise _bad_name(text, "the domain name has an empty part")
    return IscsiName(name, NameKind.IQN, date, authority, unique)


def _prepared(name: str, text: str, tolerant: bool) -> str:
    """The stringprep profile for iSCSI names (RFC 3722)."""
    name = name.lower() if name.isascii() else _mapped(name)
    if not name:
        raise _bad_name(text, "it is empty")
    for char in name:
        if char.isascii():
            allowed = char.isalnum() or char in "-.:" or (tolerant and char == "_")
        else:
            allowed = not _prohibited(char)
        if not allowed:
            raise _bad_name(text, f"character U+{ord(char):04X} is not allowed in it")
    size = len(name.encode())
    if size > NAME_BYTES:
        raise _bad_name(text, f"it has {size} bytes and may have {NAME_BYTES}")
    return name


def _mapped(name: str) -> str:
    """Mapping and normalisation (RFC 3722, 3 and 4); stringprep is imported here because nearly no name needs it."""
    import stringprep
    import unicodedata

    kept = (char for char in name if not stringprep.in_table_b1(char))
    return unicodedata.ucd_3_2_0.normalize("NFKC", "".join(stringprep.map_table_b2(char) for char in kept))


def _prohibited(char: str) -> bool:
    """Prohibited and unassigned code points (RFC 3722, 5, 6 and 7)."""
    import stringprep as prep

    return (
        char in "\u3002"
        or prep.in_table_a1(char)
        or prep.in_table_c11_c12(char)
        or prep.in_table_c21_c22(char)
        or prep.in_table_c3(char)
        or prep.in_table_c4(char)
        or prep.in_table_c5(char)
        or prep.in_table_c6(char)
        or prep.in_table_c7(char)
        or prep.in_table_c8(char)
        or prep.in_table_c9(char)
        # RFC 3722, 6, asks for the bidi rules of RFC 3454. A name begins with i, e or n, which are left-to-right
        # characters, so the rules leave no room for a right-to-left one.
        or prep.in_table_d1(char)
    )


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SCOPE = r"[A-Za-z0-9_.:-]{1,15}"
_NUMBER = r"[0-9]{1,5}"


def parse_portal(text: str, default_port: int = DEFAULT_PORT) -> Portal:
    """Reads where a target listens.

    Takes `192.0.2.7`, `192.0.2.7:3261`, `[2001:db8::7]:3260`, `2001:db8::7`, `fe80::7%eth0`, `storage.example`, each
    with `,TAG` for the portal group as in a SendTargets answer (RFC 7143, 4.3 and 13.8).

    Raises:
        BadInputError: it is none of these.
    """
    whole = text.strip(" ")
    address, comma, tag = whole.partition(",")
    group_tag = _number(tag, 65535, text, "the portal group tag") if comma else None
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _bad_portal(text, "the bracket of the IPv6 address is not closed, or not followed by :PORT")
        return Portal(_ipv6(host, text), _port(rest[1:] if rest else None, default_port, text), group_tag)
    if address.count(":") > 1:
        return Portal(_ipv6(address, text), default_port, group_tag)
    host, colon, port = address.partition(":")
    return Portal(_host(host, text), _port(port if colon else None, default_port, text), group_tag)


def _bad_portal(text: str, reason: str) -> BadInputError:
    return BadInputError(
        f"{_quoted(text)} is no portal: {reason}", fix="write it like 192.0.2.7:3260, [2001:db8::7]:3260 or host:3260"
    )


def _number(digits: str, highest: int, text: str, what: str) -> int:
    if not re.fullmatch(_NUMBER, digits) or int(digits) > highest:
        raise _bad_portal(text, f"{what} has to be a number up to {highest}")
    return int(digits)


def _port(digits: str | None, default: int, text: str) -> int:
    port = default if digits is None else _number(digits, 65535, text, "the port")
    if port == 0:
        raise _bad_portal(text, "the port cannot be 0")
    return port


def _ipv6(host: str, text: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise _bad_portal(text, f"{_quoted(host)} is no IPv6 address") from None
    if address.scope_id is not None and not re.fullmatch(_SCOPE, address.scope_id):
        raise _bad_portal(text, "what follows the % is no interface")
    return _reachable(address, text)


def _reachable(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> str:
    if address.is_unspecified or address.is_multicast:
        raise _bad_portal(text, "no single host has this address")
    return str(address)


def _host(host: str, text: str) -> str:
    """An IPv4 address, or a host name (RFC 1123, 2.1); never guessed at: `10.0.0` and `256.1.1.1` are mistakes."""
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if labels[-1].isascii() and labels[-1].isdigit():
        try:
            return _reachable(ipaddress.IPv4Address(host), text)
        except ValueError:
            raise _bad_portal(text, f"{_quoted(host)} is no IPv4 address") from None
    if not name:
        raise _bad_portal(text, "the host is missing")
    if len(name) > 253 or not all(re.fullmatch(_LABEL, label) for label in labels):
        raise _bad_portal(text, f"{_quoted(host)} is no host name")
    return name


_SIZE = r"([0-9]{1,19})(?:\.([0-9]{1,9}))? ?(?:([kmgtpe])(i?b)?|b)?"
_LARGEST = 2**63 - 1


def parse_size(text: str) -> int:
    """Reads a size and gives bytes: `4096`, `10G`, `1.5GiB`, `512MiB`, `2TB`.

    A bare letter and `…iB` count in powers of 1024, as the tools of a block device do; `…B` in powers of 1000.

    Raises:
        BadInputError: no size, no whole number of bytes, or more than 2**63-1 bytes.
    """
    found = re.fullmatch(_SIZE, text.strip(" "), re.IGNORECASE | re.ASCII)
    if not found:
        raise _bad_size(text, "a number, then B, K, M, G, T, P or E, with iB or B after it, is expected")
    whole, decimals, letter, unit = found.groups("")
    base = 1000 if unit.lower() == "b" else 1024
    scale = int(base ** " kmgtpe".index(letter.lower() or " "))
    size, remainder = divmod(int(whole + decimals) * scale, int(10 ** len(decimals)))
    if remainder:
        raise _bad_size(text, "it is no whole number of bytes")
    if size > _LARGEST:
        raise _bad_size(text, "it is more than any device can have")
    return size


def _bad_size(text: str, reason: str) -> BadInputError:
    return BadInputError(f"{_quoted(text)} is no size: {reason}", fix="write it like 10G or 512MiB")
