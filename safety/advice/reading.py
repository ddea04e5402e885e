"""Reads the facts of this host for the rules: read only, with deadlines, and not for the screen's own thread."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from initiator.engine.client import EngineClient
from initiator.errors import MooringError
from initiator.fabric import Fabric
from initiator.host import ages, hostfiles, lundetails, multipathconfig, nicsettings, routes, segments, services
from initiator.host.fabric import FabricReader
from initiator.host.nodes import RecordReader, Records
from initiator.model import DiskState, Problem, Snapshot, Source
from initiator.scsi.reservations import Claims, Registration, registered
from safety.advice.facts import Facts

T = TypeVar("T")
_ENGINE_SECONDS = 3.0
_ATTACHED = (DiskState.ATTACHED, DiskState.DEGRADED)


class FactsReader:
    """Reads again and again.

    Args:
        root: Where `etc`, `var`, `sys`, `proc` and `run` are. On another root than `/` only files are read: the kernel,
            systemd and the disks are those of this host.
        clock: Unix time.
        engine: Who is asked about the engine's own disks.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.time,
        engine: EngineClient | None = None,
    ) -> None:
        self._engine = engine or EngineClient()
        self._root = root
        self._live = root == Path("/")
        self._clock = clock
        self._fabric = FabricReader(root)
        self._records = RecordReader(root)
        self._problems: list[Problem] = []

    def read(self, snapshot: Snapshot) -> Facts:
        """What the rules have to know of the host that this snapshot is of; takes some seconds at most."""
        at = self._clock()
        self._problems = []
        names = [link.name for link in snapshot.links]
        records = self._known_records()
        fabric = self._ask("fabric", lambda: self._fabric.read(snapshot))
        units = self._ask("units", services.read_units) if self._live else None
        connections = [connection for session in snapshot.sessions for connection in session.connections]
        return Facts(
            read_at=at,
            fabric=self._without_problems(fabric),
            records=records,
            initiator=self._ask("initiator", lambda: hostfiles.read_initiator(self._root)),
            secrets=self._ask("secrets", lambda: hostfiles.read_secrets(records, self._root)) if records else None,
            daemon=self._ask("daemon", lambda: hostfiles.read_daemon_settings(self._root)),
            fstab=self._ask("fstab", lambda: hostfiles.read_fstab(self._root)),
            units=units[0] if units else None,
            mounts_after=units[1] if units else None,
            listeners=self._ask("listeners", services.read_listeners) if self._live else None,
            default_links=self._ask("ways", routes.read_default_links) if self._live else None,
            ways=self._ask("ways", lambda: routes.read_ways(_hosts(snapshot, records))) if self._live else None,
            segments=self._ask("segments", lambda: segments.read_segments(connections)) if self._live else None,
            pauses=self._ask("pauses", lambda: nicsettings.read_pauses(names)) if self._live else None,
            arp=self._ask("arp", lambda: nicsettings.read_arp(names, self._root)),
            luns=self._ask("luns", lambda: lundetails.read_luns((path.id for path in snapshot.paths), self._root)),
            multipath=self._ask("multipath", lambda: multipathconfig.read_defaults(self._root)),
            ages=self._ask("ages", lambda: ages.read_ages(snapshot.paths, snapshot.links)) if self._live else None,
            registrations=self._registrations(snapshot) if self._live else None,
            problems=tuple(self._problems),
        )

    def _ask(self, source: str, read: Callable[[], T]) -> T | None:
        """One reading; None and a problem where it cannot be had."""
        try:
            return read()
        except PermissionError:
            self._problems.append(Problem(source, source, "only root may read it"))
        except OSError as error:
            self._problems.append(Problem(source, source, error.strerror or str(error)))
        except MooringError as error:
            self._problems.append(Problem(source, source, str(error)))
        return None

    def _known_records(self) -> Records | None:
        """The node records; None where any of them could not be read, for then a missing one proves nothing."""
        found = self._ask("records", self._records.read)
        refused = next((each for each in found.problems if "may read" in each.reason), None) if found else None
        if refused is not None:
            self._problems.append(Problem("records", refused.subject, refused.reason))
            return None
        return found

    def _without_problems(self, fabric: Fabric | None) -> Fabric | None:
        self._problems += fabric.problems if fabric else ()
        return fabric

    def _registrations(self, snapshot: Snapshot) -> dict[str, tuple[Registration, ...]]:
        """Who is registered with the disks that could be asked."""
        found: dict[str, tuple[Registration, ...]] = {}
        kernel = [disk for disk in snapshot.disks if disk.source is Source.KERNEL]
        if kernel and os.geteuid() != 0:
            self._problems.append(Problem("registrations", "disks", "only root may ask the disks"))
        elif kernel:
            found, problems = lundetails.read_registrations(kernel)
            self._problems += problems
        for disk in snapshot.disks:
            if disk.source is Source.ENGINE and disk.state in _ATTACHED:
                told = self._ask("registrations", functools.partial(self._ask_engine, disk.id))
                if told is not None:
                    found[disk.id] = told
        return found

    def _ask_engine(self, disk: str) -> tuple[Registration, ...]:
        from initiator.engine.report import from_json

        answer = self._engine.call("claims", timeout=_ENGINE_SECONDS, disk=disk)
        return registered(from_json(Claims, answer["claims"]))


def _hosts(snapshot: Snapshot, records: Records | None) -> list[str]:
    """Every portal that this host knows of."""
    known = [record.portal.host for record in records.nodes] if records else []
    return [*known, *(session.portal.host for session in snapshot.sessions)]


def read_facts(snapshot: Snapshot, root: Path = Path("/")) -> Facts:
    """Reads once; whoever reads more than once keeps a `FactsReader`."""
    return FactsReader(root).read(snapshot)
