"""The process that holds the sessions of one target and serves at most one disk over them.

It takes orders over a socket that it inherits from the supervisor and beats over it. When the supervisor dies it goes
on serving, starts another one if need be, and hands back what that one has to know: configuration, attachment and the
/dev/fuse descriptor. It never touches the mount that it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import logging
import os
import random
import signal
import socket
import subprocess  # noqa: F401 - loaded now: nothing may be imported while memory is short
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from initiator.engine import client, kernel, link, report, rpc, settings
from initiator.engine.attached import Attachment, Route, Takeover, Unit, WorkerConfig
from initiator.engine.book import Book
from initiator.engine.fuse import Backend, FuseServer, Pool
from initiator.engine.link import Link
from initiator.engine.report import EngineReport
from initiator.engine.rpc import EngineError, EngineNotRunning, EngineSilent
from initiator.errors import MooringError, RefusedError
from initiator.model import Portal, Severity
from initiator.scsi.reservations import Claims

log = logging.getLogger(__name__)

Tell = Callable[[str, str, Severity], None]
"""Something that a person may want to know: id of what it is about, text, weight."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A portal over which there is no session, and why."""

    portal: Portal
    code: str
    reason: str


class Export(Backend, Protocol):
    """A logical unit that can be served as a block device."""

    @property
    def unit(self) -> Unit: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def unflushed(self) -> bool: ...

    def gate(self, closed: bool) -> None:
        """Refuse new commands, or take them again."""


class Stack(Protocol):
    """The sessions of one target, and what they see."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The routes over which there is a session, working or being reconnected."""

    async def login(self, routes: Sequence[Route], patience: float) -> tuple[Refusal, ...]:
        """Log in over more routes; those that fail are dropped.

        With `patience` in seconds at least one has to work within that time, and the others go on trying.
        """

    async def logout(self, number: int) -> None:
        """End one session."""

    async def open(self, lun: int, read_only: bool, takeover: Takeover | None) -> Export:
        """The unit as a disk over all sessions; after a takeover it has to be the same as before.

        Raises:
            MooringError: it is not there, or (code `identity`) another one is.
        """

    async def claims(self, lun: int) -> Claims:
        """Who else has a unit in use, by its persistent reservations.

        Raises:
            MooringError: no session works, or the target does not say.
        """

    def trace(self, number: int, fd: int, seconds: float, limit: int) -> None:
        """Record a session as pcapng into a descriptor, for some seconds or up to about `limit` bytes; then close it.

        Raises:
            RefusedError: there is no such session, or it is recorded already.
        """

    async def flush(self) -> dict[str, Any]:
        """SYNCHRONIZE CACHE on the opened disk: status, sense, explain, paths."""

    def report(self) -> EngineReport:
        """Sessions, disks and paths as they are now."""

    async def close(self) -> None:
        """Log out of everything."""


StackFactory = Callable[[WorkerConfig, Tell], Stack]


@dataclasses.dataclass(slots=True)
class _Served:
    fd: int
    pages: int
    """The descriptor of the book."""
    server: FuseServer


