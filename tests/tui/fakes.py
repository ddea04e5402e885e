"""A dashboard on hand-made data: a source that is told what to say, a remover that writes real journals."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import AsyncIterator, Callable, Hashable, Sequence

from textual import events
from textual.geometry import Offset
from textual.pilot import Pilot

from initiator.errors import MooringError
from initiator.host.nodes import NodeRecord
from initiator.model import Event, Portal, Session, Severity, Snapshot, Source
from safety.advice.catalogue import Advice, Blank
from safety.advice.catalogue import Finding as AdviceFinding
from safety.findings import Finding, Level
from safety.identity import Identity
from safety.journal import Journal, Kind, Mark, Outcome, Unfinished, boot_id, process_start
from safety.past import Past
from safety.plan import Member, Options, Plan, Step, _digest
from safety.runner import write_plan
from safety.scope import Reach, Scope, disks
from safety.sequence import Phase
from tests.tui import samples
from tests.until import until
from tui.app import AppOptions, MooringApp
from tui.backends import Backends
from tui.connecting import Chap, Offer, Offers
from tui.feed import Reading
from tui.screens.dialog import Dialog
from tui.via import Choice


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class FakeSource:
    """Says what it is told to."""

    def __init__(self, snapshot: Snapshot, events: Sequence[Event] = ()) -> None:
        self.snapshot = snapshot
        self.events = tuple(events)
        self.failure: MooringError | None = None
        self.reads = 0
        self.held = threading.Event()
        """While it is cleared, reading hangs."""
        self.held.set()
        self.hurry: Callable[[], None] = lambda: None

    def tell(self, snapshot: Snapshot) -> None:
        """From now on, this is how the host is."""
        self.snapshot = snapshot

    def read(self) -> Reading:
        self.held.wait(30)
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return Reading(self.snapshot, self.events)

    def pulse(self) -> Hashable:
        return id(self.snapshot)

    def watch(self, changed: Callable[[], None]) -> None:
        self.hurry = changed

    def close(self) -> None:
        self.held.set()


STEPS = (
    ("identify", Phase.IDENTIFY, "Know the disk {name}", "read its identification", "as planned", ""),
    ("lock", Phase.LOCK, "Lock the disk and open the journal", "flock(LOCK_EX)", "this runner alone holds it", ""),
    ("unmount-1", Phase.DISMOUNT, "Unmount {where}", 'umount2("{where}", UMOUNT_NOFOLLOW)', "gone", "mount it"),
    ("claim", Phase.CLAIM, "Claim {device}", "open(O_EXCL)", "the open succeeded", "close it"),
    ("flush", Phase.FLUSH, "Have the target write its cache", "SYNCHRONIZE CACHE", "the target answered GOOD", ""),
    ("offline", Phase.OFFLINE, "Close the engine's gate", "engine: offline", "no command is taken", "engine: online"),
    ("logout-1", Phase.LOGOUT, "Log out from 127.0.0.1:3260", "engine: logout", "not listed any more", "log in"),
    ("watch", Phase.WATCH, "Watch that nothing comes back", "read again for 5 s", "nothing came back", ""),
)


def plan(snapshot: Snapshot, disk: str = "engine:d:data", findings: tuple[Finding, ...] = ()) -> Plan:
    """A plan of eight steps for a disk of a snapshot."""
    found = next(item for item in snapshot.disks if item.id == disk)
    words = {"name": found.name, "device": found.device, "where": f"/run/mooring/practice/{found.name}"}
    steps = tuple(
        Step(key, key, phase, title.format(**words), command.format(**words), proof, undo, 30.0, 1.0, disks=(disk,))
        for key, phase, title, command, proof, undo in STEPS
    )
    members = (Member(Identity.of(found), True, {}),)
    made = Plan(disks(found), members, findings, steps, (), Options(), snapshot.host, snapshot.taken_at, "")
    return dataclasses.replace(made, digest=_digest(made))


def volume_plan(snapshot: Snapshot, scope: Scope, findings: tuple[Finding, ...] = ()) -> Plan:
    """A plan that unmounts a volume of a snapshot, and no more."""
    volume = next(item for item in snapshot.volumes if item.id == scope.subjects[0])
    whole = plan(snapshot, volume.disks[0], findings)
    end = dataclasses.replace(
        whole.steps[2], id="unmounted", title="See that nothing is mounted", phase=Phase.UNMOUNTED
    )
    members = tuple(dataclasses.replace(member, whole=False) for member in whole.members)
    made = dataclasses.replace(whole, scope=scope, steps=(*whole.steps[:3], end), members=members)
    return dataclasses.replace(made, digest=_digest(made))


BLOCK = Finding(
    Level.BLOCK,
    "open",
    "pid:4711",
    "bash (process 4711) uses /run/mooring/practice/data.",
    "/proc/4711/cwd -> /run/mooring/practice/data",
    "leave that folder or end the process",
)
NOTE = Finding(Level.NOTE, "mounted", "volume:0", "It is mounted at /run/mooring/practice/data.", "mountinfo", "")


class FakeRemover:
    """Plans from the source's snapshot; a started removal is a journal that the test writes."""

    def __init__(self, source: FakeSource, folder: pathlib.Path) -> None:
        self.source = source
        self.folder = folder
        self.findings: tuple[Finding, ...] = (NOTE,)
        self.failure: MooringError | None = None
        self.waiting: tuple[Unfinished, ...] = ()
        self.done: tuple[Past, ...] = ()
        self.started: list[Plan] = []
        self.resumed: list[pathlib.Path] = []
        self.undone: list[tuple[pathlib.Path | str, ...]] = []

    def plan(self, scope: Scope, *, abandon: bool = False, end_users: bool = False) -> Plan:
        if self.failure is not None:
            raise self.failure
        findings = () if abandon or end_users else self.findings
        if scope.reach is Reach.VOLUME:
            return volume_plan(self.source.snapshot, scope, findings)
        made = plan(self.source.snapshot, scope.subjects[0], findings)
        made = dataclasses.replace(made, options=Options(abandon=abandon, end_users=end_users))
        return dataclasses.replace(made, digest=_digest(made))

    def start(self, plan: Plan) -> pathlib.Path:
        self.started.append(plan)
        path = self.folder / "removal.jsonl"
        begin(path, plan).close()
        return path

    def resume(self, journal: pathlib.Path) -> None:
        self.resumed.append(journal)

    def undo(self, journal: pathlib.Path, *chap_secrets: str) -> None:
        self.undone.append((journal, *chap_secrets))

    def unfinished(self) -> Sequence[Unfinished]:
        return self.waiting

    def past(self) -> Sequence[Past]:
        return self.done


