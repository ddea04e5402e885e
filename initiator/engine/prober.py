"""Independent probes: a light session of its own beside each session of the kernel, over the same link.

A probe pings the target (NOP-Out), asks one logical unit whether it is ready (TEST UNIT READY) and for its access
state, and tells what it measures. It never writes: every command but four that only ask is refused here. It has an ISID
of its own and the kernel's initiator name. It never competes with the kernel for a place at the target: it logs in only
while the kernel's session is logged in and ends when that is lost, and a target that refuses it is asked again only
after the kernel itself has had to come back.

`python -m initiator.engine.prober` takes lists of what to probe on standard input, one JSON array a line, prints one
JSON object a line for each measurement, and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from initiator.engine import probe
from initiator.engine.connect import Connected, connect
from initiator.engine.session import EngineSession
from initiator.engine.session_config import Completed, SessionConfig
from initiator.errors import MooringError
from initiator.host import attributes
from initiator.host.chaprecord import read_node
from initiator.model import Access, SessionState
from initiator.names import parse_portal
from initiator.protocol.chap import Chap
from initiator.protocol.errors import IscsiError, LoginError
from initiator.protocol.keys import Offer
from initiator.scsi import alua, commands, designators, inquiry
from initiator.scsi.commands import Status
from initiator.scsi.errors import ScsiFormatError, UnitError
from initiator.scsi.sense import Key, explain, parse_sense

INTERVAL = 0.5
"""Seconds from one measurement to the next."""
PING = 0.2
SUSPECT = 0.5
"""Seconds of silence after which a target that owes an answer is called silent."""
LOST = 3.0
ACCESS_EVERY = 10
"""The access state is asked for with every so many measurements."""
PATIENCE = 2.0
WAIT = 1.0
"""Seconds until it is looked again whether the kernel's session is back."""
ASKING = {0x00: "TEST UNIT READY", 0x12: "INQUIRY", 0xA0: "REPORT LUNS", 0xA3: "REPORT TARGET PORT GROUPS"}
"""The only commands that a probe sends, by operation code; of A3h only service action 0Ah."""
_REPORT_GROUPS = 0x0A
_ATTENTIONS = 16
_OFFER = Offer(max_recv_data_segment_length=8192)


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """One session of the kernel that is to be probed."""

    session: str
    """Its id."""
    target: str
    portal: str
    initiator: str
    local: str | None = None
    """The local address to come from."""
    device: str | None = None
    """The interface to leave through (SO_BINDTODEVICE), where that is allowed."""
    lun: int | None = None
    """The logical unit that is asked whether it is ready, by the kernel's number; None asks none."""
    record: str | None = None
    """The node record that has the credentials."""
    state: str | None = None
    """The file that has the state of the kernel's session."""

    @property
    def way(self) -> tuple[str, str, str | None, str | None]:
        """The same for sessions that go the same way to the same target."""
        return self.target, self.portal, self.local, self.device


def one_each(wanted: Sequence[Wanted]) -> dict[tuple[str, str, str | None, str | None], Wanted]:
    """By the way, the session beside which it is probed for all that go it."""
    ways: dict[tuple[str, str, str | None, str | None], Wanted] = {}
    for each in wanted:
        ways.setdefault(each.way, each)
    return ways


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One measurement."""

    at: float
    """Unix time."""
    session: str
    portal: str
    state: str
    """`ok`, `silent`, `lost`, `refused`, `not-ready`; `waiting` while the kernel's session is not logged in."""
    reason: str | None = None
    rtt_us: float | None = None
    ready_us: float | None = None
    """How long TEST UNIT READY took."""
    access: str | None = None


Tell = Callable[[Found], None]


