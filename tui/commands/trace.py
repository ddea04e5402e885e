"""A trace of the wire, `mooring trace`: of a login made for it in this process, or of a session of the engine."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any, BinaryIO

from initiator.engine.client import EngineClient
from initiator.engine.pcapng import Writer
from initiator.engine.probe import probe
from initiator.engine.session import EngineSession
from initiator.engine.tap import Trace
from initiator.errors import BadInputError, MooringError
from initiator.model import Portal, Source
from initiator.names import DEFAULT_PORT, clean, parse_size
from tui.commands.common import emit, login_config, snapshot
from tui.exits import Exit, say
from tui.export import human_size
from tui.find import find_sessions

_PIECE = 1 << 16


def trace(arguments: argparse.Namespace) -> int:
    """`mooring trace NAME --output FILE`, or `mooring trace TARGET --portal P --output FILE`."""
    limit = parse_size(arguments.limit)
    if not limit > 0 or not arguments.seconds > 0:
        raise BadInputError("--limit and --for have to be more than nothing")
    if arguments.portal:
        return asyncio.run(_own(arguments, limit))
    return _of_engine(arguments, limit)


def _of_engine(arguments: argparse.Namespace, limit: int) -> int:
    """Have the engine record a session. It writes into a pipe, so that no slow disk can hold a session up."""
    found = [each for each in find_sessions(snapshot(), arguments.name) if each.source is Source.ENGINE]
    if len(found) != 1:
        raise BadInputError(
            f"{clean(arguments.name)} is not one session of the engine",
            fix="name a session that `mooring list` shows, or add --portal to make one for this",
        )
    with _new_file(Path(arguments.output)) as file:
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0) as source:
            try:
                EngineClient().trace(found[0].id, writer, arguments.seconds, limit)
            finally:
                os.close(writer)
            say(f"recording {clean(found[0].name)} for {arguments.seconds:g} s; Ctrl+C ends it earlier")
            try:
                while piece := source.read(_PIECE):
                    file.write(piece)
            except KeyboardInterrupt:
                say("ended")
        size = file.tell()
    if arguments.json:
        emit({"schema": 1, "file": arguments.output, "bytes": size, "session": found[0].id})
    else:
        print(f"{arguments.output}: {human_size(size)}")
        _hint(arguments.output, found[0].portal)
    return Exit.DONE


async def _own(arguments: argparse.Namespace, limit: int) -> int:
    """Log in, look at every logical unit, log out; all of it is in the file, a login that fails too."""
    session = EngineSession(login_config(arguments, arguments.name))
    problem: MooringError | None = None
    units: list[str] = []
    with _new_file(Path(arguments.output)) as file:
        recorded = Trace(Writer(file, limit))
        session.record(recorded)
        try:
            await session.start()
            units = await _look(session)
            await session.logout()
        except MooringError as error:
            problem = error
            await session.close()
        recorded.close()
    _show(arguments, session, recorded, units)
    if recorded.broken:
        raise MooringError(f"{arguments.output}: {recorded.broken}; the trace is not whole", code="io")
    if problem is not None:
        raise problem
    return Exit.DONE


async def _look(session: EngineSession) -> list[str]:
    found, problems = await probe(session)
    rows = [f"LUN {unit.lun}: {unit.standard.vendor} {unit.standard.product}, {unit.wwid}" for unit in found]
    return [clean(row) for row in [*rows, *problems]]


def _show(arguments: argparse.Namespace, session: EngineSession, recorded: Trace, units: list[str]) -> None:
    counters = dataclasses.asdict(session.counters)
    answer: dict[str, Any] = {
        "schema": 1,
        "file": arguments.output,
        "bytes": recorded.writer.size,
        "packets": recorded.writer.packets,
        "whole": not recorded.over,
        "negotiation": list(session.dialogue),
        "units": units,
        "counters": counters,
    }
    if arguments.json:
        emit(answer)
        return
    counted = ", ".join(f"{name} {value}" for name, value in counters.items() if value)
    print("\n".join([*session.dialogue, *units, f"counted: {counted or 'nothing'}"]))
    print(f"{arguments.output}: {recorded.writer.packets} packets, {human_size(recorded.writer.size)}")
    _hint(arguments.output, session.portal)


def _hint(file: str, portal: Portal) -> None:
    """Wireshark knows iSCSI by its port."""
    if portal.port != DEFAULT_PORT:
        say(f"open it with: wireshark -d tcp.port=={portal.port},iscsi {file}")


def _new_file(path: Path) -> BinaryIO:
    """A file that only its owner can read: what it records is data of a disk."""
    try:
        return open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        raise BadInputError(f"{path} exists already", fix="name a file that does not exist") from error
    except OSError as error:
        raise BadInputError(f"cannot make {path}: {error.strerror}") from error
