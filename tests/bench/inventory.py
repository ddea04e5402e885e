"""What one snapshot of a large host costs: `python -m tests.bench.inventory [SESSIONS PATHS]...`.

A recorded tree (tests/host/kerneltree.py) with a multipathd that answers from another thread. CPU time of the reading
thread, median of some rounds: in full, after 1 % of the sessions and paths have changed, after nothing has, and the
bare cost of opening, reading and closing the same files in the cheapest way Python has, measured in turn with the full
reading. Each size runs in a process of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SIZES = ((250, 1000), (1000, 4000), (2500, 10000))
ROUNDS = 5


def main() -> None:
    """Prints the table."""
    numbers = [int(word) for word in sys.argv[1:]]
    sizes = tuple(zip(numbers[::2], numbers[1::2], strict=True)) or SIZES
    heads = ("sessions", "paths", "files", "full ms", "bare ms", "ratio", "1 % ms", "idle ms", "peak MB")
    print(" ".join(f"{head:>8}" for head in heads))
    for sessions, paths in sizes:
        words = [sys.executable, "-m", "tests.bench.inventory", "--one", str(sessions), str(paths)]
        subprocess.run(words, check=True)


def one(sessions: int, paths: int) -> None:
    """Measures one size and prints its line."""
    from initiator.host import watched
    from initiator.inventory import Inventory
    from tests.host.fakemultipathd import FakeMultipathd
    from tests.host.kerneltree import answers, big

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mooring-bench-", dir=memory))
    try:
        tree = big(folder / "host", sessions, paths)
        maps, listed = answers(sessions, paths)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with FakeMultipathd(tree.root, maps, listed):
            seen = _same_files(tree.root)
            files = sum(len(names) for _, names in seen)
            pairs = [(_cpu(lambda: _full(tree.root)), _cpu(lambda: _bare(seen))) for _ in range(ROUNDS)]
            full, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
            with Inventory(tree.root, addresses={}) as inventory:
                snapshot = inventory.read()
                assert (len(snapshot.sessions), len(snapshot.paths)) == (sessions, paths)
                assert {disk.state.value for disk in snapshot.disks} == {"attached"}
                for _ in range(1 + watched.SHARE):  # the second opens what is followed, or that and those after it
                    inventory.read()
                idle = statistics.median(_cpu(inventory.read) for _ in range(ROUNDS))
                changed = statistics.median(
                    _after_changes(tree.root, inventory.read, sessions, paths, turn) for turn in range(ROUNDS)
                )
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    finally:
        shutil.rmtree(folder)
    ratio = full / bare
    whole = " ".join(f"{number:8.0f}" for number in (sessions, paths, files, full, bare))
    print(f"{whole} {ratio:8.2f} {changed:8.0f} {idle:8.0f} {peak:8.0f}")


def _full(root: Path) -> None:
    from initiator.inventory import Inventory

    with Inventory(root, addresses={}) as inventory:
        inventory.read()


def _cpu(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def _after_changes(root: Path, read: Callable[[], object], sessions: int, paths: int, turn: int) -> float:
    """One percent of the sessions have failed, or come back, with their paths; as many disks have done I/O."""
    state, device = ("FAILED", "blocked") if turn % 2 == 0 else ("LOGGED_IN", "running")
    for sid in range(1, sessions // 100 + 1):
        (root / f"sys/class/iscsi_session/session{sid}/state").write_text(f"{state}\n")
        for lun in range(paths // sessions):
            (root / f"sys/class/scsi_device/{sid}:0:0:{lun}/device/state").write_text(f"{device}\n")
    stats = root / "proc/diskstats"
    lines = stats.read_text().splitlines()
    busy = slice(turn * len(lines) // 100, (turn + 1) * len(lines) // 100)
    lines[busy] = [f"{' '.join(line.split()[:3])} {1000 + turn} 0 8000 500 9 0 72 3 0 1 1" for line in lines[busy]]
    stats.write_text("\n".join(lines) + "\n")
    return _cpu(read)


def _same_files(root: Path) -> list[tuple[str, list[str]]]:
    """The files that a full reading takes in, by folder: attributes and node records."""
    from initiator.host import attributes

    seen: list[tuple[str, list[str]]] = []
    real = attributes.read_raw

    def spy(folder: str, names: Iterable[str]) -> dict[str, bytes] | None:
        found = real(folder, names)
        seen.append((folder, list(found or ())))
        return found

    attributes.read_raw = spy
    try:
        _full(root)
    finally:
        attributes.read_raw = real

    for folder, _, names in os.walk(root / "etc/iscsi/nodes"):
        if names:
            seen.append((folder, names))
    return seen


def _bare(seen: Iterable[tuple[str, list[str]]]) -> None:
    for folder, names in seen:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for name in names:
            file = os.open(name, os.O_RDONLY, dir_fd=handle)
            os.read(file, 4096)
            os.close(file)
        os.close(handle)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
