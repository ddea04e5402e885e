"""The practice target as a whole: portals that listen, logins, and the sessions that came of them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from initiator.model import Portal
from initiator.practice.config import RangeConfig, TargetConfig
from initiator.practice.device import Device
from initiator.practice.link import CableFaults, Link
from initiator.practice.login import LoginTarget, Outcome, Status
from initiator.practice.nexus import Port
from initiator.practice.session import LOGOUT_SECONDS, Session
from initiator.practice.store import Store
from initiator.practice.unit import Answer, Unit
from initiator.protocol import pdu
from initiator.protocol.errors import RemoteProtocolError

MAX_CONNECTIONS = 64
"""Connections at one portal; more are closed at once."""
MAX_SESSIONS = 256
LOGIN_SECONDS = 15.0
PING_AFTER = 15.0
"""Seconds of silence after which the target pings, and again as many until it gives the connection up."""
FINISH_SECONDS = 5.0
TICK = 1.0
ACCEPT_AGAIN = 0.5


class PortalServer:
    """One portal: its listening socket, its cable, its target port."""

    def __init__(self, portal: Portal, listener: socket.socket, server: Server) -> None:
        self.portal = portal
        self.port = Port(portal.group_tag or 0)
        self.faults = CableFaults()
        self.links: set[Link] = set()
        self.logins: dict[Link, float] = {}
        self._server = server
        self._listener = listener
        self._listening = False
        listener.setblocking(False)

    def watch(self) -> None:
        """Take connections, unless the cable is cut: then they wait in the backlog, unanswered."""
        wanted = not self.faults.cut
        if wanted != self._listening:
            self._listening = wanted
            if wanted:
                self._server.loop.add_reader(self._listener, self._accept)
            else:
                self._server.loop.remove_reader(self._listener)
        for link in list(self.links):
            link.resume()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # gone again
            return
        except OSError:  # no descriptor left: who knocks waits in the backlog, and this process must not spin meanwhile
            self._listening = False
            self._server.loop.remove_reader(self._listener)
            self._server.loop.call_later(ACCEPT_AGAIN, self._listen_again)
            return
        if len(self.links) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            link = Link(sock, self._server.loop, self.faults, self._ended)
        except OSError:  # the initiator has reset it before it was accepted
            sock.close()
            return
        self.links.add(link)
        self.logins[link] = self._server.loop.time()
        link.handler = LoginHandler(link, self, self._server)

    def _listen_again(self) -> None:
        if self._listener.fileno() >= 0:
            self.watch()

    def _ended(self, link: Link) -> None:
        self.links.discard(link)
        self.logins.pop(link, None)

    def close(self) -> None:
        """Stop listening and end every connection."""
        if self._listening:
            self._server.loop.remove_reader(self._listener)
        self._listener.close()
        for link in list(self.links):
            link.abort()

    # --- what a login asks (login.World) ----------------------------------------------------------------------------

    def refuses(self) -> Status | None:
        """Why nobody may log in here now."""
        if self.faults.refuse_login:
            return Status.SERVICE_UNAVAILABLE
        return Status.OUT_OF_RESOURCES if len(self._server.sessions) >= MAX_SESSIONS else None

    def target(self, name: str) -> TargetConfig | None:
        """The target of that name; every target is at every portal."""
        return self._server.targets.get(name)

    def new_tsih(self) -> int:
        """A session handle that is free."""
        return self._server.new_tsih()

    def session_cid(self, initiator: str, isid: bytes, target: str, tsih: int) -> int | None:
        """The CID of a session's connection."""
        session = self._server.find(initiator, isid, target, self.port.group)
        return None if session is None or session.outcome.tsih != tsih else session.outcome.cid


