"""What the screen shows, without the screen: the snapshot, open branches, the filter, histories, the age of data.

Used from one thread only (the screen's). Snapshots are frozen, so what another thread reads cannot change under it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from initiator.model import Event, Snapshot
from tui import query as filters
from tui.tree import Kind, Row, World, rows, works

SAMPLES = 60
"""How many latencies of each path are kept: one a second, so one minute."""
EVENTS = 1000
STALE_AFTER = 3.0
"""Seconds after which data counts as stale: three missed readings."""

# From everything open to only the disks of each target; the first that fits on the screen is taken.
LEVELS: tuple[frozenset[Kind], ...] = (
    frozenset({Kind.TARGET, Kind.DISK, Kind.SESSIONS, Kind.LINKS}),
    frozenset({Kind.TARGET, Kind.DISK, Kind.LINKS}),
    frozenset({Kind.TARGET, Kind.DISK}),
    frozenset({Kind.TARGET}),
)


class Store:
    """State of the dashboard."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.shown_at = 0.0
        """Monotonic time of the last snapshot that was taken in."""
        self.paused = False
        self.frozen = False
        """True while a dialog is open: what it was opened on must not move."""
        self.samples: dict[str, deque[float | None]] = {}
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.told = 0
        """How many events there ever were."""
        self.query: filters.Query = ()
        self.rows: list[Row] = []
        self._toggled: dict[str, bool] = {}
        self._level: frozenset[Kind] | None = None
        self._held: tuple[Snapshot, float] | None = None

    def apply(self, snapshot: Snapshot, events: Sequence[Event], now: float) -> bool:
        """Take in a reading made at monotonic time `now`.

        While paused or frozen, histories and events go on, and the snapshot waits.

        Returns:
            Whether the rows changed.
        """
        self._remember(snapshot)
        self.events.extend(events)
        self.told += len(events)
        if (self.paused or self.frozen) and self.world is not None:
            self._held = (snapshot, now)
            return False
        self.world = World(snapshot)
        self.shown_at = now
        self._held = None
        self.refresh()
        return True

    def pause(self, paused: bool) -> None:
        """Hold the screen still, or go on with the newest snapshot."""
        self.paused = paused
        self._release()

    def freeze(self, frozen: bool) -> None:
        """Hold the screen still for a dialog, or go on with the newest snapshot."""
        self.frozen = frozen
        self._release()

    def _release(self) -> None:
        if not self.paused and not self.frozen and self._held is not None:
            snapshot, self.shown_at = self._held
            self._held = None
            self.world = World(snapshot)
            self.refresh()

    @property
    def held(self) -> Snapshot | None:
        """The newest snapshot, where it is not shown yet."""
        return self._held[0] if self._held else None

    def age(self, now: float) -> float | None:
        """Seconds since the data on screen was read; None before there is any.

        Behind a dialog the newest reading counts, since the dialog does not act on what is behind it.
        """
        if self.world is None:
            return None
        read_at = self._held[1] if self._held and not self.paused else self.shown_at
        return max(0.0, now - read_at)

    def stale(self, now: float) -> bool:
        """Whether the data is too old to act on."""
        age = self.age(now)
        return age is None or age > STALE_AFTER

    def fit_to(self, height: int) -> None:
        """Choose, once, how much to open so that the first screen shows as much as fits in `height` rows."""
        if self.world is None or self._level is not None or height <= 0:
            return
        for level in LEVELS:
            self._level = level
            self.refresh()
            if len(self.rows) <= height:
                break

    def filter(self, text: str) -> None:
        """Show only what fits these words; see `tui.query`."""
        self.query = filters.parse(text)
        self.refresh()

    def opened(self, key: str, kind: Kind) -> bool:
        """Whether a branch is open: as the person left it, else as it fitted at the start."""
        return self._toggled.get(key, kind in (self._level or LEVELS[-1]))

    def toggle(self, key: str, opened: bool | None = None) -> None:
        """Open or close one branch."""
        row = self.row(key)
        if row is not None and row.opened is not None:
            self._toggled[key] = (not row.opened) if opened is None else opened
            self.refresh()

    def open_all(self, opened: bool) -> None:
        """Open every branch, or close all below the disks."""
        self._toggled.clear()
        self._level = LEVELS[0] if opened else LEVELS[-1]
        self.refresh()

    def row(self, key: str | None) -> Row | None:
        """The visible row with this key."""
        return next((row for row in self.rows if row.key == key), None)

    def reveal(self, key: str) -> str | None:
        """Open what hides the thing with this id; returns the key of its row, or None when there is none."""
        if self.world is None:
            return None
        everything = rows(self.world, lambda _key, _kind: True)
        ancestors: list[Row] = []
        for row in everything:
            del ancestors[len(row.guide) :]
            if row.key == key or row.item.id == key:
                self._toggled.update((above.key, True) for above in ancestors)
                self.refresh()
                return row.key
            ancestors.append(row)
        return None

    def parent(self, key: str) -> str | None:
        """The key of the row that this one hangs below."""
        row = self.row(key)
        if row is None:
            return None
        above = self.rows[: self.rows.index(row)]
        return next((found.key for found in reversed(above) if len(found.guide) < len(row.guide)), None)

    def refresh(self) -> None:
        """Make the rows anew."""
        self.rows = rows(self.world, self.opened, self.query) if self.world else []

    def _remember(self, snapshot: Snapshot) -> None:
        known = self.samples
        fresh: dict[str, deque[float | None]] = {}
        for path in snapshot.paths:
            ring = known.get(path.id)
            if ring is None:
                ring = deque(maxlen=SAMPLES)
            ring.append(path.latency_us if works(path) else None)
            fresh[path.id] = ring
        self.samples = fresh