class Worker:
    """One worker on the running loop.

    Args:
        make_stack: builds the sessions.
        inherited: the connected socket to the supervisor.
        runtime: the engine's folder.
        supervisor: the module to run when the supervisor is gone.
        limits: times and sizes.
    """

    def __init__(
        self,
        make_stack: StackFactory,
        inherited: socket.socket,
        runtime: Path,
        supervisor: str,
        limits: settings.Settings,
    ) -> None:
        self._make_stack = make_stack
        self._runtime = runtime
        self._supervisor = supervisor
        self._limits = limits
        self._config: WorkerConfig | None = None
        self._stack: Stack | None = None
        self._export: Export | None = None
        self._pool: Pool | None = None
        self._served: _Served | None = None
        self._record: Attachment | None = None
        self._over = asyncio.Event()
        self._orphan: asyncio.Task[None] | None = None
        self._protection = kernel.protect()
        self._link = Link(inherited, self._handle, self._lost_supervisor)
        self._methods: dict[str, Callable[[dict[str, Any], list[int]], Awaitable[Any]]] = {
            "setup": self._setup,
            "add": self._add,
            "logout": self._logout,
            "open": self._open,
            "serve": self._serve,
            "unserve": self._unserve,
            "gate": self._gate,
            "flush": self._flush,
            "report": self._report,
            "remember": self._remember,
            "trace": self._trace,
            "claims": self._claims,
            "quit": self._quit,
        }

    async def run(self) -> None:
        """Serve until `quit`."""
        gc.collect()
        gc.freeze()
        self._link.note("ready", protections=report.to_json(self._protection))
        while not self._over.is_set():
            self._beat()
            try:
                async with asyncio.timeout(self._limits.beat):
                    await self._over.wait()
            except TimeoutError:
                continue
        if self._orphan is not None:
            self._orphan.cancel()
        await self._link.drain()
        self._link.close()

    def _beat(self) -> None:
        served, export = self._served, self._export
        self._link.note(
            "beat",
            serving=served is not None and not served.server.ended,
            opens=served.server.opens if served is not None else 0,
            requests=served.server.requests if served is not None else 0,
            in_flight=served.server.in_flight if served is not None else 0,
            unflushed=export.unflushed if export is not None else None,
        )

    def _tell(self, subject: str, text: str, severity: Severity) -> None:
        self._link.note("event", subject=subject, text=text, severity=severity.value)

    async def _handle(self, _: Link, method: str, params: dict[str, Any], fds: list[int]) -> Any:
        known = self._methods.get(method)
        if known is None:
            raise EngineError(f"a worker does not know {method!r}", code="bad-message")
        return await known(params, fds)

    # Orders.

    async def _setup(self, params: dict[str, Any], fds: list[int]) -> Any:
        config = report.from_json(WorkerConfig, params["config"])
        self._config = config
        self._stack = self._make_stack(config, self._tell)
        return await self._log_in(config.routes, float(params.get("patience", 0.0)))

    async def _add(self, params: dict[str, Any], fds: list[int]) -> Any:
        assert self._config is not None
        routes = report.from_json(WorkerConfig, params["config"]).routes
        return await self._log_in(routes, 0.0)

    async def _log_in(self, routes: Sequence[Route], patience: float) -> Any:
        assert self._config is not None
        refused = await self._sessions.login(routes, patience)
        lost = set() if patience else {refusal.portal for refusal in refused}
        have = {route.number: route for route in (*self._config.routes, *routes) if route.portal not in lost}
        self._config = dataclasses.replace(self._config, routes=tuple(have.values()))
        return {"failed": report.to_json(refused), "config": report.to_json(self._config)}

    async def _logout(self, params: dict[str, Any], fds: list[int]) -> Any:
        assert self._config is not None
        if self._served is not None:
            raise RefusedError("the session carries an attached disk", code="attached")
        number = int(params["number"])
        await self._sessions.logout(number)
        routes = tuple(route for route in self._config.routes if route.number != number)
        self._config = dataclasses.replace(self._config, routes=routes)
        return {"left": len(self._sessions.numbers), "config": report.to_json(self._config)}

    async def _open(self, params: dict[str, Any], fds: list[int]) -> Any:
        told = params.get("takeover")
        takeover = report.from_json(Takeover, told) if told is not None else None
        read_only = bool(params.get("read_only")) or (takeover is not None and takeover.unit.read_only)
        self._export = await self._sessions.open(int(params["lun"]), read_only, takeover)
        if self._pool is None:
            self._pool = Pool(self._limits.buffers)
        return report.to_json(self._export.unit)

    async def _serve(self, params: dict[str, Any], fds: list[int]) -> Any:
        """Take over a FUSE connection: answer what the kernel asks, and with `resume` what was not answered before."""
        fd, pages = fds
        attachment = report.from_json(Attachment, params["attachment"])
        try:
            if self._served is not None or self._export is None or self._pool is None:
                raise EngineError("this worker cannot serve now", code="bad-message")
            server = FuseServer(fd, attachment.name, self._export, self._pool, Book(pages), self._connection_ended)
            if params.get("resume"):
                server.resend()
        except MooringError:
            os.close(fd)
            os.close(pages)
            raise
        self._export.gate(False)
        self._served = _Served(fd, pages, server)
        self._record = attachment
        server.start()
        log.info("serving %s", attachment.name)
        return {}

    async def _unserve(self, params: dict[str, Any], fds: list[int]) -> Any:
        served, self._served = self._served, None
        if served is not None:
            served.server.stop()
            os.close(served.fd)
            os.close(served.pages)
        if params.get("forget"):
            self._record = None
            self._export = None
        return {}

    async def _gate(self, params: dict[str, Any], fds: list[int]) -> Any:
        """Close or open the disk for new commands; closing waits until nothing is in flight."""
        if self._export is None:
            raise EngineError("no disk is open", code="bad-message")
        closed = bool(params["closed"])
        self._export.gate(closed)
        until = asyncio.get_running_loop().time() + 10.0
        while closed and (self._export.in_flight or (self._served is not None and self._served.server.in_flight)):
            if asyncio.get_running_loop().time() > until:
                self._export.gate(False)
                raise RefusedError("commands are still in flight after 10 s; the disk is open again", code="busy")
            await asyncio.sleep(0.01)
        return {}

    async def _flush(self, params: dict[str, Any], fds: list[int]) -> Any:
        return await self._sessions.flush()

    async def _report(self, params: dict[str, Any], fds: list[int]) -> Any:
        return report.to_json(self._stack.report() if self._stack is not None else EngineReport(0.0))

    async def _trace(self, params: dict[str, Any], fds: list[int]) -> Any:
        (fd,) = fds
        self._sessions.trace(int(params["number"]), fd, float(params["seconds"]), int(params["limit"]))
        return {}

    async def _claims(self, params: dict[str, Any], fds: list[int]) -> Any:
        return report.to_json(await self._sessions.claims(int(params["lun"])))

    async def _remember(self, params: dict[str, Any], fds: list[int]) -> Any:
        self._record = report.from_json(Attachment, params["attachment"])
        return {}

    async def _quit(self, params: dict[str, Any], fds: list[int]) -> Any:
        if self._served is not None:
            raise RefusedError("a disk is attached", code="attached")
        if self._stack is not None:
            await self._stack.close()
        self._over.set()
        return {}

    @property
    def _sessions(self) -> Stack:
        if self._stack is None:
            raise EngineError("this worker has no sessions yet", code="bad-message")
        return self._stack

    def _connection_ended(self) -> None:
        log.warning("the FUSE connection has ended")
        self._link.note("fuse_ended")

    # The supervisor is gone.

    def _lost_supervisor(self) -> None:
        if not self._over.is_set():
            log.warning("the supervisor is gone")
            self._orphan = asyncio.get_running_loop().create_task(self._find_supervisor())

    async def _find_supervisor(self) -> None:
        """Report to a supervisor, and start one if there is none. Never gives up while a disk is served."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause + random.random() * 0.2)
            if self._config is None or (self._served is None and not self._runtime.is_dir()):
                self._over.set()
                return
            try:
                await self._report_back()
            except EngineSilent as error:
                log.warning("the supervisor does not answer: %s", error)
            except EngineError as error:
                log.error("the supervisor does not want this worker: %s", error)
            except OSError:
                await self._start_supervisor()
            else:
                return
            pause = min(5.0, 2 * pause + 0.1)

    async def _start_supervisor(self) -> None:
        try:
            await asyncio.to_thread(client.start, self._runtime, self._supervisor)
        except (EngineNotRunning, OSError) as error:
            log.error("no supervisor could be started: %s", error)

    async def _report_back(self) -> None:
        path = str(self._runtime / rpc.SOCKET_NAME)
        fresh = await link.connect(path, self._handle, self._lost_supervisor_again)
        try:
            await fresh.call(
                "adopt",
                10.0,
                fds=(self._served.fd, self._served.pages) if self._served is not None else (),
                config=report.to_json(self._config),
                attachment=report.to_json(self._record),
                serving=self._served is not None,
                protections=report.to_json(self._protection),
            )
        except EngineError:
            fresh.close()
            raise
        self._link = fresh
        log.info("reported to a supervisor")
        if fresh.closed:
            raise EngineSilent("the supervisor ended while this worker reported to it")

    def _lost_supervisor_again(self) -> None:
        """Only a link that is in use counts: one that failed while reporting is tried again by its own loop."""
        if self._link.closed and (self._orphan is None or self._orphan.done()):
            self._lost_supervisor()


def main(make_stack: StackFactory | None = None) -> int:
    """Run a worker on the socket that `--link` names."""
    parser = argparse.ArgumentParser(prog="initiator.engine.worker", description="Started by the engine's supervisor.")
    parser.add_argument("--link", type=int, required=True, help="descriptor of the connected socket")
    parser.add_argument("--runtime", type=Path, required=True)
    parser.add_argument("--supervisor", default=client.SUPERVISOR, help="module to run when the supervisor is gone")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _refuse)
    os.chdir("/")
    settings.log_to_stderr("worker")
    settings.small_threads()
    if make_stack is None:
        from initiator.engine.stack import TargetStack

        make_stack = TargetStack
    asyncio.run(_run(make_stack, arguments))
    return 0


async def _run(make_stack: StackFactory, arguments: argparse.Namespace) -> None:
    inherited = socket.socket(fileno=arguments.link)
    inherited.set_inheritable(False)
    limits = settings.Settings.from_environment()
    asyncio.get_running_loop().set_exception_handler(_fail_stop)
    await Worker(make_stack, inherited, arguments.runtime, arguments.supervisor, limits).run()


def _fail_stop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that raised may have left a request of the kernel unanswered, and its caller would wait for ever.

    The supervisor replaces a worker that ends, and the kernel sends what was not answered to the next one.
    """
    loop.default_exception_handler(context)
    if "handle" in context:
        logging.shutdown()
        os._exit(os.EX_SOFTWARE)


def _refuse(number: int, _: object) -> None:
    """A worker ends when its supervisor says so, and not before: its disk may be mounted."""
    log.warning("%s is ignored: end the engine with mooring engine stop", signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