class ProbeSession(EngineSession):
    """A session that only asks, and that leaves through one link."""

    def __init__(self, config: SessionConfig, local: str | None, device: str | None) -> None:
        super().__init__(config)
        self._make = functools.partial(bound_socket, local, device)

    async def _connect(self) -> Connected:
        config = self.config
        return await connect(
            self._stored_portal, config.login, config.login_timeout, make=self._make, listen=self._heard
        )

    def ping(self) -> None:
        """Send a NOP-Out now, unless one is under way; `rtt_us` follows."""
        transport = self._transport
        if transport is not None and transport.core.ping(self._loop.time()):
            transport.kick()

    async def _reconnect(self) -> None:
        """A probe does not come back by itself: the kernel's session goes first."""

    async def execute(
        self,
        lun: int | bytes,
        cdb: bytes,
        data_out: memoryview | bytes | None = None,
        read_length: int = 0,
        timeout: float = 30.0,  # noqa: ASYNC109 - as in the session
    ) -> Completed:
        """Run one command that only asks.

        Raises:
            ValueError: it is another one.
        """
        groups = cdb[0] != 0xA3 or cdb[1] & 0x1F == _REPORT_GROUPS
        if cdb[0] not in ASKING or not groups or data_out is not None:
            raise ValueError(f"a probe does not send operation code {cdb[0]:#04x}")
        return await super().execute(lun, cdb, None, read_length, timeout)


def bound_socket(local: str | None, device: str | None, family: int, kind: int, protocol: int) -> socket.socket:
    """A socket that comes from an address and leaves through an interface.

    Binding to an interface needs CAP_NET_RAW; without it the address alone has to do, which is enough where no two
    interfaces are in one network.

    Raises:
        OSError: the host does not have the address any more.
    """
    sock = socket.socket(family, kind, protocol)
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        if device is not None:
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if local is not None:
            sock.bind((local, 0))
        stack.pop_all()
    return sock


class Probe:
    """Probes beside one session until it is cancelled."""

    def __init__(self, wanted: Wanted, tell: Tell, interval: float = INTERVAL) -> None:
        self._wanted = wanted
        self._tell = tell
        self._interval = interval
        self._access: Access | None = None
        self._port: tuple[int | None, int | None] | None = None
        self._last: str | None = None
        self._ready_us: float | None = None
        self._session: ProbeSession | None = None

    async def run(self) -> None:
        """One session after another while the kernel has one; ends when the target refuses."""
        while True:
            if not self._kernel_is_in():
                self._say("waiting", "the kernel's session is not logged in")
                await asyncio.sleep(WAIT)
                continue
            try:
                session = self._session = ProbeSession(self._config(), self._wanted.local, self._wanted.device)
                session.on_state = self._changed
                await session.start()
            except LoginError as error:
                self._say("refused", f"the target refuses a session of our own for probing: {error}")
                if not await self._kernel_came_back():
                    return
            except MooringError as error:
                self._say("lost", f"no session of our own comes about: {error}")
                await asyncio.sleep(WAIT)
                continue
            try:
                await self._measure(session)
            finally:
                session.on_state = None
                self._session = None
                with contextlib.suppress(IscsiError):
                    await session.logout(timeout=1.0)

    async def _measure(self, session: ProbeSession) -> None:
        """Measures as long as the session and the kernel's own live."""
        count = 0
        while session.state is SessionState.LOGGED_IN and self._kernel_is_in():
            if not session.suspect:
                session.ping()
                wrong = await self._ask(session, count % ACCESS_EVERY == 0)
                if not self._quiet(session):
                    self._say("ok" if wrong is None else "not-ready", wrong)
            count += 1
            await asyncio.sleep(self._interval)
        if session.state is not SessionState.LOGGED_IN:
            self._say("lost", session.reason)

    def _quiet(self, session: ProbeSession) -> bool:
        """Whether the target has fallen silent, or is lost: then `_changed` has told it."""
        return session.suspect or session.state is not SessionState.LOGGED_IN

    async def _ask(self, session: ProbeSession, access: bool) -> str | None:
        """Whether the logical unit is ready, and in which state its port is; gives why it is not ready."""
        if self._wanted.lun is None:
            return None
        lun = commands.straight_lun(self._wanted.lun)
        began = time.monotonic()
        try:
            wrong = await _not_ready(session, lun)
            if wrong is None:
                self._ready_us = (time.monotonic() - began) * 1e6
                if access:
                    self._access = await self._read_access(session, lun)
        except IscsiError as error:
            if not self._quiet(session):
                return str(error)
            return None
        return wrong

    async def _read_access(self, session: ProbeSession, lun: bytes) -> Access | None:
        """The access state of the port through which the probe came; None where the target does not tell."""
        try:
            if self._port is None:
                page = await probe.run(session, lun, probe.read_page(inquiry.VPD_DESIGNATORS), PATIENCE)
                items = designators.parse_designators(page)
                self._port = (designators.port_group(items), designators.relative_port(items))
            groups = await probe.run(session, lun, probe.read_groups(), PATIENCE)
        except (UnitError, ScsiFormatError):
            return None  # an array without ALUA; that it is ready is known
        return alua.access_of(groups, *self._port)[0]

    def _changed(self, session: Any) -> None:
        """Called inside the loop, so silence is told when it is noticed, not with the next measurement."""
        if session.suspect:
            self._say("silent", session.reason)
        elif session.state is SessionState.FAILED:
            self._say("lost", session.reason)

    def _say(self, state: str, reason: str | None) -> None:
        if state in ("waiting", "refused") and state == self._last:
            return
        self._last = state
        session = self._session if state == "ok" else None
        self._tell(
            Found(
                at=time.time(),
                session=self._wanted.session,
                portal=self._wanted.portal,
                state=state,
                reason=reason,
                rtt_us=session.rtt_us if session is not None else None,
                ready_us=self._ready_us if session is not None else None,
                access=self._access.value if session is not None and self._access is not None else None,
            )
        )

    async def _kernel_came_back(self) -> bool:
        """Waits until the kernel has lost its session and has it again: then the target may think otherwise."""
        if self._wanted.state is None:
            return False
        for wanted in (False, True):
            while self._kernel_is_in() is not wanted:  # noqa: ASYNC110 - sysfs has no event for it
                await asyncio.sleep(WAIT)
        return True

    def _kernel_is_in(self) -> bool:
        place = self._wanted.state
        return place is None or attributes.text(attributes.read_one(place)) == "LOGGED_IN"

    def _config(self) -> SessionConfig:
        given = read_node(self._wanted.record) if self._wanted.record is not None else None
        chap = None
        if given is not None:  # the kernel uses it already, however short it is
            chap = Chap(given.user, given.secret, given.target_user, given.target_secret, allow_short=True)
        return SessionConfig(
            target=self._wanted.target,
            portal=parse_portal(self._wanted.portal),
            initiator=self._wanted.initiator,
            chap=chap,
            offer=_OFFER,
            ping_interval=PING,
            suspect_after=SUSPECT,
            lost_after=LOST,
            login_timeout=5.0,
            replacement_timeout=1.0,
        )