class FakeKernel:
    """Takes orders and says what came of them when it may."""

    def __init__(self) -> None:
        self.records: tuple[NodeRecord, ...] = ()
        self.given: list[tuple[str, ...]] = []
        self.failure: MooringError | None = None
        self.answers = threading.Event()
        """While it is cleared, an order hangs."""
        self.answers.set()

    def idle(self) -> Sequence[NodeRecord]:
        return self.records

    def login(self, record: NodeRecord) -> str:
        return self._obey("login", record.target, str(record.portal))

    def logout(self, session: Session) -> str:
        return self._obey("logout", session.id)

    def startup(self, session: Session, mode: str) -> str:
        return self._obey("startup", session.id, mode)

    def rescan(self, sessions: Sequence[Session]) -> str:
        return self._obey("rescan", *(session.id for session in sessions))

    def _obey(self, *order: str) -> str:
        self.given.append(order)
        assert self.answers.wait(30)
        if self.failure is not None:
            raise self.failure
        return f"{order[0]} is done"


class FakeConnector:
    """An array with two targets that wants CHAP, or not."""

    def __init__(self) -> None:
        self.given: list[tuple[object, ...]] = []
        self.failure: MooringError | None = None
        self.new_records: tuple[str, ...] = ()
        """The start-up of each node record that a discovery makes."""
        self.answers = threading.Event()
        """While it is cleared, a discovery hangs."""
        self.answers.set()

    def discover(self, where: str, chap: Chap) -> Offers:
        self.given.append(("discover", where, chap))
        assert self.answers.wait(30)
        if self.failure is not None:
            raise self.failure
        found = (
            Offer("iqn.2026-11.io.array:two", Portal("192.0.2.1")),
            Offer("iqn.2026-11.io.array:one", Portal(where)),
        )
        return Offers(Choice(Source.KERNEL, "open-iscsi is here"), Portal(where), found, self.new_records)

    def login(self, offer: Offer, chap: Chap) -> str:
        self.given.append(("login", offer.target, chap))
        if self.failure is not None:
            raise self.failure
        return f"Logged in to {offer.target}."

    def attach(self, target: str, lun: int) -> str:
        self.given.append(("attach", target, lun))
        return "It is attached as /dev/loop7."

    def logout(self, session: Session) -> str:
        self.given.append(("logout", session.id))
        if self.failure is not None:
            raise self.failure
        return f"Logged out of {session.name}."


