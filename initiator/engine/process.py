"""Processes of the engine that are watched by descriptor (pidfd), whoever their parent is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from initiator.engine.client import LOG_NAME


class Process:
    """A running process. `exited` is set when it ends; nothing else is ever mistaken for it.

    Args:
        pid: a process that cannot have been reaped yet: a child, or the peer of an open connection.

    Raises:
        ProcessLookupError: it is gone.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exited = asyncio.Event()
        self._fd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ended)

    def kill(self) -> None:
        """SIGKILL; one that sleeps in the kernel dies when it wakes."""
        if not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    async def gone(self, within: float) -> bool:
        """Wait for its end; False if it did not come in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.exited.wait()
        return self.exited.is_set()

    def _ended(self) -> None:
        self._loop.remove_reader(self._fd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG)
        os.close(self._fd)
        self.exited.set()


def spawn(argv: Sequence[str], keep: int, runtime: Path) -> Process:
    """Start a process in a session of its own that keeps one descriptor, under the same number.

    Its output goes to the engine's log. Every other descriptor of ours is closed by its own flag.
    """
    log = str(runtime / LOG_NAME)
    os.set_inheritable(keep, True)
    try:
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            environment(runtime),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
    finally:
        os.set_inheritable(keep, False)
    return Process(pid)


def environment(runtime: Path) -> dict[str, str]:
    """What a process of the engine inherits: our own, with the place of this package and of the runtime folder."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "MOORING_RUNTIME_DIR": str(runtime), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
