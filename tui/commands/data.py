"""Bytes of a logical unit without a block device and without root: read, write, image.

The session lives in this process and ends with it. Nothing is written to a logical unit that this host has attached,
by its kernel or by an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from initiator import places
from initiator.engine import probe
from initiator.engine.device import Device
from initiator.engine.probe import LunInfo
from initiator.engine.session import EngineSession
from initiator.errors import BadInputError, MooringError
from initiator.names import clean, parse_name, parse_size
from tui import inuse
from tui.commands.common import login_config, snapshot
from tui.exits import Exit, say
from tui.export import human_size

PIECE = 1 << 20
"""Bytes of one request."""
AHEAD = 8
"""Requests that are under way at once while reading."""
Guard = Callable[[LunInfo], None]
"""Raises where nothing may be done to a logical unit, once it has said who it is."""


class _Sink(NamedTuple):
    """Where what is read goes."""

    file: BinaryIO
    name: str

    def put(self, data: memoryview) -> None:
        with _local(f"cannot write {self.name}"):
            while data:
                data = data[self.file.write(data) :]

    def skip(self, length: int) -> None:
        with _local(f"cannot write {self.name}"):
            self.file.seek(length, os.SEEK_CUR)


def read(arguments: argparse.Namespace) -> int:
    """`mooring read TARGET`: to stdout, or to a new file."""
    offset = parse_size(arguments.offset)
    length = parse_size(arguments.length) if arguments.length else None
    if arguments.output:
        with _new_file(Path(arguments.output)) as sink:
            asyncio.run(_read(arguments, offset, length, sink))
    else:
        if sys.stdout is None:
            raise BadInputError("there is no standard output", fix="--output FILE")
        # Past the buffer: what a full disk does not take would be tried again, and told again, when Python ends.
        file = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
        asyncio.run(_read(arguments, offset, length, _Sink(file, "the standard output")))
    return Exit.DONE


def image(arguments: argparse.Namespace) -> int:
    """`mooring image TARGET FILE`: all of it; runs of zeros become holes."""
    with _new_file(Path(arguments.file)) as sink:
        size = asyncio.run(_read(arguments, 0, None, sink, holes=True))
        with _local(f"cannot write {sink.name}"):
            sink.file.truncate(size)
            os.fsync(sink.file.fileno())
    say(f"copied {human_size(size)} to {arguments.file}")
    return Exit.DONE


def write(arguments: argparse.Namespace) -> int:
    """`mooring write TARGET --confirm TARGET`: from stdin or a file; ends with SYNCHRONIZE CACHE."""
    if arguments.confirm != arguments.target:
        raise BadInputError("--confirm is not the target's name", fix=f"--confirm {clean(arguments.target)}")
    offset = parse_size(arguments.offset)
    guard = _refuse_attached(arguments)
    with _source(arguments.input) as source:
        written = asyncio.run(_write(arguments, offset, source, guard))
    say(f"wrote {written} bytes at {offset}; the target answered SYNCHRONIZE CACHE with GOOD")
    return Exit.DONE


class _Source(NamedTuple):
    """What is written."""

    file: BinaryIO
    name: str
    length: int | None
    """How many bytes it has; None where only its end will tell."""

    def take(self) -> bytes:
        with _local(f"cannot read {self.name}"):
            return self.file.read(PIECE)


@contextmanager
def _source(named: str | None) -> Iterator[_Source]:
    if named is None:
        if sys.stdin is None:
            raise BadInputError("there is no standard input", fix="--input FILE")
        yield _Source(sys.stdin.buffer, "the standard input", _length(sys.stdin.buffer))
        return
    try:
        file = open(named, "rb")  # noqa: SIM115 - closed by the with statement below
    except OSError as error:
        raise BadInputError(f"cannot read {named}: {error.strerror}") from error
    with file:
        yield _Source(file, named, _length(file))


def _length(file: BinaryIO) -> int | None:
    found = os.fstat(file.fileno())
    return max(0, found.st_size - file.tell()) if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _new_file(path: Path) -> Iterator[_Sink]:
    try:
        file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed below, where that can fail
    except FileExistsError as error:
        raise BadInputError(f"{path} exists already", fix="name a file that does not exist") from error
    except OSError as error:
        raise BadInputError(f"cannot make {path}: {error.strerror}") from error
    try:
        yield _Sink(file, str(path))
    finally:
        with _local(f"cannot write {path}"):
            file.close()


@contextmanager
def _local(what: str) -> Iterator[None]:
    """What speaks against a call on a file of this host. A reader that went away is for the command line to notice."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MooringError(f"{what}: {error.strerror}", code="io") from error


class _TargetError(MooringError):
    code = "io"


@contextmanager
def _of_target() -> Iterator[None]:
    """What a logical unit says to a command."""
    try:
        yield
    except OSError as error:
        raise _TargetError(f"the target refused or lost a command: {error.strerror}") from error


