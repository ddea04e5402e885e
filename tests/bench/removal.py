"""How much of a removal is Mooring's own time, and how much is the kernel's, the target's and the watch.

`python -m tests.bench.removal` removes a mounted ext4 on a real loop device, by the real runner in its own process,
with the usual watch of five seconds. Its own time is the processor time of the runner and of all helpers that it
started, in user and in kernel mode: what it does not compute it waits for. Needs root and losetup.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safety import journal as journal_
from safety.journal import Journal, Kind, Outcome
from safety.places import journal_dir, new_journal
from safety.plan import Options
from safety.runner import write_plan
from tests.safety.conftest import made

WANTED = 0.20
_FILE = 24 << 20


def one(folder: Path) -> tuple[float, float]:
    """Seconds of one whole removal, and of the runner's own time in it."""
    os.environ["MOORING_RUNTIME_DIR"], os.environ["MOORING_STATE_DIR"] = str(folder / "run"), str(folder / "state")
    with made(folder) as here:
        here.fill(size=_FILE)
        plan = here.plan(Options().watch_s)
        path = new_journal(journal_dir(), plan.digest, time.time())
        with Journal.create(path, boot=journal_.boot_id()) as journal:
            write_plan(journal, plan)
        child = subprocess.Popen([sys.executable, "-m", "safety.runner", "--journal", str(path)])
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        records = journal_.read(path)
        assert records[-1].outcome is Outcome.DONE, records[-1].text
        began = next(record.at for record in records if record.kind is Kind.RUN)
        return records[-1].at - began, used.ru_utime + used.ru_stime


def main() -> int:
    """Print the table; exit code 1 when the share is too large."""
    if os.geteuid() != 0:
        print("needs root: loop devices and mounts", file=sys.stderr)
        return 1
    rounds = []
    for _ in range(5):
        with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder:
            rounds.append(one(Path(folder)))
    whole, own = (statistics.median(each[place] for each in rounds) for place in (0, 1))
    share = statistics.median(each[1] / each[0] for each in rounds)
    print("| removal, whole | Mooring's own time | share | at most |\n|---:|---:|---:|---:|")
    print(f"| {whole:.2f} s | {own:.2f} s | {100 * share:.0f} % | {100 * WANTED:.0f} % |")
    return 0 if share <= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
