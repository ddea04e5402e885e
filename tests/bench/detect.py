"""How soon Mooring notices a fault: `python -m tests.bench.detect`.

Two veth cables between network namespaces, a real target (tgtd), sessions of the engine over both; beside them a probe
as it stands beside a session of the kernel, over the first cable. Nobody does I/O. Seconds from the fault to the first
line of `mooring watch --json` that says so, and to the probe's first word; medians and the worst of some rounds. The
kernel's initiator, iscsid and multipathd are not here: they need another kernel.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from tests.cables import LEFT, PORT, TARGET, Wires, run

ROUNDS = 5
WAIT = 20.0
PROBE = """
import json, os, sys
from initiator.engine.prober import Wanted
from initiator.probing import Probes
probes = Probes(heard=lambda found: print(json.dumps({"state": found.state}), flush=True))
with probes:
    probes.want((Wanted(**json.loads(sys.argv[1])),))
    sys.stdin.read()
"""


@dataclasses.dataclass
class Told:
    """Lines of a process, each with the time at which it came."""

    process: subprocess.Popen[str]
    lines: list[tuple[float, dict[str, Any]]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self.lines.append((time.monotonic(), json.loads(line)))

    def first(self, since: float, fits: Callable[[dict[str, Any]], bool]) -> float | None:
        """Seconds after `since` until the first line that fits."""
        return next((at - since for at, line in list(self.lines) if at > since and fits(line)), None)

    def end(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait(10)


def bad(line: dict[str, Any]) -> bool:
    """Whether a line of `mooring watch` says that something is wrong."""
    return line["severity"] in ("bad", "warn")


def lost(line: dict[str, Any]) -> bool:
    """Whether a probe misses the target."""
    return line["state"] in ("silent", "lost", "not-ready")


def main() -> int:
    """Prints the table."""
    found: dict[str, tuple[list[float | None], list[float | None]]] = {}
    with tempfile.TemporaryDirectory() as folder, Wires(Path(folder)) as wires:
        assert wires.target is not None
        assert wires.target.process is not None
        pid = wires.target.process.pid
        blackhole = ("ip", "-n", wires.far, "route")
        faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "cable pulled": (lambda: wires.pull(1), lambda: wires.pull(1, up=True)),
            "packets dropped": (
                lambda: run(*blackhole, "add", "blackhole", "10.19.1.1/32"),
                lambda: run(*blackhole, "del", "blackhole", "10.19.1.1/32"),
            ),
            "target hangs": (lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)),
        }
        watch, probe = _start(wires)
        _warm(wires, watch)
        for name, (begin, end) in faults.items():
            times: tuple[list[float | None], list[float | None]] = ([], [])
            for number in range(ROUNDS):
                _settled(watch, probe)
                time.sleep(0.37 * number)  # at another moment between two looks
                at = time.monotonic()
                begin()
                while time.monotonic() - at < WAIT and None in (watch.first(at, bad), probe.first(at, lost)):
                    time.sleep(0.05)
                times[0].append(watch.first(at, bad))
                times[1].append(probe.first(at, lost))
                end()
            found[name] = times
        watch.end()
        probe.end()
    print(f"{'fault':<18} {'mooring watch, s':>20} {'probe, s':>16}")
    for name, (seen, probed) in found.items():
        print(f"{name:<18} {_cell(seen):>20} {_cell(probed):>16}")
    return 0


def _start(wires: Wires) -> tuple[Told, Told]:
    words, environment, folder = wires.command("watch", "--json")
    wanted = {
        "session": "kernel:s:1", "target": TARGET, "portal": f"{LEFT}:{PORT}", "device": "wire1", "local": "10.19.1.1",
        "initiator": "iqn.2026-11.io.mooring.test:probe", "lun": 1,
    }  # fmt: skip
    probe = ["ip", "netns", "exec", wires.here, sys.executable, "-c", PROBE, json.dumps(wanted)]

    def start(line: Sequence[str]) -> Told:
        pipe = subprocess.PIPE
        return Told(subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=folder))

    return start(words), start(probe)


def _warm(wires: Wires, watch: Told) -> None:
    """Moves the other cable until the watcher, which has much to import, tells of it."""
    up = False
    while not watch.lines:
        wires.pull(2, up=up)
        up = not up
        time.sleep(1.5)
    wires.pull(2, up=True)


def _settled(watch: Told, probe: Told) -> None:
    """Waits until the probe measures again and nothing has happened for a while."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.2)
        now = time.monotonic()
        quiet = not watch.lines or now - watch.lines[-1][0] > 4.0
        if probe.lines and probe.lines[-1][1]["state"] == "ok" and now - probe.lines[-1][0] < 2.0 and quiet:
            return
    raise RuntimeError("the host did not come to rest")


def _cell(times: Sequence[float | None]) -> str:
    known = [each for each in times if each is not None]
    if len(known) < len(times):
        return f"{len(known)} of {len(times)} in {WAIT:.0f} s"
    return f"{statistics.median(known):.2f} ({max(known):.2f})"


if __name__ == "__main__":
    sys.exit(main())
