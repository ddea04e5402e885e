"""Bytes of a logical unit without a block device and without root: read, write, image.

The session lives in this process and ends with it. Nothing is written to a logical unit that this host has attached,
by its kernel or by an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from initiator import places
from initiator.engine import probe
from initiator.engine.device import Device
from initiator.engine.probe import LunInfo
from initiator.engine.session import EngineSession
from initiator.errors import BadInputError, MooringError, OutcomeUnknownError
from initiator.names import clean, parse_name, parse_size
from initiator.protocol.errors import IscsiError
from tui import inuse
from tui.commands.common import login_config, snapshot
from tui.exits import Exit, say
from tui.export import human_size
from tui.pouring import PIECE, Progress, Source, local, of_target, pour

AHEAD = 8
"""Requests that are under way at once while reading."""
LEAVING = 1.0
"""Seconds for a logout after Ctrl+C or an error."""
_AGAIN = (
    *("portal", "lun", "initiator", "chap_user", "chap_secret_file"),
    *("chap_target_user", "chap_target_secret_file", "chap_algorithms"),
)
"""Options of a write that its continuation needs, too."""
Guard = Callable[[LunInfo], None]
"""Raises where nothing may be done to a logical unit, once it has said who it is."""


class _Sink(NamedTuple):
    """Where what is read goes."""

    file: BinaryIO
    name: str

    def put(self, data: memoryview) -> None:
        with local(f"cannot write {self.name}"):
            while data:
                data = data[self.file.write(data) :]

    def skip(self, length: int) -> None:
        with local(f"cannot write {self.name}"):
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
        with local(f"cannot write {sink.name}"):
            sink.file.truncate(size)
            os.fsync(sink.file.fileno())
    say(f"copied {human_size(size)} to {arguments.file}")
    return Exit.DONE


def write(arguments: argparse.Namespace) -> int:
    """`mooring write TARGET --confirm TARGET`: from stdin or a file; ends with SYNCHRONIZE CACHE."""
    if arguments.confirm != arguments.target:
        raise BadInputError("--confirm is not the target's name", fix=f"--confirm {clean(arguments.target)}")
    progress = Progress(parse_size(arguments.offset))
    regular = False
    try:
        guard = _refuse_attached(arguments)
        with _source(arguments.input) as source:
            regular = source.length is not None
            asyncio.run(_write(arguments, source, guard, progress))
    except KeyboardInterrupt:
        if not progress.touched:
            say("mooring: nothing was written")
            raise
        if not progress.done:
            raise _interrupted(arguments, progress, regular) from None
    say(f"wrote {progress.proven} bytes at {progress.offset}; the target answered SYNCHRONIZE CACHE with GOOD")
    return Exit.DONE


def _interrupted(arguments: argparse.Namespace, progress: Progress, regular: bool) -> MooringError:
    """What somebody who pressed Ctrl+C has to know: what is on the disk, what may be, and what to do about it."""
    words = ["mooring", "write", arguments.target, "--confirm", arguments.target]
    words += ["--offset", str(progress.offset + progress.proven)]
    for name in _AGAIN:
        value = getattr(arguments, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    source = arguments.input
    if source and not progress.proven:
        words += ["--input", source]
    command = shlex.join(words)
    if not progress.proven:
        fix = f"begin again: {command}"
    elif source and regular:
        fix = f"go on: {shlex.join(['tail', '-c', f'+{progress.proven + 1}', '--', source])} | {command}"
    else:
        fix = f"go on with what comes after the first {progress.proven} bytes of the input: {command}"
    kind = OutcomeUnknownError if progress.doubtful else MooringError
    return kind(f"interrupted: {progress.told()}", code=None if progress.doubtful else "stopped", fix=fix)


@contextmanager
def _source(named: str | None) -> Iterator[Source]:
    if named is None:
        if sys.stdin is None:
            raise BadInputError("there is no standard input", fix="--input FILE")
        yield Source(sys.stdin.buffer, "the standard input")
        return
    try:
        file = open(named, "rb", buffering=0)  # noqa: SIM115 - closed by the with statement below
    except OSError as error:
        raise BadInputError(f"cannot read {named}: {error.strerror}") from error
    with file:
        yield Source(file, named)


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
        with local(f"cannot write {path}"):
            file.close()


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
    whole = False
    try:
        device = await open_device(session, arguments.lun, guard)
        try:
            yield device
        finally:
            device.close()
        whole = True
    finally:
        if whole:
            await session.logout()
        else:  # why it ended matters more; and whoever has pressed Ctrl+C does not wait long for a silent target
            with suppress(IscsiError):
                await session.logout(LEAVING)


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
                with of_target():
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


async def _write(arguments: argparse.Namespace, source: Source, guard: Guard, progress: Progress) -> None:
    """Copy a file to the disk."""
    async with _device(arguments, guard) as device:
        block, end, offset = device.block_bytes, device.size_bytes, progress.offset
        if offset % block:
            raise BadInputError(f"--offset {offset} is not a multiple of the block size {block}")
        if offset + (source.length or 0) > end:
            text = f"{source.name} has {source.length} bytes" if source.length else f"--offset {offset} is too far"
            raise BadInputError(f"{text}: at {offset} the disk of {end} bytes has room for {max(0, end - offset)}")
        await pour(device, source, progress)
