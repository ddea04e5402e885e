"""Sends pieces over the paths of a disk, and decides what becomes of those that did not succeed at once."""

from __future__ import annotations

import dataclasses
import errno
from collections import deque
from collections.abc import Callable, Sequence

from initiator.engine.errand import Clock, Schedule
from initiator.engine.keeper import Keeper, KeeperOptions
from initiator.engine.ledger import Ledger
from initiator.engine.pieces import Piece
from initiator.engine.selector import DEFAULT_SELECTOR, SELECTORS, DevicePath
from initiator.engine.verdict import Action, Kind, Verdict, judge
from initiator.errors import BadInputError
from initiator.model import Severity
from initiator.protocol.errors import LocalProtocolError
from initiator.protocol.ffp_task import Task

_READ, _WRITE, _FLUSH, _ZERO = Kind.READ, Kind.WRITE, Kind.FLUSH, Kind.ZERO  # names that the hot path finds quickly
_GONE = ("not-logged-in", "closed")
_OUT_OF_RANGE = 0x2100
"""LOGICAL BLOCK ADDRESS OUT OF RANGE."""
_BACK_OFF = 0.02
_LONGEST_BACK_OFF = 2.0
_REPEAT = 5.0
"""Seconds in which the same complaint is told once."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Times in seconds, sizes in bytes."""

    queue_timeout: float = 120.0
    """How long requests wait when no path works, and how long any request is tried again at most."""
    io_timeout: float = 30.0
    flush_timeout: float = 60.0
    max_request_bytes: int = 8 << 20
    max_tries: int = 5
    """How often a command is sent again that the target itself made fail."""
    max_attentions: int = 16
    window: int = 16
    """How many commands of one large request are under way at a time."""
    tick: float = 0.25
    selector: str = DEFAULT_SELECTOR
    """Which of several equally good paths takes a command: a name of `SELECTORS`."""
    keeper: KeeperOptions = dataclasses.field(default_factory=KeeperOptions)

    def __post_init__(self) -> None:
        if self.selector not in SELECTORS:
            raise BadInputError(f"there is no selector {self.selector!r}", fix=f"one of {', '.join(SELECTORS)}")


