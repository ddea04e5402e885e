"""The workers: starting them, watching them, replacing the dead and the frozen, giving up in the end.

What a worker must not take to its grave is kept here: its configuration with the ISIDs and secrets, and the /dev/fuse
descriptor of its disk. A new worker logs in again with the same ISIDs, which ends the old sessions and everything that
was still on its way in them (RFC 7143, 6.3.5), and then has the kernel send again what nobody answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from initiator.engine import attach, book, report
from initiator.engine.attached import Attachment, Takeover, WorkerConfig
from initiator.engine.link import Link
from initiator.engine.process import Process, spawn
from initiator.engine.report import EngineReport
from initiator.engine.rpc import EngineError, EngineSilent
from initiator.engine.settings import Settings
from initiator.errors import MooringError
from initiator.model import Severity

WORKER = "initiator.engine.worker"
_SERVE = 30.0
_DROWSY = 2.0
_LONGEST_PAUSE = 5.0
_LAST_TRY = 1.0
"""So much time a replaced worker gets to log in when its pauses have used up all of it."""
_HOPELESS = ("no-resend", "identity")
"""Reasons for which no further attempt can succeed."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class Member:
    """One worker, whichever process it is at the moment."""

    config: WorkerConfig
    process: Process = dataclasses.field(init=False)
    link: Link | None = None
    ready: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held by whoever changes what this worker does."""
    attachment: Attachment | None = None
    fuse_fds: tuple[int, int] | None = None
    """/dev/fuse, and the book of acknowledged writes."""
    beat_at: float = 0.0
    beat: dict[str, Any] = dataclasses.field(default_factory=dict)
    protections: dict[str, Any] = dataclasses.field(default_factory=dict)
    replaced: int = 0
    deaths: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=64))
    """When a process of this worker ended by itself."""
    away_since: float | None = None
    """Since when no process of it works."""
    tries: int = 0
    """How often it could not be replaced since then."""
    leaving: bool = False
    working: bool = False
    """Whether the process of the moment has logged in and, with a disk, serves it."""
    aborted: bool = False
    """Whether its FUSE connection was ended: its disk cannot be served any more."""
    last: EngineReport = dataclasses.field(default_factory=lambda: EngineReport(0.0))

    @property
    def subject(self) -> str:
        """What an event about this worker is about."""
        return self.attachment.disk if self.attachment is not None else f"engine:w:{self.config.key}"

    @property
    def title(self) -> str:
        """How a person is told about it."""
        return f"disk {self.attachment.name}" if self.attachment is not None else self.config.target

    @property
    def awake(self) -> bool:
        """Whether it works and has been heard of lately, so that it is worth asking."""
        return self.working and time.monotonic() - self.beat_at < _DROWSY

    async def call(self, method: str, within: float, fds: tuple[int, ...] = (), **params: Any) -> Any:
        """Ask the worker. Raises as `Link.call`."""
        if self.link is None:
            raise EngineSilent(f"the worker for {self.title} is being replaced")
        return await self.link.call(method, within, fds, **params)

    def close_fuse(self) -> None:
        """Let go of the /dev/fuse descriptor."""
        fds, self.fuse_fds = self.fuse_fds, None
        for fd in fds or ():
            os.close(fd)


class Crew:
    """All workers of one supervisor.

    Args:
        runtime: the engine's folder.
        settings: times and limits.
        worker: the module that workers run; `supervisor`: the one that they start when this process is gone.
        tell: takes an event: subject, text, severity.
        on_dead: takes the attachment of a disk that was given up, and the reason.
    """

    def __init__(
        self,
        runtime: Path,
        settings: Settings,
        worker: str,
        supervisor: str,
        tell: Callable[[str, str, Severity], None],
        on_dead: Callable[[Attachment, str], None],
    ) -> None:
        self.members: list[Member] = []
        self._runtime = runtime
        self._settings = settings
        self._worker = worker
        self._supervisor = supervisor
        self._tell = tell
        self._on_dead = on_dead
        self._tasks: set[asyncio.Task[None]] = set()
        self._task(self._watch())

    async def hire(self, config: WorkerConfig) -> tuple[Member, list[dict[str, Any]]]:
        """Start a worker and have it log in; also the portals that refused, when at least one did not.

        Raises:
            EngineError: no portal let us in, or the worker did not start. Nothing is left.
        """
        member = Member(config)
        self._spawn(member)
        try:
            failed = await self._log_in(member, None)
        except MooringError:
            await self._end(member)
            raise
        member.working = True
        self._take_in(member)
        return member, failed

    def adopt(self, link: Link, config: WorkerConfig, protections: dict[str, Any]) -> Member:
        """Take over a worker of an engine that is gone; its disk is the caller's matter.

        Raises:
            EngineError: there is another worker of this number already.
        """
        known = next((member for member in self.members if member.config.key == config.key), None)
        if known is not None and known.process.pid != link.peer_pid:
            raise EngineError(f"there is another worker {config.key} already", code="refused")
        if known is None:
            try:
                known = Member(config, working=True)
                known.process = Process(link.peer_pid)
            except ProcessLookupError as error:
                raise EngineError("the worker ended while it reported", code="refused") from error
            self._take_in(known)
        known.link, known.config, known.protections = link, config, protections
        known.beat_at = time.monotonic()
        known.ready.set()
        return known

    async def dismiss(self, member: Member) -> None:
        """End a worker that carries no disk: it logs out and goes; one that does not is killed."""
        member.leaving = True
        try:
            await member.call("quit", 15.0)
        except EngineError as error:
            log.warning("worker %d did not end by itself: %s", member.process.pid, error)
        if not await member.process.gone(3.0):
            await self._end(member)

    def lost_link(self, member: Member, link: Link) -> None:
        """A worker's connection ended; if the process lives it will report again, or the watchdog ends it."""
        if member.link is link:
            member.link = None
            member.ready.set()

    async def take_note(self, member: Member, method: str, params: dict[str, Any]) -> None:
        """What workers say unasked."""
        member.beat_at = time.monotonic()
        if method == "ready":
            member.protections = dict(params.get("protections", {}))
            member.ready.set()
        elif method == "beat":
            member.beat = params
        elif method == "event":
            self._tell(str(params["subject"]), str(params["text"]), Severity(params["severity"]))
        elif method == "fuse_ended":
            await self._connection_ended(member)
        else:
            raise EngineError(f"the supervisor does not know {method!r}", code="bad-message")

    async def refresh(self, member: Member, within: float = 1.0) -> EngineReport:
        """What the worker sees now, or saw last when it does not answer."""
        try:
            member.last = report.from_json(EngineReport, await member.call("report", within))
        except MooringError as error:
            log.info("worker %d gives no report: %s", member.process.pid, error)
        return member.last

    def close(self) -> None:
        """End the watching; the workers are not touched."""
        for task in self._tasks:
            task.cancel()

    # Processes.

    def _task(self, work: Coroutine[Any, Any, None], failed: Callable[[], None] | None = None) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.error("a task of the engine failed: %r", error, exc_info=error)
                if failed is not None:
                    failed()

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)

    async def _end(self, member: Member) -> None:
        """Kill a worker's process and let go of what was kept for it."""
        member.leaving = True
        if member.link is not None:
            member.link.close()
        member.process.kill()
        await member.process.gone(3.0)
        member.close_fuse()

    def _take_in(self, member: Member) -> None:
        self.members.append(member)
        self._task(self._keep(member), lambda: self._abandon(member))

    def _abandon(self, member: Member) -> None:
        """Looking after a worker failed by a mistake of ours: better a disk with errors than one that hangs."""
        self._give_up(member, "the engine failed to look after it")
        self.members.remove(member)
        member.process.kill()

    def _spawn(self, member: Member) -> None:
        """A fresh process for this worker.

        Raises:
            EngineError: it cannot be started.
        """
        mine, theirs = socket.socketpair()
        argv = [sys.executable, "-m", self._worker, "--runtime", str(self._runtime), "--supervisor", self._supervisor]
        member.working = False
        member.ready.clear()
        member.beat_at = time.monotonic() + self._settings.start
        with theirs:
            try:
                process = spawn([*argv, "--link", str(theirs.fileno())], theirs.fileno(), self._runtime)
            except OSError as error:
                mine.close()
                raise EngineError(f"a worker cannot be started: {error.strerror}", code="cannot-run") from error
        member.process = process
        link = Link(
            mine,
            lambda _, method, params, __: self.take_note(member, method, params),
            lambda: self.lost_link(member, link),
        )
        member.link = link

    async def _log_in(self, member: Member, until: float | None) -> list[dict[str, Any]]:
        """Have a fresh process log in; the portals that refused.

        Args:
            member: Whose process it is.
            until: When to cease trying; None takes the first answer.
        """
        try:
            async with asyncio.timeout(self._settings.start):
                await member.ready.wait()
        except TimeoutError as error:
            raise EngineSilent(f"a new worker did not speak within {self._settings.start:g} s") from error
        patience = 0.0 if until is None else max(until - time.monotonic(), _LAST_TRY)
        answer = await member.call("setup", patience + 60.0, config=report.to_json(member.config), patience=patience)
        member.config = report.from_json(WorkerConfig, answer["config"])
        failed: list[dict[str, Any]] = answer["failed"]
        return failed

    async def _keep(self, member: Member) -> None:
        """Replace the process of a worker whenever it ends, until that is wanted or does not help."""
        while True:
            await member.process.exited.wait()
            member.working = False
            if member.link is not None:
                member.link.close()
            if member.leaving:
                break
            now = time.monotonic()
            if not member.tries:
                member.away_since = now
                member.deaths.append(now)
                self._tell(member.subject, f"the worker for {member.title} ended and is replaced", Severity.BAD)
            recent = sum(now - death < self._settings.window for death in member.deaths)
            if member.aborted:
                self._give_up(member, "its worker was stuck in the kernel and had to be cut off")
                break
            if recent > self._settings.attempts:
                self._give_up(member, f"its worker ended {recent} times within {self._settings.window:g} s")
                break
            await asyncio.sleep(min(_LONGEST_PAUSE, 0.2 * (2 ** min(max(recent - 1, member.tries), 8) - 1)))
            if not await self._try_to_replace(member, (member.away_since or now) + self._settings.patience):
                break
        self.members.remove(member)

    async def _try_to_replace(self, member: Member, until: float) -> bool:
        """One more process for a worker; False if that is not wanted any more, or the disk was given up.

        A target that is away, refuses or has no such LUN yet is waited for: that is no fault of the worker's, and
        counts as none of its deaths. It is given up when its time has run out.
        """
        if member.leaving:
            return False
        try:
            await self._replace(member, until)
        except MooringError as error:
            member.tries += 1
            if isinstance(error, EngineSilent):
                member.deaths.append(time.monotonic())
            log.error("the worker for %s could not be replaced: %s", member.title, error)
            self._tell(member.subject, f"nobody serves {member.title} yet: {error}", Severity.BAD)
            await self._end_process(member)
            if error.code in _HOPELESS:
                self._give_up(member, str(error))
                return False
            if time.monotonic() >= until:
                self._give_up(member, f"it could not be replaced within {self._settings.patience:g} s: {error}")
                return False
        return True

    async def _replace(self, member: Member, until: float) -> None:
        async with member.lock:
            self._spawn(member)
            await self._log_in(member, until)
            attachment = member.attachment
            if attachment is not None:
                exposed = member.fuse_fds is not None and book.exposed(member.fuse_fds[1])
                told = report.to_json(Takeover(attachment.unit, exposed))
                await member.call("open", _SERVE, lun=attachment.unit.lun, takeover=told)
                if attachment.offline:
                    await member.call("gate", _SERVE, closed=True)
                elif member.fuse_fds is not None:
                    await member.call(
                        "serve", _SERVE, member.fuse_fds, attachment=report.to_json(attachment), resume=True
                    )
            member.replaced += 1
            member.tries = 0
            member.working = True
        self._tell(member.subject, f"a new worker serves {member.title}", Severity.WARN)

    async def _end_process(self, member: Member) -> None:
        """Kill the process of the moment; `exited` is set afterwards, or the kernel holds it."""
        member.process.kill()
        if not await member.process.gone(3.0):
            await self._free_stuck(member)

    async def _free_stuck(self, member: Member) -> None:
        """A killed worker that does not die sleeps in the kernel, most likely for a page behind its own disk."""
        self._tell(member.subject, f"the worker for {member.title} cannot be killed; its disk is cut off", Severity.BAD)
        member.aborted = True
        if member.attachment is not None:
            await attach.abort(member.attachment)

    def _give_up(self, member: Member, reason: str) -> None:
        """End the FUSE connection so that nobody waits for ever; the disk is dead then."""
        attachment, member.attachment = member.attachment, None
        member.leaving = True
        self._tell(f"engine:w:{member.config.key}", f"{member.config.target} is given up: {reason}", Severity.BAD)
        if attachment is not None:
            if not attachment.offline:
                self._task(self._abort(attachment))
            self._on_dead(attachment, reason)
        member.close_fuse()

    async def _abort(self, attachment: Attachment) -> None:
        await attach.abort(attachment)

    async def _connection_ended(self, member: Member) -> None:
        """Somebody else ended the FUSE connection: unmounted it by force, or wrote to its abort file."""
        attachment, member.attachment = member.attachment, None
        if attachment is None or member.fuse_fds is None:
            member.attachment = attachment
            return
        member.close_fuse()
        reason = "its FUSE connection was ended from outside the engine"
        self._tell(attachment.disk, f"disk {attachment.name} is dead: {reason}", Severity.BAD)
        self._on_dead(attachment, reason)
        await member.call("unserve", 5.0, forget=True)

    async def _watch(self) -> None:
        """Kill workers that are silent. If it was this process that slept, nobody is to blame."""
        pause = min(0.25, self._settings.watchdog / 4)
        last = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            late, last = now - last - pause, now
            for member in self.members:
                if late > self._settings.watchdog / 2:
                    member.beat_at = max(member.beat_at, now)
                elif now - member.beat_at > self._settings.watchdog and not member.process.exited.is_set():
                    member.beat_at = now + self._settings.start
                    self._tell(member.subject, f"the worker for {member.title} is frozen and is killed", Severity.BAD)
                    self._task(self._end_process(member))
