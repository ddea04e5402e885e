"""What the dashboard costs: start, CPU, key to paint, memory; through a pty, 160x48. `python -m tests.bench.dashboard`.

The host is made up: 2,000 paths of which 10 % change each second, every branch open. Beside it runs the same view made
with Textual's own DataTable, as the yardstick: the ratio of the two holds on any machine. CPU is read from
/proc/PID/stat, so that other work on the machine does not count; wall times are information, and the machine's load
average stands beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tui.terminal import Terminal

SIZE = (160, 48)
TICK = os.sysconf("SC_CLK_TCK")
OPEN_ALL = "*"
TITLE, ROW = "Mooring", "pool000"
DOWN, UP = "\x1b[B", "\x1b[A"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One program under one load."""

    name: str
    first_paint_ms: float
    cpu_percent: float
    cpu_ms_per_tick: float
    key_p50_ms: float
    key_p95_ms: float
    resident_mb: float


BUDGET = {"cpu_percent": 4.0, "cpu_ms_per_tick": 15.0, "key_p95_ms": 50.0, "resident_mb": 70.0}
"""At 2,000 paths; `cpu_ms_per_tick` is CPU above that of the same screen when nothing changes."""
FIRST_PAINT_MS = 400.0
PROGRAM = ["-c", "import sys; from tui.cli import main; sys.exit(main([]))"]
"""The program itself on this host, as `mooring` starts it: the made-up hosts import the tests' own helpers too."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def key_times(terminal: Terminal, presses: int) -> list[float]:
    """Milliseconds from a key to the first byte that it brings to the terminal, between two ticks of data."""
    taken = []
    for number in range(presses):
        terminal.wait_quiet(0.12)
        here = len(terminal.output)
        began = time.perf_counter()
        terminal.type(DOWN if number % 20 < 10 else UP)
        while len(terminal.output) == here and time.perf_counter() - began < 2:
            time.sleep(0.0005)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def busy(pid: int, seconds: float) -> float:
    """Share of one core, in per cent."""
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)


def first_paint(arguments: Sequence[str], text: str, runs: int) -> float:
    """Best of some runs, in milliseconds, from the start of the process to this text on the terminal."""
    best = float("inf")
    for _ in range(runs):
        with Terminal(arguments, size=SIZE) as terminal:
            best = min(best, (terminal.wait_for(text) - terminal.started) * 1000)
            terminal.type("q")
            terminal.ended()
    return best


def bare_import() -> float:
    """Milliseconds to start Python and import Textual, best of five: what no change of ours can take away."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
        best = min(best, (time.perf_counter() - began) * 1000)
    return best


def measure(name: str, arguments: Sequence[str], mark: str, *, paths: int, change: float, seconds: float) -> Result:
    """Run one program under load; `mark` is the first text on its screen."""
    first = first_paint([*arguments, "--paths", str(paths)], mark, 3)
    mark = ROW
    idle = 0.0
    if change:
        with Terminal([*arguments, "--paths", str(paths)], size=SIZE) as terminal:
            terminal.wait_for(mark)
            terminal.type(OPEN_ALL)
            terminal.wait_quiet(1.2)
            idle = busy(terminal.child.pid, seconds / 2)
    with Terminal([*arguments, "--paths", str(paths), "--change", str(change)], size=SIZE) as terminal:
        terminal.wait_for(mark)
        terminal.type(OPEN_ALL)
        time.sleep(2)
        percent = busy(terminal.child.pid, seconds)
        keys = sorted(key_times(terminal, 40))
        memory = resident_mb(terminal.child.pid)
        terminal.type("q")
        terminal.ended()
    p95 = keys[int(len(keys) * 0.95) - 1]
    return Result(name, first, percent, max(0.0, percent - idle) * 10, statistics.median(keys), p95, memory)


def table(results: Sequence[Result]) -> str:
    """The results as aligned text, budgets below."""
    heads = ("", "first paint ms", "CPU %", "CPU ms/tick", "key p50 ms", "key p95 ms", "resident MB")
    lines = [f"{heads[0]:34}" + "".join(f"{head:>16}" for head in heads[1:])]
    for result in results:
        values = dataclasses.astuple(result)[1:]
        lines.append(f"{result.name:34}" + "".join(f"{value:16.1f}" for value in values))
    cpu, tick, key, memory = BUDGET.values()
    shown = (None, cpu, tick, None, key, memory)
    lines.append(f"{'budget':34}" + "".join(f"{'' if v is None else f'<= {v:g}':>16}" for v in shown))
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and say with the exit code whether the budgets hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long CPU is watched")
    parser.add_argument("--quick", action="store_true", help="only the row that has a budget")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled modules, as an installed Mooring has them
    ours, theirs = ["-m", "tests.tui.play"], ["-m", "tests.bench.yardstick"]
    run = [("2,000 paths, 10 % changing", ours, 2000, 0.1)]
    if not given.quick:
        run += [
            ("2,000 paths, nothing changing", ours, 2000, 0.0),
            ("10,000 paths, 10 % changing", ours, 10_000, 0.1),
            ("DataTable, 2,000 paths, 10 %", theirs, 2000, 0.1),
        ]
    results = [
        measure(name, what, ROW if what is theirs else TITLE, paths=paths, change=change, seconds=given.seconds)
        for name, what, paths, change in run
    ]
    program = first_paint(PROGRAM, TITLE, 7)
    textual = bare_import()
    if given.json:
        print(json.dumps({"results": [dataclasses.asdict(r) for r in results], "program_first_paint_ms": program}))
    else:
        print(table(results))
        print(
            f"first paint of the program: {program:.0f} ms (budget {FIRST_PAINT_MS:g}); Textual's import {textual:.0f}"
        )
        print(f"load average {os.getloadavg()[0]:.1f}")
    main_row = results[0]
    failed = [name for name, limit in BUDGET.items() if getattr(main_row, name) > limit]
    if program > FIRST_PAINT_MS:
        failed.append("first paint")
    if len(results) == 4:
        ratio = results[3].cpu_percent / max(0.1, main_row.cpu_percent)
        print(f"DataTable takes {ratio:.1f} times the CPU")
        failed += ["ratio to DataTable"] if ratio < 4 else []
    if failed:
        print(f"over budget: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
