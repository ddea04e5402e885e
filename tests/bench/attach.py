"""The attached disk under fio: the loop device on FUSE on the engine on a real tgtd, and the same without a target.

`python -m tests.bench.attach` prints one table. Each row is the median of interleaved runs, since a shared machine is
never quiet; processor time for each request is steadier than its rate. Needs root, fio and tgtd.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from initiator.engine.client import SUPERVISOR
from tests.engine import memory_supervisor
from tests.engine.engines import Engine, running
from tests.tgtd import FAST_MALLOC, Tgtd

TARGET = "iqn.2026-11.io.mooring.bench:disk"
SIZE = 256 << 20
RAM = "/dev/shm"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One load of fio."""

    name: str
    mode: str
    block: str
    depth: int
    wanted_iops: float | None = None
    wanted_gb_s: float | None = None


JOBS = (
    Job("4 KiB random read, depth 1", "randread", "4k", 1),
    Job("4 KiB random read, depth 32", "randread", "4k", 32, wanted_iops=20_000),
    Job("4 KiB random write, depth 32", "randwrite", "4k", 32, wanted_iops=20_000),
    Job("1 MiB read, depth 8", "read", "1m", 8, wanted_gb_s=1.2),
    Job("1 MiB write, depth 8", "write", "1m", 8, wanted_gb_s=1.2),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One run: requests and bytes in a second, and the engine's processor time for each request."""

    iops: float
    bytes_s: float
    cpu_us: float


def measure(device: str, job: Job, seconds: float, pids: list[int]) -> Measured:
    """Run fio on a device; `pids` are the processes whose time is counted."""
    before = sum(map(cpu_seconds, pids))
    done = subprocess.run(
        [
            "fio",
            "--name=bench",
            f"--filename={device}",
            f"--rw={job.mode}",
            f"--bs={job.block}",
            f"--iodepth={job.depth}",
            "--ioengine=io_uring",
            "--direct=1",
            f"--runtime={seconds:g}",
            "--time_based",
            "--output-format=json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    used = sum(map(cpu_seconds, pids)) - before
    found = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read" if "read" in job.mode else "write"]
    return Measured(found["iops"], found["bw_bytes"], 1e6 * used / max(1, found["total_ios"]))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def on_tgtd(folder: Path, **parameters: str) -> Iterator[tuple[Engine, str]]:
    """An engine with a disk of a fresh tgtd over one portal, and its device."""
    (folder / "runtime").mkdir(mode=0o700)
    with Tgtd(folder, environment=FAST_MALLOC) as tgtd, running(folder, SUPERVISOR) as engine:
        tgtd.add_lun(tgtd.add_target(TARGET, MaxRecvDataSegmentLength="262144", **parameters), size=SIZE)
        engine.client.ensure()
        disk = engine.call("attach", target=TARGET, lun=1, portals=[str(tgtd.portal)], name="bench")
        yield engine, str(disk["device"])
        subprocess.run(["losetup", "-d", disk["device"]], check=True)


@contextmanager
def on_memory(folder: Path) -> Iterator[tuple[Engine, str]]:
    """An engine whose disk is a file in memory: what FUSE and the loop device cost alone."""
    (folder / "runtime").mkdir(mode=0o700)
    with running(folder, memory_supervisor.MODULE) as engine:
        yield engine, engine.attach("bench", size=SIZE)


def table(rounds: int, seconds: float) -> list[tuple[str, Job, Measured]]:
    """Every job on every kind of disk, interleaved."""
    results: dict[tuple[str, Job], list[Measured]] = {}
    for _ in range(rounds):
        for kind in ("memory", "tgtd", "tgtd, digests"):
            with tempfile.TemporaryDirectory(dir=RAM) as name:
                folder = Path(name)
                digests = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"} if "digests" in kind else {}
                made = on_memory(folder) if kind == "memory" else on_tgtd(folder, **digests)
                with made as (engine, device):
                    pid = int(engine.worker()["pid"])
                    for job in JOBS:
                        results.setdefault((kind, job), []).append(measure(device, job, seconds, [pid]))
    return [(kind, job, median(runs)) for (kind, job), runs in results.items()]


def median(runs: list[Measured]) -> Measured:
    """The median of each number."""
    return Measured(
        *(statistics.median(getattr(run, field.name) for run in runs) for field in dataclasses.fields(Measured))
    )


def main() -> int:
    """Print the table; exit status 1 when the budgets of the design are missed on tgtd without digests."""
    parser = argparse.ArgumentParser(prog="tests.bench.attach", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each run")
    arguments = parser.parse_args()
    missed = 0
    print(f"{'disk':<15}{'load':<31}{'IOPS':>9}{'GB/s':>7}{'engine us/request':>19}  budget")
    for kind, job, found in table(arguments.rounds, arguments.seconds):
        verdict = ""
        if kind == "tgtd" and (job.wanted_iops or job.wanted_gb_s):
            good = found.iops >= (job.wanted_iops or 0) and found.bytes_s >= 1e9 * (job.wanted_gb_s or 0)
            wanted = f"{job.wanted_iops:.0f} IOPS" if job.wanted_iops else f"{job.wanted_gb_s} GB/s"
            verdict = f"{'met' if good else 'MISSED'}: {wanted}"
            missed += not good
        rates = f"{found.iops:>9.0f}{found.bytes_s / 1e9:>7.2f}{found.cpu_us:>19.1f}"
        print(f"{kind:<15}{job.name:<31}{rates}  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
