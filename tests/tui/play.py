"""The dashboard on hand-made data in a real terminal: `python -m tests.tui.play [--paths N] [--change SHARE]`.

For tests that need a pty, and for the benchmark. It is not the program: nothing of this host is read.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
import tempfile
from collections.abc import Callable, Hashable

from initiator.model import Snapshot
from tests.tui import samples
from tests.tui.fakes import FakeConnector, FakeKernel, FakeRemover, FakeSource, advice, differ
from tui.app import AppOptions, MooringApp
from tui.backends import Backends
from tui.feed import Reading
from tui.terminal import ends_with_terminal


class ChangingSource:
    """A host of which a share of the paths is measured anew for every reading."""

    def __init__(self, snapshot: Snapshot, share: float) -> None:
        self._snapshot = snapshot
        self._share = share
        self._dice = random.Random(7)

    def read(self) -> Reading:
        self._snapshot = samples.changed(self._snapshot, self._share, self._dice)
        return Reading(self._snapshot)

    def pulse(self) -> Hashable:
        return None

    def watch(self, changed: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=int, default=0, help="a large host instead of the practice range")
    parser.add_argument("--change", type=float, default=0.0, help="share of the paths that change each second")
    parser.add_argument("--ascii", action="store_true")
    parser.add_argument("--view", default="tree")
    given = parser.parse_args()
    snapshot = samples.large(given.paths) if given.paths else samples.practice()
    still = FakeSource(samples.practice(), samples.EVENTS)
    source = ChangingSource(snapshot, given.change) if given.paths else still
    remover = FakeRemover(still, pathlib.Path(tempfile.gettempdir()))
    app = MooringApp(
        AppOptions(practice=True, ascii=given.ascii, view=given.view),
        Backends(source, differ, remover, FakeKernel(), None, FakeConnector(), advice),
    )
    with ends_with_terminal():
        return app.run() or 0


if __name__ == "__main__":
    sys.exit(main())
