"""Two cables between network namespaces of a test: a target in one, Mooring's engine and commands in the other.

One cable is a veth pair, the other one a veth pair under a macvlan. Use it as a context manager; it needs root,
iproute2 and tgtd.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.tgtd import Tgtd

TARGET = "iqn.2026-11.io.mooring.test:wires"
LEFT, RIGHT = "10.19.1.2", "10.19.2.2"
PORT = 3269


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


class Wires:
    """Two namespaces with two cables, a target in one of them and an engine in the other."""

    def __init__(self, folder: Path) -> None:
        self.here, self.far = (f"moor{end}-{os.getpid()}" for end in "ab")
        self._folder = folder
        self.target: Tgtd | None = None
        self._environment = {
            **os.environ,
            **{f"MOORING_{name}_DIR": str(folder / name.lower()) for name in ("RUNTIME", "STATE", "CONFIG")},
        }

    def __enter__(self) -> Self:
        try:
            self._make()
            self.target = self._target()
            portals = [word for host in (LEFT, RIGHT) for word in ("--portal", f"{host}:{PORT}")]
            self.mooring("login", TARGET, *portals, "--via", "engine")
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _target(self) -> Tgtd:
        """tgtd in the other namespace; its control socket is a file, and the same for both."""
        program = self._folder / "bin" / "tgtd"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec ip netns exec {self.far} {shutil.which("tgtd")} "$@"\n')
        program.chmod(0o755)
        path = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        target = Tgtd(self._folder, (LEFT, RIGHT), PORT, path).start()
        target.add_lun(target.add_target(TARGET), 1)
        return target

    def _make(self) -> None:
        for name in (self.here, self.far):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for number in (1, 2):
            wire, far = f"wire{number}", f"far{number}"
            run("ip", "-n", self.here, "link", "add", wire, "type", "veth", "peer", "name", far, "netns", self.far)
            run("ip", "-n", self.here, "link", "set", wire, "up")
            run("ip", "-n", self.far, "addr", "add", f"10.19.{number}.2/24", "dev", far)
            run("ip", "-n", self.far, "link", "set", far, "up")
        run(
            "ip", "-n", self.here, "link", "add", "link", "wire2", "name", "upper2", "type", "macvlan", "mode", "bridge"
        )
        for number, device in ((1, "wire1"), (2, "upper2")):
            run("ip", "-n", self.here, "addr", "add", f"10.19.{number}.1/24", "dev", device)
            run("ip", "-n", self.here, "link", "set", device, "up")

    def command(self, *words: str) -> tuple[list[str], dict[str, str], Path]:
        """A command of Mooring's in the namespace with the cables: its words, environment and folder."""
        words_ = ["ip", "netns", "exec", self.here, sys.executable, "-m", "tui.cli", *words]
        return words_, self._environment, Path(__file__).parents[1]

    def mooring(self, *words: str, check: bool = True) -> Any:
        """What one of Mooring's commands prints as JSON, run in the namespace with the cables."""
        line, environment, folder = self.command(*words, "--json")
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment, cwd=folder)
        assert done.returncode == 0 or not check, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def ip(self, *words: str) -> Any:
        return json.loads(run("ip", "-j", "-n", self.here, *words))

    def pull(self, number: int, up: bool = False) -> None:
        run("ip", "-n", self.far, "link", "set", f"far{number}", "up" if up else "down")

    def _clear(self) -> None:
        for words in (("logout", TARGET, "--via", "engine"), ("engine", "stop")):
            line, environment, folder = self.command(*words)
            subprocess.run(line, capture_output=True, timeout=60, env=environment, cwd=folder, check=False)
        if self.target is not None:
            self.target.stop()
        for name in (self.here, self.far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30, check=False)