class Dispatcher:
    """The pieces of one disk.

    Attributes:
        in_flight: Pieces under way, delayed, or waiting for a path.
        waiting: Those that wait for a path.
        read_only: The target refuses writes.
        over: Nothing is sent any more.
    """

    def __init__(
        self,
        keeper: Keeper,
        ledger: Ledger,
        options: DeviceOptions,
        *,
        clock: Clock,
        schedule: Schedule,
        tell: Callable[[str, Severity], None],
    ) -> None:
        self.in_flight = 0
        self.waiting: deque[Piece] = deque()
        self.read_only = False
        self.over = False
        self._keeper = keeper
        self._ledger = ledger
        self._options = options
        self._clock = clock
        self._schedule = schedule
        self._tell = tell
        self._delayed: set[Piece] = set()
        self._draining = False
        self._no_path_since: float | None = clock()
        self._finished_callback = self._finished
        self._io_timeout = options.io_timeout
        self._turn = 0
        self._pick = SELECTORS[options.selector]
        self._told: dict[str, float] = {}

    def accept(self, piece: Piece) -> None:
        """Begin a new piece. Its `finish` is called exactly once."""
        self.in_flight += 1
        self._start(piece, piece.born)

    def _start(self, piece: Piece, now: float) -> None:
        """Send a piece, or have it wait. The target's time counts from `now`, and waiting for a path is none of it."""
        ready = self._keeper.ready
        if self.over or not ready:
            self._wait(piece)
            return
        if len(ready) == 1:
            path = ready[0]
        else:
            self._turn += 1
            path = self._pick(ready, self._turn)
        if piece.path is not None:
            piece.reset()
        piece.path = path
        piece.lun = path.lun
        piece.epoch = self._ledger.resets
        piece.done = self._finished_callback
        piece.deadline = now + (self._io_timeout if piece.kind < _FLUSH else self._options.flush_timeout)
        path.in_flight += 1
        try:
            path.session.submit(piece)
        except LocalProtocolError as error:
            path.in_flight -= 1
            self.waiting.append(piece)
            self._keeper.hold(path, f"its session takes no commands: {error}")

    def _wait(self, piece: Piece) -> None:
        since = self._no_path_since
        if self.over:
            self._complete(piece, errno.ESHUTDOWN)
        elif since is not None and self._clock() - since >= self._options.queue_timeout:
            self._fail(piece, errno.EIO, "no path works")
        else:
            self.waiting.append(piece)

    def drain(self) -> None:
        """The choice of paths has changed: send what waits."""
        if not self._keeper.ready:
            if self._no_path_since is None:
                self._no_path_since = self._clock()
            return
        self._no_path_since = None
        if self._draining:
            return
        self._draining = True
        while self.waiting and self._keeper.ready:
            self._start(self.waiting.popleft(), self._clock())
        self._draining = False

    def tick(self) -> None:
        """Give up what has waited for too long."""
        since = self._no_path_since
        if since is not None and self._clock() - since >= self._options.queue_timeout:
            waiting = list(self.waiting)
            self.waiting.clear()
            for piece in waiting:
                self._fail(piece, errno.EIO, f"no path has worked for {self._options.queue_timeout:g} s")

    def close(self) -> None:
        """Fail what is not under way; what is under way ends when its session answers."""
        self.over = True
        rest = [*self.waiting, *self._delayed]
        self.waiting.clear()
        self._delayed.clear()
        for piece in rest:
            self._complete(piece, errno.ESHUTDOWN)

    # The end of a command

    def _finished(self, task: Task) -> None:
        assert isinstance(task, Piece)
        path = task.path
        assert path is not None
        path.in_flight -= 1
        kind = task.kind
        if (
            task.status == 0
            and task.error is None
            and not task.residual
            and kind < _FLUSH
            and task.received + task.sent == task.length
        ):
            sent_at = task.sent_at
            if sent_at is not None:
                taken = (task.finished_at - sent_at) * 1e6
                last = path.latency_us
                path.latency_us = taken if last is None else last + (taken - last) * 0.125
            if kind is _READ:
                path.reads += 1
                path.read_bytes += task.length
                self.in_flight -= 1
                task.finish(0)
            else:
                path.writes += 1
                path.write_bytes += task.length
                ledger = self._ledger
                if task.epoch != ledger.resets:
                    self._succeeded(task)
                    return
                ledger.acknowledged += 1
                self.read_only = False
                self.in_flight -= 1
                task.finish(0)
        else:
            self._judge(task, path)

    def _succeeded(self, piece: Piece) -> None:
        if piece.kind is _WRITE or piece.kind is _ZERO:
            if piece.epoch != self._ledger.resets:
                # The unit was reset between sending and answer: the data may have been in the cache that is gone now.
                self._again(piece, "the logical unit was reset")
                return
            self._ledger.acknowledged += 1
            self.read_only = False
        self._complete(piece, 0)

    def handed_back(self, path: DevicePath, tasks: Sequence[Task]) -> list[Task]:
        """The connection of a path broke: send its pieces elsewhere. Returns the tasks that are not ours."""
        if not self.over:
            self._keeper.session_lost(path)
        rest: list[Task] = []
        for task in tasks:
            if isinstance(task, Piece) and task.path is path:
                path.in_flight -= 1
                path.errors += 1
                self._again(task, "the connection broke")
            else:
                rest.append(task)
        return rest

    def _judge(self, piece: Piece, path: DevicePath) -> None:
        verdict = judge(piece.kind, piece)
        match verdict.action:
            case Action.DONE:
                if verdict.sense is not None:
                    self._complain(f"a command succeeded with trouble: {verdict.text}", Severity.WARN)
                self._succeeded(piece)
            case Action.FAIL:
                self._refused(piece, path, verdict)
            case Action.AGAIN:
                path.errors += 1
                piece.tries += 1
                self._repeat(piece, verdict, piece.tries < self._options.max_tries)
            case Action.ATTENTION:
                if verdict.sense is not None:
                    self._keeper.attention(path, verdict.sense)
                piece.attentions += 1
                self._repeat(piece, verdict, piece.attentions < self._options.max_attentions)
            case Action.BACK_OFF:
                self._later(piece, verdict.text)
            case Action.ACCESS:
                if verdict.access is not None:
                    self._keeper.access_refused(path, verdict.access)
                self._again(piece, verdict.text)
            case Action.PATH:
                path.errors += 1
                self._keeper.hold(path, verdict.text)
                self._again(piece, verdict.text)
            case Action.TRANSPORT:
                self._unanswered(piece, path, verdict)

    def _refused(self, piece: Piece, path: DevicePath, verdict: Verdict) -> None:
        if verdict.errno == errno.EOPNOTSUPP:
            self._complete(piece, errno.EOPNOTSUPP)
            return
        path.errors += 1
        if verdict.errno == errno.EROFS:
            self.read_only = True
        if verdict.sense is not None and verdict.sense.code == _OUT_OF_RANGE:
            self._keeper.out_of_range(path)
        self._fail(piece, verdict.errno, verdict.text)

    def _unanswered(self, piece: Piece, path: DevicePath, verdict: Verdict) -> None:
        path.errors += 1
        if verdict.timeout:
            path.timeouts += 1
        if piece.error is not None and piece.error.code in _GONE and path.connected:
            # It counts as logged in but takes nothing: somebody is logging it out.
            self._keeper.hold(path, verdict.text)
        piece.tries += 1
        if piece.tries == 1:
            self._again(piece, verdict.text)
        else:
            self._later(piece, verdict.text)

    # Another try

    def _repeat(self, piece: Piece, verdict: Verdict, allowed: bool) -> None:
        if allowed:
            self._again(piece, verdict.text)
        else:
            self._fail(piece, verdict.errno, f"{verdict.text}, again and again")

    def _in_time(self, piece: Piece, text: str) -> bool:
        if self._clock() - piece.born < self._options.queue_timeout:
            return True
        self._fail(piece, errno.EIO, f"{text}; tried for {self._options.queue_timeout:g} s")
        return False

    def _again(self, piece: Piece, text: str) -> None:
        if self.over:
            self._complete(piece, errno.ESHUTDOWN)
        elif self._in_time(piece, text):
            self._start(piece, self._clock())

    def _later(self, piece: Piece, text: str) -> None:
        """The target needs a moment; each wait of a piece is twice as long as the one before."""
        if self.over:
            self._complete(piece, errno.ESHUTDOWN)
        elif self._in_time(piece, text):
            delay = min(_BACK_OFF * 2**piece.waits, _LONGEST_BACK_OFF)
            piece.waits += 1
            self._delayed.add(piece)
            self._schedule(delay, lambda: self._resume(piece))

    def _resume(self, piece: Piece) -> None:
        if piece in self._delayed:
            self._delayed.remove(piece)
            self._start(piece, self._clock())

    # The end of a piece

    def _fail(self, piece: Piece, code: int, text: str) -> None:
        name = errno.errorcode.get(code, str(code))
        self._complain(f"{piece.kind.name.lower()} failed with {name}: {text}", Severity.BAD)
        self._complete(piece, code)

    def _complete(self, piece: Piece, code: int) -> None:
        self.in_flight -= 1
        piece.finish(code)

    def _complain(self, text: str, severity: Severity) -> None:
        """Tell a person, but not a thousand times the same."""
        now = self._clock()
        if now - self._told.get(text, float("-inf")) < _REPEAT:
            return
        if len(self._told) > 32:
            self._told.clear()
        self._told[text] = now
        self._tell(text, severity)
