"""SYNCHRONIZE CACHE for a disk: which form the target knows, and what its answer is worth."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable

from initiator.engine.dispatch import Dispatcher
from initiator.engine.errand import Clock
from initiator.engine.ledger import Ledger
from initiator.engine.pieces import Piece
from initiator.engine.verdict import Kind
from initiator.model import Severity
from initiator.scsi import commands
from initiator.scsi.sense import explain

_UNKNOWN = "the target knows no SYNCHRONIZE CACHE"


@dataclasses.dataclass(frozen=True, slots=True)
class FlushReport:
    """How a SYNCHRONIZE CACHE ended: what the target said, and what the caller is told."""

    errno: int
    status: int | None
    sense: bytes
    text: str
    path: str | None
    """The path it went over."""


Told = Callable[[FlushReport], None]


class Flusher:
    """Flushes one disk. The command is for the whole logical unit, so any path will do (SBC-3, 5.22)."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        ledger: Ledger,
        *,
        clock: Clock,
        write_cache: Callable[[], bool | None],
        tell: Callable[[str, Severity], None],
    ) -> None:
        """`write_cache` says what the target said of its cache last."""
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._clock = clock
        self._write_cache = write_cache
        self._tell = tell
        self._cdb: bytes | None = commands.synchronize_cache16()

    def flush(self, told: Told) -> None:
        """Make safe what was acknowledged so far."""
        self._send(self._ledger.begin_flush(), told)

    def _send(self, begun: tuple[int, int], told: Told) -> None:
        cdb = self._cdb
        if cdb is None:
            self._end(begun, errno.EOPNOTSUPP, None, told)
            return

        def finish(code: int) -> None:
            if code != errno.EOPNOTSUPP:
                self._end(begun, code, piece, told)
                return
            if self._cdb is cdb:  # else another flush has found out already
                self._cdb = commands.synchronize_cache10() if len(cdb) == 16 else None
                if self._cdb is None:
                    self._tell(_UNKNOWN, Severity.WARN)
            self._send(begun, told)

        piece = Piece(Kind.FLUSH, cdb, self._clock(), finish)
        self._dispatcher.accept(piece)

    def _end(self, begun: tuple[int, int], code: int, piece: Piece | None, told: Told) -> None:
        status, sense, path, text = None, b"", None, _UNKNOWN
        if piece is not None:
            status, sense = piece.status, piece.sense
            path = piece.path.name if piece.path is not None else None
            text = explain(status, sense) if status is not None else str(piece.error or "no path works")
        if code == errno.EOPNOTSUPP and self._write_cache() is not True:
            # Neither a caching page that says "volatile" nor the command to empty it: there is nothing to flush.
            code = 0
        if not code and not self._ledger.end_flush(begun):
            code = errno.EIO
            text += "; but acknowledged writes may have been lost before"
        told(FlushReport(code, status, sense, text, path))
