"""What the engine does for its clients: one function for each method that `initiator.engine.client` lists."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from initiator import places
from initiator.engine import attach, attached, kernel, options, report, whoami
from initiator.engine.attached import Attachment, Route, WorkerConfig
from initiator.engine.client import LOG_NAME
from initiator.engine.crew import Crew, Member
from initiator.engine.discovery import discover
from initiator.engine.disks import Disks
from initiator.engine.kernel import Protection
from initiator.engine.link import Link
from initiator.engine.rpc import EngineError
from initiator.engine.selector import DEFAULT_SELECTOR
from initiator.engine.view import Remains, Seen, merge
from initiator.errors import BadInputError, RefusedError
from initiator.model import SCHEMA, DiskState, Event, Portal, Severity
from initiator.names import clean, parse_name, parse_portal
from initiator.protocol.chap import DEFAULT_ORDER
from initiator.protocol.login_config import random_isid

log = logging.getLogger(__name__)

_EVENTS = 300
_NUMBER = "engine.number"
_LONGEST_TRACE_S = 86400


class Methods:
    """The engine's methods on one set of workers and disks.

    Args:
        runtime: the engine's folder.
        protection: what this process has.
        on_stop: called when the engine may end.
    """

    def __init__(self, runtime: Path, protection: Protection, on_stop: Callable[[], None]) -> None:
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self.crew: Crew
        self.disks: Disks
        self.stopping = False
        self._runtime = runtime
        self._protection = protection
        self._on_stop = on_stop
        self._started = time.time()
        self._locks: collections.defaultdict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self.table: Mapping[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "hello": self._hello,
            "status": self._status,
            "stop": self._stop,
            "snapshot": self._snapshot,
            "discover": self._discover,
            "login": self._login,
            "logout": self._logout,
            "attach": self._attach,
            "flush": self._flush,
            "claims": self._claims,
            "offline": self._offline,
            "online": self._online,
            "cleanup": self._cleanup,
        }

    def tell(self, subject: str, text: str, severity: Severity) -> None:
        """Note an event, for the snapshot and the log."""
        self.events.append(Event(time.time(), "engine", subject, clean(text), severity))
        log.log(logging.INFO if severity is Severity.NOTE else logging.WARNING, "%s", text)

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Do what a client asks. Raises MooringError, which is the client's answer."""
        known = self.table.get(method)
        if known is None:
            raise EngineError(f"the engine does not know {method!r}", code="unknown-method")
        if self.stopping and method not in ("hello", "status", "snapshot"):
            raise EngineError("the engine is ending", code="stopping", fix="try again in a moment")
        return await known(params)

    async def adopt(self, link: Link, params: dict[str, Any], fds: list[int]) -> Member:
        """Take over a worker of an engine that is gone, with its disk and its /dev/fuse descriptor."""
        config = report.from_json(WorkerConfig, params["config"])
        record = params.get("attachment")
        try:
            member = self.crew.adopt(link, config, dict(params.get("protections", {})))
        except EngineError:
            for fd in fds:
                os.close(fd)
            raise
        if record is not None and member.attachment is None:
            member.attachment = report.from_json(Attachment, record)
            self.disks.adopted(member.attachment)
        member.close_fuse()
        if len(fds) == 2:
            member.fuse_fds = (fds[0], fds[1])
        self.disks.save()
        self.tell(member.subject, f"the worker for {member.title} reported back", Severity.NOTE)
        return member

    async def trace(self, params: dict[str, Any], fds: list[int]) -> Any:
        """Have a session's worker write what goes over it into the descriptor that came along; see `Stack.trace`."""
        try:
            seconds, limit = params.get("seconds"), params.get("limit")
            if len(fds) != 1 or not isinstance(seconds, int | float) or not isinstance(limit, int):
                raise BadInputError("a trace needs one descriptor, seconds and a limit in bytes")
            if not 0 < seconds <= _LONGEST_TRACE_S or limit <= 0:
                raise BadInputError(f"a trace takes up to {_LONGEST_TRACE_S} seconds")
            member, route = self._session(_text(params, "session"))
            return await member.call(
                "trace", 10.0, fds=tuple(fds), number=route.number, seconds=float(seconds), limit=limit
            )
        finally:
            for fd in fds:
                os.close(fd)

    # Reading.

    async def _hello(self, params: dict[str, Any]) -> Any:
        return {"version": _version(), "pid": os.getpid(), "schema": SCHEMA, "started_at": self._started}

    async def _status(self, params: dict[str, Any]) -> Any:
        now = time.monotonic()
        return {
            "pid": os.getpid(),
            "started_at": self._started,
            "log": str(self._runtime / LOG_NAME),
            "protections": report.to_json(self._protection),
            "workers": [
                {
                    "pid": member.process.pid,
                    "target": member.config.target,
                    "portals": [str(route.portal) for route in member.config.routes],
                    "sessions": [_session_id(route) for route in member.config.routes],
                    "attached": member.attachment.name if member.attachment is not None else None,
                    "replaced": member.replaced,
                    "working": member.working,
                    "beat_age_s": round(max(0.0, now - member.beat_at), 3),
                    "protections": member.protections,
                }
                for member in self.crew.members
            ],
            "attached": [
                {
                    "disk": disk.id,
                    "name": disk.name,
                    "device": disk.device,
                    "state": disk.state.value,
                }
                for disk in (await self._view(0.5)).disks
                if disk.state is not DiskState.AVAILABLE
            ],
        }

    async def _snapshot(self, params: dict[str, Any]) -> Any:
        return report.to_json(await self._view(1.0))

    async def _view(self, patience: float) -> report.EngineReport:
        now = time.time()
        members = tuple(self.crew.members)
        await asyncio.gather(*(self.crew.refresh(member, patience) for member in members if member.awake))
        seen = [
            Seen(
                *(each.last, each.attachment, each.awake, each.beat),
                selector=str(each.config.options.get("selector", DEFAULT_SELECTOR)),
            )
            for each in members
        ]
        remains = [
            Remains(each, DiskState.UNKNOWN, "its worker has not reported to this engine yet", each.device, each.dev)
            for each in self.disks.awaited
        ]
        for dead in self.disks.dead:
            left = attach.loops_of(dead.attachment.file)
            dev = dead.attachment.dev if left == [dead.attachment.device] else None
            device = left[0] if left else None
            remains.append(Remains(dead.attachment, DiskState.DEAD, dead.reason, device, dev))
        return merge(seen, remains, self.events, now)

    async def _discover(self, params: dict[str, Any]) -> Any:
        portal = parse_portal(_text(params, "portal"))
        algorithms = _options(params).get("chap_algorithms") or DEFAULT_ORDER
        found = await discover(
            portal,
            self._initiator(params),
            options.chap(params),
            chap_algorithms=tuple(algorithms),
            require_auth=not params.get("chap_may_be_left_out"),
        )
        return {"targets": [{"name": one.name, "portals": report.to_json(one.portals)} for one in found]}

    # Sessions.

    async def _login(self, params: dict[str, Any]) -> Any:
        target = str(parse_name(_text(params, "target")))
        async with self._locks[target]:
            free = next((each for each in self._of(target) if each.attachment is None), None)
            member, failed = await self._sessions(free, target, params)
        view = await self._view(1.0)
        ids = {_session_id(route) for route in member.config.routes}
        wanted = {str(portal) for portal in _portals(params)}
        found = [each for each in view.sessions if each.id in ids and (not wanted or str(each.portal) in wanted)]
        return {"sessions": report.to_json(found), "failed": failed}

    async def _sessions(
        self, member: Member | None, target: str, params: dict[str, Any]
    ) -> tuple[Member, list[dict[str, Any]]]:
        """Sessions over all portals that are asked for, in the given worker or in a new one."""
        portals = _portals(params)
        if member is None:
            if not portals:
                raise BadInputError("no portal is named", fix="say where the target is: --portal ADDRESS")
            config = self._config(target, portals, params)
            return await self.crew.hire(config)
        have = {route.portal.host: route.portal.port for route in member.config.routes}
        missing = [portal for portal in portals if have.get(portal.host) != portal.port]
        if not missing:
            return member, []
        async with member.lock:
            more = dataclasses.replace(member.config, routes=self._routes(missing))
            answer = await member.call("add", 60.0, config=report.to_json(more))
            member.config = report.from_json(WorkerConfig, answer["config"])
        return member, answer["failed"]

    def _config(self, target: str, portals: list[Portal], params: dict[str, Any]) -> WorkerConfig:
        given = _options(params)
        short = bool(given.get("allow_short_secret"))
        options.chap(params, allow_short=short)  # refuse what cannot work before a process is started
        return WorkerConfig(
            key=self._number(),
            target=target,
            initiator=self._initiator(params),
            routes=self._routes(portals),
            options=given,
            **{name: params.get(name) for name in options.CHAP_NAMES},
        )

    def _routes(self, portals: list[Portal]) -> tuple[Route, ...]:
        routes = []
        for portal in portals:
            number = self._number()
            routes.append(Route(number, portal, random_isid(os.urandom(3), number & 0xFFFF).hex()))
        return tuple(routes)

    def _number(self) -> int:
        """A number that no other session or worker of this runtime folder has, also after a restart of the engine."""
        path = self._runtime / _NUMBER
        try:
            number = int(path.read_text()) + 1
        except (OSError, ValueError):
            number = 1
        taken = [route.number for member in self.crew.members for route in member.config.routes]
        number = max([number, *(each + 1 for each in taken), *(each.config.key + 1 for each in self.crew.members)])
        attached.write(path, str(number))
        return number

    def _initiator(self, params: dict[str, Any]) -> str:
        given = params.get("initiator")
        return str(parse_name(str(given))) if given else whoami.initiator_name(places.state_dir())

    def _of(self, target: str) -> list[Member]:
        return [member for member in self.crew.members if member.config.target == target and not member.leaving]

    async def _logout(self, params: dict[str, Any]) -> Any:
        session = _text(params, "session")
        member, route = self._session(session)
        if member.attachment is not None and not member.attachment.offline:
            raise RefusedError(
                f"this session carries the attached disk {member.attachment.name}",
                code="attached",
                fix=f"mooring remove {member.attachment.name}",
            )
        async with self._locks[member.config.target], member.lock:
            answer = await member.call("logout", 30.0, number=route.number)
            member.config = report.from_json(WorkerConfig, answer["config"])
            if not answer["left"]:
                member.attachment = None
                await self.crew.dismiss(member)
                self.disks.save()
        self.tell(session, f"logged out of {member.config.target} at {route.portal}", Severity.NOTE)
        return {"session": session, "state": "logged-out"}

    def _session(self, session: str) -> tuple[Member, Route]:
        for member in self.crew.members:
            for route in member.config.routes:
                if _session_id(route) == session:
                    return member, route
        raise BadInputError(f"the engine has no session {session!r}", code="not-found", fix="mooring list")

    # Disks.

    async def _attach(self, params: dict[str, Any]) -> Any:
        target = str(parse_name(_text(params, "target")))
        lun, name = params.get("lun"), params.get("name")
        kernel.need_root()
        if not isinstance(lun, int) or isinstance(lun, bool) or not 0 <= lun < 1 << 64:
            raise BadInputError("a LUN is a number from 0 to 16383, or one that was reported")
        async with self._locks[target]:
            of_target = self._of(target)
            free = next((each for each in of_target if each.attachment is None), None)
            if free is None and of_target:
                params = _like(of_target[0].config, params)
            member, _ = await self._sessions(free, target, params)
            async with contextlib.AsyncExitStack() as undo:
                if free is None:
                    undo.push_async_callback(self._dismiss_idle, member)
                wanted = None if name is None else str(name)
                attachment = await self.disks.attach(member, lun, wanted, bool(params.get("read_only")))
                undo.pop_all()
        return await self._disk_json(attachment.disk)

    async def _dismiss_idle(self, member: Member) -> None:
        if member.attachment is None:
            await self.crew.dismiss(member)

    async def _disk_json(self, disk: str) -> Any:
        return report.to_json(next(each for each in (await self._view(2.0)).disks if each.id == disk))

    def _member(self, params: dict[str, Any]) -> Member:
        wanted = _text(params, "disk")
        for member in self.crew.members:
            held = member.attachment
            if held is not None and wanted in (held.disk, held.name):
                return member
        raise BadInputError(f"the engine has no attached disk {wanted!r}", code="not-found", fix="mooring list")

    async def _flush(self, params: dict[str, Any]) -> Any:
        return await self._member(params).call("flush", 90.0)

    async def _claims(self, params: dict[str, Any]) -> Any:
        wanted = _text(params, "disk")
        found = [disk for disk in (await self._view(1.0)).disks if wanted in (disk.id, disk.name)]
        if not found:
            raise BadInputError(f"the engine has no disk {wanted!r}", code="not-found", fix="mooring list")
        problem: EngineError = EngineError("no session leads to it", code="no-path")
        for member in self._of(str(found[0].target)):
            try:
                told = await member.call("claims", 30.0, lun=found[0].lun)
            except EngineError as error:
                problem = error
            else:
                return {"initiator": member.config.initiator, "claims": told}
        raise problem

    async def _offline(self, params: dict[str, Any]) -> Any:
        member = self._member(params)
        return {"disk": member.subject, "evidence": await self.disks.offline(member)}

    async def _online(self, params: dict[str, Any]) -> Any:
        return await self._disk_json((await self.disks.online(self._member(params))).disk)

    async def _cleanup(self, params: dict[str, Any]) -> Any:
        wanted = _text(params, "disk")
        for dead in self.disks.dead:
            if wanted in (dead.attachment.disk, dead.attachment.name):
                return {"disk": dead.attachment.disk, "evidence": await self.disks.cleanup(dead)}
        raise BadInputError(f"the engine knows no dead disk {wanted!r}", code="not-found", fix="mooring list")

    async def _stop(self, params: dict[str, Any]) -> Any:
        held = sorted(each.attachment.name for each in self.crew.members if each.attachment is not None)
        if held or self.disks.awaited:
            names = ", ".join([*held, *(each.name for each in self.disks.awaited)])
            fix = f"mooring remove {names.partition(',')[0]}"
            raise RefusedError(f"the engine carries attached disks: {names}", code="attached", fix=fix)
        self.stopping = True
        await asyncio.gather(*(self.crew.dismiss(member) for member in tuple(self.crew.members)))
        self._on_stop()
        return {"stopping": True}


def _version() -> str:
    try:
        return importlib.metadata.version("mooring")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _session_id(route: Route) -> str:
    return f"engine:s:{route.number}"


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise BadInputError(f"{name} is missing")
    return value


def _portals(params: dict[str, Any]) -> list[Portal]:
    given = params.get("portals") or []
    if not isinstance(given, list):
        raise BadInputError("portals have to be a list of texts")
    return list(dict.fromkeys(parse_portal(str(text)) for text in given))


def _options(params: dict[str, Any]) -> dict[str, Any]:
    given = {} if params.get("options") is None else params["options"]
    if not isinstance(given, dict):
        raise BadInputError("options have to be an object")
    return given


def _like(config: WorkerConfig, params: dict[str, Any]) -> dict[str, Any]:
    """What was not said about a second set of sessions with a target is as in the first."""
    first = {
        "portals": [str(route.portal) for route in config.routes],
        **{name: getattr(config, name) for name in options.CHAP_NAMES},
        "initiator": config.initiator,
        "options": dict(config.options),
    }
    return {**first, **{name: value for name, value in params.items() if value is not None}}
