"""Looks after the paths of a disk: who may carry I/O, what a returning path must prove, what unit attentions mean.

The rules in short. A path that comes back is examined before it is used: it must lead to the same logical unit. It
carries I/O only after a settle time, unless nothing else works. Access states are read again when the target hints
at a change; where none serves and the target takes orders, one is ordered to. What unit attentions say about resets
is for proof.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from initiator.engine.asker import Asker, Finish
from initiator.engine.errand import Clock, Schedule
from initiator.engine.ledger import Ledger
from initiator.engine.lower import SessionLike
from initiator.engine.probe import (
    Listener,
    LunInfo,
    activate_group,
    examine,
    read_capacity,
    read_groups,
    read_mode,
    same_unit,
    still_there,
)
from initiator.engine.proof import Prover
from initiator.engine.selector import DevicePath, select
from initiator.errors import MooringError
from initiator.model import Access, SessionState, Severity
from initiator.protocol.errors import IscsiError
from initiator.scsi.alua import PortGroup
from initiator.scsi.parameters import Capacity, Mode
from initiator.scsi.sense import Sense

Tell = Callable[[str, Severity], None]

_ACCESS_CHANGED = (0x2A06, 0x2A07)
_MODE_CHANGED = 0x2A01
_CAPACITY_CHANGED = 0x2A09
_INQUIRY_CHANGED = 0x3F03
_WORTH_ASKING = (_MODE_CHANGED, _CAPACITY_CHANGED, _INQUIRY_CHANGED)
_SPACE_LOW = 0x3807
_CROWD = 32
"""Questions that may wait for a path: a unit that reports one change after the other would be asked without end."""


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
    activate_interval: float = 5.0
    """How often a port group is ordered to serve while none does."""
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
        self._tell = tell
        self._changed = changed
        self._learned = learned
        self._groups_due: float | None = None
        self._groups_read = float("-inf")
        self._activated = float("-inf")
        self._sizing = 0
        """Questions for the size that are not answered yet."""
        self._asker = Asker(clock=clock, schedule=schedule, patience=options.patience)
        self._prover = Prover(self.paths, ledger, ask=self._ask_alive, accept=self._accept, tell=tell)

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
        self._asker.lost(path)
        self._prover.proceed()
        self.refresh()

    def close(self) -> None:
        """Ask nothing any more."""
        for path in self.paths:
            self._asker.close(path)

    def session_lost(self, path: DevicePath) -> None:
        """The connection behind a path broke, whatever its session says at this moment."""
        if not path.connected:
            return
        path.connected = path.checked = path.nexus_loss = path.owes_reset = False
        path.proof = None
        self._asker.lost(path)
        self._prover.proceed()
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
        if not self.info.alua:
            # It has no port groups (TPGS 0) to ask about: nobody tells when it serves again; only another try can.
            self.hold(path, f"the target says that this port is {access}")
            return
        path.access = access
        self._groups_due = self._clock()
        self.refresh()
        self._read_groups()

    def out_of_range(self, path: DevicePath) -> None:
        """A block that should be there is not: the disk has shrunk, and the target (LIO does so) did not tell."""
        if not self._sizing:
            self._ask_size(path)

    def attention(self, path: DevicePath, sense: Sense) -> None:
        """A unit attention, or a deferred error, was reported over a path."""
        if sense.deferred:
            self._ledger.lost()
            self._tell(f"an earlier, acknowledged command failed: {sense.explain()}", Severity.BAD)
            return
        code = sense.code
        if sense.asc == 0x29:
            self._prover.attention(path, code)
        elif code in _ACCESS_CHANGED:
            self._groups_due = self._clock()
            self._read_groups()
        elif code in _WORTH_ASKING and len(path.todo) >= _CROWD:
            return
        elif code == _CAPACITY_CHANGED:
            self._ask_size(path)
        elif code == _MODE_CHANGED:
            self._asker.ask(path, read_mode(self._hear(path)), partial(self._mode_read, path))
        elif code == _INQUIRY_CHANGED:
            path.checked = False
            self._examine(path)
            self.refresh()
        elif code == _SPACE_LOW:
            self._tell("the target is running out of space for this thin disk: writes may fail soon", Severity.BAD)
        else:
            self._tell(f"the target reports {sense.explain()}", Severity.WARN)

    def _hear(self, path: DevicePath) -> Listener:
        return partial(self.attention, path)

    # Examination of a path that came back

    def _examine(self, path: DevicePath) -> None:
        self._asker.ask(path, examine(path.info.lun, path.lun, self._hear(path)), partial(self._examined, path))

    def _examined(self, path: DevicePath, info: LunInfo | None, error: MooringError | None) -> None:
        if isinstance(error, IscsiError) and not path.connected:
            return  # it is examined again when it returns
        if info is None or not info.reachable:
            reason = str(error) if error is not None else "nothing usable is behind the LUN any more"
            self._suspend(path, f"the logical unit does not answer: {reason}")
        elif not self._is_ours(info):
            wwid = info.wwid or "without an identity"
            self._suspend(path, f"another logical unit ({wwid}) answers at LUN {info.lun}; it is not used")
        else:
            self._prover.returned(path, info)

    def _suspend(self, path: DevicePath, reason: str) -> None:
        if path.held != reason:
            self._tell(f"path {path.name}: {reason}", Severity.BAD)
        path.held = reason
        path.idle_since = self._clock()
        self._prover.proceed()
        self.refresh()

    def _is_ours(self, info: LunInfo) -> bool:
        if self.info.wwid is not None:
            return same_unit(self.info, info)
        # Without an identity there is one path only; then all else that is known has to be as before.
        seen = (info.wwid, info.serial, info.capacity, info.standard)
        return seen == (None, self.info.serial, self.info.capacity, self.info.standard)

    def _accept(self, path: DevicePath, info: LunInfo) -> None:
        path.fresh = path.nexus_loss = path.reset = False
        path.checked = True
        path.held = None
        path.info = info
        if not info.groups and path.rank is None:
            path.access = info.access  # nobody tells when it serves again; only another try can
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
            self._asker.ask(path, read_groups(self._hear(path)), partial(self._groups_answered, path))

    def _groups_answered(
        self, path: DevicePath, groups: tuple[PortGroup, ...] | None, error: MooringError | None
    ) -> None:
        if groups is not None:
            self._take_groups(groups)
            self.refresh()
        elif path.connected and not isinstance(error, IscsiError):
            self.hold(path, f"access states cannot be read: {error}")

    def _activate(self, now: float) -> None:
        """Order a port group to serve if none does, where the target takes orders (SPC-4, 5.15.2.6).

        Only then: to take a disk from ports that serve would have two hosts move it to and fro.
        """
        if self.ready or not self.info.explicit_alua or now - self._activated < self._options.activate_interval:
            return
        waiting = [path for path in self.paths if path.up and not path.errand and path.info.port_group is not None]
        standby = [path for path in waiting if path.access is Access.STANDBY and not path.session.suspect]
        if not standby or any(path.access is Access.TRANSITIONING for path in self.paths):
            return
        path = next((path for path in standby if path.preferred), standby[0])
        group = path.info.port_group
        assert group is not None
        self._activated = now
        self._asker.ask(path, activate_group(group, self._hear(path)), partial(self._group_activated, path, group))

    def _group_activated(self, path: DevicePath, group: int, result: None, error: MooringError | None) -> None:
        self._groups_due = self._clock()
        if error is None:
            self._tell(f"port group {group} was ordered to serve, because none did", Severity.WARN)
        elif path.connected:
            self._tell(f"port group {group} does not serve on order: {error}", Severity.WARN)

    def _take_groups(self, groups: tuple[PortGroup, ...]) -> None:
        if not groups:
            return
        for path in self.paths:
            path.learn(groups)
            if path.up and path.info.capacity is None and path.rank is not None:
                # Its port was in standby when it was examined and told nothing of the size; now it must.
                path.checked = False
                self._examine(path)

    def _ask_size(self, path: DevicePath) -> None:
        self._sizing += 1
        self._asker.ask(path, read_capacity(self._hear(path)), partial(self._capacity_read, path))

    def _capacity_read(self, path: DevicePath, capacity: Capacity | None, error: MooringError | None) -> None:
        self._sizing -= 1
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
        self.paths[:] = [path for path in self.paths if path.in_flight or not path.retired]
        for path in list(self.paths):
            if not path.retired:
                self.session_changed(path)
                self._look_at(path, now)
        stuck = not self.ready or any(path.access is Access.TRANSITIONING for path in self.paths)
        if stuck and self._groups_due is None and now - self._groups_read >= self._options.hold_interval:
            self._groups_due = now
        self._read_groups()
        self._activate(now)
        self.refresh()

    def _look_at(self, path: DevicePath, now: float) -> None:
        if not path.connected or path.errand is not None or path.proof is not None:
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
                self._asker.ask(path, read_groups(self._hear(path)), partial(self._groups_answered, path))
            else:
                self._ask_alive(path)

    def _ask_alive(self, path: DevicePath, finish: Finish[None] | None = None) -> None:
        """TEST UNIT READY; a unit that does not answer it well is not used over this path."""

        def ended(result: None, error: MooringError | None) -> None:
            if error is not None and not isinstance(error, IscsiError):
                self.hold(path, str(error))
            if finish is not None:
                finish(result, error)

        self._asker.ask(path, still_there(self._hear(path)), ended)