def begin(path: pathlib.Path, plan: Plan) -> Journal:
    """A journal with its plan and the start of a runner: this very process, which lives."""
    journal = Journal.create(path, boot=boot_id(), now=lambda: samples.NOW)
    write_plan(journal, plan)
    return journal


def run_by(journal: Journal, pid: int, mode: str = "run") -> None:
    """A runner with this process id began."""
    journal.append(Kind.RUN, mode, data={"pid": pid, "started": process_start(pid), "mode": mode})


def walk(journal: Journal, plan: Plan, *, until_step: str | None = None) -> None:
    """Prove each step, up to and without `until_step`."""
    for step in plan.steps:
        journal.append(Kind.STEP, step=step.id, mark=Mark.STARTED)
        if step.id == until_step:
            return
        journal.append(Kind.STEP, step.proof, step=step.id, mark=Mark.VERIFIED)


def end(journal: Journal, outcome: Outcome, text: str, fix: str = "", code: str = "") -> None:
    """The runner's last word."""
    journal.append(Kind.END, text, data={"outcome": str(outcome), "fix": fix, "code": code})


def differ(old: Snapshot, new: Snapshot) -> Sequence[Event]:
    """States of paths that changed."""
    before = {path.id: path.state for path in old.paths}
    return [
        Event(new.taken_at, "state", path.id, f"path {path.name} is {path.state}")
        for path in new.paths
        if before.get(path.id) != path.state
    ]


def advice(snapshot: Snapshot) -> Advice:
    """Two rules that fire, and one that cannot know."""
    disk = snapshot.disks[0] if snapshot.disks else None
    name, key = (disk.name, disk.id) if disk else ("this host", "")
    one = AdviceFinding(
        *("one-link", "multipath", Severity.WARN, "All paths of a disk leave through one link", name, key),
        *("2 paths, both through lo", "One cable, one disk lost.", "give each path a link of its own"),
    )
    two = AdviceFinding(
        *("no-chap", "security", Severity.NOTE, "A session proves no identity", name, key),
        *("AuthMethod=None", "Anybody may log in.", "set CHAP on the target and in the node record"),
    )
    return Advice(
        (one, two), (Blank("switch-port", "Is the port of the switch alone?", name, "no LLDP was heard"),), 0.0
    )


