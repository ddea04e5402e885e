"""Looks after the paths of a disk: who may carry I/O, what a returning path must prove, what unit attentions mean.

The rules in short. A path that comes back is examined before it is used: it must lead to the same logical unit. It
carries I/O only after a settle time, unless nothing else works. Access states are read again when the target hints
at a change. A reset of the logical unit while acknowledged writes were not flushed is entered in the ledger.

About resets (SPC-4, 5.14; SAM-5, 5.14): a real reset shows as a unit attention 29h on every nexus that was there. But
a new nexus may begin with one of its own, so there it is no news; and it says nothing of a reset that came before it.
So while there are unflushed writes, a path that returns is not used before another path, one that was never gone, has
answered TEST UNIT READY: if that one has no 29h to report, nothing was reset. If no path was there all the time, the
new nexus must say 29h/07h, and nothing worse, to prove that there was a nexus loss only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from initiator.engine.errand import Clock, Errand, Schedule
from initiator.engine.ledger import Ledger
from initiator.engine.lower import SessionLike
from initiator.engine.probe import (
    Listener,
    LunInfo,
    Script,
    examine,
    read_capacity,
    read_groups,
    read_mode,
    same_unit,
    still_there,
)
from initiator.engine.selector import DevicePath, select
from initiator.errors import MooringError
from initiator.model import Access, SessionState, Severity
from initiator.protocol.errors import ConnectionLost, IscsiError
from initiator.scsi.alua import PortGroup
from initiator.scsi.parameters import Capacity, Mode
from initiator.scsi.sense import Sense

T = TypeVar("T")
Tell = Callable[[str, Severity], None]
Finish = Callable[[T | None, MooringError | None], None]

_RESETS = (0x2900, 0x2901, 0x2902, 0x2903, 0x2904)
_NEXUS_LOSS = 0x2907
_ACCESS_CHANGED = (0x2A06, 0x2A07)
_MODE_CHANGED = 0x2A01
_CAPACITY_CHANGED = 0x2A09
_INQUIRY_CHANGED = 0x3F03


@dataclasses.dataclass(frozen=True, slots=True)
class KeeperOptions:
    """Times in seconds."""

    settle: float = 2.0
    """How long a returned path has to stay before it carries I/O while another path works."""
    check_interval: float = 5.0
    """How often a path without I/O is asked whether the logical unit is still there."""
    hold_interval: float = 1.0
    """How often a path is examined whose session works but whose logical unit does not, and how often access states
    are read while no port group serves."""
    patience: float = 10.0
    """For each command of an examination."""


class Keeper:
    """The paths of one disk.

    Attributes:
        info: The logical unit as it was last seen.
        paths: Every path, in the order in which they were added.
        ready: The paths that carry I/O now.
    """

    def __init__(
        self,
        info: LunInfo,
        ledger: Ledger,
        *,
        options: KeeperOptions,
        clock: Clock,
        wall: Clock,
        schedule: Schedule,
        tell: Tell,
        changed: Callable[[], None],
        learned: Callable[[LunInfo], None],
    ) -> None:
        """`changed` hears that `ready` or a path's state is another, `learned` that size, cache or protection are."""
        self.info = info
        self.paths: list[DevicePath] = []
        self.ready: list[DevicePath] = []
        self._ledger = ledger
        self._options = options
        self._clock = clock
        self._wall = wall
        self._schedule = schedule
        self._tell = tell
        self._changed = changed
        self._learned = learned
        self._groups_due: float | None = None
        self._groups_read = float("-inf")
        self._closed = False

    # Coming and going

    def add(self, session: SessionLike, info: LunInfo, name: str) -> DevicePath:
        """Take in a path that has just been probed over its session, which is logged in."""
        path = DevicePath(session, info, name, now=self._clock(), wall=self._wall())
        self.paths.append(path)
        for known in self.paths:
            known.learn(info.groups or known.info.groups)
        if self._ledger.exposed:
            path.fresh, path.checked = True, False
            self._examine(path)
        self.refresh()
        return path

    def retire(self, path: DevicePath) -> None:
        """Take a path out of service; it is forgotten when nothing is under way on it any more."""
        path.retired = True
        self._stop_errands(path)
        self.refresh()

    def close(self) -> None:
        """Ask nothing any more."""
        self._closed = True
        for path in self.paths:
            path.todo.clear()
            if path.errand is not None:
                path.errand.cancel()

    def session_lost(self, path: DevicePath) -> None:
        """The connection behind a path broke, whatever its session says at this moment."""
        if not path.connected:
            return
        path.connected = path.checked = path.nexus_loss = path.owes_reset = False
        self._stop_errands(path)
        self.refresh()

    def session_changed(self, path: DevicePath) -> None:
        """The session behind a path may have another state."""
        logged_in = path.session.state is SessionState.LOGGED_IN
        if path.retired:
            return
        if logged_in and not path.connected:
            path.connected = path.fresh = True
            path.held = None
            self._examine(path)
        elif not logged_in:
            self.session_lost(path)
        self.refresh()

    def refresh(self) -> None:
        """Decide again which paths carry I/O, and what is said of each."""
        now = self._clock()
        ready = select(self.paths, now)
        moved = ready != self.ready
        self.ready = ready
        wall = self._wall()
        for path in self.paths:
            path.in_use = path in ready
            shown = path.state
            if path.show(now, wall):
                moved = True
                self._tell_state(path, shown.value)
        if moved:
            self._changed()

    def _tell_state(self, path: DevicePath, before: str) -> None:
        severity = Severity.WARN if path.state.value == "failed" else Severity.NOTE
        because = f": {path.reason}" if path.reason else ""
        self._tell(f"path {path.name} is {path.state.value}, was {before}{because}", severity)

    # What commands reveal

    def hold(self, path: DevicePath, reason: str) -> None:
        """The session works but the logical unit does not answer as it should over this path."""
        if path.held is None:
            path.held = reason
            path.idle_since = self._clock()
            self.refresh()

    def access_refused(self, path: DevicePath, access: Access) -> None:
        """A command was refused because of the path's access state."""
        path.access = access
        self._groups_due = self._clock()
        self.refresh()
        self._read_groups()

    def attention(self, path: DevicePath, sense: Sense) -> None:
        """A unit attention, or a deferred error, was reported over a path."""
        if sense.deferred:
            self._ledger.lost()
            self._tell(f"an earlier, acknowledged command failed: {sense.explain()}", Severity.BAD)
            return
        code = sense.code
        if sense.asc == 0x29:
            self._reset_attention(path, code)
        elif code in _ACCESS_CHANGED:
            self._groups_due = self._clock()
            self._read_groups()
        elif code == _CAPACITY_CHANGED:
            self._run(path, read_capacity(self._hear(path)), partial(self._capacity_read, path))
        elif code == _MODE_CHANGED:
            self._run(path, read_mode(self._hear(path)), partial(self._mode_read, path))
        elif code == _INQUIRY_CHANGED:
            path.checked = False
            self._examine(path)
            self.refresh()
        else:
            self._tell(f"the target reports {sense.explain()}", Severity.WARN)

    def _hear(self, path: DevicePath) -> Listener:
        return partial(self.attention, path)

    # Resets and the volatile cache

    def _reset_attention(self, path: DevicePath, code: int) -> None:
        if code == _NEXUS_LOSS:
            path.nexus_loss = True
        elif code not in _RESETS:
            return
        elif path.owes_reset:
            path.owes_reset = False
        elif path.fresh:
            path.reset = True
        else:
            self._reset("the logical unit reports a reset")
            for other in self.paths:
                if other is not path and other.up:
                    # It has the same attention waiting; fetched now, so that it is not taken for another reset later.
                    other.owes_reset = True
                    self._run(other, still_there(self._hear(other)), partial(self._asked, other))

    def _reset(self, reason: str) -> None:
        if self._ledger.reset():
            self._tell(f"{reason}; writes that it had acknowledged may be lost: the next flush fails", Severity.BAD)
        else:
            self._tell(f"{reason}; nothing was unflushed", Severity.NOTE)

    # Examination of a path that came back

    def _examine(self, path: DevicePath) -> None:
        self._run(path, examine(path.info.lun, self._hear(path)), partial(self._examined, path))

    def _examined(self, path: DevicePath, info: LunInfo | None, error: MooringError | None) -> None:
        if isinstance(error, IscsiError) and not path.connected:
            return  # it is examined again when it returns
        if info is None or not info.reachable:
            reason = str(error) if error is not None else "nothing usable is behind the LUN any more"
            self._suspend(path, f"the logical unit does not answer: {reason}")
        elif not self._is_ours(info):
            wwid = info.wwid or "without an identity"
            self._suspend(path, f"another logical unit ({wwid}) answers at LUN {info.lun}; it is not used")
        elif path.fresh and self._ledger.exposed:
            self._ask_witness(path, info)
        else:
            self._accept(path, info)

    def _suspend(self, path: DevicePath, reason: str) -> None:
        if path.held != reason:
            self._tell(f"path {path.name}: {reason}", Severity.BAD)
        path.held = reason
        path.idle_since = self._clock()
        self.refresh()

    def _is_ours(self, info: LunInfo) -> bool:
        if self.info.wwid is not None:
            return same_unit(self.info, info)
        # Without an identity there is one path only; then all else that is known has to be as before.
        seen = (info.wwid, info.serial, info.capacity, info.standard)
        return seen == (None, self.info.serial, self.info.capacity, self.info.standard)

    def _ask_witness(self, path: DevicePath, info: LunInfo) -> None:
        others = sorted((p for p in self.paths if p is not path and p.up), key=lambda p: p.session.suspect)
        if not others:
            if not path.nexus_loss or any(p.reset for p in self.paths):
                self._reset("all paths were lost, and nothing proves that the logical unit was not reset")
            self._accept(path, info)
            return
        witness = others[0]

        def heard(result: None, error: MooringError | None) -> None:
            self._asked(witness, result, error)
            if not path.connected:
                return
            if isinstance(error, IscsiError):
                self._ask_witness(path, info)
            else:
                self._accept(path, info)

        self._run(witness, still_there(self._hear(witness)), heard)

    def _accept(self, path: DevicePath, info: LunInfo) -> None:
        path.fresh = path.nexus_loss = path.reset = False
        path.checked = True
        path.held = None
        path.info = info
        path.settle_until = path.idle_since = self._clock()
        path.settle_until += self._options.settle
        self._take_groups(info.groups)
        capacity = info.capacity or self.info.capacity
        self._relearn(dataclasses.replace(self.info, capacity=capacity), info.write_cache, info.write_protected)
        self.refresh()

    # Access states, size, cache

    def _read_groups(self) -> None:
        if self._groups_due is None or self._clock() < self._groups_due or not self.info.alua:
            return
        path = next((p for p in self.paths if p.up and not p.errand and not p.session.suspect), None)
        if path is not None:
            self._groups_due = None
            self._groups_read = self._clock()
            self._run(path, read_groups(self._hear(path)), partial(self._groups_answered, path))

    def _groups_answered(
        self, path: DevicePath, groups: tuple[PortGroup, ...] | None, error: MooringError | None
    ) -> None:
        if groups is not None:
            self._take_groups(groups)
            self.refresh()
        elif path.connected and not isinstance(error, IscsiError):
            self.hold(path, f"access states cannot be read: {error}")

    def _take_groups(self, groups: tuple[PortGroup, ...]) -> None:
        if not groups:
            return
        for path in self.paths:
            path.learn(groups)
            if path.up and path.info.capacity is None and path.rank is not None:
                # Its port was in standby when it was examined and told nothing of the size; now it must.
                path.checked = False
                self._examine(path)

    def _capacity_read(self, path: DevicePath, capacity: Capacity | None, error: MooringError | None) -> None:
        if capacity is not None:
            self._relearn(dataclasses.replace(self.info, capacity=capacity), None, None)
        elif path.connected:
            self._tell(f"the new size could not be read: {error}", Severity.WARN)

    def _mode_read(self, path: DevicePath, mode: Mode | None, error: MooringError | None) -> None:
        if mode is not None:
            self._relearn(self.info, mode.write_cache, mode.write_protected)
        elif path.connected:
            self._tell(f"the cache setting could not be read: {error}", Severity.WARN)

    def _relearn(self, info: LunInfo, write_cache: bool | None, write_protected: bool | None) -> None:
        if write_cache is not None:
            info = dataclasses.replace(info, write_cache=write_cache)
        if write_protected is not None:
            info = dataclasses.replace(info, write_protected=write_protected)
        old, self.info = self.info, info
        if old != info:
            self._learned(old)

    # Regular looks

    def tick(self) -> None:
        """To be called a few times a second."""
        now = self._clock()
        self.paths[:] = [path for path in self.paths if not (path.retired and not path.in_flight)]
        for path in list(self.paths):
            if not path.retired:
                self.session_changed(path)
                self._look_at(path, now)
        stuck = not self.ready or any(path.access is Access.TRANSITIONING for path in self.paths)
        if stuck and self._groups_due is None and now - self._groups_read >= self._options.hold_interval:
            self._groups_due = now
        self._read_groups()
        self.refresh()

    def _look_at(self, path: DevicePath, now: float) -> None:
        if not path.connected or path.errand is not None:
            return
        if path.held is not None or not path.checked:
            if now - path.idle_since >= self._options.hold_interval:
                path.idle_since = now
                self._examine(path)
            return
        mark = path.reads + path.writes + path.errors
        if mark != path.idle_mark or path.in_flight:
            path.idle_mark = mark
            path.idle_since = now
        elif now - path.idle_since >= self._options.check_interval:
            path.idle_since = now
            if self.info.alua:
                # TEST UNIT READY fails on a port in standby; this does not, and tells more (SPC-4, 5.15.2.4).
                self._run(path, read_groups(self._hear(path)), partial(self._groups_answered, path))
            else:
                self._run(path, still_there(self._hear(path)), partial(self._asked, path))

    def _asked(self, path: DevicePath, _: None, error: MooringError | None) -> None:
        if error is not None and not isinstance(error, IscsiError):
            self.hold(path, str(error))

    def _run(self, path: DevicePath, script: Script[T], finish: Finish[T]) -> None:
        """Ask something over a path, after what is being asked there already."""
        if self._closed:
            script.close()
        elif path.errand is not None:
            path.todo.append(lambda: self._begin(path, script, finish))
        else:
            self._begin(path, script, finish)

    def _begin(self, path: DevicePath, script: Script[T], finish: Finish[T]) -> None:
        def ended(result: T | None, error: MooringError | None) -> None:
            path.errand = None
            finish(result, error)
            if path.todo and not path.errand:
                path.todo.popleft()()

        if not path.connected:
            ended(None, ConnectionLost("the path was lost"))
            return
        path.errand = Errand(
            path.session,
            path.lun,
            script,
            ended,
            clock=self._clock,
            schedule=self._schedule,
            patience=self._options.patience,
        )
        path.errand.start()

    def _stop_errands(self, path: DevicePath) -> None:
        """End everything that is being asked over a path that is gone; each question hears of it."""
        if path.errand is not None:
            path.errand.abort(ConnectionLost("the path was lost"))
