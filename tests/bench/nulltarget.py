"""The process of `nulltarget.c`: a target that does next to nothing, so that only the initiator can be slow."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from initiator.model import Portal


class NullTarget:
    """Run it; a context manager that gives its portal.

    Args:
        program: As `build.null_target` has made it.
    """

    def __init__(self, program: Path) -> None:
        self._program = program

    def __enter__(self) -> Portal:
        self._process = subprocess.Popen([self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return Portal("127.0.0.1", int(self._process.stdout.readline()), 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # it ends when its input does
