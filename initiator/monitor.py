"""What the recent past says of paths and links: falls, errors, what came back, what is slower than its mates.

Snapshots go in one after the other, with a monotonic clock; `Trends` come out, for `initiator.health`. Only what has
something to tell is kept, so that a thousand quiet paths cost next to nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Iterable, Mapping

from initiator.history import Flaps
from initiator.judgement import SETTLE, LinkTrend, Trend, Trends
from initiator.model import Link, LinkState, Path, PathState, Snapshot, TcpInfo

MINUTE = 60.0
SLOT = 5.0
"""Seconds of which what a connection sent is kept as one number: a thousand busy ones are to need little memory."""
BUCKET = 10.0
"""Seconds from one comparison of the active paths to the next."""
BUCKETS = 7
"""So many counts are kept: the oldest is a minute older than the newest."""
DROPS = 100
"""So many dropped packets within a minute are told: a few are of protocols that nobody here speaks."""
BUSY = 20.0
"""Commands a second of all active paths together, below which nothing is said of how they share them."""
UNEVEN = 4.0
"""An active path that does so many times less than the busiest is told."""
SLOWER = 4.0
"""So many times as slow as its mates, and at least `SLOW_US`, is told."""
SLOW_US = 2000.0
_WORKING = (PathState.ACTIVE, PathState.STANDBY)


class Window:
    """A sum over the last minute."""

    __slots__ = ("_parts", "total")

    def __init__(self) -> None:
        self._parts: collections.deque[tuple[float, int]] = collections.deque()
        self.total = 0

    def add(self, at: float, count: int) -> None:
        """Takes in what is new."""
        self._parts.append((at, count))
        self.total += count

    def trim(self, at: float) -> int:
        """Forgets what is older than a minute; gives the sum of the rest."""
        while self._parts and self._parts[0][0] <= at - MINUTE:
            self.total -= self._parts.popleft()[1]
        return self.total


class _Wire:
    """What a session has sent in the last minute and how much of it again: two numbers of the same time."""

    __slots__ = ("_port", "_slots", "_tcp", "_total", "resent")

    def __init__(self) -> None:
        self._port: int | None = None
        self._tcp: TcpInfo | None = None
        self._slots: collections.deque[tuple[float, int, int]] = collections.deque()
        self._total = 0
        self.resent = 0

    @property
    def sent(self) -> int | None:
        """None where the kernel does not tell."""
        return self._total if self._tcp is not None and self._tcp.sent is not None else None

    def see(self, port: int | None, tcp: TcpInfo, at: float) -> None:
        """Takes in what TCP says now; a new connection has another local port, and begins at nothing."""
        was = self._tcp
        same = was is not None and port == self._port and (tcp.retransmits or 0) >= (was.retransmits or 0)
        self._port, self._tcp = port, tcp
        if was is not None and same:
            self._add(at, _grown(was.retransmits, tcp.retransmits), _advanced(was.sent, tcp.sent))
        while self._slots and self._slots[0][0] <= at - MINUTE:
            _, resent, sent = self._slots.popleft()
            self.resent -= resent
            self._total -= sent

    def _add(self, at: float, resent: int, sent: int) -> None:
        if not resent and not sent:
            return
        self.resent += resent
        self._total += sent
        if self._slots and at - self._slots[-1][0] < SLOT:
            began, before, more = self._slots[-1]
            self._slots[-1] = (began, before + resent, more + sent)
        else:
            self._slots.append((at, resent, sent))


@dataclasses.dataclass(slots=True)
class _PathPast:
    """What is kept of a path that something happened to."""

    errors: Window = dataclasses.field(default_factory=Window)
    flaps: Flaps = dataclasses.field(default_factory=Flaps)
    back_at: float | None = None
    away: bool = False


@dataclasses.dataclass(slots=True)
class _LinkPast:
    errors: Window = dataclasses.field(default_factory=Window)
    drops: Window = dataclasses.field(default_factory=Window)
    flaps: Flaps = dataclasses.field(default_factory=Flaps)


class Monitor:
    """Follows the snapshots of one host.

    Args:
        settle_s: Seconds for which a path that came back has to hold before it counts as good.
    """

    def __init__(self, settle_s: float = SETTLE) -> None:
        self.settle_s = settle_s
        self._before: dict[str, Path] = {}
        self._links: dict[str, Link] = {}
        self._wires: dict[str, _Wire] = {}
        self._paths: dict[str, _PathPast] = {}
        self._link_pasts: dict[str, _LinkPast] = {}
        self._counts: collections.deque[dict[str, tuple[int, float | None]]] = collections.deque(maxlen=BUCKETS)
        self._counted_at: float | None = None
        self._uneven: Mapping[str, str] = {}
        self._slower: Mapping[str, float] = {}

    def see(self, snapshot: Snapshot, at: float, probes: Mapping[str, str] | None = None) -> Trends:
        """Takes in a snapshot.

        Args:
            snapshot: What there is now.
            at: Monotonic seconds, the same clock in each call.
            probes: What a probe found wrong, by the id of the session whose way it took.
        """
        self._see_paths(snapshot.paths, at)
        self._see_links(snapshot.links, at)
        self._see_connections(snapshot, at)
        if self._counted_at is None or at - self._counted_at >= BUCKET:
            self._counted_at = at
            self._compare(snapshot.paths)
        return Trends(
            paths=self._path_trends(snapshot.paths, at, probes or {}),
            links=self._link_trends(at),
            uneven=self._uneven,
            settle_s=self.settle_s,
        )

    # --- what is new ---

    def _see_paths(self, paths: Iterable[Path], at: float) -> None:
        before = self._before
        self._before = {}
        for path in paths:
            self._before[path.id] = path
            was = before.get(path.id)
            if was is path:
                continue
            if was is None:
                if path.state not in _WORKING:
                    self._past(path.id).away = True
                continue
            self._see_path(was, path, at)
        for key in before.keys() - self._before.keys():
            self._paths.pop(key, None)

    def _see_path(self, was: Path, path: Path, at: float) -> None:
        if was.state is not path.state:
            works, worked = path.state in _WORKING, was.state in _WORKING
            past = self._past(path.id)
            if worked and path.state is PathState.FAILED:
                past.flaps.fell(at, 1)
            if works and past.away:
                past.back_at = at
            elif not works:
                past.back_at = None
            past.away = not works
        elif path.failures is not None and was.failures is not None and path.failures > was.failures:
            past = self._past(path.id)  # it fell and came back between two looks
            past.flaps.fell(at, path.failures - was.failures)
            if path.state in _WORKING:
                past.back_at = at
        fresh = _grown(was.errors, path.errors) + _grown(was.timeouts, path.timeouts)
        if fresh:
            self._past(path.id).errors.add(at, fresh)

    def _past(self, key: str) -> _PathPast:
        return self._paths.setdefault(key, _PathPast())

    def _see_links(self, links: Iterable[Link], at: float) -> None:
        before = self._links
        self._links = {link.id: link for link in links}
        for link in self._links.values():
            was = before.get(link.id)
            if was is None:
                continue
            errors = _grown(was.rx_errors, link.rx_errors) + _grown(was.tx_errors, link.tx_errors)
            drops = _grown(was.rx_dropped, link.rx_dropped) + _grown(was.tx_dropped, link.tx_dropped)
            falls = _falls(was, link)
            if errors or drops or falls:
                past = self._link_pasts.setdefault(link.id, _LinkPast())
                past.errors.add(at, errors)
                past.drops.add(at, drops)
                past.flaps.fell(at, falls)
        for key in before.keys() - self._links.keys():
            self._link_pasts.pop(key, None)

    def _see_connections(self, snapshot: Snapshot, at: float) -> None:
        before = self._wires
        self._wires = {}
        for session in snapshot.sessions:
            connection = session.connections[0] if session.connections else None
            if connection is None or connection.tcp is None or connection.tcp.retransmits is None:
                continue
            self._wires[session.id] = wire = before.get(session.id) or _Wire()
            wire.see(connection.local_port, connection.tcp, at)

    # --- what it comes to ---

    def _path_trends(self, paths: Iterable[Path], at: float, probes: Mapping[str, str]) -> dict[str, Trend]:
        lossy = {key: wire for key, wire in self._wires.items() if wire.resent}
        found = {}
        for path in paths:
            past = self._paths.get(path.id)
            slower = self._slower.get(path.id)
            wire = lossy.get(path.session) if lossy else None
            probe = probes.get(path.session) if probes else None
            if past is None and slower is None and wire is None and probe is None:
                continue
            found[path.id] = Trend(
                errors=past.errors.trim(at) if past is not None else 0,
                resent=wire.resent if wire is not None else 0,
                sent=wire.sent if wire is not None else None,
                falls=past.flaps.count(at) if past is not None else 0,
                back_s=at - past.back_at if past is not None and past.back_at is not None else None,
                slower=slower,
                probe=probe,
            )
        return found

    def _link_trends(self, at: float) -> dict[str, LinkTrend]:
        found = {}
        for key, past in self._link_pasts.items():
            drops = past.drops.trim(at)
            found[key] = LinkTrend(past.errors.trim(at), drops if drops >= DROPS else 0, past.flaps.count(at))
        return found

    def _compare(self, paths: Iterable[Path]) -> None:
        """Looks at how the active paths of each disk share the work, and whether one is slower than the others."""
        active = [path for path in paths if path.in_use and path.state is PathState.ACTIVE and path.reads is not None]
        self._counts.append({path.id: ((path.reads or 0) + (path.writes or 0), path.latency_us) for path in active})
        oldest = self._counts[0]
        span = (len(self._counts) - 1) * BUCKET
        by_disk: dict[tuple[str, int | None], list[Path]] = {}
        for path in active:
            if path.id in oldest:
                by_disk.setdefault((path.disk, path.group), []).append(path)
        uneven: dict[str, str] = {}
        slower: dict[str, float] = {}
        for (disk, _), mates in by_disk.items():
            if span and len(mates) > 1:
                done = {path.id: (self._counts[-1][path.id][0] - oldest[path.id][0]) / span for path in mates}
                if (text := share(done)) is not None:
                    uneven[disk] = text
                slower |= lagging({path.id: self._typical(path.id) for path in mates if done[path.id] > 1.0})
        self._uneven, self._slower = uneven, slower

    def _typical(self, key: str) -> float:
        """The median latency of the last minute; 0 where none is known."""
        known = [counts[key][1] for counts in self._counts if key in counts]
        return statistics.median([value for value in known if value is not None] or [0.0])


def share(done: Mapping[str, float]) -> str | None:
    """How unevenly active paths share the work, in a sentence; None where they do so well enough.

    Args:
        done: Commands a second by path.
    """
    total = sum(done.values())
    most, least = max(done.values()), min(done.values())
    if total < BUSY or most <= UNEVEN * least:
        return None
    parts = " to ".join(f"{value * 100 / total:.0f}" for value in sorted(done.values(), reverse=True))
    return f"its active paths share the work unevenly: {parts} %"


def lagging(latencies: Mapping[str, float]) -> dict[str, float]:
    """The paths that take many times as long as the median of their mates, and how many times."""
    found = {}
    for key, latency in latencies.items():
        others = [other for name, other in latencies.items() if name != key and other > 0]
        if not others or latency < SLOW_US:
            continue
        times = latency / statistics.median(others)
        if times >= SLOWER:
            found[key] = times
    return found


def _grown(was: int | None, now: int | None) -> int:
    """How much a counter has grown; nothing where it is not known or was reset."""
    return now - was if was is not None and now is not None and now > was else 0


def _advanced(was: int | None, now: int | None) -> int:
    """How far a counter of 32 bits went on, over its end too; nothing where it is not known, or went back."""
    ahead = (now - was) % (1 << 32) if was is not None and now is not None else 0
    return ahead if ahead < 1 << 31 else 0


def _falls(was: Link, now: Link) -> int:
    """How often the carrier fell between two looks: each fall is followed by a rise, and the kernel counts both."""
    if was.carrier_changes is None or now.carrier_changes is None:
        return int(was.state is not LinkState.DOWN and now.state is LinkState.DOWN)
    changes = max(now.carrier_changes - was.carrier_changes, 0)
    return (changes + (now.state is LinkState.DOWN)) // 2
