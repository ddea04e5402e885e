"""`mooring` without a command: the dashboard."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def dashboard(arguments: argparse.Namespace) -> int:
    """Open the dashboard on this host's own state."""
    from tui import config
    from tui.app import AppOptions, run

    return run(
        AppOptions(
            read_only=arguments.read_only or os.geteuid() != 0,
            ascii=arguments.ascii,
            screenshot=Path(arguments.screenshot) if arguments.screenshot else None,
            alerts=config.load()[0].alerts,
        )
    )
