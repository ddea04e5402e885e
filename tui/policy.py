"""What nobody may do on this host with Mooring: `/etc/mooring/policy.toml`, which root writes and no option overrides.

    [forbid]
    write = "Disks are written through their file systems here."
    remove = "Storage is taken away by the storage team: phone 4711."

Each key is a command that changes something, or `everything`; its value is the reason that a person is told. A policy
that cannot be understood forbids everything that changes anything: what it was to forbid is not known.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

from initiator.errors import NotPermittedError
from initiator.names import clean

FILE = Path("/etc/mooring/policy.toml")
EVERYTHING = "everything"
CHANGING = frozenset(
    {
        *("attach", "discover", "engine-cleanup", "engine-stop", "isns", "login", "logout", "mount", "practice"),
        *("remove", "rescan", "resume", "startup", "undo", "unmount", "write"),
    }
)
"""The commands and orders that change something, as a policy names them."""

_SAME = {"path_out": "remove", "path_back": "undo", "probe": "login", "probe_one": "login", "look": "mount"}
"""Actions of the dashboard, and commands, that are a part of what a policy names."""


def named(action: str) -> str:
    """What a policy calls an action of the dashboard, or a command."""
    return _SAME.get(action, action)


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """Reasons by what they forbid."""

    forbidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file: Path = FILE

    def why_not(self, action: str) -> str:
        """Why an action is forbidden here, as a sentence; an empty string when it is not."""
        action = named(action)
        if action not in CHANGING:
            return ""
        found = next((each for each in (action, EVERYTHING) if each in self.forbidden), None)
        if found is None:
            return ""
        return f"{self.forbidden[found] or 'It is forbidden on this host.'} ({self.file})"

    def check(self, action: str) -> None:
        """Let an action through.

        Raises:
            NotPermittedError: the policy forbids it.
        """
        reason = self.why_not(action)
        if reason:
            part = f" (a part of “{named(action)}”)" if named(action) != action else ""
            raise NotPermittedError(
                f"“{action}”{part} is not allowed here: {reason}", fix="ask whoever keeps this host's policy"
            )


def load(file: Path | None = None) -> Policy:
    """The policy of this host, or of another file; an empty one where there is none."""
    file = FILE if file is None else file
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Policy({}, file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return _broken(file, f"cannot be read: {reason}")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _broken(file, f"is not TOML: {error}")
    known = {*CHANGING, EVERYTHING}
    forbidden = tables.get("forbid", {})
    if not isinstance(forbidden, dict) or set(tables) - {"forbid"}:
        return _broken(file, "may hold nothing but one section [forbid]")
    for action, reason in forbidden.items():
        if action not in known:
            return _broken(file, f"forbids {clean(action)}, which is none of {', '.join(sorted(known))}")
        if not isinstance(reason, str):
            return _broken(file, f"has to give the reason for {action} as a text in quotation marks")
    return Policy({action: clean(reason, 400) for action, reason in forbidden.items()}, file)


def _broken(file: Path, why: str) -> Policy:
    return Policy({EVERYTHING: f"The policy {why}. What it was to forbid is not known, so nothing is changed."}, file)
