"""What the dashboard makes of each reading: verdicts, alerts on their way, probes. In the thread that reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from initiator.errors import BadInputError, MooringError
from initiator.fabric import EMPTY, Fabric
from initiator.history import History
from initiator.host.fabric import FabricReader
from initiator.host.kmsg import News
from initiator.lookout import Lookout
from initiator.model import Event, Severity, Snapshot
from initiator.ways import Way
from tui.alerting import Sinks, machine
from tui.config import Config
from tui.feed import Judged, Probed

if TYPE_CHECKING:
    from initiator.engine.prober import Found
    from safety.past import Shelf

LOOK_BACK = 3600.0
"""Seconds: what the kernel told before the dashboard was opened is among its first events."""


class Judge:
    """Judges one reading after another.

    Args:
        read: Reads the host.
        settings: What is worth an alert, and whether probes are wanted.
        fabric: Reads what lies around the paths; the host's own when None.
        news: Tells what the kernel tells; its own log when None.
        no_probes: Why nothing may be probed, whatever the settings want; empty where it may.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        settings: Config,
        fabric: Callable[[Snapshot], Fabric] | None = None,
        news: News | None = None,
        no_probes: str = "",
    ) -> None:
        self._settings = settings
        self._complaints: list[Event] = []
        self._fabric = fabric or FabricLater()
        self._probes: _Probes | None = None
        self._changed: Callable[[], None] = lambda: None
        self.probing = settings.probes.on and not no_probes
        """Whether every session is to be probed: whoever sets it has that begun or ended with the next reading."""
        self.portals: frozenset[Way] = frozenset()
        """The ways that are to be probed where not every one is; set likewise."""
        if settings.probes.on and no_probes:
            self._complain(f"The settings want probes, but: {no_probes}")
        self._history = History()
        self._news = news or News(time.time() - LOOK_BACK)
        self._lookout = Lookout(
            read,
            self._fabric,
            machine(settings.alerts, time.time),
            self.wrong,
            settings.removal.settle_s,
            differ=lambda _old, _new: (),  # the feed makes the events
            history=self._history,
            news=self._news,
            leaving=Leaving(),
        )
        self._sinks: Sinks | None = None
        try:
            self._sinks = Sinks(settings.alerts, self._complain)
        except BadInputError as error:
            self._complain(f"{error}. {error.fix}")

    def look(self) -> tuple[Snapshot, Judged, tuple[Event, ...]]:
        """Reads, judges and passes alerts on; gives what did not work on the way as events."""
        self._switch()
        look = self._lookout.look()
        if self._sinks is not None:
            self._sinks.tell(look.alerts)
        probed = self._probed(look.snapshot)
        told, self._complaints = tuple(self._complaints), []
        events = (*look.events, *(alert.event() for alert in look.alerts), *told)
        return look.snapshot, Judged(look.health, look.fabric, look.alerts, self._history, probed), events

    def listen(self, changed: Callable[[], None]) -> None:
        """From now on `changed` is called, from another thread, when a probe finds something."""
        self._changed = changed
        self._switch()

    def _switch(self) -> None:
        """Starts or ends the probes, as they are wanted."""
        wanted = self.probing or bool(self.portals)
        if wanted and self._probes is None:
            self._probes = _Probes(lambda: self._changed(), self._settings.probes.interval_s)
        elif not wanted and self._probes is not None:
            self._probes.close()
            self._probes = None

    def _probed(self, snapshot: Snapshot) -> dict[str, Probed]:
        """Has what is there probed, as it is wanted; gives what the probes said last, by session id."""
        if self._probes is None:
            return {}
        every = self.probing
        self._probes.want(snapshot, None if every else self.portals)
        return {key: Probed(answers, alone=not every) for key, answers in self._probes.recent().items()}

    def wrong(self) -> Mapping[str, str]:
        """What the probes find wrong now, by session id."""
        return self._probes.wrong() if self._probes is not None else {}

    def close(self) -> None:
        """Ends the probes; alerts that wait are given up."""
        self._news.close()
        if self._probes is not None:
            self._probes.close()

    def _complain(self, text: str) -> None:
        self._complaints.append(Event(time.time(), "alert", "alerts", text, Severity.WARN))


class Leaving:
    """The identities of the disks that a removal is taking away; each call looks through the journals anew."""

    def __init__(self) -> None:
        self._shelf: Shelf | None = None

    def __call__(self) -> Collection[str]:
        """Those of now; none where the journals cannot be looked through: then nothing is kept back."""
        from safety import past, places

        try:
            self._shelf = self._shelf or past.Shelf(places.journal_dir())
            return past.leaving(self._shelf.look())
        except (OSError, MooringError):
            return ()


class FabricLater:
    """What lies around the paths. The first reading, which paints the screen, does without what imports long."""

    def __init__(self) -> None:
        self._reader = FabricReader(ask_routes=None, ask_neighbours=None)
        self._whole = False

    def __call__(self, snapshot: Snapshot) -> Fabric:
        """What is known now; nothing on a host without iSCSI."""
        if not snapshot.sessions and not snapshot.paths:
            return EMPTY
        fabric = self._reader.read(snapshot)
        if not self._whole:
            self._whole, self._reader = True, FabricReader()
        return fabric


class _Probes:
    """The probing process; its modules are imported only where it is wanted."""

    def __init__(self, changed: Callable[[], None], interval: float) -> None:
        from initiator.probing import Probes, wanted

        self._probes = Probes(changed, interval=interval)
        self._wanted = wanted

    def want(self, snapshot: Snapshot, only: Collection[Way] | None) -> None:
        self._probes.want(self._wanted(snapshot, only=only))

    def recent(self) -> Mapping[str, tuple[Found, ...]]:
        return self._probes.recent()

    def wrong(self) -> Mapping[str, str]:
        return self._probes.wrong()

    def close(self) -> None:
        self._probes.close()
