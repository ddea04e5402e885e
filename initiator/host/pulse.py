"""The states of the kernel's sessions, looked at so cheaply that it can be done several times a second.

The kernel tells nobody but iscsid that a session has failed or come back: there is no device event. Whoever has to show
it soon has to look.
"""

from __future__ import annotations

from pathlib import Path

from initiator.host import attributes, sysfs

TURN = 256
"""How many sessions are looked at in one turn; with more of them each is looked at in every second, third … turn."""


class SessionPulse:
    """Looks again and again.

    Args:
        root: Where `sys` is.
        turn: How many sessions are looked at in one turn.
    """

    def __init__(self, root: Path = Path("/"), turn: int = TURN) -> None:
        self._folder = f"{sysfs.base(root)}/sys/class/iscsi_session"
        self._turn = turn
        self._next = 0
        self._states: dict[str, bytes | None] = {}

    def look(self) -> tuple[tuple[str, bytes | None], ...]:
        """The sessions' names and states as they were seen last, sorted by name."""
        names = sysfs.names(self._folder)
        start = self._next if self._next < len(names) else 0
        self._next = start + self._turn
        before = self._states
        due = {*names[start : self._next], *(name for name in names if name not in before)}
        self._states = {
            name: attributes.read_one(f"{self._folder}/{name}/state") if name in due else before[name] for name in names
        }
        return tuple(self._states.items())
