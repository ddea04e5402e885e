"""What the rules need to know beyond the snapshot, as plain values.

`None` means that it could not be read; `problems` says why. A rule that needed it says that it cannot know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from initiator.fabric import Fabric
from initiator.host.hostfiles import FstabEntry, InitiatorFile, SecretFile
from initiator.host.lundetails import LunDetail
from initiator.host.nicsettings import Arp, Pause
from initiator.host.nodes import Records
from initiator.host.segments import Segment
from initiator.host.services import Listener, Unit
from initiator.model import Problem
from initiator.scsi.reservations import Registration


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """One reading."""

    read_at: float
    """Unix time at which reading began; facts are read seldom, so a screen shows their age."""
    fabric: Fabric | None = None
    records: Records | None = None
    initiator: InitiatorFile | None = None
    secrets: tuple[SecretFile, ...] | None = None
    daemon: Mapping[str, str] | None = None
    """The settings of iscsid.conf; empty where there is no such file."""
    fstab: tuple[FstabEntry, ...] | None = None
    units: Mapping[str, Unit] | None = None
    """systemd's units that have to do with iSCSI, by name; those that are not installed are missing."""
    mounts_after: Mapping[str, frozenset[str]] | None = None
    """By mount point: the units that systemd starts before it mounts there and stops after it has unmounted."""
    listeners: tuple[Listener, ...] | None = None
    default_links: frozenset[str] | None = None
    """Names of the links that default routes lead through."""
    ways: Mapping[str, str] | None = None
    """By host of a portal: the name of the link through which the kernel would send to it. Unreachable ones miss."""
    segments: Mapping[str, Segment] | None = None
    """By connection id: how large packets are that TCP sends there."""
    pauses: Mapping[str, Pause] | None = None
    """By name of the link; those whose driver does not tell are missing."""
    arp: Mapping[str, Arp] | None = None
    """By name of the link."""
    luns: Mapping[str, LunDetail] | None = None
    """By path id, for paths of the kernel."""
    multipath: Mapping[str, str] | None = None
    """The `defaults` in force in multipathd; empty where it does not run."""
    ages: Mapping[str, float] | None = None
    """By id of a path or link: seconds for which its device has been there, and its errors been counted. Those of which
    nobody knows are missing."""
    registrations: Mapping[str, tuple[Registration, ...]] | None = None
    """By disk id: who is registered for persistent reservations. Disks that were not asked are missing."""
    problems: tuple[Problem, ...] = ()

    def why(self, source: str) -> str:
        """Why the field `source` is not known, in a few words."""
        return next((each.reason for each in self.problems if each.source == source), "it was not read")
