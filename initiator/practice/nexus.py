"""Who talks to whom: target ports, I_T nexuses and the unit attentions that wait for each (SAM-5, 5.14)."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence

from initiator.model import Access

POWER_ON = 0x2901
DEVICE_RESET = 0x2903
NEXUS_LOSS = 0x2907
ACCESS_CHANGED = 0x2A06
CAPACITY_CHANGED = 0x2A09
COMMANDS_CLEARED = 0x2F00
LUNS_CHANGED = 0x3F0E

MAX_NEXUSES = 1024
"""How many initiators are remembered after they left; a stranger cannot make the target remember more."""


@dataclasses.dataclass(slots=True)
class Port:
    """A target port; each is a port group of its own, `group` is the number of both."""

    group: int
    access: Access = Access.OPTIMIZED


@dataclasses.dataclass(slots=True, eq=False)
class Nexus:
    """One initiator port at one target port.

    Attributes:
        ports: Every port of the target, for REPORT TARGET PORT GROUPS.
        attentions: By disk name, the codes (ASC, ASCQ) that wait, oldest first.
    """

    initiator: str
    port: Port
    ports: Sequence[Port]
    isid: bytes = b""
    attentions: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def attend(self, disk: str, code: int) -> None:
        """Let a unit attention wait, once. A reset outranks what waited before it (SAM-5, 5.14.3)."""
        waiting = self.attentions.setdefault(disk, [])
        if code >> 8 == 0x29:
            waiting.clear()
        if code not in waiting:
            waiting.append(code)

    def next_attention(self, disk: str) -> int | None:
        """Take the oldest one that waits."""
        waiting = self.attentions.get(disk)
        return waiting.pop(0) if waiting else None


Key = tuple[str, bytes, int]
"""Initiator name, ISID, portal group tag: what makes an I_T nexus within one target (RFC 7143, 3)."""


class Nexuses:
    """The nexuses that one target remembers.

    Args:
        ports: The target's ports.
        disks: Names of its disks.
        first: What a nexus is told that was never seen before.
    """

    def __init__(self, ports: Sequence[Port], disks: Sequence[str], first: int = POWER_ON) -> None:
        self._first = first
        self._ports = ports
        self._disks = tuple(disks)
        self._known: OrderedDict[Key, Nexus] = OrderedDict()

    def enter(self, initiator: str, isid: bytes, group: int) -> Nexus:
        """The nexus of a new session; its unit attention is power on for a stranger, nexus loss for who comes again."""
        key = (initiator, isid, group)
        nexus = self._known.pop(key, None)
        code = NEXUS_LOSS
        if nexus is None:
            port = next(port for port in self._ports if port.group == group)
            nexus, code = Nexus(initiator, port, self._ports, isid), self._first
        self._known[key] = nexus
        while len(self._known) > MAX_NEXUSES:
            self._known.popitem(last=False)
        for disk in self._disks:
            # Power on says more than nexus loss: it must not be hidden by a second login before it was read.
            if code == POWER_ON or POWER_ON not in nexus.attentions.get(disk, ()):
                nexus.attend(disk, code)
        return nexus

    def attend(self, disk: str, code: int, port: Port | None = None, but: Nexus | None = None) -> None:
        """Let a unit attention wait for every nexus, or for those at one port; not for `but`, which knows."""
        for nexus in self._known.values():
            if nexus is not but and (port is None or nexus.port is port):
                nexus.attend(disk, code)
