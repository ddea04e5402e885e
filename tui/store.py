"""What the screen shows, without the screen: the snapshot, the view, its filter and order, histories, the age of data.

Used from one thread only (the screen's). Snapshots are frozen, so what another thread reads cannot change under it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

from initiator.model import Event, Severity, Snapshot
from safety.past import Past
from tui import query as filters
from tui import verdict
from tui.feed import UNJUDGED, Judged
from tui.tree import rows
from tui.views.catalogue import BY_ID
from tui.views.overview import Flow
from tui.views.tree import TREE
from tui.views.view import Sight, View, listed
from tui.world import Checked, Happened, Kind, Row, World, works

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


@dataclasses.dataclass(slots=True)
class Place:
    """How a view was left: it is found like that again."""

    sort: str
    backwards: bool
    text: str = ""
    """The filter, as it was typed."""
    query: filters.Query = ()
    cursor: str | None = None
    top: int = 0
    """The first row on the screen."""


class Store:
    """State of the dashboard."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.before: World | None = None
        """The snapshot before this one, for rates."""
        self.shown_at = 0.0
        """Monotonic time of the last snapshot that was taken in."""
        self.paused = False
        self.frozen = False
        """True while a dialog is open: what it was opened on must not move."""
        self.samples: dict[str, deque[float | None]] = {}
        self.flow = Flow(deque(maxlen=SAMPLES), deque(maxlen=SAMPLES))
        self.judged: Judged = UNJUDGED
        """What was made of the reading that is shown."""
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.told = 0
        """How many events there ever were."""
        self.removals: Sequence[Past] = ()
        self.checks: Sequence[Checked] = ()
        self.view: View = TREE
        self.places = {view.id: Place(view.sort, view.backwards) for view in BY_ID.values()}
        self.rows: list[Row] = []
        self.loosely = False
        """Whether nothing fits the filter exactly, and what is shown fits nearly."""
        self.sight: Sight | None = None
        self._toggled: dict[str, bool] = {}
        self._level: frozenset[Kind] | None = None
        self._held: tuple[Snapshot, float] | None = None
        self._moved: tuple[float, int, int, int] | None = None

    def apply(self, snapshot: Snapshot, events: Sequence[Event], now: float, judged: Judged = UNJUDGED) -> bool:
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
        self.judged = judged
        self._show(snapshot, now)
        return True

    def _show(self, snapshot: Snapshot, now: float) -> None:
        self.before, self.world = self.world, World(snapshot)
        self.shown_at = now
        self._held = None
        self.refresh()

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
            self._show(*self._held)

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

    # --- the view -------------------------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """How the view of now is arranged."""
        return self.places[self.view.id]

    @property
    def query(self) -> filters.Query:
        """The filter of the view of now."""
        return self.place.query

    def look_at(self, view: str) -> None:
        """Show another view."""
        self.view = BY_ID[view]
        self.refresh()

    def filter(self, text: str) -> None:
        """Show only what fits these words; see `tui.query`."""
        self.place.text, self.place.query = text, filters.parse(text)
        self.refresh()

    def sort(self, title: str | None = None, by: int = 0) -> None:
        """Sort by a column, or backwards if it does already; without a title by the next one that can sort."""
        able = [column.title for column in self.view.columns if column.order is not None]
        if title is None and able:
            at = able.index(self.place.sort) if self.place.sort in able else -1
            self.place.sort, self.place.backwards = able[(at + by) % len(able)], False
        elif title in able:
            place = self.place
            place.backwards = place.sort == title and not place.backwards
            place.sort = title or ""
        self.refresh()

    def refresh(self) -> None:
        """Make the rows anew."""
        if self.world is None:
            self.rows, self.sight = [], None
            return
        judgements = self.judged.health.judgements if self.judged.health is not None else {}
        self.sight = Sight(self.world, self._happened(), self.removals, self.checks, self._troubles(), judgements)
        if self.view is TREE:
            self.rows, self.loosely = rows(self.world, self.opened, self.query), False
            if self.query and not self.rows:
                self.rows, self.loosely = rows(self.world, self.opened, filters.loosened(self.query)), True
            return
        place = self.place
        self.rows, self.loosely = listed(self.view, self.sight, place.query, place.sort, place.backwards)

    def _happened(self) -> list[Happened]:
        if self.view.id != "events":
            return []
        return [Happened(f"event:{self.told - n}", event) for n, event in enumerate(reversed(self.events))]

    def _troubles(self) -> dict[str, tuple[Severity, str]]:
        if self.view.id != "overview" or self.world is None:
            return {}
        found: dict[str, tuple[Severity, str]] = {}
        for severity, told, key in verdict.troubles(self.world, self.world.snapshot.taken_at, self.judged):
            found.setdefault(key or f"problem:{told}", (severity, told))
        return found

    # --- the tree -------------------------------------------------------------------------------------------------

    def fit_to(self, height: int) -> None:
        """Choose, once, how much to open so that the first screen shows as much as fits in `height` rows."""
        if self.world is None or self._level is not None or height <= 0 or self.view is not TREE:
            return
        for level in LEVELS:
            self._level = level
            self.refresh()
            if len(self.rows) <= height:
                break

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

    def lists(self, view: View, key: str) -> bool:
        """Whether the thing with this id has a row in a view, be it hidden by a filter or in a closed branch."""
        if self.world is None or self.sight is None:
            return False
        found = rows(self.world, lambda _key, _kind: True) if view is TREE else view.rows(self.sight)
        return any(key in (row.key, row.item.id) for row in found)

    def reveal(self, key: str) -> str | None:
        """Open what hides the thing with this id; returns the key of its row, or None when there is none."""
        if self.world is None:
            return None
        if self.view is not TREE:
            return next((row.key for row in self.rows if key in (row.key, row.item.id)), None)
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

    # --- histories ------------------------------------------------------------------------------------------------

    def _remember(self, snapshot: Snapshot) -> None:
        known = self.samples
        fresh: dict[str, deque[float | None]] = {}
        reads = writes = 0
        for path in snapshot.paths:
            ring = known.get(path.id)
            if ring is None:
                ring = deque(maxlen=SAMPLES)
            ring.append(path.latency_us if works(path) else None)
            fresh[path.id] = ring
            reads += path.read_bytes or 0
            writes += path.write_bytes or 0
        self.samples = fresh
        self._count(snapshot.taken_at, len(fresh), reads, writes)

    def _count(self, at: float, paths: int, reads: int, writes: int) -> None:
        """What was read and written since the last time; where paths came or went, nobody can say."""
        before, self._moved = self._moved, (at, paths, reads, writes)
        if before is None or at <= before[0]:
            return
        seconds = at - before[0]
        same = paths == before[1]
        for ring, new, old in zip(self.flow, (reads, writes), before[2:], strict=True):
            ring.append((new - old) / seconds if same and new >= old else None)
