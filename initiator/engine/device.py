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
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from initiator.engine.cutter import Cutter
from initiator.engine.dispatch import DeviceOptions, Dispatcher
from initiator.engine.errand import Clock, Schedule
from initiator.engine.flusher import Flusher, FlushReport
from initiator.engine.keeper import Keeper
from initiator.engine.ledger import Ledger
from initiator.engine.listening import listen
from initiator.engine.lower import SessionLike
from initiator.engine.pieces import Finish, Piece, Request
from initiator.engine.probe import LunInfo, same_unit
from initiator.engine.selector import DevicePath
from initiator.engine.throttle import Throttle
from initiator.engine.verdict import Kind
from initiator.errors import RefusedError
from initiator.model import PathState, Severity
from initiator.scsi import commands
from initiator.scsi.parameters import Capacity

_NEWS = (100, 2.0)
"""How much is told at once, and the seconds after which one more thing is; for bad news, and for all other."""

__all__ = ["Device", "DeviceOptions", "FlushReport"]


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
        self._bad, self._news = Throttle(*_NEWS, clock), Throttle(*_NEWS, clock)
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
        self._flusher = Flusher(
            self._dispatcher, self._ledger, clock=clock, write_cache=lambda: self.write_cache, tell=self._tell
        )
        self._unmap_refused = not info.can_unmap
        self._same_refused = False
        self._set_geometry(info.capacity)
        self._schedule(self.options.tick, self._tick)

    def _set_geometry(self, capacity: Capacity) -> None:
        self.block_bytes = capacity.block_bytes
        self.size_bytes = capacity.size_bytes
        self._shift = capacity.block_bytes.bit_length() - 1
        self._mask = capacity.block_bytes - 1
        self._cutter = Cutter(self.info, capacity, self.options.max_request_bytes, self._clock)
        self._most = self._cutter.most

    def _tick(self) -> None:
        if self._dispatcher.over:
            return
        self._keeper.tick()
        self._dispatcher.tick()
        for throttle, severity in ((self._bad, Severity.BAD), (self._news, Severity.WARN)):
            count = throttle.left_out()
            if count and self.on_event is not None:
                self.on_event(f"too much happens to tell all of it: {count} events were left out", severity)
        self._schedule(self.options.tick, self._tick)

    def _tell(self, text: str, severity: Severity) -> None:
        throttle = self._bad if severity is Severity.BAD else self._news
        if throttle.admits() and self.on_event is not None:
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

        The session's `on_lost`, `on_state` and `on_sense` are taken over; what was set before is called as well.

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
        listen(session, path, self._keeper, self._dispatcher)
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
        if self._simple(offset, length):
            cdb = commands.read(offset >> self._shift, length >> self._shift)
            self._accept(Piece(Kind.READ, cdb, self._clock(), done, length, None, into))
        elif self._admit(offset, length, done):
            self._split(partial(self._cutter.read, offset, into), done)

    def write(self, offset: int, data: memoryview, done: Finish) -> None:
        """Write `data` (bytes, a multiple of the block length) at `offset`."""
        length = len(data)
        if self._simple(offset, length):
            cdb = commands.write(offset >> self._shift, length >> self._shift)
            self._accept(Piece(Kind.WRITE, cdb, self._clock(), done, length, data))
        elif self._admit(offset, length, done):
            self._split(partial(self._cutter.write, offset, data), done)

    def flush(self, done: Finish) -> None:
        """Make every write that was acknowledged so far safe on the medium (SYNCHRONIZE CACHE).

        Answers EIO, once, if acknowledged writes may have been lost before they were flushed.
        """
        if self._closed:
            done(errno.ESHUTDOWN)
        else:
            self._flusher.flush(lambda report: done(report.errno))

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

            self._split(partial(self._cutter.unmap, offset, length), settle)

    def write_zeroes(self, offset: int, length: int, done: Finish) -> None:
        """Make a range read as zeroes: WRITE SAME(16), or writes of zeroes where the target does not know it."""
        if not self._admit(offset, length, done):
            return
        if self._same_refused:
            self._split(partial(self._cutter.zeroes, offset, length), done)
            return

        def settle(code: int) -> None:
            if code == errno.EOPNOTSUPP:
                self._same_refused = True
                self._split(partial(self._cutter.zeroes, offset, length), done)
            else:
                done(code)

        self._split(partial(self._cutter.same, offset, length), settle)

    def _simple(self, offset: int, length: int) -> bool:
        """True for the usual request: sound, and small enough for one command."""
        return (
            0 < length <= self._most
            and not (offset | length) & self._mask
            and 0 <= offset <= self.size_bytes - length
            and not self._closed
        )

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

        self._flusher.flush(told)
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
