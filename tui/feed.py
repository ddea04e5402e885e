"""Where snapshots come from: a thread that reads the host and hands over what it found.

It is a daemon thread of its own, not one of Textual's workers: a reading that hangs in the kernel must neither freeze
the screen nor keep the program from ending. Readings go into a one-place mailbox, so that a terminal that stands
still for an hour finds the newest snapshot and not thousands of old ones.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from initiator.errors import MooringError
from initiator.fabric import EMPTY, Fabric
from initiator.model import Event, Snapshot

if TYPE_CHECKING:
    from initiator.alerts import Alert
    from initiator.engine.prober import Found
    from initiator.history import History
    from initiator.judgement import Health

EVENT_LIMIT = 1000
"""Events that wait for a screen which stands still; older ones are dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probed:
    """What the probe beside one session says."""

    answers: tuple[Found, ...] = ()
    """The last ones, oldest first."""
    alone: bool = False
    """Whether this portal was asked for, and not every one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What is made of a reading."""

    health: Health | None = None
    """None where nobody judges."""
    fabric: Fabric = EMPTY
    alerts: tuple[Alert, ...] = ()
    history: History | None = None
    """The last hour and day of each path and link; it goes on while the reading does not."""
    probed: Mapping[str, Probed] = dataclasses.field(default_factory=dict)
    """The sessions that are probed, by their ids."""


UNJUDGED = Judged()


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the host gave."""

    snapshot: Snapshot
    events: tuple[Event, ...] = ()
    """The messages of the engine, old ones too."""
    judged: Judged = UNJUDGED


class Source(Protocol):
    """What a feed reads from."""

    def read(self) -> Reading:
        """Read everything. May take a while; called from the feed's thread only.

        Raises:
            MooringError: it could not be read now.
        """

    def pulse(self) -> Hashable:
        """Something cheap that differs when sessions, paths or disks changed their state."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, from whatever thread, when the kernel reports a change of devices."""

    def close(self) -> None:
        """Let go of whatever the source holds."""


Differ = Callable[[Snapshot, Snapshot], Sequence[Event]]


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """What the screen takes out of the mailbox."""

    snapshot: Snapshot | None
    read_at: float
    """Monotonic time at which the reading began."""
    events: tuple[Event, ...]
    failure: str
    """Why there is no newer snapshot; empty when there is one."""
    judged: Judged = UNJUDGED
    """Of the snapshot, with the alerts of all readings since the screen last looked."""


class Mailbox:
    """One place for the newest snapshot, and the events since the screen last looked."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """`ring` is called from the reader's thread when something lies in an empty box."""
        self._ring = ring
        self._lock = threading.Lock()
        self._full = False
        self._snapshot: Snapshot | None = None
        self._read_at = 0.0
        self._events: deque[Event] = deque(maxlen=EVENT_LIMIT)
        self._alerts: deque[Alert] = deque(maxlen=EVENT_LIMIT)
        self._judged = UNJUDGED
        self._failure = ""

    def put(
        self,
        snapshot: Snapshot | None,
        read_at: float,
        events: Sequence[Event],
        failure: str = "",
        judged: Judged = UNJUDGED,
    ) -> None:
        """Lay in a reading, or why there is none."""
        with self._lock:
            if snapshot is not None:
                self._snapshot, self._read_at, self._judged = snapshot, read_at, judged
            self._events.extend(events)
            self._alerts.extend(judged.alerts)
            self._failure = failure
            waiting, self._full = self._full, True
        if not waiting:
            self._ring()

    def take(self) -> Delivery:
        """Empty the box."""
        with self._lock:
            judged = dataclasses.replace(self._judged, alerts=tuple(self._alerts))
            delivery = Delivery(self._snapshot, self._read_at, tuple(self._events), self._failure, judged)
            self._snapshot = None
            self._events.clear()
            self._alerts.clear()
            self._full = False
            return delivery


class Feed(threading.Thread):
    """Reads every `interval` seconds, and at once when something changed.

    Args:
        source: What to read from.
        mailbox: Where readings go.
        differ: Makes events of two snapshots.
        interval: Seconds from one reading to the next.
        pulse: Seconds from one look at the engine's states to the next.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: Source,
        mailbox: Mailbox,
        differ: Differ,
        *,
        interval: float = 1.0,
        pulse: float = 0.3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="feed", daemon=True)
        self._source = source
        self._mailbox = mailbox
        self._differ = differ
        self._interval = interval
        self._pulse = min(pulse, interval)
        self._clock = clock
        self._wake = threading.Event()
        self._stopped = False
        self._hurried = True
        self._last: Snapshot | None = None
        self._seen: frozenset[Event] = frozenset()

    def hurry(self) -> None:
        """Read now. Can be called from any thread."""
        self._hurried = True
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for, since a reading may hang."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """The thread's work."""
        try:
            self._source.watch(self.hurry)
            self._loop()
            self._source.close()
        finally:
            if not self._stopped:
                self._mailbox.put(None, self._clock(), (), "the reader of this host has ended; start Mooring again")

    def _loop(self) -> None:
        before: Hashable = None
        read_at = self._clock()
        while not self._stopped:
            self._wake.clear()
            now = self._clock()
            state = self._feel()
            if self._hurried or state != before or now - read_at >= self._interval:
                self._hurried = False
                read_at = now
                self._read(now)
            before = state
            self._wake.wait(self._pulse)

    def _feel(self) -> Hashable:
        try:
            return self._source.pulse()
        except MooringError as error:
            return str(error)

    def _read(self, now: float) -> None:
        try:
            reading = self._source.read()
        except (MooringError, OSError) as error:
            self._mailbox.put(None, now, (), str(error))
            return
        fresh = frozenset(reading.events)
        events = [event for event in reading.events if event not in self._seen]
        if self._last is not None:
            events += self._differ(self._last, reading.snapshot)
        self._seen = fresh
        self._last = reading.snapshot
        ordered = sorted(events, key=lambda event: event.at)
        self._mailbox.put(reading.snapshot, now, ordered, judged=reading.judged)
