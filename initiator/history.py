"""What was, for charts and judgement: values over the last hour and day, rates, flaps, events. All of it in memory.

The clock is handed in with every value (a monotonic one, in seconds), so that a test can live through a day.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import math
import operator
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from initiator.model import Event, Link, LinkState, Path, PathState, Snapshot

GAP = math.nan
"""A slot of a ring without a value."""
_Join = Callable[[float, float], float]


class Ring:
    """Values in slots of equal length; the newest overwrite the oldest. Grows as it fills: four bytes for each slot.

    Args:
        step: Length of a slot in seconds.
        slots: How many there are at most.
        join: Makes one value of those that fall into one slot; the mean when None.
    """

    __slots__ = ("_count", "_head", "_join", "_newest", "_values", "slots", "step")

    def __init__(self, step: float, slots: int, join: _Join | None = None) -> None:
        self.step = step
        self.slots = slots
        self._join = join
        self._values = array.array("f")
        self._head = 0
        self._newest = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, at: float, value: float) -> None:
        """Notes a value. One that comes late fills a gap or is dropped."""
        slot = math.floor(at / self.step)
        passed = slot - self._newest
        if passed >= self.slots or not self._values:
            del self._values[:]
            self._head, passed = 0, 1
        if passed < 0:
            index = self._index(-passed)
            if index is not None and math.isnan(self._values[index]):
                self._values[index] = value
        elif passed == 0:
            self._merge(value)
        else:
            for gap in [GAP] * (passed - 1):
                self._push(gap)
            self._push(value)
            self._newest, self._count = slot, 1

    def _push(self, value: float) -> None:
        if len(self._values) < self.slots:
            self._values.append(value)
        else:
            self._values[self._head] = value
            self._head = (self._head + 1) % self.slots

    def _merge(self, value: float) -> None:
        index = self._head - 1
        old = self._values[index]
        self._count += 1
        self._values[index] = self._join(old, value) if self._join else old + (value - old) / self._count

    def _index(self, back: int) -> int | None:
        """Where the value lies that is `back` slots older than the newest."""
        size = len(self._values)
        return (self._head - 1 - back) % size if 0 <= back < size else None

    def last(self, count: int, at: float) -> list[float]:
        """The `count` slots that end with the one of `at`, oldest first; `GAP` where there is no value."""
        ahead = self._newest - math.floor(at / self.step)
        places = (self._index(back + ahead) for back in range(count - 1, -1, -1))
        return [GAP if place is None else self._values[place] for place in places]


class Series:
    """One measured quantity: a second each for an hour, and a minute each for a day."""

    __slots__ = ("days", "hours")

    def __init__(self, join: _Join | None = None, *, seconds: int = 3600, minutes: int = 1440) -> None:
        self.hours = Ring(1.0, seconds, join)
        self.days = Ring(60.0, minutes, join)

    def add(self, at: float, value: float) -> None:
        """Notes a value in both rings; zeros only after something else, so that what idles costs nothing."""
        if value or len(self.hours):
            self.hours.add(at, value)
            self.days.add(at, value)


class Counter:
    """Makes a rate of a number that only grows; one that shrinks has been reset, and is the beginning of a new one."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._at: float | None = None
        self._value = 0

    def rate(self, at: float, value: int) -> float | None:
        """Growth for each second since the last call; None the first time, after a reset, and in no time."""
        before, since = self._value, self._at
        if since is not None and at <= since:
            return None
        self._at, self._value = at, value
        if since is None or value < before:
            return None
        return (value - before) / (at - since)


State = TypeVar("State", bound=Hashable)


