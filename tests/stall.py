"""The tests on a machine that stands still now and then: `python -m tests.stall [--seed N] [PYTEST ARGUMENT]...`.

Again and again a random process of the run is stopped for a moment: a worker of xdist, or anything that a test has
started. What fails here has a race, and will fail one day on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import psutil

WHOLE = ("-q", "-n", "3", "--dist", "worksteal")
"""Everything, as `make test` runs it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pauses:
    """Whom it meets is up to `seed`; `every` and `hold` are seconds."""

    seed: int
    every: float
    hold: float


def run(pauses: Pauses, arguments: list[str]) -> tuple[int, Counter[str]]:
    """pytest's exit code, and how often processes of which name were stopped."""
    tests = subprocess.Popen([sys.executable, "-m", "pytest", *(arguments or WHOLE)])
    over, stopped = threading.Event(), Counter[str]()
    hand = threading.Thread(target=_disturb, args=(tests.pid, pauses, over, stopped))
    hand.start()
    try:
        return tests.wait(), stopped
    finally:
        over.set()
        hand.join()


def _disturb(root: int, pauses: Pauses, over: threading.Event, stopped: Counter[str]) -> None:
    chance = random.Random(pauses.seed)
    while not over.wait(chance.uniform(0.5, 1.5) * pauses.every):
        with contextlib.suppress(psutil.NoSuchProcess):
            near = psutil.Process(root).children()
            if not near:
                continue
            everybody = psutil.Process(root).children(recursive=True)
            victim = chance.choice(chance.choice((near, everybody)))  # half of the time one that runs tests
            name = victim.name()
            victim.suspend()
            try:
                over.wait(pauses.hold)
                stopped[name] += 1
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGCONT)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stall", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=2.0, help="mean seconds between two pauses")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds that a process is stopped")
    given, arguments = parser.parse_known_args()
    code, stopped = run(Pauses(given.seed, given.every, given.hold), arguments)
    words = ", ".join(f"{name} {count}" for name, count in stopped.most_common())
    print(f"seed {given.seed}: {stopped.total()} times stopped: {words}")
    return code


if __name__ == "__main__":
    sys.exit(main())
