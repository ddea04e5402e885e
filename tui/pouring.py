"""Bytes from a file or a pipe onto a logical unit, and what is known of them at any moment (`mooring write`)."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from initiator.engine.device import Device
from initiator.errors import BadInputError, MooringError
from tui.exits import say

PIECE = 1 << 20
"""Bytes of one request."""
PATIENCE = 5.0
"""Seconds after Ctrl+C in which the target may still answer what it was sent: what it answers is known."""
SOON = 0.5
"""Seconds of them that nobody has to be told of."""


class TargetError(MooringError):
    """What a logical unit said to a command, or that it said nothing."""

    code = "io"


@contextmanager
def of_target() -> Iterator[None]:
    """What a logical unit says to a command."""
    try:
        yield
    except OSError as error:
        raise TargetError(f"the target refused or lost a command: {error.strerror}") from error


@contextmanager
def local(what: str) -> Iterator[None]:
    """What speaks against a call on a file of this host. A reader that went away is for the command line to notice."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MooringError(f"{what}: {error.strerror}", code="io") from error


class Source:
    """What is written.

    It is read past Python's buffers and only when there is something to read: a read that waits would keep Ctrl+C and
    the target's pings waiting, too.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._descriptor = file.fileno()
        self.name = name
        found = os.fstat(self._descriptor)
        regular = stat.S_ISREG(found.st_mode)
        self.length = max(0, found.st_size - os.lseek(self._descriptor, 0, os.SEEK_CUR)) if regular else None
        """How many bytes it has; None where only its end will tell."""
        self._waits = not regular

    async def take(self) -> bytes:
        """The next `PIECE` bytes; fewer only at the end."""
        taken = bytearray()
        while len(taken) < PIECE:
            await self._ready()
            with local(f"cannot read {self.name}"):
                part = os.read(self._descriptor, PIECE - len(taken))
            if not part:
                break
            taken += part
        return bytes(taken)

    async def _ready(self) -> None:
        if not self._waits:
            return
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def now() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            loop.add_reader(self._descriptor, now)
        except PermissionError:  # nothing that could be waited for, as a device: it never keeps anybody waiting
            self._waits = False
            return
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)


@dataclasses.dataclass(slots=True)
class Progress:
    """What is known of a write."""

    offset: int
    """Where on the disk it began."""
    taken: int = 0
    """Bytes from there on that the target has answered for."""
    proven: int = 0
    """Bytes of them that a SYNCHRONIZE CACHE with status GOOD has covered since."""
    under_way: int = 0
    """Bytes behind those that were sent and not answered for."""
    done: bool = False
    """All that there was is proven."""

    @property
    def touched(self) -> bool:
        """Whether anything was sent at all."""
        return bool(self.taken or self.under_way)

    @property
    def doubtful(self) -> int:
        """Bytes behind the proven ones of which nobody knows whether the disk has them."""
        return self.taken + self.under_way - self.proven

    def told(self) -> str:
        """What is known, in a sentence."""
        sure = f"{self.proven} bytes at {self.offset} are written and proven (SYNCHRONIZE CACHE: GOOD)"
        if not self.doubtful:
            return f"{sure}, and no more"
        if not self.proven:
            sure = "nothing is proven to be written"
        return f"{sure}; whether the {self.doubtful} bytes at {self.offset + self.proven} are, is not known"


async def pour(device: Device, source: Source, progress: Progress) -> None:
    """Write until the source ends, then flush; whatever stops it first, `progress` says how far it came.

    Raises:
        MooringError: what speaks against it; with how much is written, once anything is.
    """
    try:
        while data := await source.take():
            at = progress.offset + progress.taken
            if at + len(data) > device.size_bytes:
                room = device.size_bytes - progress.offset
                raise BadInputError(
                    f"{source.name} is longer than the {room} bytes that there is room for at {progress.offset}"
                )
            await _answered(_put(device, at, data, progress))
        await _answered(_finish(device, progress))
    except asyncio.CancelledError:
        if not progress.under_way and progress.taken > progress.proven:
            await _is_flushed(device, progress, PATIENCE)
        raise
    except MooringError as error:
        if not progress.taken:
            raise
        kept = "are written, and no more"
        if isinstance(error, TargetError) or not await _is_flushed(device, progress):
            kept = "were taken by the target, perhaps into a cache that forgets"
        if progress.under_way:
            kept += f"; whether any of the next {progress.under_way} are, is not known"
        raise MooringError(f"{error}; {progress.taken} bytes {kept}", code="stopped") from error


async def _answered(work: Coroutine[None, None, None]) -> None:
    """Awaits what a Ctrl+C does not break off at once: as long as the target may still answer, it is waited for."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        _, waiting = await asyncio.wait({task}, timeout=SOON)
        if waiting:
            say(f"mooring: waiting for the target's answer, {PATIENCE:.0f} s at most; Ctrl+C again waits no longer")
            await asyncio.wait({task}, timeout=PATIENCE - SOON)
        raise
    finally:
        task.cancel()  # no second Ctrl+C, which may come anywhere above, leaves it to itself


async def _put(device: Device, at: int, data: bytes, progress: Progress) -> None:
    """Write at a multiple of the block size; a ragged end keeps the rest of its block."""
    length = len(data)
    ragged = length % device.block_bytes
    if ragged:
        rest = bytearray(device.block_bytes)
        with of_target():
            await device.aread(at + length - ragged, memoryview(rest))
        data += rest[ragged:]
    progress.under_way = length
    with of_target():
        await device.awrite(at, memoryview(data))
    progress.taken, progress.under_way = progress.taken + length, 0


async def _flush(device: Device, progress: Progress) -> None:
    covered = progress.taken
    with of_target():
        await device.aflush()
    progress.proven = covered


async def _finish(device: Device, progress: Progress) -> None:
    await _flush(device, progress)
    progress.done = True


async def _is_flushed(device: Device, progress: Progress, patience: float | None = None) -> bool:
    try:
        async with asyncio.timeout(patience):
            await _flush(device, progress)
    except (TargetError, TimeoutError):
        return False
    return True
