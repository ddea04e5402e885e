"""Under which name this host logs in."""

from __future__ import annotations

import os
import re
from pathlib import Path

from initiator.errors import BadInputError
from initiator.names import parse_name

_OPEN_ISCSI = Path("/etc/iscsi/initiatorname.iscsi")
_FILE = "initiatorname"
_LINE = re.compile(r"^\s*InitiatorName\s*=\s*(\S+)\s*$", re.MULTILINE)


def initiator_name(state: Path, system: Path = _OPEN_ISCSI) -> str:
    """The name that the host has already for its kernel initiator, else one of our own that is made once and kept.

    A host is one iSCSI node, so both initiators use one name (RFC 7143, 4.2.7); their ISIDs differ.

    Args:
        state: the folder in which an own name is kept.
        system: open-iscsi's file.

    Raises:
        BadInputError: a file holds no valid name.
    """
    try:
        found = _LINE.search(system.read_text())
    except (OSError, UnicodeDecodeError):
        found = None
    if found:
        return str(parse_name(found[1]))
    path = state / _FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    with open(handle, "w") as text:
        text.write(f"iqn.2026-11.io.mooring:host-{os.urandom(6).hex()}\n")
    return _read(path)


def _read(path: Path) -> str:
    try:
        return str(parse_name(path.read_text().strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
