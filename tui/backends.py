"""What the dashboard stands on, as small interfaces, and the real ones: this host, the engine, removals, practice.

Everything here may block. It is called from threads of its own and never from the screen's. What the real ones stand
on is imported where it is used, in those threads: the first screen is painted before a hundred modules are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tui.connecting import Chap, Connector, Offer, Offers
from tui.feed import Differ, Reading, Source
from tui.looking import HostLooker, Looker

if TYPE_CHECKING:
    from initiator.engine.client import EngineClient
    from initiator.host import udev
    from initiator.host.kernelsessions import TcpKey
    from initiator.host.nodes import NodeRecord
    from initiator.host.pulse import SessionPulse
    from initiator.inventory import Inventory
    from initiator.model import Event, Session, Snapshot, TcpInfo
    from initiator.practice.disaster import Loss
    from initiator.ways import Way
    from safety.advice.catalogue import Advice
    from safety.journal import Unfinished
    from safety.past import Past, Shelf
    from safety.plan import Plan
    from safety.scope import Scope
    from tui.judging import Judge


class Remover(Protocol):
    """Plans removals and starts them in a process of their own."""

    def plan(self, scope: Scope, *, abandon: bool = False, end_users: bool = False) -> Plan:
        """A plan made from the host as it is now, with what the person chose (`safety.step.Options`).

        Raises:
            MooringError: the host could not be read, or there is no such disk.
        """

    def start(self, plan: Plan) -> pathlib.Path:
        """Start the runner; gives the journal that tells how it goes."""

    def resume(self, journal: pathlib.Path) -> None:
        """Start a runner that goes on with a stopped removal."""

    def undo(self, journal: pathlib.Path, *chap_secrets: str) -> None:
        """Start a runner that brings the disk back; the secrets are for logging in again: ours, then the target's."""

    def unfinished(self) -> Sequence[Unfinished]:
        """The removals that wait, or are under way."""

    def past(self) -> Sequence[Past]:
        """All removals that left a journal, newest first."""


class KernelOrders(Protocol):
    """Gives orders to the kernel's initiator. Each tells in a sentence or two what came of it.

    Raises (every method): MooringError, with the reason and the way out.
    """

    def idle(self) -> Sequence[NodeRecord]:
        """The node records that no session belongs to."""

    def login(self, record: NodeRecord) -> str:
        """Log in with a node record and what credentials it has."""

    def logout(self, session: Session) -> str:
        """Log out of a session that carries no disk."""

    def startup(self, session: Session, mode: str) -> str:
        """Set whether the node record of a session is logged in to at boot."""

    def rescan(self, sessions: Sequence[Session]) -> str:
        """Look for new LUNs and sizes."""


class Attacher(Protocol):
    """Discovers, logs in and attaches, with the initiator that this host has. See `tui.connecting.Connector`."""

    def discover(self, where: str, chap: Chap) -> Offers:
        """Ask a portal for its targets."""

    def login(self, offer: Offer, chap: Chap) -> str:
        """Log in to a target at one portal; tells what came of it."""

    def attach(self, target: str, lun: int) -> str:
        """Make a logical unit a block device; tells what came of it."""

    def logout(self, session: Session) -> str:
        """End a session of the engine that carries no disk; tells what came of it."""


class Switch(Protocol):
    """The probes, where there are some."""

    @property
    def on(self) -> bool:
        """Whether every session is to be probed."""

    @property
    def portals(self) -> frozenset[Way]:
        """The ways that are to be probed where not every one is."""

    def turn(self, on: bool) -> None:
        """Probe every session, or none at all; from any thread. It is done with the next reading."""

    def turn_some(self, ways: Collection[Way], on: bool) -> None:
        """Probe these as well, or not any more; from any thread. It is done with the next reading."""


Checker = Callable[["Snapshot"], "Advice"]
"""Asks the rules of best practice about a host; reads what they need, which may take seconds."""

Faulter = Callable[[str, Sequence[str]], "str | Loss"]
"""Gives the practice range a fault; returns what holds now, in one sentence, or what was lost."""


def check_host(snapshot: Snapshot) -> Advice:
    """Read what the rules need, and ask them all."""
    from safety.advice.catalogue import advise
    from safety.advice.reading import FactsReader

    return advise(snapshot, FactsReader().read(snapshot))


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """Everything that the dashboard asks and orders."""

    source: Source
    differ: Differ
    remover: Remover
    kernel: KernelOrders
    fault: Faulter | None = None
    connector: Attacher = dataclasses.field(default_factory=Connector)
    check: Checker = check_host
    probes: Switch | None = None
    looker: Looker = dataclasses.field(default_factory=HostLooker)