async def _not_ready(session: ProbeSession, lun: bytes) -> str | None:
    """Why a logical unit is not ready; None if it is. One that somebody has reserved has answered, which is enough."""
    for _ in range(_ATTENTIONS):
        done = await session.execute(lun, commands.test_unit_ready(), timeout=PATIENCE)
        if done.status in (Status.GOOD, Status.RESERVATION_CONFLICT):
            return None
        if not _attention(done):
            break
    return f"TEST UNIT READY: {explain(done.status, done.sense)}"


def _attention(done: Completed) -> bool:
    """Whether it only wants to tell something first: every new session is told of its own beginning."""
    try:
        return done.status == Status.CHECK_CONDITION and parse_sense(done.sense).key == Key.UNIT_ATTENTION
    except ScsiFormatError:
        return False


class Prober:
    """Probes beside several sessions; which ones may change.

    Args:
        tell: Gets each measurement, inside the loop.
        interval: Seconds from one to the next.
    """

    def __init__(self, tell: Tell, interval: float = INTERVAL) -> None:
        self._tell = tell
        self._interval = interval
        self._running: dict[Wanted, asyncio.Task[None]] = {}

    def want(self, wanted: Sequence[Wanted]) -> None:
        """From now on these are probed, one of those that go the same way to the same target; others are ended."""
        chosen = set(one_each(wanted).values())
        for gone in self._running.keys() - chosen:
            self._running.pop(gone).cancel()
        for fresh in chosen - self._running.keys():
            self._running[fresh] = asyncio.create_task(Probe(fresh, self._tell, self._interval).run())

    async def close(self) -> None:
        """Logs out everywhere."""
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def serve(interval: float) -> None:
    """The process: lists in on standard input, measurements out on standard output, until the input ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    def tell(found: Found) -> None:
        os.write(1, json.dumps(dataclasses.asdict(found)).encode() + b"\n")

    prober = Prober(tell, interval)
    try:
        while line := await lines.readline():
            prober.want([Wanted(**each) for each in json.loads(line)])
    finally:
        await prober.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else INTERVAL))
