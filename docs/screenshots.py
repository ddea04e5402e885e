"""`make screenshots`: pictures of the real dashboard on a real practice range, as SVG files in this folder.

Needs root and tmux. Uses folders of its own, so a running Mooring is not disturbed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.journeys.host import MOORING, must, practice, until
from tests.journeys.terminal import Terminal

HERE = Path(__file__).parent


def main() -> int:
    """Make every picture again."""
    with tempfile.TemporaryDirectory(prefix="mooring-shots-") as base:
        for name in ("runtime", "state", "config"):
            folder = Path(base) / name
            folder.mkdir(mode=0o700)
            os.environ[f"MOORING_{name.upper()}_DIR"] = str(folder)
        with practice() as info:
            shoot("dashboard.svg", "overview")
            shoot("volumes.svg", "volumes")
            shoot("checks.svg", "checks")
            must("practice", "fault", "cut", info["portals"][1])
            shoot("cable-pulled.svg", "overview", wait_for="failed")
            shoot("tree.svg", "tree", wait_for="failed")
            shoot("paths.svg", "paths", wait_for="failed")
            must("practice", "fault", "clear")
            must("remove", "logs", "--confirm", "logs", "--watch", "0.3")
            shoot("removals.svg", "removals")
    return 0


def shoot(name: str, view: str, wait_for: str = "") -> None:
    """One picture of the first full screen of a view."""
    if wait_for:
        until(lambda: any(path["state"] == wait_for for path in must("list", "--json").json()["paths"]))
    picture = HERE / name
    picture.unlink(missing_ok=True)
    with Terminal([*MOORING, "--view", view, "--screenshot", str(picture)], width=132, height=40) as terminal:
        terminal.wait("exit code 0", seconds=30)
    print(picture)


if __name__ == "__main__":
    sys.exit(main())
