"""`python -m tests.soak --minutes 60 --peer tgtd|practice`: exit code 0 only if the soak ended clean."""

from __future__ import annotations

import argparse
import sys

from tests.soak.peers import PEERS
from tests.soak.run import Plan, main_run


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--peer", choices=sorted(PEERS), default="practice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.06, help="mean seconds between two requests of a worker")
    parser.add_argument("--every", type=float, default=4.0, help="mean seconds between two faults of one kind")
    given = parser.parse_args()
    plan = Plan(given.peer, given.minutes * 60, seed=given.seed, pause_s=given.pause, trouble_s=given.every)
    report = main_run(plan)
    print(f"peer     {given.peer}, {given.minutes:g} minutes, seed {given.seed}\n{report.text()}")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
