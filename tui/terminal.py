"""The terminal that the dashboard needs: whether there is one, and what to do when it is gone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

from initiator.errors import MooringError

HANG_UP_GRACE_S = 5.0
"""Seconds that an orderly end may take after the terminal is gone."""


def check_terminal() -> None:
    """Refuse where a full screen cannot work: frames go to stderr, keys come from stdin.

    Raises:
        MooringError: there is no terminal, or it cannot move its cursor.
    """
    fix = "use `mooring list`, `mooring watch` or --json instead"
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.__stderr__)):
        raise MooringError("the dashboard needs a terminal on stdin and stderr", code="no-terminal", fix=fix)
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        raise MooringError("this terminal (TERM=dumb) cannot show a full screen", code="no-terminal", fix=fix)


@contextlib.contextmanager
def ends_with_terminal() -> Iterator[None]:
    """End the process if its terminal is gone and the dashboard has not ended by itself some seconds later.

    Textual writes its last frames through a queue that nobody empties any more once the terminal has hung up, and
    then waits for ever. Nothing is lost: the dashboard holds neither disks nor removals.
    """
    finished = threading.Event()

    def watch() -> None:
        poller = select.poll()
        poller.register(sys.stdin.fileno(), 0)  # a hang-up is reported without being asked for
        while not poller.poll(1000.0):
            if finished.is_set():
                return
        if not finished.wait(HANG_UP_GRACE_S):
            os._exit(128 + signal.SIGHUP)

    threading.Thread(target=watch, name="terminal", daemon=True).start()
    try:
        yield
    finally:
        finished.set()
