"""The target process of a range: start it in a session of its own, know it again, end it.

A process is known by its id, its start time and its command line together, so that a process id that the kernel has
given to somebody else is never mistaken for ours. Waiting and killing go through a pidfd for the same reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from initiator.errors import MooringError
from initiator.model import Portal
from initiator.practice import control
from initiator.practice.record import Kind, Record, boot_id

HOSTS = ("127.0.0.1", "127.0.0.2")
STANDARD_PORT = 3260
MODULE = "initiator.practice.target"
_READY_S = 15.0
_STOP_S = 10.0
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Targets that this process started: they have to be waited for, or they stay as zombies."""


@contextlib.contextmanager
def listeners_on(portals: Sequence[Portal]) -> Iterator[list[socket.socket]]:
    """Listening sockets on exactly these portals, to serve a range again.

    Raises:
        MooringError: somebody else listens there.
    """
    with contextlib.ExitStack() as stack:
        try:
            yield [stack.enter_context(_listen(portal.host, portal.port)) for portal in portals]
        except OSError as error:
            raise MooringError(f"a portal of the range cannot be opened again: {error}", code="no-port") from error


@contextlib.contextmanager
def listeners(hosts: Sequence[str] = HOSTS) -> Iterator[tuple[list[socket.socket], tuple[Portal, ...]]]:
    """Listening sockets on one port of all hosts: 3260 where it is free on each, else one that the kernel chooses.

    The target inherits them, so nobody can take the port between choosing and serving. Closed on leaving.

    Raises:
        MooringError: no port is free on all hosts.
    """
    with contextlib.ExitStack() as stack:
        for attempt in range(20):
            port = STANDARD_PORT if attempt == 0 else 0
            sockets: list[socket.socket] = []
            try:
                for host in hosts:
                    sockets.append(_listen(host, port))
                    port = sockets[0].getsockname()[1]
            except OSError:
                for opened in sockets:
                    opened.close()
                continue
            for opened in sockets:
                stack.enter_context(opened)
            yield sockets, tuple(Portal(host, port, tag) for tag, host in enumerate(hosts, 1))
            return
        raise MooringError(f"no TCP port is free on all of {', '.join(hosts)}", code="no-port")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Without it a range that is started again soon would not get 3260: old connections linger in TIME-WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


@dataclasses.dataclass(frozen=True, slots=True)
class TargetProcess:
    """One process that serves a range. `started` is its start time in clock ticks since boot (proc(5), stat 22)."""

    pid: int
    started: int

    @classmethod
    def start(cls, config: Path, log: Path, sockets: Sequence[socket.socket], again: bool = False) -> TargetProcess:
        """Run the target in a session of its own; it inherits the listening sockets, in the order of the portals.

        `again` says that it takes the place of one that was killed.
        """
        fds = [listener.fileno() for listener in sockets]
        argv = [sys.executable, "-m", MODULE, "--config", str(config), "--fds", ",".join(map(str, fds))]
        if again:
            argv.append("--again")
        with open(log, "ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=fds,
                start_new_session=True,
                cwd="/",
            )
        _children[child.pid] = child
        return cls(child.pid, _start_time(child.pid) or 0)

    @classmethod
    def of(cls, record: Record) -> TargetProcess | None:
        """The target of the record if it still lives, else None."""
        thing = record.find(Kind.PROCESS, "target")
        if thing is None or record.boot != boot_id():
            return None
        pid, started = thing.details.get("pid"), thing.details.get("started")
        if isinstance(pid, int) and isinstance(started, int):
            return cls(pid, started) if _start_time(pid) == started and _serves(pid, record.config) else None
        return _search(record.config)

    @classmethod
    def alive_in(cls, record: Record) -> bool:
        """True while the target of the record lives."""
        return cls.of(record) is not None

    def wait_ready(self, path: Path) -> None:
        """Wait until the control socket answers.

        Raises:
            MooringError: the process ended, or stayed silent for 15 seconds.
        """
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(control.NotRunningError):
                control.ask(path, "status", timeout=deadline - time.monotonic())
                return
            if self.wait(0.02):
                raise MooringError("the practice target ended at once; its log says why", code="practice-target")
        raise MooringError("the practice target did not become ready", code="practice-target")

    def stop(self, path: Path) -> None:
        """Ask it to end, then make it end, and see it gone.

        Raises:
            MooringError: it is still there.
        """
        with contextlib.suppress(MooringError):
            control.ask(path, "stop", timeout=2.0)
        if self.wait(_STOP_S / 2):
            return
        self._kill()
        if not self.wait(_STOP_S / 2):
            raise MooringError(f"process {self.pid} (practice target) does not end", code="practice-target")

    def wait(self, seconds: float) -> bool:
        """True when the process has ended, after at most so many seconds."""
        child = _children.get(self.pid)
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
                del _children[self.pid]
                return True
            return False
        with self._open() as fd:
            if fd is None:
                return True
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            return bool(poller.poll(seconds * 1000))

    def _kill(self) -> None:
        with self._open() as fd:
            if fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

    @contextlib.contextmanager
    def _open(self) -> Iterator[int | None]:
        """A descriptor of this very process; None when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            # Checked after the open: the descriptor pins the process that has the id now.
            yield fd if _start_time(self.pid) == self.started else None
        finally:
            os.close(fd)


def _start_time(pid: int) -> int | None:
    """Start time of a living process; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _serves(pid: int, config: str) -> bool:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return MODULE.encode() in argv and os.fsencode(config) in argv


def _search(config: str) -> TargetProcess | None:
    """The range was killed between starting the target and writing its id down: find it by its configuration."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _serves(int(entry.name), config):
            started = _start_time(int(entry.name))
            if started is not None:
                return TargetProcess(int(entry.name), started)
    return None
