"""The faults of the practice range as sentences for the command palette. No Textual, no socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from initiator.model import Snapshot
from tui.words import say


class Trick(NamedTuple):
    """One thing to do to the practice range."""

    text: str
    help: str
    fault: str
    args: tuple[str, ...]
    first: bool = False
    """Shown before anything is typed."""


def tricks(snapshot: Snapshot) -> list[Trick]:
    """What can be done to the portals and disks that a snapshot shows."""
    portals = {str(session.portal): session.portal.host for session in snapshot.sessions}
    disks = [disk.name for disk in snapshot.disks]
    found = [trick for portal, host in sorted(portals.items()) for trick in _portal(portal, host)]
    found += [trick for disk in sorted(disks) for trick in _disk(disk)]
    return [*found, Trick("Practice: end every fault", "Everything works again.", "clear", (), True)]


LESSONS = (
    Trick(
        "Make the disaster happen on logs",
        "A volume is mounted on it, a letter is written, and the disk logs out under it: see what is left.",
        "disaster",
        (),
        True,
    ),
    Trick("Let a program sit in the volume of data", "It stands in the way of a removal.", "busy", ("data",), True),
    Trick("End the program that sits in a volume", "Nothing stands in the way any more.", "busy", ("--end",), True),
)
"""What the lessons of the tour need beside faults."""


def _portal(portal: str, host: str) -> Iterator[Trick]:
    where = say(host)
    yield Trick(f"Pull the cable of {where}", "The portal goes silent: nothing is answered.", "cut", (portal,), True)
    yield Trick(f"Plug in the cable of {where}", "What waited is answered.", "plug", (portal,), True)
    yield Trick(f"Make {where} slow", "Every answer comes 200 ms later.", "delay", (portal, "200"), True)
    yield Trick(f"Make {where} fast again", "Answers come at once.", "delay", (portal, "0"))
    yield Trick(f"Break the connections of {where}", "TCP resets; new ones are welcome.", "drop", (portal,), True)
    yield Trick(f"Corrupt a digest from {where}", "One bit flips on the wire.", "corrupt-digest", (portal,))
    yield Trick(f"Let {where} refuse logins", "It says: service unavailable.", "refuse-login", (portal, "on"))
    yield Trick(f"Let {where} accept logins", "As usual.", "refuse-login", (portal, "off"))
    yield Trick(f"Let {where} ask for logout", "As an array does before maintenance.", "ask-logout", (portal,))
    for state in ("optimized", "non-optimized", "standby", "unavailable"):
        yield Trick(f"ALUA: make {where} {state}", "The array changes its access state.", "alua", (portal, state))


def _disk(disk: str) -> Iterator[Trick]:
    name = say(disk)
    yield Trick(f"Write-protect {name}", "Writes fail.", "read-only", (disk, "on"))
    yield Trick(f"Let {name} be written again", "Writes work.", "read-only", (disk, "off"))
    yield Trick(f"Fill the pool under {name}", "Writes to new blocks fail: out of space.", "out-of-space", (disk, "on"))
    yield Trick(f"Give the pool under {name} space", "Writes work.", "out-of-space", (disk, "off"))
    yield Trick(f"Grow {name} by 64 MiB", "The target tells the initiator.", "grow", (disk, "+64M"))
    yield Trick(f"Let {name} vanish", "The target denies that it exists.", "vanish", (disk, "on"))
    yield Trick(f"Let {name} come back", "The target knows it again.", "vanish", (disk, "off"))
