"""Debian's isnsd (open-isns) as a peer for tests, on a free port of loopback, with a database of its own.

Use it as a context manager: `with Isnsd(tmp_path) as isnsd: ask(isnsd.portal)`. Tests that use it carry `@needs_isnsd`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from initiator.model import Portal

_PROGRAM = shutil.which("isnsd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_isnsd = pytest.mark.skipif(_PROGRAM is None, reason="isnsd is not installed (apt-get install open-isns-server)")

_CONFIG = """
SourceName = iqn.2026-11.com.example:isns
BindAddress = 127.0.0.1:{port}
Database = {folder}/db
ControlSocket = {folder}/control
PIDFile = {folder}/isnsd.pid
AuthKeyFile = {folder}/key
ServerKeyFile = {folder}/key.pub
Security = 0
SLPRegister = 0
DefaultDiscoveryDomain = {domain}
RegistrationPeriod = 10m
ESIMinInterval = 1s
ESIMaxInterval = 2s
ESIRetries = 2
SCNRetries = 2
SCNTimeout = 2s
"""


class Isnsd:
    """One isnsd process.

    Args:
        folder: Where its files go.
        domain: Whether nodes that nobody has put into a discovery domain see each other.
    """

    def __init__(self, folder: Path, *, domain: bool = True) -> None:
        self._folder = folder / "isnsd"
        self._domain = domain
        self._process: subprocess.Popen[bytes] | None = None
        self.portal = Portal("127.0.0.1", 0)

    def __enter__(self) -> Self:
        self._folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.portal = Portal("127.0.0.1", free.getsockname()[1])
        config = self._folder / "isnsd.conf"
        config.write_text(_CONFIG.format(port=self.portal.port, folder=self._folder, domain=int(self._domain)))
        assert _PROGRAM is not None
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_PROGRAM, "--config", str(config), "--foreground"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 10.0
        while not self._listens():
            assert time.monotonic() < deadline, f"isnsd does not listen; its log says: {self.log}"
            time.sleep(0.02)
        return self

    @property
    def log(self) -> str:
        """What isnsd has printed."""
        return (self._folder / "log").read_text()

    def freeze(self) -> None:
        """Have it hang: the kernel still takes connections and bytes for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    @property
    def unread(self) -> int:
        """Bytes that have come to it and that it has not read."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        queues = (each[4].partition(":")[2] for each in lines if each[1].endswith(f":{self.portal.port:04X}"))
        return sum(int(queue, 16) for queue in queues)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection((self.portal.host, self.portal.port), 1.0):
            return True
        return False

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
