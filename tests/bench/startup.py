"""Start-up times of the command line: `python -m tests.bench.startup`.

Whole processes, from start to end, with compiled modules as an installed Mooring has them. The best run says what the
program costs, the median what this machine made of it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROUNDS = 15
MOORING = str(Path(sys.executable).with_name("mooring"))
CASES: Mapping[str, Sequence[str]] = {
    "an empty Python": (sys.executable, "-c", "pass"),
    "mooring --help": (MOORING, "--help"),
    "mooring list --json": (MOORING, "list", "--json"),
}


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="mooring-bench-") as base:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        for name in ("runtime", "state"):
            (Path(base) / name).mkdir(mode=0o700)
            environment[f"MOORING_{name.upper()}_DIR"] = str(Path(base) / name)
        print("| command | best ms | median ms |\n|---|---:|---:|")
        for title, argv in CASES.items():
            times = [once(argv, environment) for _ in range(ROUNDS + 1)][1:]
            print(f"| {title} | {min(times):.0f} | {statistics.median(times):.0f} |", flush=True)
    return 0


def once(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Milliseconds of one run."""
    begun = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True, env=environment)
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    sys.exit(main())
