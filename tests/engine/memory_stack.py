"""A worker's sessions without a network: one logical unit whose medium is a file. `python -m` this runs a worker.

Options of the login: `medium` (path), `size`, `lun`, `block`, `delay`, `wwid`, `write_error` (errno of all writes),
`login_fails`, `no_lun` and `other_wwid` (files that let logins fail, the unit be away, or another one appear, while
they exist), `no_resend` (as on an old kernel).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from initiator.engine import fuse_abi
from initiator.engine.attached import Route, Takeover, Unit, WorkerConfig, default_name, disk_id
from initiator.engine.report import EngineReport
from initiator.engine.worker import Export, Refusal, Tell, main
from initiator.errors import MooringError, RefusedError
from initiator.model import Disk, DiskState, PathState, Session, SessionState, Source
from initiator.model import Path as DiskPath
from initiator.scsi.reservations import Claims, Keys, Registration
from tests.engine.memory import MemoryBackend

Done = Callable[[int], None]


class MemoryExport(MemoryBackend):
    def __init__(self, unit: Unit, medium: Path, delay: float) -> None:
        super().__init__(medium, unit.size_bytes, unit.block_bytes, unit.read_only, delay)
        self.unit = unit
        self.closed = False
        self.in_flight = 0
        self.unflushed = False

    def gate(self, closed: bool) -> None:
        self.closed = closed

    def _answer(self, operation: str, done: Done) -> None:
        self.calls.clear()
        self.in_flight += 1
        if operation in ("write", "flush"):
            self.unflushed = operation == "write"

        def answered(number: int) -> None:
            self.in_flight -= 1
            done(number)

        super()._answer(operation, answered)


class MemoryStack:
    def __init__(self, config: WorkerConfig, tell: Tell) -> None:
        self._config = config
        self._options: dict[str, Any] = dict(config.options)
        self._routes: dict[int, Route] = {}
        self._export: MemoryExport | None = None
        swapped = self._options.get("other_wwid")
        wwid = self._options.get("wwid", "naa.60000000000000e0")
        if swapped and Path(swapped).exists():
            wwid = "naa.6666666666666666"
        if self._options.get("no_resend"):
            fuse_abi.NOTIFY_RESEND = 77
        size = int(self._options.get("size", 16 << 20))
        self._unit = Unit(int(self._options.get("lun", 0)), wwid, (wwid,), size, int(self._options.get("block", 512)))

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(self._routes)

    async def login(self, routes: Sequence[Route], patience: float) -> tuple[Refusal, ...]:
        blocker = self._options.get("login_fails")
        until = time.monotonic() + patience
        while blocker and Path(blocker).exists():
            if time.monotonic() >= until:
                raise MooringError("the target is not there", code="connection-lost")
            await asyncio.sleep(0.02)
        refused = tuple(
            Refusal(route.portal, "connection-lost", "no answer") for route in routes if route.portal.port == 1
        )
        if len(refused) == len(routes):
            raise MooringError("no portal answers", code="connection-lost")
        self._routes.update({route.number: route for route in routes if route.portal.port != 1})
        return refused

    async def logout(self, number: int) -> None:
        del self._routes[number]

    async def open(self, lun: int, read_only: bool, takeover: Takeover | None) -> Export:
        away = self._options.get("no_lun")
        if lun != self._unit.lun or (away and Path(away).exists()):
            raise MooringError(f"there is no LUN {lun}", code="not-found")
        if takeover is not None and takeover.unit.wwid != self._unit.wwid:
            raise MooringError("it is another disk now", code="identity")
        unit = dataclasses.replace(self._unit, read_only=read_only)
        self._export = MemoryExport(unit, Path(self._options["medium"]), float(self._options.get("delay", 0.0)))
        if "write_error" in self._options:
            self._export.errors["write"] = int(self._options["write_error"])
        return self._export

    async def claims(self, lun: int) -> Claims:
        return Claims(Keys(1, (0xA,)), None, (Registration(0xA, "iqn.2026-11.io.mooring.test:other"),))

    def trace(self, number: int, fd: int, seconds: float, limit: int) -> None:
        os.close(fd)
        raise RefusedError("there is no wire to trace", code="traced")

    async def flush(self) -> dict[str, Any]:
        return {"status": 0, "sense": "", "explain": "GOOD", "paths": []}

    def report(self) -> EngineReport:
        config = self._config
        disk = disk_id(self._unit.wwid, config.target, self._unit.lun)
        sessions = tuple(
            Session(
                f"engine:s:{route.number}",
                f"memory@{route.portal}",
                SessionState.LOGGED_IN,
                Source.ENGINE,
                config.target,
                route.portal,
                config.initiator,
                isid=route.isid,
            )
            for route in self._routes.values()
        )
        paths = tuple(
            DiskPath(f"engine:p:{route.number}:{self._unit.lun}", "path", PathState.ACTIVE, disk, session.id)
            for route, session in zip(self._routes.values(), sessions, strict=True)
        )
        name = default_name(config.target, self._unit.lun)
        found = Disk(
            disk,
            name,
            DiskState.AVAILABLE,
            Source.ENGINE,
            self._unit.wwid,
            self._unit.size_bytes,
            paths=tuple(path.id for path in paths),
            target=config.target,
            lun=self._unit.lun,
        )
        return EngineReport(time.time(), sessions, (found,), paths)

    async def close(self) -> None:
        self._routes.clear()


if __name__ == "__main__":
    sys.exit(main(MemoryStack))
