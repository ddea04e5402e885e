"""A supervisor without a descriptor left: it neither dies nor spins, and takes connections again later."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from initiator.engine import supervisor
from initiator.engine.settings import Settings
from tests.until import until


class Exhausted(socket.socket):
    """A listener that cannot accept for a while."""

    tried = 0
    exhausted = True

    def accept(self) -> tuple[socket.socket, object]:
        self.tried += 1
        if self.exhausted:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_who_knocks_while_no_descriptor_is_left_is_let_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_ACCEPT_AGAIN", 0.1)
    serving = supervisor.Supervisor(tmp_path, Settings(), "none", "none")
    listener = Exhausted(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(listener.fileno(), serving._accept, listener)
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect(str(tmp_path / "s"))
        await until(lambda: listener.tried == 3, what="the third try")
        assert loop.time() > 0.2
        listener.exhausted = False
        await until(lambda: bool(serving._links), what="the connection")
        assert listener.tried == 4
    await until(lambda: not serving._links, what="its end")
    loop.remove_reader(listener.fileno())
    listener.close()
