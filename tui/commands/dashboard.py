"""`mooring` without a command: the dashboard."""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.app import AppOptions


def dashboard(arguments: argparse.Namespace) -> int:
    """Open the dashboard on this host's own state."""
    # What is loaded and made until the first screen stands is no garbage; then the app lets the search begin.
    gc.disable()
    try:
        from tui.app import run

        return run(options(arguments, read_only=arguments.read_only or os.geteuid() != 0))
    finally:
        gc.enable()


def options(arguments: argparse.Namespace, *, read_only: bool, practice: bool = False) -> AppOptions:
    """What the command line and the settings say together."""
    from tui import config, policy
    from tui.actions import BY_ID
    from tui.app import AppOptions

    settings, mistakes = config.load(actions=BY_ID)
    return AppOptions(
        read_only=read_only,
        practice=practice,
        interval=settings.dashboard.interval_s,
        ascii=arguments.ascii or settings.dashboard.ascii,
        screenshot=Path(arguments.screenshot) if arguments.screenshot else None,
        view=getattr(arguments, "view", "overview"),
        config=settings,
        mistakes=mistakes,
        policy=policy.load(),
    )