class LoginHandler:
    """Feeds a login machine from a link."""

    def __init__(self, link: Link, portal: PortalServer, server: Server) -> None:
        self._link = link
        self._portal = portal
        self._server = server
        self._machine = LoginTarget(portal, portal.port.group, os.urandom)

    def receive(self, bhs: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """One PDU before the full feature phase."""
        try:
            request = pdu.decode(bhs, ahs, bytes(data))
        except RemoteProtocolError:
            self._link.close("not an iSCSI login")
            return
        answer = self._machine.receive(request)
        if answer is None:
            self._link.close("the first PDU is no Login Request (RFC 7143, 4.2.4)")
            return
        self._link.send(answer.encode()[: pdu.BHS_BYTES], answer.data)
        if self._machine.failed is not None:
            self._link.finish()
        elif self._machine.outcome is not None:
            self._server.logged_in(self._machine.outcome, self._link, self._portal)

    def broken(self, reason: str) -> None:
        """A login that ended early leaves nothing behind."""


class Server:
    """All targets, disks, portals and sessions of one practice target.

    Args:
        config: What to serve; its portals have real ports.
        listeners: A listening socket for each portal, in their order.
        again: True if initiators may know this target already (see `target.Target`).

    Raises:
        StoreError: a backing file cannot be served.
    """

    def __init__(self, config: RangeConfig, listeners: Sequence[socket.socket], again: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.targets = {target.name: target for target in config.targets}
        self.sessions: dict[tuple[str, bytes, str, int, int], Session] = {}
        self.portals = [PortalServer(*pair, self) for pair in zip(config.portals, listeners, strict=True)]
        self.units: dict[str, Unit] = {}
        for disk in config.disks:
            self.units[disk.name] = Unit(disk, Store(Path(disk.path), disk.size_bytes))
        ports = [portal.port for portal in self.portals]
        self.devices = {
            target.name: Device({lun: self.units[name] for lun, name in target.luns.items()}, ports, again)
            for target in config.targets
        }
        self._tsih = 0
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sync")
        self._ticker = self.loop.call_later(TICK, self._tick)

    def open(self) -> None:
        """Take connections."""
        for portal in self.portals:
            portal.watch()

    def close(self) -> None:
        """End everything; the data are as safe as the last SYNCHRONIZE CACHE and the page cache make them."""
        self._ticker.cancel()
        for portal in self.portals:
            portal.close()
        self._pool.shutdown(wait=True)
        for unit in self.units.values():
            unit.store.close()

    # --- sessions ---------------------------------------------------------------------------------------------------

    def new_tsih(self) -> int:
        """A session handle that is free, never 0 (4.4.3)."""
        used = {session.outcome.tsih for session in self.sessions.values()}
        while True:
            self._tsih = self._tsih % 0xFFFF + 1
            if self._tsih not in used:
                return self._tsih

    def find(self, initiator: str, isid: bytes, target: str | None, group: int) -> Session | None:
        """The session of an I_T nexus."""
        for session in self.sessions.values():
            found = session.outcome
            if (found.initiator, found.isid, found.target, session.port.group) == (initiator, isid, target, group):
                return session
        return None

    def logged_in(self, outcome: Outcome, link: Link, portal: PortalServer) -> None:
        """A login has succeeded: a new session, or one in the place of an old one (6.3.4, 6.3.5)."""
        old = self.find(outcome.initiator, outcome.isid, outcome.target, portal.port.group)
        if old is not None:
            if outcome.reinstates:
                outcome = _carry_on(outcome, old)
            old.leave()
        device = self.devices[outcome.target] if outcome.target else None
        nexus = device.nexuses.enter(outcome.initiator, outcome.isid, portal.port.group) if device else None
        session = Session(outcome, link, self, device, nexus, portal.port)
        link.header_digest, link.data_digest = outcome.params.header_digest, outcome.params.data_digest
        link.max_data = outcome.params.max_recv_data_segment_length
        link.handler = session
        portal.logins.pop(link, None)
        self.sessions[self._key(session)] = session

    @staticmethod
    def _key(session: Session) -> tuple[str, bytes, str, int, int]:
        found = session.outcome
        return found.initiator, found.isid, found.target or "", session.port.group, found.tsih

    def ended(self, session: Session) -> None:
        """A session is over (session.Host)."""
        if self.sessions.get(self._key(session)) is session:
            del self.sessions[self._key(session)]

    def sessions_of(self, device: Device) -> list[Session]:
        """Every session at a device (session.Host)."""
        return [one for one in self.sessions.values() if not one.discovery and one.device is device]

    def addresses(self) -> Sequence[Portal]:
        """Every portal (session.Host)."""
        return self.config.portals

    def target_names(self) -> Sequence[str]:
        """Every target (session.Host)."""
        return list(self.targets)

    def now(self) -> float:
        """Loop time (session.Host)."""
        return self.loop.time()

    def defer(self, work: Callable[[], Answer], done: Callable[[Answer], None]) -> None:
        """Do something slow in a thread (session.Host)."""
        future = self.loop.run_in_executor(self._pool, work)
        future.add_done_callback(lambda finished: None if finished.cancelled() else done(finished.result()))

    def _tick(self) -> None:
        """Once a second: logins that take too long, silent initiators, logouts that were asked for."""
        self._ticker = self.loop.call_later(TICK, self._tick)
        now = self.loop.time()
        for portal in self.portals:
            for link, since in list(portal.logins.items()):
                if now - since > LOGIN_SECONDS and not link.frozen:
                    link.close("the login takes too long")
            for link in list(portal.links):
                if link.finishing and now - link.heard_at > FINISH_SECONDS and not link.frozen:
                    link.close("closed")
        for session in list(self.sessions.values()):
            self._look_after(session, now)

    def _look_after(self, session: Session, now: float) -> None:
        if session.link.frozen:
            session.pinged_at = None
        elif session.asked_at is not None and now - session.asked_at > LOGOUT_SECONDS:
            session.link.abort()  # it did not log out in time (11.9.1)
        elif session.pinged_at is not None:
            if now - session.pinged_at > PING_AFTER:
                session.link.abort()
        elif now - session.link.heard_at > PING_AFTER:
            session.ping()


def _carry_on(outcome: Outcome, old: Session) -> Outcome:
    """A reinstated connection keeps what belongs to the session; only the connection's own keys are new (13)."""
    fresh = outcome.params
    params = dataclasses.replace(
        old.params,
        header_digest=fresh.header_digest,
        data_digest=fresh.data_digest,
        max_recv_data_segment_length=fresh.max_recv_data_segment_length,
        max_xmit_data_segment_length=fresh.max_xmit_data_segment_length,
    )
    return dataclasses.replace(outcome, params=params, cmd_sn=old.exp_cmd_sn)