@dataclasses.dataclass
class Bench:
    """A running dashboard and everything it stands on."""

    app: MooringApp
    pilot: Pilot[int]
    source: FakeSource
    remover: FakeRemover
    kernel: FakeKernel
    wall: Clock
    tick: Clock
    faults: list[tuple[str, tuple[str, ...]]]

    async def tell(self, snapshot: Snapshot) -> None:
        """Let the host be so, and wait until the dashboard knows."""
        self.source.tell(snapshot)
        self.source.hurry()
        await until(lambda: self.app.store.world is not None and self.newest() is snapshot, what="the snapshot")

    def newest(self) -> Snapshot | None:
        """The newest snapshot that arrived."""
        held = self.app.store.held
        return held or (self.app.store.world.snapshot if self.app.store.world else None)

    async def listen(self) -> None:
        """Let the first moment of a dialog pass."""
        screen = self.app.screen
        await until(lambda: not isinstance(screen, Dialog) or screen.is_up)
        self.tick.at += 1.0

    async def mouse(self, kind: type[events.MouseEvent], widget: str, x: int, y: int) -> None:
        """The button goes down or up over a widget, as a terminal says it; the pilot's click goes past the app."""
        at = self.app.screen.query_one(widget).region.offset + Offset(x, y)
        self.app.post_message(kind(None, at.x, at.y, 0, 0, 1, False, False, False, at.x, at.y))
        await self.pilot.pause()

    async def click(self, widget: str, x: int = 1, y: int = 0) -> None:
        """Down and up."""
        await self.mouse(events.MouseDown, widget, x, y)
        await self.mouse(events.MouseUp, widget, x, y)

    def text(self) -> str:
        """What is on the screen."""
        return screen_text(self.app)

    def toasts(self) -> str:
        """Everything that toasts say now, each in one piece, wherever it was wrapped."""
        return "\n".join(toast.message for toast in self.app._notifications)

    def flow(self) -> str:
        """What is on the screen, or in its dialog, as one line: a sentence is found wherever it was wrapped."""
        lines = self.text().splitlines()
        for box in self.app.screen.query("#box"):
            inner = box.region.shrink((1, 1, 1, 1))
            lines = [line[inner.x : inner.right] for line in lines[inner.y : inner.bottom]]
        return " ".join(" ".join(lines).translate(_FRAMES).split())


_FRAMES = str.maketrans("│▏█▁▂▃▄▅▆▇", " " * 10)


def screen_text(app: MooringApp) -> str:
    """The screen as lines of text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


@dataclasses.dataclass
class Parts:
    """A dashboard that does not run yet, and everything it stands on."""

    app: MooringApp
    source: FakeSource
    remover: FakeRemover
    kernel: FakeKernel
    wall: Clock
    tick: Clock
    faults: list[tuple[str, tuple[str, ...]]]


def assemble(
    folder: pathlib.Path,
    snapshot: Snapshot | None = None,
    *,
    options: AppOptions | None = None,
    events: Sequence[Event] = samples.EVENTS,
    root: bool = True,
    view: str = "tree",
) -> Parts:
    """A dashboard on a snapshot, with standing clocks."""
    source = FakeSource(snapshot or samples.practice(), events)
    remover = FakeRemover(source, folder)
    wall, tick = Clock(samples.NOW), Clock(1000.0)
    faults: list[tuple[str, tuple[str, ...]]] = []

    def fault(name: str, args: Sequence[str]) -> str:
        faults.append((name, tuple(args)))
        return f"{name} holds now"

    chosen = dataclasses.replace(options or AppOptions(practice=True), view=view)
    kernel = FakeKernel()
    app = MooringApp(
        chosen,
        Backends(source, differ, remover, kernel, fault, FakeConnector(), advice),
        wall=wall,
        tick=tick,
        root=root,
    )
    return Parts(app, source, remover, kernel, wall, tick, faults)


@contextlib.asynccontextmanager
async def dashboard(
    folder: pathlib.Path,
    snapshot: Snapshot | None = None,
    *,
    size: tuple[int, int] = (120, 40),
    options: AppOptions | None = None,
    events: Sequence[Event] = samples.EVENTS,
    root: bool = True,
    waiting: tuple[Unfinished, ...] = (),
    wait: bool = True,
    view: str = "tree",
) -> AsyncIterator[Bench]:
    """A running dashboard on a snapshot, with standing clocks."""
    parts = assemble(folder, snapshot, options=options, events=events, root=root, view=view)
    parts.remover.waiting = waiting
    app = parts.app
    async with app.run_test(size=size, notifications=True) as pilot:
        bench = Bench(app, pilot, parts.source, parts.remover, parts.kernel, parts.wall, parts.tick, parts.faults)
        if wait:
            await ready(app)
            await pilot.pause()
        yield bench


async def ready(app: MooringApp) -> None:
    """Wait until the first snapshot is on the screen."""
    await until(lambda: app.store.world is not None, what="the first snapshot")
    await until(lambda: app.main.table.rows or app.main.has_class("-empty"), what="the first rows")
