"""TargetAddress: where a target can be reached, as targets write it (RFC 7143, 13.8)."""

from __future__ import annotations

import ipaddress
import re

from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.errors import RemoteProtocolError

DEFAULT_PORT = 3260

_FORM = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:,]+))(?::(?P<port>[0-9]{1,5}))?(?:,(?P<tag>[0-9]{1,5}))?")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")


def parse(value: str) -> Portal:
    """A portal from `host[:port][,portal-group-tag]`: a name, an IPv4 address, or an IPv6 address in brackets.

    Raises:
        RemoteProtocolError: anything else.
    """
    found = _FORM.fullmatch(value)
    if not found:
        raise _bad(value)
    port = int(found["port"] or DEFAULT_PORT)
    tag = None if found["tag"] is None else int(found["tag"])
    if not 1 <= port <= 65535 or (tag or 0) > 65535:
        raise _bad(value)
    return Portal(_host(found["six"], found["host"], value), port, tag)


def _host(six: str | None, host: str | None, value: str) -> str:
    try:
        if six is not None:
            return ipaddress.IPv6Address(six).compressed
        name = host or ""
        if name.replace(".", "").isdigit():
            return ipaddress.IPv4Address(name).compressed
    except ValueError:
        raise _bad(value) from None
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise _bad(value)
    return name.lower().rstrip(".")


def _bad(value: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"TargetAddress={text.shorten(value)} is no address (RFC 7143, 13.8)")