class TcpLater:
    """TCP's view of the kernel's connections. Whoever asks gets nothing while what can ask is still being imported.

    That import takes as long as all the rest of a first reading. It is done by a thread of its own, and only when
    somebody asks, which the inventory does on a host whose kernel has sessions.
    """

    def __init__(self) -> None:
        self._ask: Callable[[], Mapping[TcpKey, TcpInfo]] | None = None
        self._importing: threading.Thread | None = None

    def __call__(self) -> Mapping[TcpKey, TcpInfo]:
        """What is known now."""
        if self._ask is not None:
            return self._ask()
        if self._importing is None:
            self._importing = threading.Thread(target=self._import, name="import-tcp", daemon=True)
            self._importing.start()
        return {}

    def _import(self) -> None:
        from initiator.host.sockets import SparingConnections

        self._ask = SparingConnections()


class HostSource:
    """This host, read by `initiator.inventory` and judged by `tui.judging`.

    Args:
        no_probes: Why nothing may be probed, whatever the settings want; empty where it may.
    """

    def __init__(self, no_probes: str = "") -> None:
        self._no_probes = no_probes
        self._parts: tuple[EngineClient, Inventory, Judge] | None = None
        self._watch: udev.Watch | None = None
        self._kernel: SessionPulse | None = None
        self._told: tuple[Event, ...] = ()

    def read(self) -> Reading:
        """One snapshot with its verdicts, and the engine's messages."""
        _, inventory, judge = self._opened()
        snapshot, judged, told = judge.look()
        self._told = (*self._told, *told)[-100:]
        return Reading(snapshot, (*inventory.events, *self._told), judged)

    def pulse(self) -> Hashable:
        """The states of the engine's sessions, paths and disks (one question over a socket), and of the kernel's."""
        from initiator.engine.client import EngineNotRunning
        from initiator.host.pulse import SessionPulse

        engine, _, judge = self._opened()
        self._kernel = self._kernel or SessionPulse()
        kernel = (self._kernel.look(), tuple(judge.wrong()))
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

        def happened(subsystems: frozenset[str]) -> None:
            if self._parts is not None and "block" in subsystems:
                self._parts[1].stir()
            changed()

        self._opened()[2].listen(changed)
        with contextlib.suppress(OSError):
            self._watch = udev.Watch(happened)

    @property
    def on(self) -> bool:
        """Whether every session is to be probed."""
        return self._parts is not None and self._parts[2].probing

    @property
    def portals(self) -> frozenset[Way]:
        """The ways that are to be probed where not every one is."""
        return self._parts[2].portals if self._parts is not None else frozenset()

    def turn(self, on: bool) -> None:
        """Probe every session, or none at all; done with the next reading."""
        judge = self._opened()[2]
        judge.probing, judge.portals = on, frozenset()

    def turn_some(self, ways: Collection[Way], on: bool) -> None:
        """Probe these as well, or not any more; done with the next reading."""
        judge = self._opened()[2]
        judge.portals = judge.portals | frozenset(ways) if on else judge.portals - frozenset(ways)

    def close(self) -> None:
        """End the inventory's helper and the listening."""
        if self._watch is not None:
            self._watch.close()
        if self._parts is not None:
            self._parts[1].close()
            self._parts[2].close()

    def _opened(self) -> tuple[EngineClient, Inventory, Judge]:
        if self._parts is None:
            from initiator.engine.client import EngineClient
            from initiator.host.watched import raise_limit
            from initiator.inventory import Inventory
            from tui import config
            from tui.judging import Judge

            raise_limit()
            engine = EngineClient()
            inventory = Inventory(engine=engine, tcp=TcpLater())
            judge = Judge(inventory.read, config.load()[0], no_probes=self._no_probes)
            self._parts = (engine, inventory, judge)
        return self._parts


