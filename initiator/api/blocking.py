"""The library for programs without an event loop: the same names as in `initiator.api`, and every call waits.

    from initiator.api.blocking import Session

    with Session.login("iqn.2026-11.example:data", "192.0.2.10") as session:
        print(session.read(0, 4096).hex())

Each session has an event loop in a thread of its own, so that it answers the target's pings between two calls; calls
may come from any thread. What a call returns, raises and expects is said in `initiator.api`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

from initiator import api
from initiator.api.login import LoginOptions
from initiator.engine.device import DeviceOptions
from initiator.engine.discovery import DiscoveredTarget
from initiator.engine.probe import LunInfo
from initiator.engine.session_config import Completed
from initiator.model import Portal, SessionState
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.keys import Params
from initiator.scsi.reservations import Claims, Order, Type

__all__ = ["Disk", "Session", "discover"]

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own; a context manager."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mooring-session", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do something, and wait for it; an interrupted wait ends the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # says nothing to one that is done


def discover(
    portal: str | Portal,
    *,
    initiator: str | None = None,
    chap: Chap | None = None,
    chap_algorithms: Sequence[int] = DEFAULT_ORDER,
    timeout: float = 10.0,
) -> list[DiscoveredTarget]:
    """See `initiator.api.discover`."""
    asked = api.discover(portal, initiator=initiator, chap=chap, chap_algorithms=chap_algorithms, timeout=timeout)
    with _Loop() as loop:
        return loop.run(asked)


class Disk:
    """See `initiator.api.Disk`."""

    def __init__(self, disk: api.Disk, loop: _Loop) -> None:
        """Wrap a disk whose loop runs in another thread."""
        self._disk = disk
        self._run = loop.run

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        target: str,
        portals: Sequence[str | Portal],
        lun: int = 0,
        *,
        policy: DeviceOptions | None = None,
        **options: Unpack[LoginOptions],
    ) -> Iterator[Self]:
        """See `initiator.api.Disk.open`."""
        with _Loop() as loop:
            opened = api.Disk.open(target, portals, lun, policy=policy, **options)
            disk = loop.run(opened.__aenter__())
            try:
                yield cls(disk, loop)
            finally:
                loop.run(opened.__aexit__(None, None, None))

    @property
    def size_bytes(self) -> int:
        """See `initiator.api.Disk.size_bytes`."""
        return self._disk.size_bytes

    @property
    def block_bytes(self) -> int:
        """See `initiator.api.Disk.block_bytes`."""
        return self._disk.block_bytes

    @property
    def wwid(self) -> str | None:
        """See `initiator.api.Disk.wwid`."""
        return self._disk.wwid

    @property
    def info(self) -> LunInfo:
        """See `initiator.api.Disk.info`."""
        return self._disk.info

    @property
    def read_only(self) -> bool:
        """See `initiator.api.Disk.read_only`."""
        return self._disk.read_only

    def read(self, offset: int, length: int) -> bytes:
        """See `initiator.api.Disk.read`."""
        return self._run(self._disk.read(offset, length))

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See `initiator.api.Disk.read_into`."""
        self._run(self._disk.read_into(offset, buffer))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `initiator.api.Disk.write`."""
        self._run(self._disk.write(offset, data))

    def flush(self) -> None:
        """See `initiator.api.Disk.flush`."""
        self._run(self._disk.flush())

    def discard(self, offset: int, length: int) -> None:
        """See `initiator.api.Disk.discard`."""
        self._run(self._disk.discard(offset, length))

    def write_zeroes(self, offset: int, length: int) -> None:
        """See `initiator.api.Disk.write_zeroes`."""
        self._run(self._disk.write_zeroes(offset, length))

    def compare_and_write(self, offset: int, expected: bytes, data: bytes) -> None:
        """See `initiator.api.Disk.compare_and_write`."""
        self._run(self._disk.compare_and_write(offset, expected, data))


class Session:
    """See `initiator.api.Session`."""

    def __init__(self, session: api.Session, loop: _Loop) -> None:
        """Wrap a session whose loop runs in another thread."""
        self._session = session
        self._loop = loop
        self._run = loop.run

    @classmethod
    @contextlib.contextmanager
    def login(
        cls, target: str, portal: str | Portal, *, isid: bytes | None = None, **options: Unpack[LoginOptions]
    ) -> Iterator[Self]:
        """See `initiator.api.Session.login`."""
        with _Loop() as loop:
            login = api.Session.login(target, portal, isid=isid, **options)
            session = loop.run(login.__aenter__())
            try:
                yield cls(session, loop)
            finally:
                loop.run(login.__aexit__(None, None, None))

    @property
    def state(self) -> SessionState:
        """See `initiator.api.Session.state`."""
        return self._session.state

    @property
    def params(self) -> Params:
        """See `initiator.api.Session.params`."""
        return self._session.params

    @property
    def isid(self) -> bytes:
        """See `initiator.api.Session.isid`."""
        return self._session.isid

    def luns(self) -> tuple[LunInfo, ...]:
        """See `initiator.api.Session.luns`."""
        return self._run(self._session.luns())

    def disk(self, lun: int = 0) -> Disk:
        """See `initiator.api.Session.disk`."""
        return Disk(self._run(self._session.disk(lun)), self._loop)

    def read(self, offset: int, length: int, *, lun: int = 0) -> bytes:
        """See `initiator.api.Session.read`."""
        return self._run(self._session.read(offset, length, lun=lun))

    def write(self, offset: int, data: bytes | bytearray | memoryview, *, lun: int = 0) -> None:
        """See `initiator.api.Session.write`."""
        self._run(self._session.write(offset, data, lun=lun))

    def flush(self, *, lun: int = 0) -> None:
        """See `initiator.api.Session.flush`."""
        self._run(self._session.flush(lun=lun))

    def execute(
        self,
        cdb: bytes,
        *,
        lun: int = 0,
        data_out: bytes | memoryview | None = None,
        read_length: int = 0,
        timeout: float = 30.0,
    ) -> Completed:
        """See `initiator.api.Session.execute`."""
        asked = self._session.execute(cdb, lun=lun, data_out=data_out, read_length=read_length, timeout=timeout)
        return self._run(asked)

    def claims(self, *, lun: int = 0) -> Claims:
        """See `initiator.api.Session.claims`."""
        return self._run(self._session.claims(lun=lun))

    def reserve(self, order: Order, key: int, *, new_key: int = 0, type: Type | None = None, lun: int = 0) -> None:
        """See `initiator.api.Session.reserve`."""
        self._run(self._session.reserve(order, key, new_key=new_key, type=type, lun=lun))
