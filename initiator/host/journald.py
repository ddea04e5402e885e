"""One line for the system's journal, with fields: journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def encode(fields: Mapping[str, str]) -> bytes:
    """The datagram of one entry.

    Raises:
        ValueError: journald would ignore a field with such a name.
    """
    parts = []
    for name, value in fields.items():
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"no name of a field: {name!r}")
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def send(fields: Mapping[str, str], place: str = SOCKET) -> None:
    """Writes one entry; `MESSAGE` and `PRIORITY` (0 to 7) are the fields that everybody reads.

    Raises:
        OSError: there is no journald, or it does not take the entry now.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)  # a journal that is stuck must not hold up whoever watches
        channel.sendto(encode(fields), place)
