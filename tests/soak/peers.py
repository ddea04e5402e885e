"""The two targets of a soak, each with the faults that it can be given while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from initiator.model import Portal
from initiator.practice import control
from initiator.practice.config import DiskConfig, RangeConfig, TargetConfig
from initiator.practice.process import TargetProcess, listeners
from tests.tgtd import Tgtd

TARGET = "iqn.2026-11.io.mooring.test:soak"
DIGESTS = "None,CRC32C"


class Peer(Protocol):
    """A running target with one disk behind two portals."""

    portals: tuple[Portal, ...]
    lun: int
    backing: Path

    @property
    def pid(self) -> int:
        """Its process now."""

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """Faults of its own, as `order` takes them: one to begin, by name and arguments; `end` ends it."""

    async def order(self, *words: str) -> None:
        """Begin a fault."""

    async def end(self, *words: str) -> None:
        """End it."""

    async def restart(self) -> None:
        """Kill it and start it again on the same portals with the same disk."""


class TgtdPeer:
    """Debian's tgtd. It knows no ALUA and sends no asynchronous messages."""

    orders: tuple[tuple[str, ...], ...] = ()
    lun = 1

    def __init__(self, tgtd: Tgtd, size: int) -> None:
        self._tgtd = tgtd
        self._size = size
        self._export()
        self.portals = tgtd.portals

    def _export(self) -> None:
        tid = self._tgtd.add_target(TARGET, HeaderDigest=DIGESTS, DataDigest=DIGESTS)
        self.backing = self._tgtd.add_lun(tid, self.lun, self._size)

    @property
    def pid(self) -> int:
        """Its process now."""
        assert self._tgtd.process is not None
        return self._tgtd.process.pid

    async def order(self, *words: str) -> None:
        """It takes none."""
        raise NotImplementedError(words)

    async def end(self, *words: str) -> None:
        """It takes none."""
        raise NotImplementedError(words)

    async def restart(self) -> None:
        """The page cache keeps what it had acknowledged."""
        await asyncio.to_thread(self._again)

    def _again(self) -> None:
        self._tgtd.stop()
        self._tgtd.start()
        self._export()


def _faults_of(tag: str) -> tuple[tuple[str, ...], ...]:
    """What the practice target can do to one of its portals; a digest only exists on the first (`run.disk`)."""
    states = ("standby", "unavailable", "transitioning", "non-optimized")
    return (
        *(("alua", tag, state) for state in states),
        ("ask-logout", tag),
        ("drop", tag),
        ("cut", tag),
        ("delay", tag, "120"),
        ("refuse-login", tag, "on"),
        ("corrupt-digest", "1", "1"),
    )


class PracticePeer:
    """The practice target, in a process of its own."""

    lun = 0
    _DISK = "data"

    def __init__(self, folder: Path, size: int, sockets: list[socket.socket], portals: tuple[Portal, ...]) -> None:
        self.portals = portals
        self.backing = folder / "data.img"
        self._sockets = sockets
        self._log = folder / "target.log"
        self._config = folder / "config.json"
        self._control = folder / "practice.sock"
        disk = DiskConfig(self._DISK, str(uuid.uuid4()), str(self.backing), size)
        targets = (TargetConfig(TARGET, {self.lun: self._DISK}),)
        RangeConfig(targets, (disk,), portals, str(self._control)).save(self._config)
        self._start(again=False)
        self.orders = tuple(fault for tag in map(str, range(1, len(portals) + 1)) for fault in _faults_of(tag))

    def _start(self, *, again: bool) -> None:
        self.process = TargetProcess.start(self._config, self._log, self._sockets, again)
        self.process.wait_ready(self._control)

    @property
    def pid(self) -> int:
        """Its process now."""
        return self.process.pid

    async def order(self, *words: str) -> None:
        """Over its control socket, as everybody does."""
        name, *args = words
        with contextlib.suppress(control.PracticeError):  # no session with digests at this moment
            await asyncio.to_thread(control.ask, self._control, "fault", name=name, args=args)

    async def end(self, *words: str) -> None:
        """What lasts is switched back."""
        back = {"cut": ("plug",), "delay": ("0",), "refuse-login": ("off",), "alua": ("optimized",)}
        name, tag = words[:2]
        if name == "cut":
            await self.order("plug", tag)
        elif name in back:
            await self.order(name, tag, *back[name])

    async def restart(self) -> None:
        """Killed, not stopped; the page cache keeps what it had acknowledged."""
        await asyncio.to_thread(self._again)

    def _again(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10.0)
        self._start(again=True)

    def stop(self) -> None:
        """End the process."""
        self.process.stop(self._control)


@contextlib.contextmanager
def tgtd(folder: Path, size: int) -> Iterator[Peer]:
    """tgtd with a disk of `size` bytes in a file in `folder`."""
    with Tgtd(folder, ("127.0.0.1", "127.0.0.2")) as running:
        yield TgtdPeer(running, size)


@contextlib.contextmanager
def practice(folder: Path, size: int) -> Iterator[Peer]:
    """The practice target with a disk of `size` bytes in a file in `folder`."""
    with listeners() as (sockets, portals):
        peer = PracticePeer(folder, size, sockets, portals)
        try:
            yield peer
        finally:
            peer.stop()


PEERS = {"tgtd": tgtd, "practice": practice}
