"""A pseudo-terminal with a program in it: what it writes is collected, what a person types is sent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_BEHIND = b"what is behind everything else"


class Terminal:
    """Runs `python ARGUMENTS` as the leader of a session whose controlling terminal this is.

    Attributes:
        output: Everything that was written so far.
        child: The process.
    """

    def __init__(
        self, arguments: Sequence[str], *, size: tuple[int, int] = (120, 40), env: Mapping[str, str] | None = None
    ) -> None:
        self._master, self._slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._slave)
        words = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(ROOT),
            **(env or {}),
        }
        for name in ("COLUMNS", "LINES"):  # they would hide the real size from Textual
            words.pop(name, None)
        self.started = time.perf_counter()
        self.child = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=words,
            cwd=ROOT,
        )
        self.output = b""
        self.stopped = threading.Event()
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self.stopped.is_set():
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if not ready:
                continue
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            with self._news:
                self.output += data
                self._news.notify_all()

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, after: int = 0, seconds: float = 20.0) -> float:
        """Wait until this was written behind byte `after`; gives the time at which it was seen."""
        wanted = text.encode()
        deadline = time.monotonic() + seconds
        with self._news:
            while wanted not in self.output[after:]:
                left = deadline - time.monotonic()
                assert left > 0, f"{text!r} did not appear; the end was {self.output[-600:]!r}"
                self._news.wait(left)
        return time.perf_counter()

    def wait_quiet(self, seconds: float = 0.3) -> None:
        """Wait until nothing was written for so long."""
        with self._news:
            while self._news.wait(seconds):
                pass

    def ended(self, seconds: float = 20.0) -> int:
        """Wait for the end of the program, and until all that it wrote has been read; gives its exit code."""
        code = self.child.wait(seconds)
        if self._slave >= 0:
            self.catch_up()
        return code

    def catch_up(self) -> None:
        """Wait until all that a program which writes no more has written is in `output`."""
        os.write(self._slave, _BEHIND)
        self.wait_for(_BEHIND.decode())
        with self._news:
            self.output = self.output.replace(_BEHIND, b"")

    def modes(self) -> list[Any]:
        """How the terminal is set now."""
        return termios.tcgetattr(self._slave)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Nobody reads meanwhile what the program writes."""
        self.stopped.set()
        self._reader.join(5)
        try:
            yield
        finally:
            self.stopped.clear()
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    @property
    def is_full(self) -> bool:
        """Whether the terminal takes no more bytes, as nobody has read those before."""
        return not select.select([], [self._slave], [], 0)[1]

    def hang_up(self) -> None:
        """The terminal goes away, as when its window is closed."""
        self.stopped.set()
        self._reader.join(5)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait(10)
        self.stopped.set()
        self._reader.join(5)
        for handle in (self._master, self._slave):
            if handle >= 0:
                os.close(handle)
