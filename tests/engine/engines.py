"""Engines for tests: started in a folder of their own, and taken away whatever the test did to them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from initiator.engine import attached, kernel
from initiator.engine.client import SUPERVISOR, EngineClient, EngineError
from initiator.model import Disk
from tests.engine import memory_supervisor

T = TypeVar("T")
TARGET = "iqn.2026-11.io.mooring.test:memory"
SIZE = 16 << 20


def wait_for(condition: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """The first true value of `condition`; an engine that is away for a moment counts as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(EngineError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or condition}"
        time.sleep(0.02)


def let_go(device: str) -> None:
    """Detach a loop device and wait until it is; its number may be another test's at once."""
    file = attached.backing_file(device)
    subprocess.run(["losetup", "-d", device], check=True)
    wait_for(lambda: attached.backing_file(device) != file, what=f"{device} to be detached from {file}")


class Engine:
    """One engine and everything that it makes."""

    def __init__(self, runtime: Path, medium: Path, module: str) -> None:
        self.runtime = runtime.resolve()
        self.medium = medium
        self.client = EngineClient(self.runtime, timeout=10.0, module=module)

    def call(self, method: str, **params: Any) -> Any:
        return self.client.call(method, timeout=45.0, **params)

    def attach(self, name: str = "disk", **options: Any) -> str:
        """A disk on the medium; its device."""
        self.client.ensure()
        given = {"medium": str(self.medium), "size": SIZE, **options}
        disk = self.call("attach", target=TARGET, lun=0, portals=["127.0.0.1"], name=name, options=given)
        assert disk["state"] == "attached"
        return str(disk["device"])

    def disk(self, name: str = "disk") -> Disk | None:
        return next((disk for disk in self.client.snapshot().disks if disk.name == name), None)

    def state(self, name: str = "disk") -> str | None:
        disk = self.disk(name)
        return None if disk is None else disk.state.value

    def worker(self, index: int = 0) -> dict[str, Any]:
        workers: list[dict[str, Any]] = self.call("status")["workers"]
        return workers[index] if len(workers) > index else {}

    def pid(self) -> int:
        return int(self.call("hello")["pid"])

    def events(self) -> str:
        return "\n".join(event.text for event in self.client.snapshot().events)

    def log(self) -> str:
        return (self.runtime / "engine.log").read_text()

    def processes(self) -> list[int]:
        """Every process of this engine: workers name the folder, the supervisor has it in its environment."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                inside = Path(f"/proc/{entry}/environ").read_bytes()
                ours = f"MOORING_RUNTIME_DIR={self.runtime}".encode() in inside.split(b"\0")
                if ours and (b".engine." in line):
                    found.append(int(entry))
        return found

    def end(self) -> None:
        """Take away what is left: detach, stop, and then by force."""
        with contextlib.suppress(EngineError):
            self.call("stop")
        for mount in kernel.own_mounts():
            if mount.mountpoint.startswith(f"{self.runtime}/"):
                kernel.abort(kernel.abort_path(mount.dev))
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.02)
        folder = f"{self.runtime}/{attached.FOLDER_NAME}"
        for device in attached.loops_below(folder):
            subprocess.run(["umount", device], capture_output=True, check=False)
            subprocess.run(["losetup", "-d", device], check=False)
        for mount in kernel.own_mounts():
            if mount.mountpoint.startswith(folder):
                umount = ["umount", mount.mountpoint]  # busy while a killed process is still closing what it had open
                wait_for(lambda umount=umount: not subprocess.run(umount).returncode, what=str(umount))  # type: ignore[misc]


@contextlib.contextmanager
def running(folder: Path, module: str = memory_supervisor.MODULE) -> Iterator[Engine]:
    """An engine in `folder`/runtime that is started by its first use."""
    engine = Engine(folder / "runtime", folder / "medium", module)
    try:
        yield engine
    finally:
        engine.end()


@contextlib.contextmanager
def kept(engine: Engine) -> Iterator[None]:
    """An engine that does not end yet: somebody is connected to it."""
    with socket.socket(socket.AF_UNIX) as connection:

        def connected() -> bool:
            engine.client.ensure()
            return connection.connect_ex(str(engine.client.socket_path)) == 0

        wait_for(connected, what="a connection to the engine")
        yield


@pytest.fixture
def engine(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine whose only disk is a file."""
    monkeypatch.setenv("MOORING_ENGINE_IDLE", "30")
    monkeypatch.setenv("MOORING_ENGINE_ADOPTION", "5")
    monkeypatch.setenv("MOORING_ENGINE_BUFFERS", "16")
    with running(own_folders) as found:
        yield found


@pytest.fixture
def real_engine(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine as people run it."""
    monkeypatch.setenv("MOORING_ENGINE_IDLE", "30")
    monkeypatch.setenv("MOORING_ENGINE_BUFFERS", "16")
    with running(own_folders, SUPERVISOR) as found:
        yield found
