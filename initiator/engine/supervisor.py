"""The engine's first process: it holds what must not be lost, and sees that somebody serves it.

There is one for each runtime folder (`engine.lock`). It does no I/O for any disk, so that nothing can freeze it: that
is the workers' part (`initiator.engine.worker`). It may be killed at any time, because they bring everything back to
the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from initiator import places
from initiator.engine import kernel, rpc, settings
from initiator.engine.client import LOG_NAME, SUPERVISOR
from initiator.engine.crew import WORKER, Crew, Member
from initiator.engine.disks import Disks
from initiator.engine.link import Link
from initiator.engine.logfile import keep_short
from initiator.engine.methods import Methods
from initiator.errors import MooringError
from initiator.model import Severity

_LOCK_NAME = "engine.lock"
_LOG_LIMIT = 4 << 20
_HELD = 75
"""Exit status when there is an engine already (EX_TEMPFAIL)."""
_ACCEPT_AGAIN = 0.5
"""Seconds to wait when no connection can be accepted."""

log = logging.getLogger(__name__)


class Supervisor:
    """One engine on the running loop.

    Args:
        runtime: its folder.
        limits: times and sizes.
        worker: the module that workers run; `supervisor`: the module that they run when this process is gone.
    """

    def __init__(self, runtime: Path, limits: settings.Settings, worker: str, supervisor: str) -> None:
        self._runtime = runtime
        self._limits = limits
        self._over = asyncio.Event()
        self._used = 0.0
        """When something was last held, or the engine was last greeted."""
        self._links: dict[Link, Member | None] = {}
        self._methods = Methods(runtime, kernel.protect(), self._over.set)
        self._disks = Disks(runtime, self._methods.tell)
        self._crew = Crew(runtime, limits, worker, supervisor, self._methods.tell, self._disks.bury)
        self._methods.crew = self._disks.crew = self._crew
        self._methods.disks = self._disks

    def _keep_place(self, listener: socket.socket) -> socket.socket:
        """Somebody who cleans up may remove our socket; a disk that cannot be reached cannot be removed safely."""
        path = self._runtime / rpc.SOCKET_NAME
        if path.exists() or not self._runtime.is_dir():
            return listener
        _close(listener)
        fresh = self._listen_again()
        self._disks.save()
        self._methods.tell("engine", f"{path} was gone and is there again", Severity.WARN)
        return fresh

    def _listen_again(self) -> socket.socket:
        fresh = _listen(self._runtime)
        fresh.setblocking(False)
        self._let_in(fresh)
        return fresh

    def _shut(self, listener: socket.socket) -> bool:
        """Let nobody connect any more; whether that left everybody outside.

        Who has connected already may have sent an order, and would never know what became of it. `shutdown` divides
        the two without a gap: from then on the kernel refuses, and what waits in the backlog can still be accepted.
        """
        listener.shutdown(socket.SHUT_RD)
        (self._runtime / rpc.SOCKET_NAME).unlink(missing_ok=True)
        nobody = True
        while self._accept(listener):
            nobody = False
        _close(listener)
        return nobody

    async def run(self, listener: socket.socket) -> None:
        """Serve until there is nothing to hold, or until `stop`."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_end, number)
        self._disks.recall()
        listener.setblocking(False)
        self._let_in(listener)
        await self._settle()
        self._used = time.monotonic()
        await self._until_idle(listener)
        for link in tuple(self._links):
            await link.drain()
            link.close()
        self._crew.close()
        log.info("the engine ends")

    async def _settle(self) -> None:
        """Wait for the workers of the last engine, then find out what is left of it."""
        until = time.monotonic() + self._limits.adoption
        while self._disks.awaited:
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.05)
        await self._disks.settle()

    async def _until_idle(self, listener: socket.socket) -> None:
        while not self._over.is_set():
            listener = self._keep_place(listener)
            keep_short(self._runtime / LOG_NAME, _LOG_LIMIT)
            if self._crew.members or any(member is None for member in self._links.values()):
                self._used = time.monotonic()
            if time.monotonic() - self._used > self._limits.idle:
                if self._shut(listener):
                    log.info("nothing to hold for %g s", self._limits.idle)
                    return
                listener = self._listen_again()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(0.25, self._limits.idle / 4)):
                    await self._over.wait()
        self._shut(listener)

    def _asked_to_end(self, number: signal.Signals) -> None:
        held = [member.attachment.name for member in self._crew.members if member.attachment is not None]
        if held or self._disks.awaited:
            text = f"{number.name} is ignored: {', '.join(held) or 'a disk'} is attached; remove it first"
            self._methods.tell("engine", text, Severity.WARN)
            return
        log.info("%s: the engine ends", number.name)
        task = asyncio.get_running_loop().create_task(self._methods.call("stop", {}))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # Connections.

    def _accept(self, listener: socket.socket) -> bool:
        """Let one in; False when nobody waits."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            # No descriptor left: whoever knocks stays in the backlog, and this process must not spin meanwhile.
            log.warning("no connection can be accepted now: %s", error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener.fileno())
            loop.call_later(_ACCEPT_AGAIN, self._let_in, listener)
            return False
        if not rpc.trusted(connection):
            log.warning("a connection of user %d was refused", rpc.peer(connection)[1])
            connection.close()
            return True
        link = Link(connection, self._handle, lambda: self._closed(link))
        self._links[link] = None
        return True

    def _let_in(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _closed(self, link: Link) -> None:
        member = self._links.pop(link, None)
        if member is not None:
            self._crew.lost_link(member, link)

    async def _handle(self, link: Link, method: str, params: dict[str, Any], fds: list[int]) -> Any:
        member = self._links.get(link)
        if member is not None:
            return await self._crew.take_note(member, method, params)
        if method == "adopt":
            self._links[link] = await self._methods.adopt(link, params, fds)
            return {}
        if method == "hello":  # with it `EngineClient.ensure` promises an engine for the order that comes next
            self._used = time.monotonic()
        if method == "trace":
            return await self._methods.trace(params, fds)
        for fd in fds:
            os.close(fd)
        return await self._methods.call(method, params)


def main(worker: str = WORKER, supervisor: str = SUPERVISOR) -> int:
    """Run an engine in the runtime folder; exit status 0 also when there is one already and `--detach` is given."""
    parser = argparse.ArgumentParser(prog="initiator.engine.supervisor", description="Mooring's engine.")
    parser.add_argument("--detach", action="store_true", help="return when it listens, and go on in the background")
    arguments = parser.parse_args()
    settings.log_to_stderr("engine")
    settings.small_threads()
    try:
        runtime = places.runtime_dir().resolve()
        limits = settings.Settings.from_environment()
        lock = _lock(runtime)
        if lock is None:
            print("an engine runs in this folder already", file=sys.stderr)
            return 0 if arguments.detach else _HELD
        listener = _listen(runtime)
    except (MooringError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    os.chdir("/")
    if arguments.detach:
        if os.fork():
            os._exit(0)
        os.setsid()
    os.umask(0o077)
    log.info("the engine listens in %s", runtime)
    asyncio.run(_run(runtime, limits, worker, supervisor, listener))
    os.close(lock)
    return 0


async def _run(runtime: Path, limits: settings.Settings, worker: str, supervisor: str, listener: socket.socket) -> None:
    await Supervisor(runtime, limits, worker, supervisor).run(listener)


def _lock(runtime: Path) -> int | None:
    """The lock of this folder, held as long as this process lives; None if another engine has it."""
    handle = os.open(runtime / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    keep_short(runtime / LOG_NAME, _LOG_LIMIT)
    return handle


def _close(listener: socket.socket) -> None:
    asyncio.get_running_loop().remove_reader(listener.fileno())
    listener.close()


def _listen(runtime: Path) -> socket.socket:
    """The engine's socket, for its own user only, put in place of the one that a dead engine left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    fresh = runtime / f"{rpc.SOCKET_NAME}.new"
    fresh.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener.bind(str(fresh))
    finally:
        os.umask(before)
    listener.listen(64)
    fresh.rename(runtime / rpc.SOCKET_NAME)
    return listener


if __name__ == "__main__":
    sys.exit(main())