class Settle(Generic[State]):
    """Tells a state that lasts from one that comes and goes.

    A new state counts at once, unless the old one lasted less than `hold` seconds: then it has to last `hold` seconds
    itself. So the first failure shows without delay, and a path that flaps does not make the screen flicker.
    """

    __slots__ = ("_changed", "_hold", "_pending", "_since", "state")

    def __init__(self, state: State, at: float, hold: float = 3.0) -> None:
        self.state = state
        self._hold = hold
        self._changed = -math.inf
        self._pending: State = state
        self._since = at

    def see(self, state: State, at: float) -> State:
        """Takes in what is seen now and gives what counts."""
        if state != self._pending:
            self._pending, self._since = state, at
        if self._pending != self.state and (
            self._since - self._changed >= self._hold or at - self._since >= self._hold
        ):
            self.state, self._changed = self._pending, at
        return self.state

    @property
    def settled(self) -> bool:
        """False while something else is seen than what counts."""
        return self._pending == self.state


class Flaps:
    """How often something went from working to not working within a window of time."""

    __slots__ = ("_times", "_working", "window")

    def __init__(self, window: float = 3600.0) -> None:
        self.window = window
        self._times: collections.deque[float] = collections.deque(maxlen=10_000)
        self._working: bool | None = None

    def see(self, working: bool, at: float) -> None:
        """Takes in whether it works now."""
        if self._working and not working:
            self._times.append(at)
        self._working = working

    def fell(self, at: float, times: int) -> None:
        """Takes in falls that somebody else has counted, between two looks."""
        self._times.extend([at] * min(times, self._times.maxlen or times))

    def count(self, at: float) -> int:
        """Falls within the window that ends now."""
        while self._times and self._times[0] <= at - self.window:
            self._times.popleft()
        return len(self._times)


