"""Bytes of a logical unit without a block device and without root: read, write, image.

The session lives in this process and ends with it. Nothing is written to a logical unit that the engine has attached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from initiator.engine import probe
from initiator.engine.client import EngineClient, EngineNotRunning
from initiator.engine.device import Device
from initiator.engine.session import EngineSession
from initiator.errors import BadInputError, MooringError, RefusedError
from initiator.names import clean, parse_size
from tui.commands.common import login_config
from tui.exits import Exit, say
from tui.export import human_size

PIECE = 1 << 20
"""Bytes of one request."""
AHEAD = 8
"""Requests that are under way at once while reading."""


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
    _refuse_attached(arguments)
    offset = parse_size(arguments.offset)
    if arguments.input:
        try:
            source = open(arguments.input, "rb")  # noqa: SIM115 - closed by the with statement below
        except OSError as error:
            raise BadInputError(f"cannot read {arguments.input}: {error.strerror}") from error
        with source:
            written = asyncio.run(_write(arguments, offset, source))
    else:
        written = asyncio.run(_write(arguments, offset, sys.stdin.buffer))
    say(f"wrote {written} bytes at {offset}; the target answered SYNCHRONIZE CACHE with GOOD")
    return Exit.DONE


def _new_file(path: Path) -> BinaryIO:
    try:
        return open(path, "xb")
    except FileExistsError as error:
        raise BadInputError(f"{path} exists already", fix="name a file that does not exist") from error
    except OSError as error:
        raise BadInputError(f"cannot make {path}: {error.strerror}") from error


def _refuse_attached(arguments: argparse.Namespace) -> None:
    """An attached disk is written through its block device, or the file system on it would be torn."""
    try:
        disks = EngineClient().snapshot().disks
    except EngineNotRunning:
        return
    for disk in disks:
        if disk.device and disk.target == arguments.target and disk.lun == arguments.lun:
            raise RefusedError(
                f"LUN {arguments.lun} is attached here as {disk.device}", fix=f"mooring remove {clean(disk.name)}"
            )


@asynccontextmanager
async def _device(arguments: argparse.Namespace) -> AsyncIterator[Device]:
    """One logical unit over one session of its own."""
    session = EngineSession(login_config(arguments, arguments.target))
    await session.start()
    try:
        device = await open_device(session, arguments.lun)
        try:
            yield device
        except OSError as error:
            raise MooringError(f"the target refused or lost a command: {error.strerror}", code="io") from error
        finally:
            device.close()
    finally:
        await session.logout()


async def open_device(session: EngineSession, lun: int) -> Device:
    """The logical unit behind one LUN of a session.

    Raises:
        MooringError: there is no usable disk behind it.
    """
    info = await probe.probe_lun(session, lun)
    if not info.usable:
        raise MooringError(
            f"LUN {lun} is no disk that can be read", code="no-lun", fix="see: mooring login, mooring list"
        )
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


async def _write(arguments: argparse.Namespace, offset: int, source: BinaryIO) -> int:
    """Copy a file to the disk; returns how many bytes. A ragged end keeps the rest of its block."""
    async with _device(arguments) as device:
        block = device.block_bytes
        if offset % block:
            raise BadInputError(f"--offset {offset} is not a multiple of the block size {block}")
        at = offset
        while data := source.read(PIECE):
            if at + len(data) > device.size_bytes:
                raise BadInputError(f"the data does not fit: the disk ends at {device.size_bytes}; wrote up to {at}")
            ragged = len(data) % block
            if ragged:
                rest = bytearray(block)
                await device.aread(at + len(data) - ragged, memoryview(rest))
                await device.awrite(at, memoryview(data + rest[ragged:]))
            else:
                await device.awrite(at, memoryview(data))
            at += len(data)
        await device.aflush()
        return at - offset
