"""Debian's tgtd as a peer for tests: started on free ports of loopback, ended with SIGKILL.

Use it as a context manager: `with Tgtd(tmp_path) as tgtd: tid = tgtd.add_target("iqn..."); tgtd.add_lun(tid)`.
Tests that use it carry `@needs_tgtd` and `@pytest.mark.root`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from initiator.model import Portal

CONTROL = Path("/var/run/tgtd")
FAST_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "2147483648"}
"""tgtd allocates every transfer anew; with this it keeps the memory (for benchmarks)."""

_START_SECONDS = 15.0


def _missing() -> str:
    if not shutil.which("tgtd") or not shutil.which("tgtadm"):
        return "tgtd is not installed (apt-get install tgt)"
    return "" if os.geteuid() == 0 else "tgtd needs root for its control socket"


needs_tgtd = pytest.mark.skipif(bool(_missing()), reason=_missing() or "tgtd is there")


class Tgtd:
    """One tgtd process.

    Args:
        folder: Where backing files and the log go.
        hosts: Addresses to listen on, all with the same port.
        port: TCP port; 0 for a free one.
        environment: Further variables for the process, as `FAST_MALLOC`.

    Attributes:
        portals: Where it listens, once started.
        process: The running process, once started.
    """

    def __init__(
        self,
        folder: Path,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.portals: tuple[Portal, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self._hosts = hosts
        self._port = port
        self._environment = dict(environment or {})
        self._control = 0
        self._claim = -1
        self._targets = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def portal(self) -> Portal:
        """The first portal."""
        return self.portals[0]

    @property
    def log(self) -> Path:
        """What tgtd has printed."""
        return self.folder / "tgtd.log"

    def start(self) -> Self:
        """Starts tgtd and waits until it takes orders; after `stop` the same port is used again, without targets."""
        CONTROL.mkdir(parents=True, exist_ok=True)
        self._control, self._claim = _claim()
        for _ in range(5):
            port = self._port or _free_port(self._hosts)
            if self._try(port):
                self._port = port
                self.portals = tuple(Portal(host, port, 1) for host in self._hosts)
                return self
        self.stop()
        raise RuntimeError(f"tgtd does not start; its log says: {self.log.read_text()}")

    def _try(self, port: int) -> bool:
        portals = ",".join(f"portal={host}:{port}" for host in self._hosts)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["tgtd", "-f", "--iscsi", portals, "--control-port", str(self._control)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                pass_fds=(self._claim,),  # its number stays taken for as long as it lives, whoever started it
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._adm("--op", "show", "--mode", "portal", check=False).count(f":{port},") == len(self._hosts):
                return True
            time.sleep(0.02)
        self._end()
        return False

    def stop(self) -> None:
        """Ends the process at once (SIGTERM does not, while it has targets). Targets are forgotten, files stay."""
        self._end()
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._targets = 0
        for name in (f"socket.{self._control}", f"socket.{self._control}.lock"):
            with contextlib.suppress(FileNotFoundError):
                (CONTROL / name).unlink()

    def add_target(self, name: str, **parameters: str) -> int:
        """A target open to everyone, with parameters such as `HeaderDigest="CRC32C"`; returns its id."""
        self._targets += 1
        tid = self._targets
        self._adm("--op", "new", "--mode", "target", "--tid", str(tid), "-T", name)
        self._adm("--op", "bind", "--mode", "target", "--tid", str(tid), "-I", "ALL")
        for key, value in parameters.items():
            self.set(tid, key, value)
        return tid

    def set(self, tid: int, key: str, value: str) -> None:
        """Sets one parameter of a target; it counts for the next login."""
        self._adm("--op", "update", "--mode", "target", "--tid", str(tid), "-n", key, "-v", value)

    def add_lun(self, tid: int, lun: int = 1, size: int = 64 << 20, path: Path | None = None) -> Path:
        """A disk in a sparse file (made if it is not there); returns the file. tgt's own LUN 0 is no disk."""
        backing = path or self.folder / f"target{tid}-lun{lun}.img"
        if not backing.exists():
            with backing.open("wb") as file:
                file.truncate(size)
        self._adm("--op", "new", "--mode", "logicalunit", "--tid", str(tid), "--lun", str(lun), "-b", str(backing))
        return backing

    def remove_lun(self, tid: int, lun: int = 1) -> None:
        """Takes a disk away while sessions may use it."""
        self._adm("--op", "delete", "--mode", "logicalunit", "--tid", str(tid), "--lun", str(lun))

    def add_account(self, tid: int, user: str, secret: str, *, outgoing: bool = False) -> None:
        """A CHAP account: of initiators, or with `outgoing` the target's own for mutual CHAP."""
        self._adm("--op", "new", "--mode", "account", "--user", user, "--password", secret)
        extra = ("--outgoing",) if outgoing else ()
        self._adm("--op", "bind", "--mode", "account", "--tid", str(tid), "--user", user, *extra)

    def sessions(self, tid: int) -> int:
        """How many sessions a target has now."""
        return self._adm("--op", "show", "--mode", "conn", "--tid", str(tid)).count("Session:")

    def _adm(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tgtadm", "--control-port", str(self._control), "--lld", "iscsi", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"tgtadm {arguments}: {done.stderr or done.stdout}")
        return done.stdout


def _claim() -> tuple[int, int]:
    """A number for a control socket that no other tgtd of a test has, and the lock that keeps it so.

    The port would be none: targets in two network namespaces may have the same, and the sockets are in one folder.
    """
    number = 0
    while True:
        number += 1
        lock = os.open(CONTROL / f"claim.{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number, lock


def _free_port(hosts: tuple[str, ...]) -> int:
    """A port that was free on every host a moment ago."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server((hosts[0], 0)))
            port: int = first.getsockname()[1]
            try:
                for host in hosts[1:]:
                    stack.enter_context(socket.create_server((host, port)))
            except OSError:
                continue
        return port