def _refuse_attached(arguments: argparse.Namespace) -> Guard:
    """An attached disk is written through its block device, or the file system on it would be torn.

    Returns:
        What has to be asked once the logical unit has said who it is: it may be attached under another name.
    """
    target = str(parse_name(arguments.target))
    found = snapshot()
    inuse.refuse_unknown(found, {places.runtime_dir(), places.OF_ROOT})
    inuse.refuse_by_place(found, target, arguments.lun)

    def guard(info: LunInfo) -> None:
        unit = info.capacity
        inuse.refuse_by_identity(found, info.names, None if unit is None else unit.blocks * unit.block_bytes)

    return guard


@asynccontextmanager
async def _device(arguments: argparse.Namespace, guard: Guard = lambda info: None) -> AsyncIterator[Device]:
    """One logical unit over one session of its own."""
    session = EngineSession(login_config(arguments, arguments.target))
    await session.start()
    try:
        device = await open_device(session, arguments.lun, guard)
        try:
            yield device
        finally:
            device.close()
    finally:
        await session.logout()


async def open_device(session: EngineSession, lun: int, guard: Guard = lambda info: None) -> Device:
    """The logical unit behind one LUN of a session.

    Raises:
        MooringError: there is no usable disk behind it. And what `guard` raises.
    """
    info = await probe.probe_lun(session, lun)
    if not info.usable:
        raise MooringError(
            f"LUN {lun} is no disk that can be read", code="no-lun", fix="see: mooring login, mooring list"
        )
    guard(info)
    device = Device(info)
    device.add_path(session, info)
    return device


async def _read(
    arguments: argparse.Namespace, offset: int, length: int | None, sink: _Sink, *, holes: bool = False
) -> int:
    """Copy a range to a file; returns how many bytes."""
    async with _device(arguments) as device:
        end = device.size_bytes if length is None else offset + length
        if not 0 <= offset <= end <= device.size_bytes:
            raise BadInputError(f"{offset} to {end} is not inside the disk of {device.size_bytes} bytes")
        block = device.block_bytes
        first, last = offset - offset % block, end + -end % block
        starts = range(first, last, PIECE)
        under_way: list[tuple[int, bytearray, asyncio.Task[None]]] = []
        done = 0
        try:
            for index, start in enumerate(starts):
                while len(under_way) < AHEAD and index + len(under_way) < len(starts):
                    at = starts[index + len(under_way)]
                    buffer = bytearray(min(PIECE, last - at))
                    under_way.append((at, buffer, asyncio.ensure_future(device.aread(at, memoryview(buffer)))))
                _, buffer, task = under_way.pop(0)
                with _of_target():
                    await task
                view = memoryview(buffer)[max(0, offset - start) : end - start]
                if holes and not any(view):
                    sink.skip(len(view))
                else:
                    sink.put(view)
                done += len(view)
        finally:
            for _, _, task in under_way:
                task.cancel()
        return done


async def _write(arguments: argparse.Namespace, offset: int, source: _Source, guard: Guard) -> int:
    """Copy a file to the disk; returns how many bytes."""
    async with _device(arguments, guard) as device:
        block, end = device.block_bytes, device.size_bytes
        if offset % block:
            raise BadInputError(f"--offset {offset} is not a multiple of the block size {block}")
        if offset + (source.length or 0) > end:
            text = f"{source.name} has {source.length} bytes" if source.length else f"--offset {offset} is too far"
            raise BadInputError(f"{text}: at {offset} the disk of {end} bytes has room for {max(0, end - offset)}")
        return await _pour(device, offset, source)


async def _pour(device: Device, offset: int, source: _Source) -> int:
    """Write until the source ends; what stops it before says how much is written."""
    at = offset
    try:
        while data := source.take():
            if at + len(data) > device.size_bytes:
                room = device.size_bytes - offset
                raise BadInputError(f"{source.name} is longer than the {room} bytes that there is room for at {offset}")
            await _put(device, at, data)
            at += len(data)
    except MooringError as error:
        if at == offset:
            raise
        kept = "are written"
        if isinstance(error, _TargetError) or not await _is_flushed(device):
            kept = "were taken by the target, perhaps into a cache that forgets"
        raise MooringError(f"{error}; {at - offset} bytes {kept}, and no more", code="stopped") from error
    with _of_target():
        await device.aflush()
    return at - offset


async def _is_flushed(device: Device) -> bool:
    try:
        await device.aflush()
    except OSError:
        return False
    return True


async def _put(device: Device, at: int, data: bytes) -> None:
    """Write at a multiple of the block size; a ragged end keeps the rest of its block."""
    ragged = len(data) % device.block_bytes
    if ragged:
        rest = bytearray(device.block_bytes)
        with _of_target():
            await device.aread(at + len(data) - ragged, memoryview(rest))
        data += rest[ragged:]
    with _of_target():
        await device.awrite(at, memoryview(data))
