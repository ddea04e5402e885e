"""The engine against libiscsi on the same target in the same run: `python -m tests.bench.engine`.

Both work turn by turn on one target that is never the bottleneck (`nulltarget.c`), so that a noisy machine hurts both
alike; the ratio of the medians is what counts, and on a machine with other work the second one: processor time for each
I/O, theirs to ours. `chrt -f 10` before it, with `--seconds 0.2 --pause 0.3`, keeps other work of the machine away from
both. `make fast` compiles the engine's hot path; `cd build/fast` then, with the checkout in PYTHONPATH, measures that.
`--tgtd` takes a real tgtd with its file in memory instead. libiscsi is
the system's (libiscsi-dev); `--libiscsi PREFIX` takes another one, since Debian's has no data digests. What libiscsi
breaks off is left out, and said.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from initiator.engine import transport
from initiator.engine.session import EngineSession
from initiator.model import Portal
from initiator.scsi.commands import test_unit_ready
from tests.bench import build, load
from tests.bench.load import LUN, SIZE, TARGET, Case, Speed
from tests.bench.nulltarget import NullTarget
from tests.tgtd import FAST_MALLOC, Tgtd

MIB = 1 << 20
CASES = (
    Case("4 KiB random read, depth 1", 4096, 1, True, goal=0.9),
    Case("4 KiB random read, depth 32", 4096, 32, True, goal=1.2),
    Case("4 KiB random read, depth 32, both digests", 4096, 32, True, goal=2.5, digests="both"),
    Case("4 KiB random write, depth 1", 4096, 1, True, goal=0.9, write=True),
    Case("4 KiB random write, depth 32", 4096, 32, True, goal=1.2, write=True),
    Case("4 KiB random write, depth 32, both digests", 4096, 32, True, goal=2.5, write=True, digests="both"),
    Case("1 MiB read, depth 1", MIB, 1, False),
    Case("1 MiB read, depth 8", MIB, 8, False, goal=1.0),
    Case("1 MiB read, depth 8, data digest", MIB, 8, False, goal=8.0, digests="data"),
    Case("1 MiB write, depth 8", MIB, 8, False, goal=1.0, write=True),
    Case("1 MiB write, depth 8, data digest", MIB, 8, False, goal=8.0, write=True, digests="data"),
)
MOST_CPU_US = 6.0
"""For one 4 KiB I/O at depth 32 without digests."""
_SESSIONS = 64


class Libiscsi:
    """libiscsi under the same load."""

    def __init__(self, folder: Path, prefix: Path | None) -> None:
        self._load = build.libiscsi_load(folder, prefix)
        self.name = f"libiscsi {self._load.version}"

    def run(self, portal: Portal, case: Case, seconds: float) -> Speed | None:
        """One run; None where the library cannot do it, or broke it off."""
        if case.digests in ("data", "both") and not self._load.data_digests:
            return None
        words = [str(portal), TARGET, LUN, case.size, case.depth, seconds, "write" if case.write else "read"]
        words += ["random" if case.random else "sequential", case.digests]
        try:
            done = subprocess.run(
                [str(self._load.program), *map(str, words)],
                capture_output=True,
                text=True,
                timeout=seconds + 20,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            return None
        count, took, cpu = map(float, done.stdout.split())
        return Speed(count / took, cpu / count)


def measure(
    portal: Portal, cases: tuple[Case, ...], other: Libiscsi | None, rounds: int, seconds: float, pause: float
) -> bool:
    """Print the table; False if a goal was missed."""
    compiled = not transport.__file__.endswith(".py")
    print("the engine is", "compiled (make fast)" if compiled else "interpreted")
    name = other.name if other else "libiscsi"
    rates = f"{'':44} {'engine':>11} {name:>16} {'ratio':>6} {'goal':>5}"
    print(f"{rates} {'us CPU/IO':>10} {'libiscsi':>9} {'ratio':>6}  runs")
    passed = True
    for case in cases:
        ours: list[Speed] = []
        theirs: list[Speed] = []
        for _ in range(rounds):
            time.sleep(pause)
            ours.append(load.run(portal, case, seconds))
            time.sleep(pause)
            if other is not None and (speed := other.run(portal, case, seconds)) is not None:
                theirs.append(speed)
        passed &= report(case, ours, theirs)
    return passed


def report(case: Case, ours: list[Speed], theirs: list[Speed]) -> bool:
    """Print one row; False if its goal was missed."""
    iops, cpu = median(ours)
    row = f"{case.name:44} {amount(case, iops):>11}"
    costly = case.size == 4096 and case.depth == 32 and case.digests == "none" and cpu > MOST_CPU_US
    if not theirs:
        print(f"{row} {'':>16} {'':>6} {'':>5} {cpu:>10.1f} {'':>9} {'':>6}  {len(ours)}/0", flush=True)
        return not costly
    other, other_cpu = median(theirs)
    goal = "" if case.goal is None else f"{case.goal:.1f}"
    row += f" {amount(case, other):>16} {iops / other:>6.2f} {goal:>5} {cpu:>10.1f} {other_cpu:>9.1f}"
    print(f"{row} {other_cpu / cpu:>6.2f}  {len(ours)}/{len(theirs)}", flush=True)
    return not costly and (case.goal is None or iops / other >= case.goal)


def median(speeds: list[Speed]) -> tuple[float, float]:
    """I/Os per second and microseconds of CPU for each, each as its own median."""
    return statistics.median(speed.iops for speed in speeds), statistics.median(speed.cpu_us for speed in speeds)


def amount(case: Case, iops: float) -> str:
    """IOPS for small I/O, throughput for big."""
    return f"{iops:,.0f}/s" if case.size < MIB else f"{iops * case.size / 1e6:,.0f} MB/s"


def several(portal: Portal, processes: int, rounds: int, seconds: float) -> None:
    """Print what several sessions do that have a process each, beside one alone."""
    case = CASES[1]
    alone: list[float] = []
    together: list[float] = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        list(pool.map(load.run, *zip(*[(portal, case, 0.1)] * processes, strict=True)))  # imports are done after this
        for _ in range(rounds):
            alone.append(pool.submit(load.run, portal, case, seconds).result().iops)
            running = [pool.submit(load.run, portal, case, seconds) for _ in range(processes)]
            together.append(sum(each.result().iops for each in running))
    one, all_ = statistics.median(alone), statistics.median(together)
    print(f"{case.name}, {processes} sessions in {processes} processes: {all_:,.0f}/s, one alone {one:,.0f}/s")


async def memory(portal: Portal, sessions: int) -> float:
    """KiB of resident memory that one more session takes, each after its first read of 64 KiB."""
    opened: list[EngineSession] = []
    before = 0
    for number in range(sessions + 1):
        session = EngineSession(load.config(portal))
        await session.start()
        await session.execute(LUN, test_unit_ready())
        await load.Load(session, Case("", 65536, 1, False), 0.0).run()
        opened.append(session)
        if not number:
            before = resident()
    grown = resident() - before
    for session in opened:
        await session.logout()
    return grown / sessions / 1024


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def peer(folder: Path, tgtd: bool) -> Iterator[Portal]:
    """The target both sides use."""
    if not tgtd:
        with NullTarget(build.null_target(folder)) as portal:
            yield portal
        return
    with Tgtd(folder, environment=FAST_MALLOC) as real:
        tid = real.add_target(TARGET, HeaderDigest="None,CRC32C", DataDigest="None,CRC32C")
        backing = folder / "ram.img"
        backing.write_bytes(bytes(SIZE))  # no holes: a hole is read faster than data
        real.add_lun(tid, LUN, path=backing)
        yield real.portal


def main() -> int:
    """The command line; exit code 1 if a goal was missed on the target that is never the bottleneck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each run")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds before each run, for what else there is to do"
    )
    parser.add_argument("--tgtd", action="store_true", help="against a real tgtd")
    parser.add_argument("--libiscsi", type=Path, metavar="PREFIX", help="where another libiscsi is installed")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    given = parser.parse_args()
    cases = tuple(case for case in CASES if given.only in case.name)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mooring-bench-") as name:
        folder = Path(name)
        try:
            other = Libiscsi(folder, given.libiscsi)
        except build.BuildError as error:
            print(f"without libiscsi: {error}", file=sys.stderr)
            other = None
        with peer(folder, given.tgtd) as portal:
            passed = measure(portal, cases, other, given.rounds, given.seconds, given.pause)
            if not given.only and not given.tgtd:
                several(portal, 2, given.rounds, given.seconds)
                print(f"memory for each further session: {asyncio.run(memory(portal, _SESSIONS)):.0f} KiB")
    return 0 if passed or given.tgtd else 1


if __name__ == "__main__":
    sys.exit(main())
