"""What the guards and the plan need to know of disks of the kernel's initiator, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from initiator.host.scsipaths import ScsiPath, ScsiSession, Traffic
from initiator.host.stacks import Array, VolumeGroup
from initiator.model import Path
from initiator.scsi.reservations import Registration


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """How one of the sessions is logged in to again, and whether that happens at boot."""

    sid: int
    startup: str | None
    """None: there is no node record."""


@dataclasses.dataclass(frozen=True, slots=True)
class KernelFacts:
    """One reading."""

    paths: tuple[ScsiPath, ...] = ()
    """The paths that go, of all disks."""
    others: tuple[ScsiPath, ...] = ()
    """Every other logical unit of their sessions."""
    sessions: tuple[ScsiSession, ...] = ()
    """The sessions of these paths, and those that were named."""
    every_session: tuple[ScsiSession, ...] = ()
    traffic: tuple[tuple[str, Traffic], ...] = ()
    """By H:C:T:L, for the paths that go."""
    records: tuple[Record, ...] = ()
    boot: tuple[str, ...] = ()
    """Names of targets that this host boots from."""
    discoveryd: tuple[str, ...] = ()
    """Discovery records by which iscsid logs in, and out, by itself."""
    iscsid: bool = True
    """Whether anybody listens for iscsiadm."""
    multipathd: str = "absent"
    """`running`, `absent`, or why it does not tell."""
    groups: tuple[VolumeGroup, ...] = ()
    """Every volume group of this host, if the disks have to do with LVM: two may have the same name."""
    arrays: tuple[Array, ...] = ()
    """Arrays with a member on one of the disks or on something above it."""
    back: tuple[tuple[str, float], ...] | None = ()
    """When paths came back into their map last, by `major:minor`, Unix time; None where the kernel's log is closed."""

    registrations: tuple[tuple[str, tuple[Registration, ...]], ...] = ()
    """Who is registered with each disk (persistent reservations), by the disk's id."""

    def of(self, paths: Iterable[Path]) -> tuple[ScsiPath, ...]:
        """What the kernel says of these paths."""
        wanted = {path.id.rpartition("kernel:p:")[2] for path in paths}
        return tuple(each for each in self.paths if each.hctl in wanted)

    def record(self, sid: int) -> Record | None:
        """The record of a session."""
        return next((each for each in self.records if each.sid == sid), None)

    def stays(self, sid: int) -> tuple[ScsiPath, ...]:
        """The other logical units for whose sake a session stays; empty if it can be logged out."""
        return tuple(each for each in self.others if each.sid == sid and each.may_hold_data)
