"""Ctrl+C while `mooring write` is at work: what is on the disk, what is not known, and how to go on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from initiator.practice import faults
from initiator.practice.target import Target
from tests.host.kerneltree import KernelTree
from tests.practice.conftest import MIB, OPEN, target
from tests.until import until
from tui.exits import Exit

__all__ = ["target"]

PROGRAM = """
import pathlib, sys
from initiator import inventory
from tui import cli
from tui.commands import data
data.snapshot = lambda: inventory.read(pathlib.Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""
"""The command on a host in a folder, which has nothing attached."""

IMPATIENT = f"""
import os, signal
from tui import exits, pouring
def say(*lines):
    exits.say(*lines)
    os.kill(os.getpid(), signal.SIGINT)
pouring.say = say
{PROGRAM}"""
"""The same, under somebody who presses Ctrl+C again as soon as it says anything."""


class Writer:
    """`mooring write` in a process of its own, as under a shell."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.told = ""

    async def feed(self, content: bytes) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(content)
        await self.child.stdin.drain()

    async def says(self, word: str) -> None:
        """Waits until it has said something."""
        assert self.child.stderr is not None
        while word not in self.told:
            line = await asyncio.wait_for(self.child.stderr.readline(), 30)
            assert line, f"it ended without saying {word}: {self.told}"
            self.told += line.decode()

    def interrupt(self) -> None:
        self.child.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        assert self.child.stderr is not None
        self.told += (await asyncio.wait_for(self.child.stderr.read(), 30)).decode()
        return await self.child.wait()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return KernelTree(tmp_path / "host").root


def words(host: Path, target: Target, *more: str, program: str = PROGRAM) -> list[str]:
    where = str(target.config.portals[0]).partition(",")[0]
    return [sys.executable, "-c", program, str(host), "write", OPEN, "--portal", where, "--confirm", OPEN, *more]


@asynccontextmanager
async def writing(host: Path, target: Target, *more: str, program: str = PROGRAM) -> AsyncIterator[Writer]:
    pipe = subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *words(host, target, *more, program=program),
        stdin=pipe,
        stderr=pipe,
        # a shell that runs the tests in its background has them ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield Writer(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def give(target: Target, name: str, *args: str) -> None:
    portal = str(target.config.portals[0])
    target.board.apply(faults.parse(name, [portal, *args], target.config.portals, ["data"]))


def held(target: Target, length: int) -> bytes:
    return target.server.units["data"].store.read(0, length)


def unread(target: Target) -> int:
    """Bytes that have come to the portal and that the target has not read."""
    port = target.config.portals[0].port
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = (each[4].partition(":")[2] for each in lines if each[1].endswith(f":{port:04X}"))
    return sum(int(queue, 16) for queue in queues)


async def go_on(told: str, host: Path, target: Target, content: bytes) -> None:
    """Does what was said, with all of the input at hand, and waits for its end."""
    (line,) = [each for each in told.splitlines() if each.startswith("  -> ")]
    found = re.search(r"first (\d+) bytes of the input: mooring (write .*)", line)
    assert found is not None, line
    argv = [*words(host, target)[:4], *found[2].split()]
    child = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = await child.communicate(content[int(found[1]) :])
    assert child.returncode == Exit.DONE, said


async def test_while_it_waits_for_its_input_all_that_was_written_is_proven(host: Path, target: Target) -> None:
    content = os.urandom(3 * MIB)
    async with writing(host, target, "--offset", "1M") as writer:
        await writer.feed(content[: 2 * MIB + 100])
        await until(lambda: held(target, 3 * MIB)[MIB:] == content[: 2 * MIB], seconds=30)
        writer.interrupt()
        assert await writer.ended() == Exit.STOPPED
    told = f"interrupted: {2 * MIB} bytes at {MIB} are written and proven (SYNCHRONIZE CACHE: GOOD), and no more"
    assert told in writer.told
    assert f"--offset {3 * MIB} " in writer.told
    assert held(target, 5 * MIB)[3 * MIB :] == bytes(2 * MIB), "of the piece that was not whole nothing was sent"
    await go_on(writer.told, host, target, content)
    assert held(target, 4 * MIB)[MIB:] == content


async def test_what_the_target_answers_late_still_counts(host: Path, target: Target) -> None:
    content = os.urandom(2 * MIB)
    async with writing(host, target) as writer:
        await writer.feed(content[:MIB])
        await until(lambda: held(target, MIB) == content[:MIB], seconds=30)
        give(target, "delay", "2750")
        await writer.feed(content[MIB:])
        await until(lambda: held(target, 2 * MIB) == content, seconds=30)
        writer.interrupt()
        await writer.says("waiting for the target's answer")
        assert await writer.ended() == Exit.STOPPED
    assert f"{2 * MIB} bytes at 0 are written and proven" in writer.told


async def test_what_a_silent_target_was_sent_is_not_known(host: Path, target: Target) -> None:
    content = os.urandom(2 * MIB)
    async with writing(host, target) as writer:
        await writer.feed(content[:MIB])
        await until(lambda: held(target, MIB) == content[:MIB], seconds=30)
        give(target, "cut")
        await writer.feed(content[MIB:])
        await until(lambda: unread(target) > 4096, seconds=30)  # more than pings
        writer.interrupt()
        await writer.says("waiting for the target's answer")
        writer.interrupt()
        assert await writer.ended() == Exit.UNKNOWN
    doubt = f"nothing is proven to be written; whether the {2 * MIB} bytes at 0 are, is not known"
    assert f"interrupted: {doubt}" in writer.told
    assert "-> begin again: mooring write" in writer.told
    assert "--offset 0 " in writer.told


async def test_a_second_ctrl_c_in_the_middle_of_a_word_leaves_nothing_unsaid(host: Path, target: Target) -> None:
    """The signal comes while the program is at work itself, and not while it waits."""
    content = os.urandom(2 * MIB)
    async with writing(host, target, program=IMPATIENT) as writer:
        await writer.feed(content[:MIB])
        await until(lambda: held(target, MIB) == content[:MIB], seconds=30)
        give(target, "cut")
        await writer.feed(content[MIB:])
        await until(lambda: unread(target) > 4096, seconds=30)
        writer.interrupt()
        assert await writer.ended() == Exit.UNKNOWN
    assert "waiting for the target's answer" in writer.told
    assert "mooring: interrupted: nothing is proven to be written" in writer.told
    assert "-> begin again: mooring write" in writer.told
    assert "Traceback" not in writer.told


async def test_before_the_first_byte_nothing_was_written(host: Path, target: Target) -> None:
    async with writing(host, target) as writer:
        await until(lambda: target.server.sessions, seconds=30)
        writer.interrupt()
        assert await writer.ended() == 130
    assert writer.told == "mooring: nothing was written\nmooring: interrupted\n"
    assert held(target, MIB) == bytes(MIB)


async def test_a_file_is_gone_on_with_by_the_line_that_it_says(host: Path, target: Target, tmp_path: Path) -> None:
    file = tmp_path / "tea & biscuits"
    file.write_bytes(os.urandom(6 * MIB))
    give(target, "delay", "300")
    async with writing(host, target, "--input", str(file)) as writer:
        await until(lambda: held(target, MIB) == file.read_bytes()[:MIB], seconds=30)
        writer.interrupt()
        assert await writer.ended() == Exit.STOPPED
    assert held(target, 6 * MIB) != file.read_bytes()
    give(target, "delay", "0")
    (line,) = [each for each in writer.told.splitlines() if each.startswith("  -> go on: ")]
    script = f'mooring() {{ "$PYTHON" -c "$PROGRAM" "$TREE" "$@"; }}; {line.removeprefix("  -> go on: ")}'
    env = {**os.environ, "PYTHON": sys.executable, "PROGRAM": PROGRAM, "TREE": str(host)}
    child = await asyncio.create_subprocess_shell(script, stderr=subprocess.PIPE, env=env)
    _, said = await child.communicate()
    assert child.returncode == Exit.DONE, said
    assert held(target, 6 * MIB) == file.read_bytes()
