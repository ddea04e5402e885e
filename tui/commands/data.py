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


def read(arguments: argparse.Namespace) -> int:
    """`mooring read TARGET`: to stdout, or to a new file."""
    offset = parse_size(arguments.offset)
    length = parse_size(arguments.length) if arguments.length else None
    if arguments.output:
        with _new_file(Path(arguments.output)) as file:
            asyncio.run(_read(arguments, offset, length, file))
    else:
        asyncio.run(_read(arguments, offset, length, sys.stdout.buffer))
        sys.stdout.flush()
    return Exit.DONE


def image(arguments: argparse.Namespace) -> int:
    """`mooring image TARGET FILE`: all of it; runs of zeros become holes."""
    with _new_file(Path(arguments.file)) as file:
        size = asyncio.run(_read(arguments, 0, None, file, holes=True))
        file.truncate(size)
        os.fsync(file.fileno())
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


def _new_file(path: Path) -> BinaryIO:
    try:
        return open(path, "xb")
    except FileExistsError as error:
        raise BadInputError(f"{path} exists already", fix="name a file that does not exist") from error
    except OSError as error:
        raise BadInputError(f"cannot make {path}: {error.strerror}") from error


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
        except OSError as error:
            raise MooringError(f"the target refused or lost a command: {error.strerror}", code="io") from error
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
    arguments: argparse.Namespace, offset: int, length: int | None, file: BinaryIO, *, holes: bool = False
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
                await task
                view = memoryview(buffer)[max(0, offset - start) : end - start]
                if holes and not any(view):
                    file.seek(len(view), os.SEEK_CUR)
                else:
                    file.write(view)
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
        at = offset
        while data := source.file.read(PIECE):
            if at + len(data) > end:
                text = f"{source.name} is longer than what the disk of {end} bytes has room for at {offset}"
                if at == offset:
                    raise BadInputError(text)
                await device.aflush()
                raise MooringError(f"{text}; {at - offset} bytes are written, the rest is not", code="stopped")
            await _put(device, at, data)
            at += len(data)
        await device.aflush()
        return at - offset


async def _put(device: Device, at: int, data: bytes) -> None:
    """Write at a multiple of the block size; a ragged end keeps the rest of its block."""
    ragged = len(data) % device.block_bytes
    if ragged:
        rest = bytearray(device.block_bytes)
        await device.aread(at + len(data) - ragged, memoryview(rest))
        data += rest[ragged:]
    await device.awrite(at, memoryview(data))
