"""Key=value text of login and text negotiation (RFC 7143, 6.1).

What arrives is data from a stranger: nothing here trusts it, and nothing here prints it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError

Pair = tuple[str, str]

MAX_KEY = 63
MAX_VALUE = 255
"""Longest simple value in bytes; binary values are limited by their keys instead."""
MAX_TEXT = 65536
"""Most key=value bytes accepted in one negotiation; 6.1 asks for 8192, or 65536 with long authentication items."""
MAX_NUMBER = 2**64 - 1

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9.+@_#/-]{0,62}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")
_HEX = re.compile(r"0[xX]([0-9a-fA-F]+)")
_BASE64 = re.compile(r"0[bB]([0-9A-Za-z+/]+={0,2})")
_LONG = frozenset({"CHAP_C", "CHAP_R", "KRB_AP_REQ", "KRB_AP_REP", "SRP_s", "SRP_A", "SRP_B", "SRP_M", "SRP_HM"})


def encode(pairs: Iterable[Pair]) -> bytes:
    """The pairs as text, each ended by a NUL.

    Raises:
        LocalProtocolError: a key or a value cannot be written.
    """
    out = bytearray()
    for key, value in pairs:
        if not _KEY.fullmatch(key) or "\0" in value:
            raise LocalProtocolError(f"{key!r} cannot be sent as a text key, or its value holds a NUL")
        out += f"{key}={value}".encode() + b"\0"
    return bytes(out)


def decode(data: bytes) -> list[Pair]:
    """The pairs in a complete text, in order, duplicates included.

    Raises:
        RemoteProtocolError: the last pair is not ended by a NUL, a key is empty, too long or malformed, a value is
            too long, or the text is not UTF-8.
    """
    if not data:
        return []
    if data[-1] != 0:
        raise RemoteProtocolError("a key=value text does not end with a NUL (RFC 7143, 6.1)")
    return [_pair(raw) for raw in data[:-1].split(b"\0")]


def _pair(raw: bytes) -> Pair:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a key=value text is not UTF-8 (RFC 7143, 6.1)") from None
    key, equals, value = text.partition("=")
    if not equals:
        raise RemoteProtocolError(f"{shorten(text)} is no key=value pair (RFC 7143, 6.1)")
    if not _KEY.fullmatch(key):
        raise RemoteProtocolError(f"{shorten(key)} is no valid key (RFC 7143, 6.1)")
    if key not in _LONG and any(len(item.encode()) > MAX_VALUE for item in value.split(",")):
        raise RemoteProtocolError(f"the value of {key} is longer than {MAX_VALUE} bytes (RFC 7143, 6.1)")
    return key, value


def shorten(text: str, limit: int = 60) -> str:
    """A stranger's text as one quoted, printable, short piece for an error message."""
    return ascii(text if len(text) <= limit else text[: limit - 1] + "…")


def number(key: str, value: str, low: int = 0, high: int = MAX_NUMBER) -> int:
    """A numerical value, decimal or hexadecimal, within `low` and `high` (6.1).

    Raises:
        RemoteProtocolError: not a number in one of the two notations, or out of range.
    """
    hexadecimal = _HEX.fullmatch(value)
    if hexadecimal and len(hexadecimal[1].lstrip("0")) <= 16:
        found = int(hexadecimal[1], 16)
    elif _DECIMAL.fullmatch(value):
        found = int(value)
    else:
        raise RemoteProtocolError(f"{key}={shorten(value)} is no number (RFC 7143, 6.1)")
    if not low <= found <= high:
        raise RemoteProtocolError(f"{key}={found} is not between {low} and {high} (RFC 7143, 6.2.2)")
    return found


def boolean(key: str, value: str) -> bool:
    """`Yes` or `No`, in exactly this case (6.1).

    Raises:
        RemoteProtocolError: anything else.
    """
    if value not in ("Yes", "No"):
        raise RemoteProtocolError(f"{key}={shorten(value)} must be Yes or No (RFC 7143, 6.1)")
    return value == "Yes"


def number_range(key: str, value: str) -> tuple[int, int]:
    """A range `low~high`, both ends included (6.1).

    Raises:
        RemoteProtocolError: not a range, or its ends are the wrong way round.
    """
    low_text, tilde, high_text = value.partition("~")
    if not tilde:
        raise RemoteProtocolError(f"{key}={shorten(value)} is no range (RFC 7143, 6.1)")
    low, high = number(key, low_text), number(key, high_text)
    if low > high:
        raise RemoteProtocolError(f"{key}={shorten(value)} is a range from high to low (RFC 7143, 6.1)")
    return low, high


def listing(key: str, value: str) -> tuple[str, ...]:
    """The items of a list, in order (6.1).

    Raises:
        RemoteProtocolError: an item is empty.
    """
    items = tuple(value.split(","))
    if "" in items:
        raise RemoteProtocolError(f"{key}={shorten(value)} has an empty item (RFC 7143, 6.1)")
    return items


def binary(key: str, value: str, limit: int) -> bytes:
    """A binary value in hexadecimal (`0x`) or base64 (`0b`), 1 to `limit` bytes (6.1).

    An odd count of hexadecimal digits has an implied leading zero.

    Raises:
        RemoteProtocolError: neither notation, or a wrong length.
    """
    hexadecimal, sixty_four = _HEX.fullmatch(value), _BASE64.fullmatch(value)
    try:
        if hexadecimal:
            digits = hexadecimal[1]
            found = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
        elif sixty_four:
            found = base64.b64decode(sixty_four[1], validate=True)
        else:
            raise RemoteProtocolError(f"{key} is no binary value: it must begin with 0x or 0b (RFC 7143, 6.1)")
    except binascii.Error:
        raise RemoteProtocolError(f"{key} is not valid base64 (RFC 7143, 6.1)") from None
    if not 1 <= len(found) <= limit:
        raise RemoteProtocolError(f"{key} has {len(found)} bytes, not 1 to {limit} (RFC 7143, 12.1.3)")
    return found


def hexadecimal(value: bytes) -> str:
    """A binary value as it is sent: `0x` and two digits for each byte."""
    return "0x" + value.hex()


def yes_no(value: bool) -> str:
    """A boolean as it is sent."""
    return "Yes" if value else "No"
