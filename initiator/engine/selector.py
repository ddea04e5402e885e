"""The paths of a disk: what is known of each, and which of them carry I/O now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from initiator.engine.errand import Errand
from initiator.engine.lower import SessionLike
from initiator.engine.probe import LunInfo
from initiator.model import Access, PathState, SessionState
from initiator.scsi.alua import PortGroup, access_of

_CARRIES = {Access.OPTIMIZED: 0, Access.NON_OPTIMIZED: 1}
_WORKS = (PathState.ACTIVE, PathState.STANDBY)
_ACCESS_REASONS = {
    Access.STANDBY: "its target port group is in standby",
    Access.TRANSITIONING: "its target port group is changing its access state",
    Access.UNAVAILABLE: "its target port group is unavailable",
    Access.OFFLINE: "its target port group is offline",
}


class DevicePath:
    """One session's way to the logical unit.

    Attributes:
        session: The session.
        name: What people call it.
        info: What it said of the logical unit when it was examined last.
        state, access, reason, since: For people; `since` is the Unix time at which `state` was entered.
        in_use: True while the selector sends I/O over it.
        latency_us: Moving average over reads and writes (weight 1/8 for the newest), None before the first.
        reads, writes, read_bytes, write_bytes: Completed with success.
        errors: Commands that the target ended with an error, or that got no proper answer.
        timeouts: Commands that were not answered in time.
        failures: How often it went from working to failed.
        connected: The session was logged in when it was looked at last.
        checked: It has been examined since it was connected.
        held: Why the logical unit cannot be used over it although the session works, or None.
        retired: Taken out on purpose; carries nothing new.
        settle_until: Time before which it does not carry I/O if another path does.
        fresh: No unit attention was consumed since it was connected (a new I_T nexus has one of its own).
        nexus_loss, reset: Which unit attentions 29h the new nexus has reported.
        proof: What its examination found, while it waits for the proof that nothing was reset.
        owes_reset: It still has to report a reset that another path has already reported.
        errand, todo: The questions that are being asked over it, and those that come after them.
        idle_mark, idle_since: What was completed when it was looked at last, and since when that has not changed.
    """

    __slots__ = (
        "access",
        "checked",
        "connected",
        "errand",
        "errors",
        "failures",
        "fresh",
        "held",
        "idle_mark",
        "idle_since",
        "in_flight",
        "in_use",
        "info",
        "latency_us",
        "lun",
        "name",
        "nexus_loss",
        "owes_reset",
        "preferred",
        "proof",
        "read_bytes",
        "reads",
        "reason",
        "reset",
        "retired",
        "session",
        "settle_until",
        "since",
        "state",
        "timeouts",
        "todo",
        "write_bytes",
        "writes",
    )

    def __init__(self, session: SessionLike, info: LunInfo, name: str, *, now: float, wall: float) -> None:
        self.session = session
        self.info = info
        self.name = name
        self.lun = info.field
        self.state = PathState.UNKNOWN
        self.access = info.access
        self.preferred = False
        self.reason: str | None = None
        self.since = wall
        self.in_use = False
        self.in_flight = 0
        self.latency_us: float | None = None
        self.reads = self.writes = self.read_bytes = self.write_bytes = 0
        self.errors = self.timeouts = self.failures = 0
        self.connected = session.state is SessionState.LOGGED_IN
        self.checked = self.connected
        self.held: str | None = None
        self.retired = False
        self.settle_until = now
        self.idle_since = now
        self.idle_mark = -1
        self.fresh = False
        self.nexus_loss = False
        self.reset = False
        self.owes_reset = False
        self.proof: LunInfo | None = None
        self.errand: Errand[Any] | None = None
        self.todo: deque[Callable[[], None]] = deque()

    @property
    def up(self) -> bool:
        """The session is there and the logical unit has been seen behind it since."""
        return self.connected and self.checked and self.held is None and not self.retired

    @property
    def rank(self) -> int | None:
        """How well its port group serves: 0 best; None if it takes no reads and writes."""
        if self.access is Access.UNKNOWN:
            # Without ALUA all ports are alike. With it, a state that could not be read is worth less than a known one.
            return 2 if self.info.alua else 0
        return _CARRIES.get(self.access)

    def learn(self, groups: Iterable[PortGroup]) -> None:
        """Take over the access state of its group from a REPORT TARGET PORT GROUPS answer, whichever path got it."""
        self.access, self.preferred = access_of(groups, self.info.port_group, self.info.relative_port)

    def describe(self, now: float) -> tuple[PathState, str | None]:
        """State and reason for people."""
        if self.retired:
            return PathState.OFFLINE, "taken out of service"
        if not self.connected:
            return PathState.FAILED, self.session.reason or "its session is not logged in"
        if self.held is not None:
            return PathState.FAILED, self.held
        if not self.checked:
            return PathState.FAILED, "logged in again; the logical unit is being examined"
        if self.session.suspect:
            return PathState.FAILED, "the target is silent"
        if self.access in (Access.UNAVAILABLE, Access.OFFLINE):
            return PathState.FAILED, _ACCESS_REASONS[self.access]
        if self.in_use:
            return PathState.ACTIVE, None
        if self.settle_until > now:
            return PathState.STANDBY, "just returned; settling"
        return PathState.STANDBY, _ACCESS_REASONS.get(self.access, "a better path is in use")

    def show(self, now: float, wall: float) -> bool:
        """Bring `state`, `reason` and `since` up to date; True if the state changed."""
        state, self.reason = self.describe(now)
        if state is self.state:
            return False
        if state is PathState.FAILED and self.state in _WORKS:
            self.failures += 1
        self.state = state
        self.since = wall
        return True


def select(paths: Sequence[DevicePath], now: float) -> list[DevicePath]:
    """The paths that carry I/O now: all of the best kind there is, an empty list if none can.

    Silent sessions come after all others, paths that have just returned after those that have settled; among equals
    the access state decides, then the target's preference.
    """
    best: tuple[bool, bool, int, bool] | None = None
    chosen: list[DevicePath] = []
    for path in paths:
        rank = path.rank if path.up else None
        if rank is None:
            continue
        key = (path.session.suspect, path.settle_until > now, rank, not path.preferred)
        if best is None or key < best:
            best = key
            chosen = [path]
        elif key == best:
            chosen.append(path)
    return chosen


Pick = Callable[[Sequence[DevicePath], int], DevicePath]
"""`(chosen, turn)`: the path for one command among equals; `turn` counts the commands."""


def first(chosen: Sequence[DevicePath], turn: int) -> DevicePath:
    """The path that was added first, as long as it works (failover)."""
    return chosen[0]


def in_turn(chosen: Sequence[DevicePath], turn: int) -> DevicePath:
    """One path after the other (round-robin)."""
    return chosen[turn % len(chosen)]


def least_busy(chosen: Sequence[DevicePath], turn: int) -> DevicePath:
    """The path with the fewest commands under way; equals take turns."""
    count = len(chosen)
    best = chosen[turn % count]
    for step in range(1, count):
        path = chosen[(turn + step) % count]
        if path.in_flight < best.in_flight:
            best = path
    return best


def soonest(chosen: Sequence[DevicePath], turn: int) -> DevicePath:
    """The path that will answer first: its usual latency, once for each command under way and once for this one.

    Every 64th command goes to the next path in turn: one that was slow is not looked at again otherwise.
    """
    count = len(chosen)
    if not turn % _EXPLORE:
        return chosen[turn // _EXPLORE % count]
    best = chosen[turn % count]
    least = _service_time(best)
    for step in range(1, count):
        path = chosen[(turn + step) % count]
        time = _service_time(path)
        if time < least:
            best, least = path, time
    return best


_EXPLORE = 64


def _service_time(path: DevicePath) -> float:
    return (path.in_flight + 1) * (path.latency_us or 0.0)


SELECTORS: Mapping[str, Pick] = {
    "failover": first,
    "round-robin": in_turn,
    "least-queue": least_busy,
    "least-service-time": soonest,
}
"""How commands are shared out among paths that are equally good, by name."""
DEFAULT_SELECTOR = "least-queue"
