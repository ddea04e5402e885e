"""A disk: one logical unit over several sessions. Requests go in with a callback, every one comes back exactly once.

Everything runs in the sessions' event loop. The functions take a callback `done(errno)`, 0 for success, which may be
called before they return; buffers must stay untouched until then. Nothing here waits and nothing makes a Future for
each request; the `a…` twins are for code that is not in a hurry.

A write whose connection broke is sent again over another path. The target may still hold the first copy in a queue of
the dead session; should it run that one after a *later* write to the same blocks, the older data win. Every initiator
with several paths has this gap; targets close it by ending the tasks of a session that is reinstated (RFC 7143, 6.3.5).
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from initiator.engine.dispatch import DeviceOptions, Dispatcher
from initiator.engine.errand import Clock, Schedule
from initiator.engine.keeper import Keeper
from initiator.engine.ledger import Ledger
from initiator.engine.lower import SessionLike
from initiator.engine.pieces import Finish, Piece, Request
from initiator.engine.probe import LunInfo, same_unit
from initiator.engine.selector import DevicePath
from initiator.engine.verdict import Kind
from initiator.errors import RefusedError
from initiator.model import PathState, Severity
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_task import Task
from initiator.scsi import commands
from initiator.scsi.parameters import Capacity
from initiator.scsi.sense import explain

__all__ = ["Device", "DeviceOptions", "FlushReport"]

_ZERO_BYTES = 1 << 20
_MOST_UNMAP_BLOCKS = 1 << 22
_MOST_SAME_BLOCKS = 0xFFFF


@dataclasses.dataclass(frozen=True, slots=True)
class FlushReport:
    """How a SYNCHRONIZE CACHE ended: what the target said, and what the caller was told."""

    errno: int
    status: int | None
    sense: bytes
    text: str
    path: str | None
    """The path it went over."""


class Device:
    """A multipath logical unit.

    Attributes:
        size_bytes, block_bytes: Its geometry; the size follows the target's capacity.
        on_event: Told what a person may want to know.
        on_change: Told after a path's state or the choice of paths has changed.
        on_resize: Told the new size in bytes after it has changed.
    """

    def __init__(
        self,
        info: LunInfo,
        options: DeviceOptions | None = None,
        *,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        schedule: Schedule | None = None,
    ) -> None:
        """A disk without paths.

        Args:
            info: What `probe` said of it.
            options: Time-outs and limits.
            clock: The clock of the sessions.
            wall: Unix time, for `since`.
            schedule: Calls a function later; by default the running loop's `call_later`.

        Raises:
            RefusedError: the logical unit is no disk with a size.
        """
        if info.capacity is None or not info.usable:
            raise RefusedError(f"LUN {info.lun} is no disk with a size", code="not-a-disk")
        self.options = options or DeviceOptions()
        self.on_event: Callable[[str, Severity], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self.on_resize: Callable[[int], None] | None = None
        self._clock = clock
        self._schedule = schedule or _call_later
        self._ledger = Ledger(info.write_cache is not False)
        self._keeper = Keeper(
            info,
            self._ledger,
            options=self.options.keeper,
            clock=clock,
            wall=wall,
            schedule=self._schedule,
            tell=self._tell,
            changed=self._paths_changed,
            learned=self._learned,
        )
        self._dispatcher = Dispatcher(
            self._keeper, self._ledger, self.options, clock=clock, schedule=self._schedule, tell=self._tell
        )
        self._accept = self._dispatcher.accept
        self._dispatcher.read_only = bool(info.write_protected)
        self._closed = False
        self._flush_cdb: bytes | None = commands.synchronize_cache16()
        self._unmap_refused = not info.can_unmap
        self._same_refused = False
        self._set_geometry(info.capacity)
        self._schedule(self.options.tick, self._tick)

    def _set_geometry(self, capacity: Capacity) -> None:
        self.block_bytes = capacity.block_bytes
        self.size_bytes = capacity.size_bytes
        self._shift = capacity.block_bytes.bit_length() - 1
        self._mask = capacity.block_bytes - 1
        limits = self.info.limits
        allowed = limits.maximum_transfer << self._shift if limits is not None else 0
        most = min(allowed or self.options.max_request_bytes, self.options.max_request_bytes)
        self._most = max(most & ~self._mask, capacity.block_bytes)

    def _tick(self) -> None:
        if self._dispatcher.over:
            return
        self._keeper.tick()
        self._dispatcher.tick()
        self._schedule(self.options.tick, self._tick)

    def _tell(self, text: str, severity: Severity) -> None:
        if self.on_event is not None:
            self.on_event(text, severity)

    def _paths_changed(self) -> None:
        self._dispatcher.drain()
        if self.on_change is not None:
            self.on_change()

    def _learned(self, old: LunInfo) -> None:
        """The target says something else than before about size, cache or protection."""
        info = self.info
        self._ledger.volatile = info.write_cache is not False
        if info.write_protected != old.write_protected:
            self._dispatcher.read_only = bool(info.write_protected)
            self._tell(f"the target says {'read-only' if info.write_protected else 'writable'} now", Severity.WARN)
        if info.capacity is None or info.capacity.block_bytes != self.block_bytes:
            return
        before = self.size_bytes
        self._set_geometry(info.capacity)
        if self.size_bytes != before:
            shrunk = self.size_bytes < before
            self._tell(
                f"the size changed from {before} to {self.size_bytes} bytes",
                Severity.BAD if shrunk else Severity.NOTE,
            )
            if self.on_resize is not None:
                self.on_resize(self.size_bytes)

    # Who it is

    @property
    def info(self) -> LunInfo:
        """The logical unit as it was last seen."""
        return self._keeper.info

    @property
    def wwid(self) -> str | None:
        """Its identity, or None without one."""
        return self.info.wwid

    @property
    def designators(self) -> tuple[str, ...]:
        """All its identities, best first."""
        return self.info.names

    @property
    def vendor(self) -> str:
        """From the standard INQUIRY data."""
        return self.info.standard.vendor

    @property
    def product(self) -> str:
        """From the standard INQUIRY data."""
        return self.info.standard.product

    @property
    def revision(self) -> str:
        """From the standard INQUIRY data."""
        return self.info.standard.revision

    @property
    def serial(self) -> str | None:
        """The unit serial number."""
        return self.info.serial

    @property
    def write_cache(self) -> bool | None:
        """True if acknowledged writes may be in a volatile cache; None if the target did not say."""
        return self.info.write_cache

    @property
    def thin(self) -> bool:
        """True if it is thin provisioned."""
        return self.info.capacity is not None and self.info.capacity.thin

    @property
    def can_discard(self) -> bool:
        """True if discards are worth sending."""
        return not self._unmap_refused

    @property
    def read_only(self) -> bool:
        """True if the target refuses writes, or has said that it would."""
        return self._dispatcher.read_only

    @property
    def in_flight(self) -> int:
        """Commands under way or waiting for a path; 0 means that every request has been answered."""
        return self._dispatcher.in_flight

    @property
    def unflushed(self) -> bool:
        """True while a write is acknowledged that no SYNCHRONIZE CACHE has covered."""
        return self._ledger.unflushed

    @property
    def paths(self) -> Sequence[DevicePath]:
        """Its paths, in the order in which they were added."""
        return self._keeper.paths

    @property
    def queueing(self) -> bool:
        """True while requests wait because no path works."""
        return bool(self._dispatcher.waiting)

    @property
    def degraded(self) -> bool:
        """True if a path does not work."""
        return any(path.state is PathState.FAILED for path in self.paths)

    # Paths

    def add_path(self, session: SessionLike, info: LunInfo, name: str = "") -> DevicePath:
        """Use a session for this disk. It must be logged in, and `info` must come from it just now.

        The session's `on_lost` and `on_state` are taken over; what was set before is called as well.

        Raises:
            RefusedError: it leads to another logical unit, or nobody can say that it does not.
        """
        if self.paths:
            if self.wwid is None:
                raise RefusedError(
                    "the logical unit has no identity (VPD page 83h): a second path may lead to another disk",
                    code="no-identity",
                )
            if not same_unit(self.info, info):
                raise RefusedError(
                    f"LUN {info.lun} of {name or 'this session'} is {info.wwid or 'without identity'}, not {self.wwid}",
                    code="other-unit",
                )
        path = self._keeper.add(session, info, name or str(session))
        lost_before, state_before = session.on_lost, session.on_state

        def on_lost(which: SessionLike, tasks: Sequence[Task]) -> None:
            rest = self._dispatcher.handed_back(path, tasks)
            if lost_before is not None:
                lost_before(which, rest)
                return
            for task in rest:
                task.error = ConnectionLost("the connection broke before the command was answered")
                task.done(task)

        def on_state(which: SessionLike) -> None:
            if not self._dispatcher.over:
                self._keeper.session_changed(path)
            if state_before is not None:
                state_before(which)

        session.on_lost = on_lost
        session.on_state = on_state
        return path

    def remove_path(self, session: SessionLike) -> None:
        """Send nothing new over a session; its path is forgotten when nothing is under way on it any more."""
        for path in self.paths:
            if path.session is session:
                self._keeper.retire(path)

    def gate(self, closed: bool) -> None:
        """Refuse new requests (ESHUTDOWN), or take them again. What was accepted before is finished."""
        self._closed = closed

    @property
    def gate_closed(self) -> bool:
        """True while new requests are refused."""
        return self._closed

    def close(self) -> None:
        """The end: nothing is sent any more. What waits fails with ESHUTDOWN at once; what is under way ends when
        its session answers or is closed.
        """
        self._closed = True
        self._keeper.close()
        self._dispatcher.close()

    # Requests

    def read(self, offset: int, into: memoryview, done: Finish) -> None:
        """Fill `into` (bytes, a multiple of the block length) from `offset`."""
        length = len(into)
        if self._admit(offset, length, done):
            if length <= self._most:
                self._accept(self._read_piece(offset, into, done))
                return

            def pieces(finish: Finish) -> Iterator[Piece]:
                for at, size in _parts(0, length, self._most):
                    yield self._read_piece(offset + at, into[at : at + size], finish)

            self._split(pieces, done)

    def write(self, offset: int, data: memoryview, done: Finish) -> None:
        """Write `data` (bytes, a multiple of the block length) at `offset`."""
        length = len(data)
        if self._admit(offset, length, done):
            if length <= self._most:
                self._accept(self._write_piece(offset, data, done))
                return

            def pieces(finish: Finish) -> Iterator[Piece]:
                for at, size in _parts(0, length, self._most):
                    yield self._write_piece(offset + at, data[at : at + size], finish)

            self._split(pieces, done)

    def flush(self, done: Finish) -> None:
        """Make every write that was acknowledged so far safe on the medium (SYNCHRONIZE CACHE).

        Answers EIO, once, if acknowledged writes may have been lost before they were flushed.
        """
        if self._closed:
            done(errno.ESHUTDOWN)
        else:
            self._flush(lambda report: done(report.errno))

    def discard(self, offset: int, length: int, done: Finish) -> None:
        """Tell the target that a range is not needed (UNMAP). EOPNOTSUPP where it cannot take that."""
        if self._unmap_refused and not self._closed:
            done(errno.EOPNOTSUPP)
        elif self._admit(offset, length, done):

            def settle(code: int) -> None:
                if code == errno.EOPNOTSUPP and not self._unmap_refused:
                    self._unmap_refused = True
                    self._tell("the target refuses UNMAP; discards are not sent any more", Severity.NOTE)
                done(code)

            self._split(partial(self._unmap_pieces, offset, length), settle)

    def write_zeroes(self, offset: int, length: int, done: Finish) -> None:
        """Make a range read as zeroes: WRITE SAME(16), or writes of zeroes where the target does not know it."""
        if not self._admit(offset, length, done):
            return
        if self._same_refused:
            self._split(partial(self._zero_pieces, offset, length), done)
            return

        def settle(code: int) -> None:
            if code == errno.EOPNOTSUPP:
                self._same_refused = True
                self._split(partial(self._zero_pieces, offset, length), done)
            else:
                done(code)

        self._split(partial(self._same_pieces, offset, length), settle)

    def _admit(self, offset: int, length: int, done: Finish) -> bool:
        """True for a request that is sound and not empty; any other is answered here."""
        if self._closed:
            done(errno.ESHUTDOWN)
        elif (offset | length) & self._mask or offset < 0:
            done(errno.EINVAL)
        elif offset + length > self.size_bytes:
            done(errno.EIO)
        elif not length:
            done(0)
        else:
            return True
        return False

    def _split(self, pieces: Callable[[Finish], Iterator[Piece]], done: Finish) -> None:
        Request(pieces, self._accept, done, self.options.window).pump()

    def _read_piece(self, offset: int, into: memoryview, finish: Finish) -> Piece:
        length = len(into)
        cdb = commands.read(offset >> self._shift, length >> self._shift)
        return Piece(Kind.READ, cdb, self._clock(), finish, length, None, into)

    def _write_piece(self, offset: int, data: memoryview, finish: Finish) -> Piece:
        length = len(data)
        cdb = commands.write(offset >> self._shift, length >> self._shift)
        return Piece(Kind.WRITE, cdb, self._clock(), finish, length, data)

    def _unmap_pieces(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        limits = self.info.limits
        most = min(limits.maximum_unmap_blocks if limits is not None else _MOST_UNMAP_BLOCKS, _MOST_UNMAP_BLOCKS)
        for lba, blocks in _parts(offset >> self._shift, length >> self._shift, most):
            cdb, data = commands.unmap([(lba, blocks)])
            yield Piece(Kind.DISCARD, cdb, self._clock(), finish, data_out=memoryview(data))

    def _same_pieces(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        limits = self.info.limits
        told = limits.maximum_write_same if limits is not None else 0
        most = min(told or _MOST_SAME_BLOCKS, _MOST_SAME_BLOCKS)
        for lba, blocks in _parts(offset >> self._shift, length >> self._shift, most):
            cdb, data = commands.write_same16_zero(lba, blocks, self.block_bytes)
            yield Piece(Kind.ZERO, cdb, self._clock(), finish, data_out=memoryview(data))

    def _zero_pieces(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        most = min(self._most, max(_ZERO_BYTES, self.block_bytes))
        zeroes = memoryview(bytes(min(most, length)))
        for at, size in _parts(offset, length, most):
            yield self._write_piece(at, zeroes[:size], finish)

    def _flush(self, tell: Callable[[FlushReport], None]) -> None:
        """SYNCHRONIZE CACHE over whatever path works: it is for the whole logical unit (SBC-3, 5.22)."""
        begun = self._ledger.begin_flush()
        cdb = self._flush_cdb
        if cdb is None:
            self._flushed(begun, errno.EOPNOTSUPP, None, tell)
            return

        def finish(code: int) -> None:
            if code == errno.EOPNOTSUPP and self._flush_cdb is not None:
                self._flush_cdb = commands.synchronize_cache10() if len(cdb) == 16 else None
                if self._flush_cdb is None:
                    self._tell("the target knows no SYNCHRONIZE CACHE", Severity.WARN)
                self._flush(tell)
            else:
                self._flushed(begun, code, piece, tell)

        piece = Piece(Kind.FLUSH, cdb, self._clock(), finish)
        self._accept(piece)

    def _flushed(
        self, begun: tuple[int, int], code: int, piece: Piece | None, tell: Callable[[FlushReport], None]
    ) -> None:
        status = piece.status if piece is not None else None
        sense = piece.sense if piece is not None else b""
        path = piece.path.name if piece is not None and piece.path is not None else None
        if status is not None:
            text = explain(status, sense)
        elif code == errno.EOPNOTSUPP:
            text = "the target knows no SYNCHRONIZE CACHE"
        else:
            text = "no answer" if piece is None or piece.error is None else str(piece.error)
        if code == errno.EOPNOTSUPP and self.write_cache is not True:
            # Neither a caching page that says "volatile" nor the command to empty it: there is nothing to flush.
            code = 0
        if not code and not self._ledger.end_flush(begun):
            code = errno.EIO
            text += "; but acknowledged writes may have been lost before"
        tell(FlushReport(code, status, sense, text, path))

    # Awaitable twins; each raises OSError

    async def aread(self, offset: int, into: memoryview) -> None:
        """`read`, awaited."""
        await self._awaited(partial(self.read, offset, into))

    async def awrite(self, offset: int, data: memoryview) -> None:
        """`write`, awaited."""
        await self._awaited(partial(self.write, offset, data))

    async def aflush(self) -> None:
        """`flush`, awaited."""
        await self._awaited(self.flush)

    async def adiscard(self, offset: int, length: int) -> None:
        """`discard`, awaited."""
        await self._awaited(partial(self.discard, offset, length))

    async def awrite_zeroes(self, offset: int, length: int) -> None:
        """`write_zeroes`, awaited."""
        await self._awaited(partial(self.write_zeroes, offset, length))

    async def synchronize(self) -> FlushReport:
        """Flush and say how it went, in the target's own words. Works while the gate is closed, too."""
        future: asyncio.Future[FlushReport] = asyncio.get_running_loop().create_future()

        def told(report: FlushReport) -> None:
            if not future.done():
                future.set_result(report)

        self._flush(told)
        return await future

    async def _awaited(self, begin: Callable[[Finish], None]) -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(code: int) -> None:
            if not future.done():
                future.set_result(code)

        begin(done)
        code = await future
        if code:
            raise OSError(code, errno.errorcode.get(code, str(code)))


def _call_later(seconds: float, function: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, function)


def _parts(start: int, length: int, most: int) -> Iterable[tuple[int, int]]:
    """Cut a range into `(start, length)` parts of at most `most`."""
    for at in range(0, length, most):
        yield start + at, min(most, length - at)
