"""`mooring` without a command: the dashboard."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from initiator.errors import MooringError


def dashboard(arguments: argparse.Namespace) -> int:
    """Open the dashboard on this host's own state."""
    check_terminal()
    from tui.app import AppOptions, run

    return run(
        AppOptions(
            read_only=arguments.read_only or os.geteuid() != 0,
            ascii=arguments.ascii,
            screenshot=Path(arguments.screenshot) if arguments.screenshot else None,
        )
    )


def check_terminal() -> None:
    """Refuse where a full screen cannot work: the frames go to stderr, the keys come from stdin.

    Raises:
        MooringError: there is no terminal, or it cannot move its cursor.
    """
    fix = "use `mooring list`, `mooring watch` or --json instead"
    if not (sys.stdin.isatty() and sys.__stderr__ is not None and sys.__stderr__.isatty()):
        raise MooringError("the dashboard needs a terminal on stdin and stderr", code="no-terminal", fix=fix)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise MooringError("this terminal (TERM=dumb) cannot show a full screen", code="no-terminal", fix=fix)
