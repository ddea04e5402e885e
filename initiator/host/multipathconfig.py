"""The settings that multipathd goes by, as it tells them itself: its configuration files alone say half of it."""

from __future__ import annotations

import re
from pathlib import Path

from initiator.host.multipathd import Multipathd, MultipathdError
from initiator.names import clean

_SECONDS = 2.0
_SECTION = re.compile(r"^defaults[ \t]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r'^[ \t]+(\w+)[ \t]+(?:"([^"\n]*)"|(\S+))[ \t]*$', re.MULTILINE | re.ASCII)


def read_defaults(root: Path = Path("/")) -> dict[str, str]:
    """The `defaults` in force; empty where no multipathd runs.

    Raises:
        MultipathdError: it does not answer, or with something else: it runs, so that empty would be wrong.
    """
    with Multipathd(root) as daemon:
        text = daemon.order("show config", _SECONDS)
    if text is None:
        return {}
    found = parse_defaults(text)
    if not found:
        raise MultipathdError("multipathd does not tell its settings")
    return found


def parse_defaults(text: str) -> dict[str, str]:
    """The section `defaults` of `multipathd show config`."""
    found = _SECTION.search(text)
    return {name: clean(quoted or bare, 200) for name, quoted, bare in _SETTING.findall(found[1])} if found else {}
