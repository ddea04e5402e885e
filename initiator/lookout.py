"""Looks at a host again and again, and tells what it is, what changed, how it does, and what somebody should know.

One place for the dashboard, `mooring watch` and `mooring record`: reading, fabric, recent past, verdicts, alerts.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from initiator.alerts import Alert, Alerts
from initiator.changes import diff
from initiator.fabric import EMPTY, Fabric
from initiator.health import assess
from initiator.history import History
from initiator.judgement import SETTLE, Health, Judgement, Trends, Verdict
from initiator.model import Event, Snapshot
from initiator.monitor import Monitor


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one look gave."""

    snapshot: Snapshot
    fabric: Fabric
    trends: Trends
    health: Health
    events: tuple[Event, ...]
    """What changed since the look before."""
    alerts: tuple[Alert, ...]


class Lookout:
    """Keeps what one look needs of the one before.

    Args:
        read: Reads the host.
        fabric: Reads what lies around its paths; None leaves that unknown.
        alerts: Makes alerts of verdicts; None makes none.
        probes: What probes find wrong now, by session id.
        settle_s: How long a path that came back has to hold.
        differ: Makes events of two snapshots.
        monotonic: A clock for durations.
        history: Keeps values for charts; None keeps none.
        news: What somebody else tells of the time since the last look: the kernel's log.
        leaving: The identities of the disks that are being removed now: what becomes of these is meant, and no alert.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        fabric: Callable[[Snapshot], Fabric] | None = None,
        alerts: Alerts | None = None,
        probes: Callable[[], Mapping[str, str]] | None = None,
        settle_s: float = SETTLE,
        differ: Callable[[Snapshot, Snapshot], Sequence[Event]] = diff,
        monotonic: Callable[[], float] = time.monotonic,
        history: History | None = None,
        news: Callable[[], Sequence[Event]] | None = None,
        leaving: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._read = read
        self._fabric = fabric
        self._alerts = alerts
        self._probes = probes
        self._differ = differ
        self._clock = monotonic
        self._history = history
        self._news = news
        self._leaving = leaving
        self._monitor = Monitor(settle_s)
        self._last: Snapshot | None = None

    def look(self) -> Look:
        """Reads once and judges. Takes as long as reading takes; raises what reading raises."""
        snapshot = self._read()
        fabric = self._fabric(snapshot) if self._fabric is not None else EMPTY
        at = self._clock()
        if self._history is not None:
            self._history.add(snapshot, at)
        trends = self._monitor.see(snapshot, at, self._probes() if self._probes is not None else None)
        health = assess(snapshot, fabric, trends)
        events = tuple(self._differ(self._last, snapshot)) if self._last is not None else ()
        if self._news is not None:
            events = tuple(sorted((*self._news(), *events), key=lambda event: event.at))
        alerts = self._alerts.see(self._to_tell(snapshot, health), at) if self._alerts is not None else ()
        self._last = snapshot
        return Look(snapshot, fabric, trends, health, events, alerts)

    def _to_tell(self, snapshot: Snapshot, health: Health) -> Iterable[Judgement]:
        found = health.judgements.values()
        if self._leaving is None or not any(each.kind == "disk" and each.verdict is not Verdict.OK for each in found):
            return found
        identities = self._leaving()
        gone = {disk.id for disk in snapshot.disks if disk.wwid in identities}
        return [each for each in found if each.subject not in gone]
