"""What the dashboard stands on, as small interfaces, and the real ones: this host, the engine, removals, practice.

Everything here may block. It is called from threads of its own and never from the screen's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from initiator.engine.client import EngineClient, EngineNotRunning
from initiator.inventory import Inventory
from initiator.model import Event, Snapshot
from safety.journal import Unfinished
from safety.plan import Plan
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

    def undo(self, journal: pathlib.Path) -> None:
        """Start a runner that brings the disk back."""

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
        self._monitor: contextlib.AbstractContextManager[object] | None = None

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
        """Listen to the kernel's device events."""

    def close(self) -> None:
        """End the inventory's helper."""
        self._inventory.close()


class HostRemover:
    """Removals of this host, by `safety`."""

    def plan(self, disk: str) -> Plan:
        """Read everything anew and plan."""
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

    def undo(self, journal: pathlib.Path) -> None:
        """Go back."""
        from safety import runner

        runner.undo(journal)

    def unfinished(self) -> Sequence[Unfinished]:
        """Look through the journals."""
        from safety import journal, runner

        return journal.unfinished(runner.journal_dir())


def _differ(old: Snapshot, new: Snapshot) -> Sequence[Event]:
    from initiator.inventory import diff

    return diff(old, new)


def practice_fault(name: str, args: Sequence[str]) -> str:
    """Give the running practice range a fault."""
    from initiator.practice import range as ranges

    return ranges.fault(name, args)


def real(*, practice: bool) -> Backends:
    """The backends of this host."""
    return Backends(HostSource(), _differ, HostRemover(), practice_fault if practice else None)
