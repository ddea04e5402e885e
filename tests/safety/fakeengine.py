"""An engine with real loop devices and real TCP connections, but without iSCSI: it serves a plain file.

It speaks the engine's socket protocol, so that the runner, its steps and its helpers meet the real kernel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from initiator.engine import rpc
from initiator.engine.report import EngineReport, to_json
from initiator.errors import MooringError, RefusedError
from initiator.model import Connection, Disk, DiskState, PathState, Portal, Session, SessionState, Source
from initiator.model import Path as Route

WWID = "naa.6001405000000001"
TARGET = "iqn.2026-11.example:plain"


class FakeEngine:
    """One disk over two sessions.

    Attributes:
        file: The file that is the logical unit.
        flushes: How often it was asked to flush.
        silent: Methods that do what they are asked and never answer.
    """

    def __init__(self, runtime: Path, file: Path) -> None:
        self.file = file
        self.name = "data"
        self.device: str | None = None
        self.state = DiskState.ATTACHED
        self.flushes = 0
        self.silent: set[str] = set()
        self.secret: str | None = None
        self.before: Callable[[str], None] = lambda method: None
        self._sessions: dict[str, tuple[Session, socket.socket]] = {}
        self._next = 1
        self._lock = threading.Lock()
        self._targets = [self._listen(f"127.0.0.{number}") for number in (1, 2)]
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(runtime / rpc.SOCKET_NAME))
        self._server.listen(16)
        self._attach()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @staticmethod
    def _listen(host: str) -> socket.socket:
        listener = socket.socket()
        listener.bind((host, 0))
        listener.listen(8)
        return listener

    # What the practice target and the kernel would hold.

    def _attach(self) -> None:
        for target in self._targets:
            host, port = target.getsockname()
            connection = socket.create_connection((host, port))
            accepted, _ = target.accept()
            threading.Thread(target=_drain, args=(accepted,), daemon=True).start()
            local_host, local_port = connection.getsockname()
            number, self._next = self._next, self._next + 1
            ends = Connection(f"engine:c:{number}", "0", "up", 0, local_host, local_port, host, port)
            session = Session(
                id=f"engine:s:{number}",
                name=f"plain@{host}:{port}",
                state=SessionState.LOGGED_IN,
                source=Source.ENGINE,
                target=TARGET,
                portal=Portal(host, port),
                initiator="iqn.2026-11.example:host",
                chap_user="admin" if self.secret else None,
                connections=(ends,),
                luns=(0,),
            )
            self._sessions[session.id] = (session, connection)
        self._loop()

    def _loop(self) -> None:
        done = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", str(self.file)],
            check=True,
            capture_output=True,
            text=True,
        )
        self.device = done.stdout.strip()
        self.state = DiskState.ATTACHED

    @property
    def attached(self) -> bool:
        """Whether the loop device is there and stands on the file."""
        if self.device is None:
            return False
        try:
            backing = Path(f"/sys/block/{Path(self.device).name}/loop/backing_file").read_text().strip()
        except OSError:
            return False
        return backing == str(self.file)

    def _report(self) -> EngineReport:
        sessions = tuple(session for session, _ in self._sessions.values())
        if not sessions:
            return EngineReport(0.0)
        sequence = None
        if self.attached and self.device is not None:
            sequence = int(Path(f"/sys/block/{Path(self.device).name}/diskseq").read_text())
        disk = Disk(
            id=f"engine:d:{WWID}",
            name=self.name,
            state=self.state,
            source=Source.ENGINE,
            wwid=WWID,
            size_bytes=self.file.stat().st_size,
            device=self.device if self.attached else None,
            diskseq=sequence,
            target=TARGET,
            lun=0,
            designators=(WWID,),
            block_bytes=512,
            write_cache=True,
        )
        paths = tuple(
            Route(f"engine:p:{session.id}", session.name, PathState.ACTIVE, disk.id, session.id) for session in sessions
        )
        return EngineReport(0.0, sessions, (disk,), paths)

    # The socket.

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        lines = rpc.Lines()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for message in lines.feed(data):
                    answer = self._answer(message)
                    if message["method"] not in self.silent:
                        connection.sendall(rpc.encode(answer))

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        method, params = message["method"], message["params"]
        self.before(method)
        with self._lock:
            try:
                return rpc.result(message["id"], getattr(self, f"_do_{method}")(**params))
            except MooringError as error:
                return rpc.failure(message["id"], error)

    def _do_hello(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    def _do_snapshot(self) -> Any:
        return to_json(self._report())

    def _do_flush(self, disk: str) -> dict[str, Any]:
        with self.file.open("rb") as file:
            os.fsync(file.fileno())
        self.flushes += 1
        return {"status": 0, "sense": "", "explain": "GOOD", "paths": []}

    def _do_offline(self, disk: str) -> dict[str, Any]:
        if self.attached:
            raise RefusedError("its loop device is still there", code="attached")
        self.state = DiskState.OFFLINE
        return {"disk": disk, "evidence": []}

    def _do_online(self, disk: str) -> Any:
        if self.state is DiskState.OFFLINE:
            self._loop()
        return to_json(self._report().disks[0])

    def _do_logout(self, session: str) -> dict[str, Any]:
        if self.state is not DiskState.OFFLINE:
            raise RefusedError("it has an attached disk", code="attached")
        if session not in self._sessions:
            raise RefusedError("no such session", code="unknown-session")
        self._sessions.pop(session)[1].close()
        return {"session": session, "state": "logged-out"}

    def _do_attach(self, target: str, lun: int, chap_secret: str | None = None, **_: Any) -> Any:
        if self._sessions:
            raise RefusedError("this disk is attached already", code="attached")
        if self.secret is not None and chap_secret != self.secret:
            raise RefusedError("the target refused the login: wrong name or secret", code="auth")
        self._attach()
        return to_json(self._report().disks[0])

    def change(self, **changes: Any) -> None:
        """Replace parts of every session, for example its CHAP user."""
        self._sessions = {
            key: (dataclasses.replace(session, **changes), connection)
            for key, (session, connection) in self._sessions.items()
        }

    def close(self) -> None:
        """Take everything away."""
        # A thread that still waited in accept() could take the connections of whoever gets the same descriptor next.
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        for _, connection in self._sessions.values():
            connection.close()
        for target in self._targets:
            target.close()
        if self.attached and self.device is not None:
            subprocess.run(["losetup", "--detach", self.device], check=False)


def _drain(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while connection.recv(4096):
            pass
