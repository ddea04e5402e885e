"""A recording as a source for the dashboard: what was, as if it were now, faster or slower."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import NoReturn

from initiator.errors import RefusedError
from initiator.judgement import SETTLE
from initiator.lookout import Lookout
from initiator.model import Event
from initiator.recording import Moment, Recording, RecordingError
from tui.backends import Backends
from tui.feed import Judged, Reading


class Player:
    """Plays a recording forward.

    Args:
        recording: What to play.
        speed: How many recorded seconds pass in one.
        since: Unix time to begin at; the beginning when None.
        clock: Monotonic seconds.

    Raises:
        RecordingError: there is nothing in it, or nothing after `since`.
    """

    def __init__(
        self,
        recording: Recording,
        speed: float = 1.0,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._moments: Iterator[Moment] = recording.moments(since)
        self._speed = speed
        self._clock = clock
        first = next(self._moments, None)
        if first is None:
            raise RecordingError("there is nothing in it" if since is None else "the recording ends before that time")
        self.current = first
        self.count = 1
        """Which frame is shown, counted from the first that was."""
        self._next = next(self._moments, None)
        self._began: float | None = None
        self._from = first.at

    def begin(self) -> None:
        """Start the clock, at the first call only: until then it is the time of the first frame, and stays so."""
        if self._began is None:
            self._began = self._clock()

    @property
    def ended(self) -> bool:
        """Whether the last frame is shown."""
        return self._next is None

    def now(self) -> float:
        """The recorded Unix time that it is in the replay; it stops with the last frame."""
        return max(self.current.at, self._at() if self._next is not None else self.current.at)

    def advance(self) -> tuple[Event, ...]:
        """Goes on to the frame whose time has come; gives what happened on the way."""
        events: list[Event] = []
        now = self._at()
        while self._next is not None and self._next.at <= now:
            self.current, self._next = self._next, next(self._moments, None)
            self.count += 1
            events.extend(self.current.events)
        return tuple(events)

    def _at(self) -> float:
        return self._from if self._began is None else self._from + (self._clock() - self._began) * self._speed


class ReplaySource:
    """A `tui.feed.Source` that reads a recording."""

    def __init__(self, player: Player, settle_s: float = SETTLE) -> None:
        self.player = player
        self._events: tuple[Event, ...] = player.current.events
        self._lookout = Lookout(
            lambda: player.current.snapshot,
            lambda _: player.current.fabric,
            settle_s=settle_s,
            differ=lambda _old, _new: (),
            monotonic=lambda: player.current.at,
        )

    def read(self) -> Reading:
        """The frame whose time it is, judged as it would have been then."""
        self._events = (*self._events, *self.player.advance())[-1000:]
        look = self._lookout.look()
        self.player.begin()  # the first reading imports much, and what happens meanwhile would never be seen
        return Reading(look.snapshot, self._events, Judged(look.health, look.fabric))

    def pulse(self) -> Hashable:
        """Which frame is next: it changes when another one's time has come."""
        self._events = (*self._events, *self.player.advance())[-1000:]
        return self.player.count

    def watch(self, changed: Callable[[], None]) -> None:
        """Nothing of now matters."""

    def close(self) -> None:
        """The file is closed with its iterator."""


class _Past:
    """Stands for whoever would change something: what was cannot be changed, and what is now is not looked at."""

    def plan(self, scope: object, *, abandon: bool = False, end_users: bool = False) -> NoReturn:
        """Refuse."""
        raise _refused()

    def start(self, plan: object) -> NoReturn:
        """Refuse."""
        raise _refused()

    def resume(self, journal: object) -> NoReturn:
        """Refuse."""
        raise _refused()

    def undo(self, journal: object, *chap_secrets: str) -> NoReturn:
        """Refuse."""
        raise _refused()

    def unfinished(self) -> tuple[()]:
        """Removals of now have no place here."""
        return ()

    def past(self) -> tuple[()]:
        """Removals of now have no place here."""
        return ()

    def idle(self) -> tuple[()]:
        """Records of now have no place here."""
        return ()

    def login(self, record: object, chap: object = None) -> NoReturn:
        """Refuse."""
        raise _refused()

    def discover(self, where: object, chap: object) -> NoReturn:
        """Refuse."""
        raise _refused()

    def attach(self, target: object, lun: object) -> NoReturn:
        """Refuse."""
        raise _refused()

    def check(self, snapshot: object) -> NoReturn:
        """The rules would look at settings of now."""
        raise RefusedError("this is a replay: the rules look at this host as it is", fix="mooring check")

    def logout(self, session: object) -> NoReturn:
        """Refuse."""
        raise _refused()

    def startup(self, session: object, mode: str) -> NoReturn:
        """Refuse."""
        raise _refused()

    def rescan(self, sessions: object) -> NoReturn:
        """Refuse."""
        raise _refused()


def _refused() -> RefusedError:
    return RefusedError("this is a replay: nothing can be changed in what was", fix="mooring shows this host as it is")


def backends(source: ReplaySource) -> Backends:
    """What the dashboard stands on in a replay: the recording tells all, and nothing is changed."""
    past = _Past()
    return Backends(source, lambda _old, _new: (), past, past, connector=past, check=past.check)
