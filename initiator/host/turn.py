"""One order to iscsiadm at a time: its own lock covers only its database. Whoever waits learns for whom."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from initiator.errors import MooringError
from initiator.host.outcome import waits_for
from initiator.host.run import where_it_sleeps
from initiator.names import clean

_STEP = 0.05


@contextlib.contextmanager
def turn(
    path: Path, what: str, patience: float, monotonic: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[None]:
    """Waits for its turn and keeps it.

    Args:
        path: The file to queue up at; it tells who has the turn.
        what: What is going to be done, for those who wait.
        patience: Seconds to wait.

    Raises:
        MooringError: somebody else does not finish (code `busy`).
    """
    until = monotonic() + patience
    with open(path, "a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if monotonic() > until:
                    raise MooringError(
                        f"another order to iscsiadm is not finished after {patience:g} s: {_holder(file)}",
                        code="busy",
                        fix="wait until it ends, or end that process",
                    ) from error
            sleep(_STEP)
        file.truncate(0)
        file.write(f"{os.getpid()} {clean(what, 300)}\n")
        file.flush()
        yield


def _holder(file: TextIO, proc: str = "/proc") -> str:
    """Who has the turn, what for, and where its iscsiadm sleeps."""
    file.seek(0)
    pid, _, what = file.readline().strip().partition(" ")
    if not pid.isdigit():
        return "nobody knows whose"
    children = ""
    with contextlib.suppress(OSError):
        children = Path(f"{proc}/{pid}/task/{pid}/children").read_text(encoding="ascii")
    child = next((int(word) for word in reversed(children.split()) if word.isdigit()), None)
    where = f"; its child {child} waits {waits_for(where_it_sleeps(child, proc))}" if child is not None else ""
    return f"process {pid} has to {clean(what, 300)}{where}"
