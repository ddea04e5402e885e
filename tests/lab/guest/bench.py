"""Times one full snapshot beside the commands that tell the same, turn by turn: `bench.py ROUNDS`; prints JSON.

`bare` repeats, and nothing else, the system calls with which a snapshot reads: each folder and file is opened, read and
closed again in the order in which the snapshot did it, in the tightest loop that Python has.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

COMMANDS = (
    ("iscsiadm", "-m", "session", "-P", "3"),
    ("multipath", "-ll"),
    ("lsblk", "-J"),
)


def main(rounds: int) -> None:
    """Measures and prints."""
    from initiator.host.multipathd import Multipathd
    from initiator.inventory import Inventory

    with Inventory() as inventory:
        snapshot = inventory.read(full=True)
        calls = recorded(lambda: inventory.read(full=True))
        steps: dict[str, Callable[[], object]] = {
            "commands": lambda: run(*COMMANDS),
            "snapshot": lambda: inventory.read(full=True),
            "again": inventory.read,
            "bare": lambda: replay(calls),
        }
        for words in COMMANDS:
            steps[" ".join(words)] = functools.partial(run, words)
        steps["mooring list --json"] = functools.partial(run, (f"{sys.prefix}/bin/mooring", "list", "--json"))
        with Multipathd() as daemon:
            steps["multipathd's answer"] = daemon.read
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
            for _ in range(rounds):
                for name, step in steps.items():
                    found[name].append(timed(step))
    result = {
        "sessions": len(snapshot.sessions),
        "maps": len(snapshot.maps),
        "paths": len(snapshot.paths),
        "files": sum(call[0] == "open" for call in calls),
        "folders": sum(call[0] in ("listdir", "scandir") for call in calls),
        "problems": [str(each) for each in snapshot.problems],
        "wall_ms": {name: statistics.median(wall for wall, _ in times) for name, times in found.items()},
        "cpu_ms": {name: statistics.median(cpu for _, cpu in times) for name, times in found.items()},
    }
    print(json.dumps(result))


def run(*commands: Sequence[str]) -> None:
    """One after another; what they print is read and thrown away."""
    for words in commands:
        subprocess.run(words, capture_output=True, check=True)


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds by the clock, and of CPU time of this process and of the children that have ended."""
    began, before = time.monotonic(), cpu()
    step()
    return (time.monotonic() - began) * 1000, (cpu() - before) * 1000


def cpu() -> float:
    """Seconds so far."""
    every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in every)


Call = tuple[str, Any, int]
"""What was called, the path, and the place in this list of the folder that it is relative to, or -1."""


def recorded(work: Callable[[], object]) -> list[Call]:
    """The calls with which `work` reads files and folders."""
    calls: list[Call] = []
    opened: dict[int, int] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(spied(builtins, "open", calls, opened))
        for name in ("open", "listdir", "scandir", "readlink", "lstat", "stat"):
            stack.enter_context(spied(os, name, calls, opened))
        work()
    return calls


@contextlib.contextmanager
def spied(owner: Any, name: str, calls: list[Call], opened: dict[int, int]) -> Iterator[None]:
    """Notes each call of one function."""
    real = getattr(owner, name)

    def spy(path: Any, *words: Any, **more: Any) -> Any:
        calls.append((name, path, opened.get(more.get("dir_fd") or -1, -1)))
        at = len(calls) - 1
        result = real(path, *words, **more)
        if isinstance(result, int):
            opened[result] = at
        return result

    setattr(owner, name, spy)
    try:
        yield
    finally:
        setattr(owner, name, real)


def replay(calls: list[Call]) -> None:
    """The same once more; a folder stays open until another one is opened by its path."""
    folder = folder_at = -1
    for at, (name, path, under) in enumerate(calls):
        try:
            if name == "open":
                if under >= 0 and under == folder_at:
                    file = os.open(path, os.O_RDONLY, dir_fd=folder)
                else:
                    file = os.open(path, os.O_RDONLY)
                    if at + 1 < len(calls) and calls[at + 1][2] == at:
                        if folder >= 0:
                            os.close(folder)
                        folder, folder_at = file, at
                        continue
                while len(os.read(file, 65536)) == 65536:
                    pass
                os.close(file)
            elif isinstance(path, int):
                continue
            elif name == "scandir":
                with os.scandir(path) as entries:
                    for entry in entries:
                        entry.inode()
            else:
                getattr(os, name)(path)
        except OSError:
            pass
    if folder >= 0:
        os.close(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]))
