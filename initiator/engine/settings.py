"""Times and limits of the engine's processes, and how they log."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading

from initiator.errors import BadInputError
from initiator.names import clean


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. The environment changes those that it names."""

    idle: float = 10.0
    """How long an engine stays that holds nothing (MOORING_ENGINE_IDLE)."""
    watchdog: float = 5.0
    """A worker that is silent for so long is killed and replaced (MOORING_ENGINE_WATCHDOG)."""
    beat: float = 0.5
    """How often a worker says that it is alive."""
    patience: float = 120.0
    """How long a worker is tried to be replaced, while the target is away, refuses or has no such LUN, before the disk
    is given up (MOORING_ENGINE_PATIENCE)."""
    attempts: int = 5
    """How often a worker may end within `window` before the disk is given up (MOORING_ENGINE_ATTEMPTS)."""
    window: float = 120.0
    start: float = 20.0
    """How long a new worker may take until it speaks."""
    adoption: float = 10.0
    """How long a new engine waits for the workers of the last one to report."""
    buffers: int = 40
    """Requests that one attached disk has in flight at most; 1 MiB of locked memory each (MOORING_ENGINE_BUFFERS)."""

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings with what MOORING_ENGINE_… says.

        Raises:
            BadInputError: a variable is no positive number.
        """
        given: dict[str, float] = {}
        for name in ("idle", "watchdog", "patience", "adoption"):
            given.update(_number(name))
        counts = {name: int(value) for each in ("attempts", "buffers") for name, value in _number(each).items()}
        return dataclasses.replace(cls(**given), **counts)  # type: ignore[arg-type]


def _number(name: str) -> dict[str, float]:
    variable = f"MOORING_ENGINE_{name.upper()}"
    text = os.environ.get(variable)
    if text is None:
        return {}
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise BadInputError(f"{variable} has to be a positive number and is {text!r}")
    return {name: value}


class _Cleaned(logging.Formatter):
    """What targets say reaches the log without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def log_to_stderr(role: str) -> None:
    """Log with time, role and process id; standard error is the engine's log file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Cleaned(f"%(asctime)s {role}[%(process)d] %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def small_threads() -> None:
    """Threads of ours only wait for children; locked memory must not hold 8 MiB of stack for each."""
    threading.stack_size(512 << 10)
