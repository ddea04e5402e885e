"""A request of a user, and the SCSI commands ("pieces") that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from initiator.engine.verdict import Kind
from initiator.protocol.ffp_task import Task

if TYPE_CHECKING:
    from initiator.engine.selector import DevicePath

Finish = Callable[[int], None]
"""Gets an errno, 0 for success, exactly once."""


class Piece(Task):
    """One SCSI command of a request; the same object is sent again when that is needed.

    Attributes:
        kind: What it does.
        finish: Gets the errno when it is over.
        path: The path it was sent over last.
        born: When it was made; bounds how long it is tried.
        tries: How often the target made it fail, or nobody answered.
        attentions: How often a unit attention came instead of an answer.
        waits: How often it was put off.
        length: Payload in bytes, for the counters.
        epoch: How many resets of the unit were known when it was sent last.
    """

    __slots__ = ("attentions", "born", "epoch", "finish", "kind", "length", "path", "tries", "waits")

    def __init__(
        self,
        kind: Kind,
        cdb: bytes,
        born: float,
        finish: Finish,
        length: int = 0,
        data_out: memoryview | None = None,
        data_in: memoryview | None = None,
    ) -> None:
        Task.__init__(self, b"", cdb, _unsent, data_out=data_out, data_in=data_in)
        self.kind = kind
        self.finish = finish
        self.born = born
        self.length = length
        self.tries = self.attentions = self.waits = self.epoch = 0
        self.path: DevicePath | None = None


def _unsent(task: Task) -> None:
    raise AssertionError(f"{task!r} was finished without having been sent")


class Request:
    """Several pieces that make up one request: at most `window` of them are under way at a time.

    The first error is the request's answer. It is given only after the last piece that was begun has come back, for
    until then the caller's buffer is in use.
    """

    __slots__ = ("_done", "_errno", "_open", "_pieces", "_pumping", "_start", "_window")

    def __init__(
        self,
        pieces: Callable[[Finish], Iterator[Piece]],
        start: Callable[[Piece], None],
        done: Finish,
        window: int,
    ) -> None:
        """`pieces` makes the pieces, given what each of them calls at its end; `start` begins one."""
        self._pieces: Iterator[Piece] | None = pieces(self.piece_done)
        self._start = start
        self._done = done
        self._window = window
        self._open = 0
        self._errno = 0
        self._pumping = False

    def piece_done(self, errno: int) -> None:
        """One piece is over."""
        self._open -= 1
        if errno and not self._errno:
            self._errno = errno
            self._pieces = None
        self.pump()

    def pump(self) -> None:
        """Begin further pieces as far as the window allows; answer when there is nothing left."""
        if self._pumping:  # a piece that ended inside its own start; the loop below goes on with it
            return
        self._pumping = True
        while self._pieces is not None and self._open < self._window:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                break
            self._open += 1
            self._start(piece)
        self._pumping = False
        if self._pieces is None and not self._open:
            self._done(self._errno)
