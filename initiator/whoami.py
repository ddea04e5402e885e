"""The initiator name of this host: open-iscsi's where it has one, else one of Mooring's own, made once and kept."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from initiator import places
from initiator.errors import BadInputError
from initiator.names import parse_name

OPEN_ISCSI = Path("/etc/iscsi/initiatorname.iscsi")
_LINE = re.compile(r"^\s*InitiatorName\s*=\s*(\S+)\s*$", re.MULTILINE)


def initiator_name(root: Path = Path("/")) -> str:
    """The name under which this host logs in. Targets grant access by it, so it never changes by itself.

    Raises:
        BadInputError: the file that holds it does not hold a valid name.
    """
    shared = root / OPEN_ISCSI.relative_to("/")
    try:
        return _parse(shared)
    except OSError:
        pass  # no open-iscsi here, or its file is for root only
    own = places.state_dir() / "initiatorname"
    try:
        return _parse(own)
    except FileNotFoundError:
        name = f"iqn.2026-11.io.mooring:{secrets.token_hex(6)}"
        try:
            with own.open("x", encoding="ascii") as file:
                file.write(f"InitiatorName={name}\n")
        except FileExistsError:  # another Mooring was faster
            return _parse(own)
        return name


def _parse(path: Path) -> str:
    found = _LINE.search(path.read_text(encoding="ascii", errors="replace"))
    if found is None:
        raise BadInputError(f"{path} has no line InitiatorName=…", fix=f"correct {path}")
    return str(parse_name(found.group(1)))
