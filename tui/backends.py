"""What the dashboard stands on, as small interfaces, and the real ones: this host, the engine, removals, practice.

Everything here may block. It is called from threads of its own and never from the screen's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from initiator import changes
from initiator.engine.client import EngineClient, EngineNotRunning
from initiator.host import udev
from initiator.inventory import Inventory
from initiator.model import Event, Snapshot
from initiator.practice import range as ranges
from safety import journal as journals
from safety import runner
from safety.journal import Unfinished
from safety.plan import Plan
from safety.prepare import prepare
from tui.feed import Differ, Reading, Source


class Remover(Protocol):
    """Plans removals and starts them in a process of their own."""

    def plan(self, disk: str) -> Plan:
        """A plan made from the host as it is now.

        Raises:
            MooringError: the host could not be read, or there is no such disk.
        """

    def start(self, plan: Plan) -> pathlib.Path:
        """Start the runner; gives the journal that tells how it goes."""

    def resume(self, journal: pathlib.Path) -> None:
        """Start a runner that goes on with a stopped removal."""

    def undo(self, journal: pathlib.Path, chap_secret: str | None) -> None:
        """Start a runner that brings the disk back; the secret is for logging in again."""

    def unfinished(self) -> Sequence[Unfinished]:
        """The removals that wait, or are under way."""


Faulter = Callable[[str, Sequence[str]], str]
"""Gives the practice range a fault; returns what holds now, in one sentence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """Everything that the dashboard asks and orders."""

    source: Source
    differ: Differ
    remover: Remover
    fault: Faulter | None = None


class HostSource:
    """This host, read by `initiator.inventory`."""

    def __init__(self) -> None:
        self._engine = EngineClient()
        self._inventory = Inventory(engine=self._engine)
        self._watch: udev.Watch | None = None

    def read(self) -> Reading:
        """One snapshot, and the engine's messages."""
        snapshot = self._inventory.read()
        return Reading(snapshot, self._inventory.events)

    def pulse(self) -> Hashable:
        """The states of the engine's sessions, paths and disks: one small question over a socket."""
        try:
            report = self._engine.snapshot()
        except EngineNotRunning:
            return None
        return (
            tuple((session.id, session.state) for session in report.sessions),
            tuple((path.id, path.state) for path in report.paths),
            tuple((disk.id, disk.state) for disk in report.disks),
        )

    def watch(self, changed: Callable[[], None]) -> None:
        """Listen to the kernel's device events; where that is not allowed, polling alone has to do."""
        with contextlib.suppress(OSError):
            self._watch = udev.Watch(lambda _subsystems: changed())

    def close(self) -> None:
        """End the inventory's helper and the listening."""
        if self._watch is not None:
            self._watch.close()
        self._inventory.close()


class HostRemover:
    """Removals of this host, by `safety`."""

    def plan(self, disk: str) -> Plan:
        """Read everything anew and plan."""
        return prepare(disk, EngineClient())

    def start(self, plan: Plan) -> pathlib.Path:
        """Start the runner."""
        return runner.start(plan)

    def resume(self, journal: pathlib.Path) -> None:
        """Go on."""
        runner.resume(journal)

    def undo(self, journal: pathlib.Path, chap_secret: str | None) -> None:
        """Go back."""
        runner.undo(journal, chap_secret=chap_secret)

    def unfinished(self) -> Sequence[Unfinished]:
        """Look through the journals."""
        return journals.unfinished(runner.journal_dir())


def differ(old: Snapshot, new: Snapshot) -> Sequence[Event]:
    """The events between two snapshots, without those of volumes that have nothing to do with iSCSI."""
    volumes = (*old.volumes, *new.volumes)
    foreign = {volume.id for volume in volumes} - {volume.id for volume in volumes if volume.disks}
    return [event for event in changes.diff(old, new) if event.subject not in foreign]


def real(*, practice: bool) -> Backends:
    """The backends of this host."""
    return Backends(HostSource(), differ, HostRemover(), ranges.fault if practice else None)
