"""What the dashboard stands on, as small interfaces, and the real ones: this host, the engine, removals, practice.

Everything here may block. It is called from threads of its own and never from the screen's. What the real ones stand
on is imported where it is used, in those threads: the first screen is painted before a hundred modules are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol

from tui.feed import Differ, Reading, Source

if TYPE_CHECKING:
    from initiator.engine.client import EngineClient
    from initiator.host import udev
    from initiator.host.pulse import SessionPulse
    from initiator.inventory import Inventory
    from initiator.model import Event, Snapshot
    from safety.journal import Unfinished
    from safety.plan import Plan


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
        self._parts: tuple[EngineClient, Inventory] | None = None
        self._watch: udev.Watch | None = None
        self._kernel: SessionPulse | None = None

    def read(self) -> Reading:
        """One snapshot, and the engine's messages."""
        _, inventory = self._opened()
        snapshot = inventory.read()
        return Reading(snapshot, inventory.events)

    def pulse(self) -> Hashable:
        """The states of the engine's sessions, paths and disks (one question over a socket), and of the kernel's."""
        from initiator.engine.client import EngineNotRunning
        from initiator.host.pulse import SessionPulse

        engine, _ = self._opened()
        self._kernel = self._kernel or SessionPulse()
        kernel = self._kernel.look()
        try:
            report = engine.snapshot()
        except EngineNotRunning:
            return kernel
        return (
            kernel,
            tuple((session.id, session.state) for session in report.sessions),
            tuple((path.id, path.state) for path in report.paths),
            tuple((disk.id, disk.state) for disk in report.disks),
        )

    def watch(self, changed: Callable[[], None]) -> None:
        """Listen to the kernel's device events; where that is not allowed, polling alone has to do."""
        from initiator.host import udev

        with contextlib.suppress(OSError):
            self._watch = udev.Watch(lambda _subsystems: changed())

    def close(self) -> None:
        """End the inventory's helper and the listening."""
        if self._watch is not None:
            self._watch.close()
        if self._parts is not None:
            self._parts[1].close()

    def _opened(self) -> tuple[EngineClient, Inventory]:
        if self._parts is None:
            from initiator.engine.client import EngineClient
            from initiator.inventory import Inventory

            engine = EngineClient()
            self._parts = (engine, Inventory(engine=engine))
        return self._parts


class HostRemover:
    """Removals of this host, by `safety`."""

    def plan(self, disk: str) -> Plan:
        """Read everything anew and plan."""
        from initiator.engine.client import EngineClient
        from safety.prepare import prepare

        return prepare(disk, EngineClient())

    def start(self, plan: Plan) -> pathlib.Path:
        """Start the runner."""
        from safety import runner

        return runner.start(plan)

    def resume(self, journal: pathlib.Path) -> None:
        """Go on."""
        from safety import runner

        runner.resume(journal)

    def undo(self, journal: pathlib.Path, chap_secret: str | None) -> None:
        """Go back."""
        from safety import runner

        runner.undo(journal, chap_secret=chap_secret)

    def unfinished(self) -> Sequence[Unfinished]:
        """Look through the journals."""
        from safety import journal, places

        return journal.unfinished(places.journal_dir())


def differ(old: Snapshot, new: Snapshot) -> Sequence[Event]:
    """The events between two snapshots, without those of volumes that have nothing to do with iSCSI."""
    from initiator import changes

    volumes = (*old.volumes, *new.volumes)
    foreign = {volume.id for volume in volumes} - {volume.id for volume in volumes if volume.disks}
    return [event for event in changes.diff(old, new) if event.subject not in foreign]


def practice_fault(name: str, args: Sequence[str]) -> str:
    """Give the practice range a fault."""
    from initiator.practice import range as ranges

    return ranges.fault(name, args)


def real(*, practice: bool) -> Backends:
    """The backends of this host."""
    return Backends(HostSource(), differ, HostRemover(), practice_fault if practice else None)
