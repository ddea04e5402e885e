"""A blocking, time-limited client of the engine, for the command line, the runner and the reading of the host.

It imports no asyncio: `mooring list --json` stands on it and has 150 ms for everything.

Methods of the engine (`EngineClient.call`), their parameters and what they give:

- `hello` -> `{version, pid, schema, started_at}`
- `status` -> `{pid, started_at, log, workers: [{pid, target, portals, sessions, attached, replaced, working,
  beat_age_s, protections}], attached: [{disk, name, device, state}], protections}`
- `stop` -> `{stopping: true}`; code `attached` while a disk is attached.
- `snapshot` -> the fields of `EngineReport`.
- `discover{portal, CHAP?, initiator?, options?}` -> `{targets: [{name, portals: [Portal]}]}`
- `login{target, portals, CHAP?, initiator?, options?}` -> `{sessions: [Session], failed: [{portal,
  code, reason}]}`; an error when no portal lets us in.
- `logout{session}` -> `{session, state}`; code `attached` while the session carries an attached disk.
- `attach{target, lun, portals?, CHAP?, initiator?, name?, read_only?, options?}` -> Disk
- `flush{disk}` -> `{status, sense, explain, paths}`: SYNCHRONIZE CACHE now, status 0 is GOOD.
- `claims{disk}` -> `{initiator, claims}`: our own name, and a `Claims` of `initiator.scsi.reservations`.
- `offline{disk}` -> `{disk, evidence: [text]}`; its loop device has to be gone before.
- `online{disk}` -> Disk: the undo of `offline`.
- `trace{session, seconds, limit}` with one descriptor (`EngineClient.trace`) -> `{}`: what goes over the session is
  written there as pcapng; the descriptor is closed after `seconds` or about `limit` bytes. Code `traced` while another
  trace of the session runs.
- `cleanup{disk}` -> `{disk, evidence: [text]}`: takes away what a dead engine left; refuses while it is in use. A disk
  in state `dead` is found by a fresh engine too, so `ensure` first.

CHAP stands for `chap_user` and `chap_secret`, and for `chap_target_user` and `chap_target_secret` where the target has
to prove who it is, too. `options` are those of `initiator.engine.options`. `portals` are texts such as
`192.0.2.1:3260` or `[2001:db8::1]`. Objects are as `initiator.engine.report` writes them.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initiator import places
from initiator.engine import report, rpc
from initiator.engine.report import EngineReport
from initiator.engine.rpc import EngineError, EngineNotRunning, EngineSilent

__all__ = ["EngineClient", "EngineError", "EngineNotRunning", "EngineReport", "EngineSilent"]

SUPERVISOR = "initiator.engine.supervisor"
LOG_NAME = "engine.log"


class EngineClient:
    """Talks to the engine of one runtime folder. Each call has a connection of its own; nothing is kept between calls.

    Args:
        runtime: the engine's folder; the user's own when None.
        timeout: seconds that a call may take unless it says otherwise.
        module: the module that is run when an engine has to be started.
    """

    def __init__(self, runtime: Path | None = None, timeout: float = 5.0, module: str = SUPERVISOR) -> None:
        self.runtime = places.runtime_dir() if runtime is None else runtime
        self.timeout = timeout
        self._module = module

    @property
    def socket_path(self) -> Path:
        """Where the engine listens."""
        return self.runtime / rpc.SOCKET_NAME

    def running(self) -> bool:
        """Whether an engine accepts connections now. It may still be too busy to answer."""
        try:
            self._connect(self.timeout).close()
        except EngineError:
            return False
        return True

    def ensure(self, timeout: float = 10.0) -> None:
        """Start the engine if none runs, and wait until it answers.

        Raises:
            EngineNotRunning: it did not come up; the text names its log.
            EngineSilent: it runs and does not answer.
        """
        deadline = time.monotonic() + timeout
        problem: EngineError = EngineNotRunning(f"the engine did not start within {timeout:.3g} s")
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.call("hello", timeout=left)
            except EngineNotRunning:
                start(self.runtime, self._module, left)
            except EngineSilent as error:  # one that is just ending drops its connections
                problem = error
                time.sleep(0.02)
            else:
                return
        problem.fix = f"see its log: {self.runtime / LOG_NAME}"
        raise problem

    def call(self, method: str, timeout: float | None = None, **params: Any) -> Any:
        """Ask the engine and give its answer, as the list at the top of this module says.

        Raises:
            EngineNotRunning: there is none; nothing was done.
            EngineSilent: no answer within `timeout` seconds; whether it was done is not known.
            EngineError: the engine refused or failed, with its code.
        """
        limit = self.timeout if timeout is None else timeout
        with self._connect(limit) as connection, _patience(method, limit):
            connection.sendall(rpc.encode(rpc.request(1, method, params)))
            return rpc.unwrap(self._answer(connection, method, limit))

    @staticmethod
    def _answer(connection: socket.socket, method: str, limit: float) -> rpc.Message:
        deadline = time.monotonic() + limit
        lines = rpc.Lines()
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(1 << 18)
            if not data:
                raise EngineSilent(f"the engine ended before it answered {method!r}", fix="mooring engine status")
            for message in lines.feed(data):
                if message.get("id") == 1:
                    return message

    def trace(self, session: str, fd: int, seconds: float, limit: int) -> None:
        """Have a session recorded as pcapng into a descriptor; the engine closes its copy at the end.

        Raises: as `call`.
        """
        params = {"session": session, "seconds": seconds, "limit": limit}
        message = {**rpc.request(1, "trace", params), "fds": 1}
        with self._connect(self.timeout) as connection, _patience("trace", self.timeout):
            socket.send_fds(connection, [rpc.encode(message)], [fd])
            rpc.unwrap(self._answer(connection, "trace", self.timeout))

    def snapshot(self, timeout: float | None = None) -> EngineReport:
        """Everything the engine holds.

        Raises:
            EngineNotRunning, EngineSilent, EngineError: as `call`.
            ReportError: the engine is of another version.
        """
        return report.from_json(EngineReport, self.call("snapshot", timeout))

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(timeout)
            connection.connect(str(self.socket_path))
        except TimeoutError as error:
            connection.close()
            raise EngineSilent("the engine runs but accepts no connection") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            raise EngineNotRunning("the engine is not running") from error
        except OSError as error:
            connection.close()
            raise EngineError(f"{self.socket_path}: {error.strerror}", code="not-permitted") from error
        if not rpc.trusted(connection):
            connection.close()
            raise EngineError(f"{self.socket_path} belongs to another user", code="not-permitted")
        return connection


@contextmanager
def _patience(method: str, limit: float) -> Iterator[None]:
    """What a socket says about a lost or silent engine, as our own errors."""
    try:
        yield
    except TimeoutError as error:
        fix = "see what became of it: mooring engine status"
        raise EngineSilent(f"the engine did not answer {method!r} within {limit:.3g} s", fix=fix) from error
    except (BrokenPipeError, ConnectionResetError) as error:
        raise EngineSilent(f"the engine ended before it answered {method!r}", fix="mooring engine status") from error


def start(runtime: Path, module: str = SUPERVISOR, timeout: float = 10.0) -> None:
    """Start an engine in a session of its own, so that it outlives this terminal, and wait until it listens.

    An engine that runs already is left alone.

    Raises:
        EngineNotRunning: it failed to start; the text names its log.
    """
    import subprocess

    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = {**os.environ, "MOORING_RUNTIME_DIR": str(runtime.resolve()), "PYTHONPATH": os.pathsep.join(paths)}
    argv = [sys.executable, "-m", module, "--detach"]
    null = subprocess.DEVNULL
    try:
        with open(runtime / LOG_NAME, "ab", opener=_private) as log:
            child = subprocess.Popen(argv, stdin=null, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True)
    except OSError as error:
        raise EngineNotRunning(f"the engine cannot be started: {error}", fix="") from error
    fix = f"see its log: {runtime / LOG_NAME}"
    try:
        if child.wait(timeout):
            raise EngineNotRunning("the engine ended while it started", fix=fix)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.wait()
        raise EngineNotRunning(f"the engine did not start within {timeout:.3g} s", fix=fix) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
