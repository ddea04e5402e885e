"""A disk without a network: the file that stands for a target's medium outlives every worker that serves it."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Callable
from pathlib import Path

Done = Callable[[int], None]


class MemoryBackend:
    """Bytes of a file, mapped. Answers after `delay` seconds; `errors` names operations that fail and how."""

    def __init__(self, path: Path, size: int, block: int = 512, read_only: bool = False, delay: float = 0.0) -> None:
        self.size_bytes = size
        self.block_bytes = block
        self.read_only = read_only
        self.delay = delay
        self.errors: dict[str, int] = {}
        self.calls: list[tuple[str, int, int]] = []
        self.held: list[Callable[[], None]] | None = None
        """When a list: answers are kept here instead of being given."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, size)
        self.memory = mmap.mmap(handle, size)
        os.close(handle)

    def _answer(self, operation: str, done: Done) -> None:
        number = self.errors.get(operation, 0)
        if self.held is not None:
            self.held.append(lambda: done(number))
        elif self.delay:
            asyncio.get_running_loop().call_later(self.delay, done, number)
        else:
            done(number)

    def read(self, offset: int, into: memoryview, done: Done) -> None:
        self.calls.append(("read", offset, len(into)))
        into[:] = self.memory[offset : offset + len(into)]
        self._answer("read", done)

    def write(self, offset: int, data: memoryview, done: Done) -> None:
        self.calls.append(("write", offset, len(data)))
        if "write" not in self.errors:
            self.memory[offset : offset + len(data)] = data
        self._answer("write", done)

    def flush(self, done: Done) -> None:
        self.calls.append(("flush", 0, 0))
        self._answer("flush", done)

    def discard(self, offset: int, length: int, done: Done) -> None:
        self.calls.append(("discard", offset, length))
        self.memory[offset : offset + length] = bytes(length)
        self._answer("discard", done)

    def write_zeroes(self, offset: int, length: int, done: Done) -> None:
        self.calls.append(("write_zeroes", offset, length))
        self.memory[offset : offset + length] = bytes(length)
        self._answer("write_zeroes", done)