class HostRemover:
    """Removals of this host, by `safety`."""

    def __init__(self) -> None:
        self._shelf: Shelf | None = None

    def plan(self, scope: Scope, *, abandon: bool = False, end_users: bool = False) -> Plan:
        """Read everything anew and plan."""
        from initiator.engine.client import EngineClient
        from safety.plan import Options
        from safety.prepare import prepare
        from tui import config

        settings = config.load()[0].removal
        chosen = Options(settings.watch_s, settle_s=settings.settle_s, abandon=abandon, end_users=end_users)
        return prepare(scope, EngineClient(), chosen)

    def start(self, plan: Plan) -> pathlib.Path:
        """Start the runner."""
        from safety import runner

        return runner.start(plan)

    def resume(self, journal: pathlib.Path) -> None:
        """Go on."""
        from safety import runner

        runner.resume(journal)

    def undo(self, journal: pathlib.Path, *chap_secrets: str) -> None:
        """Go back."""
        from safety import runner
        from safety.work import Secrets

        runner.undo(journal, Secrets(*chap_secrets))

    def unfinished(self) -> Sequence[Unfinished]:
        """Look through the journals."""
        from safety import journal, places

        return journal.unfinished(places.journal_dir())

    def past(self) -> Sequence[Past]:
        """Look through all journals; those that did not change are not read again."""
        from safety import past, places

        self._shelf = self._shelf or past.Shelf(places.journal_dir())
        return self._shelf.look()


class HostKernel:
    """The orders of this host, by `initiator.host.iscsiadm`."""

    def idle(self) -> Sequence[NodeRecord]:
        """Read the records and the kernel's sessions anew."""
        from initiator.host.kernel import read_kernel
        from initiator.host.kernelview import session_of
        from initiator.host.nodes import read_records

        sessions = read_kernel().sessions
        return [record for record in read_records().nodes if session_of(record, sessions) is None]

    def login(self, record: NodeRecord) -> str:
        """Log in."""
        from initiator.host.iscsiadm import Iscsiadm

        session = Iscsiadm().login(record.target, record.portal, record.interface)
        return f"Logged in to {record.target} at {record.portal}: session {session.sid}."

    def logout(self, session: Session) -> str:
        """Log out."""
        from initiator.host.iscsiadm import Iscsiadm
        from initiator.host.kernelview import sid_of

        Iscsiadm().logout(sid_of(session))
        return f"Logged out of {session.name}: the kernel has no such session any more."

    def startup(self, session: Session, mode: str) -> str:
        """Set node.startup."""
        from initiator.host.iscsiadm import Iscsiadm
        from initiator.names import parse_portal

        portal = parse_portal(session.details.get("persistent_portal", str(session.portal)))
        before = Iscsiadm().set_startup(session.target, portal, mode, session.details.get("interface", "default"))
        return f"The start-up of {session.target} at {portal} was {before or 'unknown'} and is {mode} now."

    def rescan(self, sessions: Sequence[Session]) -> str:
        """Rescan one after another."""
        from initiator.host.iscsiadm import Iscsiadm
        from initiator.host.kernelview import sid_of

        orders = Iscsiadm()
        told = [line for session in sessions for line in orders.rescan(sid_of(session)).told()]
        return " ".join(told) or "Nothing is new: the same LUNs with the same sizes."


def differ(old: Snapshot, new: Snapshot) -> Sequence[Event]:
    """The events between two snapshots, without those of volumes that have nothing to do with iSCSI."""
    from initiator import changes

    volumes = (*old.volumes, *new.volumes)
    foreign = {volume.id for volume in volumes} - {volume.id for volume in volumes if volume.disks}
    return [event for event in changes.diff(old, new) if event.subject not in foreign]


def practice_fault(name: str, args: Sequence[str]) -> str | Loss:
    """Give the practice range a fault, or have one of its lessons happen."""
    from initiator.practice import range as ranges

    if name in ("disaster", "busy"):
        return _lesson(name, args)
    return ranges.fault(name, args)


def _lesson(name: str, args: Sequence[str]) -> str | Loss:
    """`mooring practice NAME`, in a process of its own: it mounts, and this one never touches a volume."""
    import json
    import os
    import sys

    from initiator.errors import MooringError
    from initiator.host.run import run
    from initiator.practice.disaster import Loss

    ours = {key: value for key, value in os.environ.items() if key.startswith("MOORING_")}
    wanted = ["--json"] if name == "disaster" else []
    done = run([sys.executable, "-m", "tui.cli", "practice", name, *args, *wanted], 120.0, env=ours)
    if done.returncode:
        raise MooringError(" ".join(done.stderr.split())[-300:], code="practice")
    if not wanted:
        return done.stdout.strip()
    answer = json.loads(done.stdout)
    return Loss(**{field.name: answer[field.name] for field in dataclasses.fields(Loss)})


def real(*, practice: bool, no_probes: str = "") -> Backends:
    """The backends of this host; `no_probes` is why nothing may be probed."""
    host = HostSource(no_probes)
    fault = practice_fault if practice else None
    return Backends(host, differ, HostRemover(), HostKernel(), fault, probes=host)
