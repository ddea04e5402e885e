"""A load that knows what every block of its disk must hold, and looks."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable
from pathlib import Path

from initiator.engine.device import Device

BLOCK = 4096
MOST_BLOCKS = 64
HANG_S = 90.0
"""No fault lasts nearly as long; a request that takes longer will never come back."""


@dataclasses.dataclass(slots=True)
class Tally:
    """What happened so far. `wrong` and `hangs` have to stay empty; the first few are kept as text."""

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    flushes_refused: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    slowest_s: float = 0.0
    wrong_blocks: int = 0
    hangs: int = 0
    errors: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep the first ones."""
        if len(self.notes) < 20:
            self.notes.append(text)


class Book:
    """What the disk must hold: for each block how often it was written; 0 is all zeroes, as a new disk is."""

    def __init__(self, blocks: int, seed: int) -> None:
        self.generations = [0] * blocks
        self._seed = seed

    def content(self, block: int, generation: int) -> bytes:
        """A block's bytes, different in every block and every time it is written. A multiple of 8 zeroes it."""
        if generation % 8 == 0:
            return bytes(BLOCK)
        return random.Random(f"{self._seed}/{block}/{generation}").randbytes(BLOCK)

    def next(self, block: int) -> int:
        """The generation that the next write of data makes; what zeroes is left out."""
        generation = self.generations[block] + 1
        return generation + (generation % 8 == 0)

    def next_zero(self, block: int) -> int:
        """The generation that zeroing it makes."""
        return (self.generations[block] // 8 + 1) * 8

    def differences(self, first: int, data: bytes | bytearray) -> list[str]:
        """One sentence for every block of `data` that is not what it must be."""
        found = []
        for number in range(len(data) // BLOCK):
            block, piece = first + number, bytes(data[number * BLOCK : (number + 1) * BLOCK])
            generation = self.generations[block]
            if piece != self.content(block, generation):
                older = [old for old in range(generation) if piece == self.content(block, old)]
                what = f"generation {older[-1]}" if older else "no generation of it"
                found.append(f"block {block} holds {what} where {generation} was written")
        return found


class Worker:
    """Writes, reads and zeroes blocks that nobody else uses, one request after another."""

    def __init__(self, device: Device, book: Book, blocks: range, tally: Tally, seed: int, pause_s: float) -> None:
        self._device = device
        self._book = book
        self._blocks = blocks
        self._tally = tally
        self._dice = random.Random(seed)
        self._pause_s = pause_s

    async def run(self, enough: asyncio.Event) -> None:
        """Go on until `enough` is set."""
        while not enough.is_set():
            await self.step()
            await asyncio.sleep(self._dice.random() * 2 * self._pause_s)

    async def step(self) -> None:
        """One request."""
        count = min(self._dice.choice((1, 1, 1, 4, 16, MOST_BLOCKS)), len(self._blocks))
        first = self._blocks.start + self._dice.randrange(len(self._blocks) - count + 1)
        kind = self._dice.random()
        if kind < 0.45:
            await self._write(first, count)
        elif kind < 0.92:
            await self._read(first, count)
        elif kind < 0.95:
            await self._zero(first, count)
        else:
            await self._flush()

    async def _write(self, first: int, count: int) -> None:
        book, blocks = self._book, range(first, first + count)
        fresh = [book.next(block) for block in blocks]
        data = b"".join(map(book.content, blocks, fresh))
        if await self._within(self._device.awrite(first * BLOCK, memoryview(data)), f"write of {count} at {first}"):
            book.generations[first : first + count] = fresh
            self._tally.writes += 1
            self._tally.written_bytes += len(data)

    async def _zero(self, first: int, count: int) -> None:
        book = self._book
        fresh = [book.next_zero(block) for block in range(first, first + count)]
        if await self._within(self._device.awrite_zeroes(first * BLOCK, count * BLOCK), f"zeroes at {first}"):
            book.generations[first : first + count] = fresh
            self._tally.writes += 1

    async def _read(self, first: int, count: int) -> None:
        buffer = bytearray(count * BLOCK)
        if await self._within(self._device.aread(first * BLOCK, memoryview(buffer)), f"read of {count} at {first}"):
            self._tally.reads += 1
            self._tally.read_bytes += len(buffer)
            self.compare(first, buffer)

    async def _flush(self) -> None:
        """A flush may tell of a loss: after a restart nobody knows what a volatile cache has kept."""
        async with asyncio.timeout(HANG_S):
            report = await self._device.synchronize()
        self._tally.flushes += 1
        self._tally.flushes_refused += report.errno != 0

    def compare(self, first: int, data: bytes | bytearray) -> None:
        """Hold what was read against what was written."""
        for text in self._book.differences(first, data):
            self._tally.wrong_blocks += 1
            self._tally.note(text)

    async def _within(self, request: Awaitable[None], name: str) -> bool:
        """True if it was done; an error or no end is counted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(HANG_S):
                await request
        except TimeoutError:
            self._tally.hangs += 1
            self._tally.note(f"{name} did not end within {HANG_S:g} s")
            return False
        except OSError as error:
            self._tally.errors += 1
            self._tally.note(f"{name} failed: {error}")
            return False
        finally:
            self._tally.slowest_s = max(self._tally.slowest_s, loop.time() - began)
        return True

    async def verify_all(self) -> None:
        """Read every block of this worker through the device."""
        for first in range(self._blocks.start, self._blocks.stop, MOST_BLOCKS):
            await self._read(first, min(MOST_BLOCKS, self._blocks.stop - first))


def verify_file(book: Book, path: Path, tally: Tally) -> None:
    """Hold the target's own file against what was written."""
    with path.open("rb") as file:
        for first in range(0, len(book.generations), MOST_BLOCKS):
            data = file.read(min(MOST_BLOCKS, len(book.generations) - first) * BLOCK)
            for text in book.differences(first, data):
                tally.wrong_blocks += 1
                tally.note(f"in the file: {text}")
