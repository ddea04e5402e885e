"""The sessions of one worker: one target over several portals, what they see, and the one disk that is opened."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

from initiator.engine import options, portrait
from initiator.engine.attached import Route, Takeover, WorkerConfig, disk_id
from initiator.engine.claims import read_claims
from initiator.engine.device import Device
from initiator.engine.export import DeviceExport, must_be
from initiator.engine.pcapng import Writer
from initiator.engine.probe import LunInfo, examine, field_of, list_luns, run
from initiator.engine.report import EngineReport
from initiator.engine.session import EngineSession
from initiator.engine.tap import Outlet, Trace
from initiator.engine.worker import Refusal, Tell
from initiator.errors import MooringError, RefusedError
from initiator.model import Disk, Path, SessionState, Severity
from initiator.names import clean
from initiator.protocol.errors import ConnectionLost, IscsiError, LoginError
from initiator.scsi.errors import ScsiFormatError, UnitError
from initiator.scsi.reservations import Claims
from initiator.scsi.sense import Sense

_LOOK_AGAIN = 10.0
"""Seconds between two looks at which LUNs there are, and at sessions that were given up."""
_RETRY = 1.0
_TRACE_STEP = 0.1
_TRACE_FAREWELL = 5.0
"""Seconds that the reader of a trace may take for the last of it."""
_RESETS = range(0x2900, 0x2905)
_NEXUS_LOSS = 0x2907

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class _Way:
    """One route and its session."""

    route: Route
    session: EngineSession
    luns: tuple[LunInfo, ...] = ()
    heard: dict[int, list[Sense]] = dataclasses.field(default_factory=dict)
    """Unit attentions of each LUN since the login."""
    well_known: tuple[int, ...] = ()
    trying: bool = False
    """Whether somebody is logging it in."""
    complaint: str | None = None
    """What was said last of why it does not lead to the open disk."""

    @property
    def usable(self) -> bool:
        return self.session.state is SessionState.LOGGED_IN


class TargetStack:
    """See `initiator.engine.worker.Stack`, which this is."""

    def __init__(self, config: WorkerConfig, tell: Tell) -> None:
        options.check(config.options)
        self._config = config
        self._tell = tell
        self._ways: dict[int, _Way] = {}
        self._export: DeviceExport | None = None
        self._lun: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._look_again())

    @property
    def numbers(self) -> tuple[int, ...]:
        """The routes that are kept."""
        return tuple(self._ways)

    # Logging in and out.

    async def login(self, routes: Sequence[Route], patience: float) -> tuple[Refusal, ...]:
        """See `Stack.login`."""
        ways = [self._way(route) for route in routes]
        if patience:
            await self._log_in_patiently(ways, patience)
            return ()
        outcomes = await asyncio.gather(*(self._log_in(way) for way in ways))
        errors: list[MooringError] = []
        refused: list[Refusal] = []
        for way, error in zip(ways, outcomes, strict=True):
            if error is None:
                self._ways[way.route.number] = way
                self._add_path(way)
                continue
            await way.session.close()
            log.info("no session over %s: %s", way.route.portal, error)
            errors.append(error)
            refused.append(Refusal(way.route.portal, error.code, clean(str(error))))
        if len(errors) == len(ways):
            raise _worst(errors)
        return tuple(refused)

    async def _log_in_patiently(self, ways: Sequence[_Way], patience: float) -> None:
        """After a takeover: every way is kept and tried until it works; this waits for the first."""
        up = asyncio.Event()
        last: dict[int, MooringError] = {}
        for way in ways:
            self._ways[way.route.number] = way
            self._start(self._until_logged_in(way, up, last))
        try:
            async with asyncio.timeout(patience):
                await up.wait()
        except TimeoutError:
            because = f": {_worst(tuple(last.values()))}" if last else ""
            raise ConnectionLost(f"no portal let us in again within {patience:.3g} s{because}") from None

    async def _until_logged_in(self, way: _Way, up: asyncio.Event, last: dict[int, MooringError]) -> None:
        """A refusal is no end: a target that is just starting refuses too, and a live session outlasts that."""
        way.trying = True
        while (error := await self._log_in(way)) is not None:
            last[way.route.number] = error
            self._note(way, f"no session over {way.route.portal} yet: {error}", Severity.WARN)
            final = isinstance(error, LoginError) and not error.retry
            await asyncio.sleep((final and way.session.config.retry_refused) or _RETRY)
            if way.route.number not in self._ways:
                return  # somebody has logged it out
        way.trying = False
        self._add_path(way)
        up.set()

    def _way(self, route: Route) -> _Way:
        session = EngineSession(options.session_config(self._config, route))
        way = _Way(route, session)
        session.on_event = lambda _, text, severity: self._note(way, text, severity)
        return way

    async def _log_in(self, way: _Way) -> MooringError | None:
        """Log in and look which LUNs there are; the error if there is no session afterwards."""
        way.heard.clear()
        try:
            await way.session.start()
            await self._look(way)
        except MooringError as error:
            if way.usable:
                self._note(way, f"the target does not list its LUNs: {error}", Severity.WARN)
                return None
            return error
        return None

    async def logout(self, number: int) -> None:
        """See `Stack.logout`."""
        way = self._ways.pop(number, None)
        if way is None:
            raise RefusedError(f"there is no session {number}", code="not-found")
        if self._export is not None:
            self._export.device.remove_path(way.session)
        try:
            await way.session.logout()
        except IscsiError as error:
            self._note(way, f"logged out, but without the target's answer: {error}", Severity.WARN)

    async def close(self) -> None:
        """See `Stack.close`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(self.logout(number) for number in self.numbers))
        if self._export is not None:
            self._export.device.close()

    async def claims(self, lun: int) -> Claims:
        """See `Stack.claims`."""
        problem: MooringError = RefusedError("no session works", code="no-path")
        for way in self._ways.values():
            if not way.usable:
                continue
            try:
                field = await field_of(way.session, lun)
                return await run(way.session, field, read_claims(way.heard.setdefault(lun, []).append))
            except (IscsiError, UnitError, ScsiFormatError) as error:
                problem = error
        raise problem

    def trace(self, number: int, fd: int, seconds: float, limit: int) -> None:
        """See `Stack.trace`."""
        way = self._ways.get(number)
        outlet = Outlet(fd)
        try:
            if way is None:
                raise RefusedError(f"there is no session {number}", code="not-found")
            if way.session.traced:
                raise RefusedError("this session is being traced already", code="traced", fix="wait for its end")
            trace = Trace(Writer(outlet, limit))
        except (MooringError, OSError):
            outlet.close()
            raise
        way.session.record(trace)
        self._start(self._end_trace(way, trace, outlet, seconds))

    async def _end_trace(self, way: _Way, trace: Trace, outlet: Outlet, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            while not trace.over and loop.time() < until and way.route.number in self._ways:
                await asyncio.sleep(min(_TRACE_STEP, until - loop.time()))
                trace.close()
            way.session.record(None)
            while trace.broken is None and not outlet.empty and loop.time() < until + _TRACE_FAREWELL:
                await asyncio.sleep(_TRACE_STEP)
                trace.close()
        finally:
            way.session.record(None)
            outlet.close()

    # The disk.

    async def open(self, lun: int, read_only: bool, takeover: Takeover | None) -> DeviceExport:
        """See `Stack.open`."""
        if self._export is not None:
            self._export.device.close()
            self._export = None
        device: Device | None = None
        proofs: list[bool] = []
        problem: MooringError = RefusedError("no session works", code="no-path")
        for way in self._ways.values():
            if not way.usable:
                continue
            heard = way.heard.setdefault(lun, [])
            try:
                field = await field_of(way.session, lun)
                info = await run(way.session, field, examine(lun, field, heard.append))
                if device is None:
                    made = Device(info, options.device_options(self._config))
                    if takeover is not None:
                        must_be(portrait.unit_of(info, read_only), takeover.unit)
                    device = made
                device.add_path(way.session, info, str(way.route.portal))
            except (IscsiError, UnitError, ScsiFormatError, RefusedError) as error:
                problem = error
                self._note(way, f"LUN {lun} cannot be used over {way.route.portal}: {error}", Severity.WARN)
                continue
            proofs.append(not _reset(heard))
        if device is None:
            raise problem
        unit = takeover.unit if takeover is not None else portrait.unit_of(device.info, read_only)
        unproven = takeover is not None and takeover.exposed and device.write_cache is not False and not any(proofs)
        device.on_event = lambda text, severity: self._tell(self._disk_id(device.info), text, severity)
        self._lun = lun
        self._export = DeviceExport(device, unit, unproven, device.on_event)
        return self._export

    def _add_path(self, way: _Way) -> None:
        """A session came while a disk is open: use it too, if it leads to the same unit."""
        if self._export is None or not self._may_join(way):
            return
        info = next((each for each in way.luns if each.lun == self._lun), None)
        if info is None:
            self._complain(way, f"LUN {self._lun} is not there over {way.route.portal}", Severity.WARN)
            return
        try:
            self._export.device.add_path(way.session, info, str(way.route.portal))
        except RefusedError as error:
            self._complain(way, str(error), Severity.BAD)
        else:
            way.complaint = None

    def _may_join(self, way: _Way) -> bool:
        """Whether a session works that is no path of the open disk, if there is one."""
        paths = self._export.device.paths if self._export is not None else ()
        kept = self._ways.get(way.route.number) is way
        return kept and way.usable and not any(path.session is way.session for path in paths)

    def _complain(self, way: _Way, text: str, severity: Severity) -> None:
        """Say why a session does not lead to the disk; it is looked at again and again, and said once."""
        if way.complaint != text:
            way.complaint = text
            self._note(way, text, severity)

    async def flush(self) -> dict[str, Any]:
        """See `Stack.flush`."""
        if self._export is None:
            raise RefusedError("no disk is open", code="not-attached")
        told = await self._export.device.synchronize()
        status, text = told.status, told.text
        failed = told.errno or (self._export.forget_doubt() and "acknowledged writes may have been lost before")
        if failed:
            status = status or -1
            text = f"{text}; {failed}" if isinstance(failed, str) else text
        return {
            "status": 0 if not failed and status is None else status,
            "sense": told.sense.hex(),
            "explain": clean(text),
            "paths": [told.path] if told.path is not None else [],
        }

    # Looking.

    async def _look(self, way: _Way) -> None:
        """Ask for all LUNs and examine each; one that does not answer is left out."""
        found: list[LunInfo] = []
        for lun, field in (await run(way.session, 0, list_luns())).items():
            heard = way.heard.setdefault(lun, [])
            try:
                found.append(await run(way.session, field, examine(lun, field, heard.append)))
            except (UnitError, ScsiFormatError) as error:
                if any(info.lun == lun for info in way.luns) or not way.luns:
                    self._note(way, f"LUN {lun}: {error}", Severity.NOTE)
        if not way.luns:
            with contextlib.suppress(UnitError, ScsiFormatError):  # few targets have some, and some refuse to list them
                way.well_known = tuple(await run(way.session, 0, list_luns(1)))
        way.luns = tuple(found)

    async def _look_again(self) -> None:
        """See from time to time which LUNs there are; try again what was given up.

        While a disk is open only sessions are looked at that it does not go over: its LUN may come to them late.
        """
        while True:
            await asyncio.sleep(_LOOK_AGAIN)
            for way in tuple(self._ways.values()):
                if way.session.state is SessionState.FREE and not way.trying:
                    await self._revive(way)
                elif not way.trying and self._may_join(way):
                    with contextlib.suppress(IscsiError, UnitError, ScsiFormatError):
                        await self._look(way)
                        self._add_path(way)

    async def _revive(self, way: _Way) -> None:
        """A session that was given up (the target refused it, or was away for too long) begins anew."""
        way.trying = True
        await way.session.close()
        error = await self._log_in(way)
        way.trying = False
        if error is None:
            self._add_path(way)
            self._note(way, f"logged in over {way.route.portal} again", Severity.NOTE)

    def report(self) -> EngineReport:
        """See `Stack.report`."""
        config, device = self._config, self._export.device if self._export is not None else None
        ways = sorted(self._ways.values(), key=lambda way: way.route.number)
        paths: list[Path] = []
        seen: dict[str, tuple[LunInfo, list[Path]]] = {}
        if device is not None:
            mine = [
                portrait.used_path(config, way.route, way.session, self._disk_id(device.info), path)
                for way in ways
                for path in device.paths
                if path.session is way.session
            ]
            seen[self._disk_id(device.info)] = (device.info, mine)
        for way in ways:
            for info in way.luns:
                disk = self._disk_id(info)
                if info.present and (device is None or info.lun != self._lun):
                    path = portrait.browsed_path(config, way.route, way.session, info)
                    seen.setdefault(disk, (info, []))[1].append(path)
        disks: list[Disk] = []
        for disk, (info, found) in seen.items():
            opened = device if device is not None and disk == self._disk_id(device.info) else None
            disks.append(portrait.disk(config, info, found, opened))
            paths += found
        sessions = tuple(portrait.session(config, way.route, way.session, way.luns, way.well_known) for way in ways)
        return EngineReport(time.time(), sessions, tuple(disks), tuple(paths))

    def _disk_id(self, info: LunInfo) -> str:
        return disk_id(info.wwid, self._config.target, info.lun)

    def _note(self, way: _Way, text: str, severity: Severity) -> None:
        self._tell(portrait.session_id(way.route.number), clean(text), severity)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a task of the worker failed", exc_info=error)


def _worst(errors: Sequence[MooringError]) -> MooringError:
    """The error that says most: a refusal says more than silence."""
    return next((error for error in errors if isinstance(error, LoginError)), errors[0])


def _reset(heard: Sequence[Sense]) -> bool:
    """Whether a new nexus leaves it open that the unit was reset (see `initiator.engine.keeper` about 29h)."""
    codes = [sense.code for sense in heard]
    return any(code in _RESETS for code in codes) or _NEXUS_LOSS not in codes