class EventRing:
    """The newest events, each once, in the order of their time."""

    __slots__ = ("_events",)

    def __init__(self, size: int = 1000) -> None:
        self._events: collections.deque[Event] = collections.deque(maxlen=size)

    def add(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Takes in events, and gives those that it did not have; an event older than all it has room for is dropped."""
        known = set(self._events)
        fresh = tuple(sorted((event for event in dict.fromkeys(events) if event not in known), key=_when))
        if not fresh:
            return ()
        merged = sorted((*self._events, *fresh), key=_when)
        self._events.clear()
        self._events.extend(merged)
        return fresh

    def newest(self, count: int | None = None) -> tuple[Event, ...]:
        """The newest events, oldest of them first."""
        events = tuple(self._events)
        return events if count is None else events[max(len(events) - count, 0) :]


def _when(event: Event) -> float:
    return event.at


def _counters() -> dict[str, Counter]:
    return collections.defaultdict(Counter)


def _summed() -> Series:
    return Series(join=operator.add)


def _short() -> Series:
    return Series(seconds=600, minutes=1)


@dataclasses.dataclass(slots=True)
class PathHistory:
    """What is kept of one path."""

    latency_us: Series = dataclasses.field(default_factory=Series)
    """The mean of each slot: the worst would hide how it usually is."""
    read_bytes_s: Series = dataclasses.field(default_factory=Series)
    write_bytes_s: Series = dataclasses.field(default_factory=Series)
    errors: Series = dataclasses.field(default_factory=_summed)
    """New errors and timeouts, summed up."""
    flaps: Flaps = dataclasses.field(default_factory=Flaps)
    counters: dict[str, Counter] = dataclasses.field(default_factory=_counters)
    failures: int | None = None
    troubles: int | None = None

    @classmethod
    def brief(cls) -> PathHistory:
        """For one path of very many: ten minutes, and a day of its latency only."""
        return cls(latency_us=Series(seconds=600), read_bytes_s=_short(), write_bytes_s=_short())


@dataclasses.dataclass(slots=True)
class LinkHistory:
    """What is kept of one link."""

    rx_bytes_s: Series = dataclasses.field(default_factory=Series)
    tx_bytes_s: Series = dataclasses.field(default_factory=Series)
    flaps: Flaps = dataclasses.field(default_factory=Flaps)
    counters: dict[str, Counter] = dataclasses.field(default_factory=_counters)
    carrier_changes: int | None = None


class History:
    """Follows snapshots. What vanishes is forgotten after `keep` seconds, so that a path that comes back goes on.

    Args:
        keep: Seconds.
        detailed: How many paths get the full rings; the others get `PathHistory.brief`. With 256 of them, 2,000 busy
            paths need 40 MB after a day.
    """

    def __init__(self, keep: float = 3600.0, detailed: int = 256) -> None:
        self.paths: dict[str, PathHistory] = {}
        self.links: dict[str, LinkHistory] = {}
        self.events = EventRing()
        self._keep = keep
        self._detailed = detailed
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        self._at = 0.0

    def add(self, snapshot: Snapshot, at: float) -> None:
        """Takes in one snapshot.

        Args:
            snapshot: What is now.
            at: A monotonic clock, the same in every call.
        """
        with self._lock:
            self._at = at
            self._add(snapshot, at)

    def values(self, key: str, what: str, count: int, *, minutes: bool = False) -> list[float | None]:
        """The last `count` values of a path or link, oldest first; None where there was none. For any thread.

        Args:
            key: Its id.
            what: `latency_us`, `read_bytes_s`, `write_bytes_s`, `errors` of a path; a link has `rx_bytes_s` …
            count: How many.
            minutes: One value a minute instead of one a second.
        """
        with self._lock:
            series = getattr(self.paths.get(key) or self.links.get(key), what, None)
            if not isinstance(series, Series):
                return [None] * count
            ring = series.days if minutes else series.hours
            return [None if math.isnan(value) else value for value in ring.last(count, self._at)]

    def _add(self, snapshot: Snapshot, at: float) -> None:
        for path in snapshot.paths:
            self._seen[path.id] = at
            if path.id not in self.paths:
                self.paths[path.id] = PathHistory() if len(self.paths) < self._detailed else PathHistory.brief()
            _follow_path(self.paths[path.id], path, at)
        for link in snapshot.links:
            self._seen[link.id] = at
            _follow_link(self.links.setdefault(link.id, LinkHistory()), link, at)
        for key in [key for key, seen in self._seen.items() if seen <= at - self._keep]:
            del self._seen[key]
            self.paths.pop(key, None)
            self.links.pop(key, None)


def _rates(counters: dict[str, Counter], values: Mapping[str, int | None], at: float) -> dict[str, float]:
    known = {name: value for name, value in values.items() if value is not None}
    rates = {name: counters[name].rate(at, value) for name, value in known.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}


def _follow_path(history: PathHistory, path: Path, at: float) -> None:
    if path.latency_us is not None and path.state in (PathState.ACTIVE, PathState.STANDBY):
        history.latency_us.add(at, path.latency_us)
    rates = _rates(history.counters, {"read": path.read_bytes, "write": path.write_bytes}, at)
    if "read" in rates:
        history.read_bytes_s.add(at, rates["read"])
    if "write" in rates:
        history.write_bytes_s.add(at, rates["write"])
    troubles = (path.errors or 0) + (path.timeouts or 0)
    if history.troubles is not None and troubles >= history.troubles:
        history.errors.add(at, troubles - history.troubles)
    history.troubles = troubles
    if path.failures is None or history.failures is None or path.failures < history.failures:
        history.flaps.see(path.state is not PathState.FAILED, at)
    else:
        history.flaps.fell(at, path.failures - history.failures)
    history.failures = path.failures


def _follow_link(history: LinkHistory, link: Link, at: float) -> None:
    rates = _rates(history.counters, {"rx": link.rx_bytes, "tx": link.tx_bytes}, at)
    if "rx" in rates:
        history.rx_bytes_s.add(at, rates["rx"])
    if "tx" in rates:
        history.tx_bytes_s.add(at, rates["tx"])
    if link.carrier_changes is None or history.carrier_changes is None:
        history.flaps.see(link.state is not LinkState.DOWN, at)
    else:  # each fall is followed by a rise, and the kernel counts both
        changes = max(link.carrier_changes - history.carrier_changes, 0)
        history.flaps.fell(at, (changes + (link.state is LinkState.DOWN)) // 2)
    history.carrier_changes = link.carrier_changes
