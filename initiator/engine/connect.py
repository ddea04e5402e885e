"""From a portal to a session in the full feature phase: TCP connect, login, redirects (RFC 7143, 6.3, 11.13.5)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import Callable

from initiator.model import Portal
from initiator.protocol.dialogue import Dialogue
from initiator.protocol.errors import ConnectionLost, IscsiError, RedirectError, RemoteProtocolError
from initiator.protocol.login import LoginConfig, LoginMachine, LoginResult
from initiator.protocol.pdu import BHS_BYTES, OPCODE_MASK, TARGET_OPS, Pdu, decode, frame_length, looks_like, padded

MAX_REDIRECTS = 8
MAX_LOGIN_DATA = 65536
"""Bytes in one PDU of the login: the rule is 8192 (13.12), but only memory is at stake here."""
BANNER_BYTES = 5
"""Bytes that tell one protocol from another; a server that speaks first may send little more and then wait for ever."""


Address = tuple[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """A connection that has just entered the full feature phase.

    Attributes:
        sock: Non-blocking, positioned behind the last Login Response.
        result: What the login brought.
        portal: Where it ended up after redirects.
        stored: The portal to begin with next time: a permanent redirect replaces it, a temporary one does not.
        local: Our end as (host, port).
        peer: The target's end.
    """

    sock: socket.socket
    result: LoginResult
    portal: Portal
    stored: Portal
    local: Address
    peer: Address


Make = Callable[[int, int, int], socket.socket]
"""Makes a socket from family, type and protocol."""


async def connect(
    portal: Portal,
    config: Callable[[], LoginConfig],
    patience: float,
    *,
    make: Make = socket.socket,
    listen: Callable[[Dialogue], None] | None = None,
) -> Connected:
    """Connect to a portal, log in, and follow redirects.

    Args:
        portal: Where to begin.
        config: Makes the configuration of one login; each login needs fresh random numbers.
        patience: Seconds for all of it.
        make: Makes the sockets; a trace has its own, and a probe binds them to one link.
        listen: Told what was said in each login, once that has ended in one way or the other.

    Raises:
        LoginError: the target refused (its `retry` says whether another try makes sense).
        RemoteProtocolError: the peer breaks a rule, or is no iSCSI target.
        ConnectionLost: nothing listens, the connection broke, or the time was up; the text names the stage.
    """
    stored = portal
    attempt = _Attempt(portal, make, listen)
    try:
        async with asyncio.timeout(patience):
            for _ in range(MAX_REDIRECTS):
                attempt = _Attempt(portal, make, listen)
                try:
                    sock, result, local, peer = await attempt.run(config())
                except RedirectError as redirect:
                    if redirect.permanent and portal == stored:
                        stored = redirect.portal
                    portal = redirect.portal
                else:
                    return Connected(sock, result, portal, stored, local, peer)
    except TimeoutError:
        attempt.check_banner()
        raise ConnectionLost(
            f"{portal}: no answer within {patience:g} seconds, in {attempt.stage}",
            code="login-timeout",
            fix="check that the target runs and that no firewall drops its packets",
        ) from None
    raise RemoteProtocolError(
        f"{portal}: the target sent this login from portal to portal {MAX_REDIRECTS} times",
        code="redirect-loop",
        fix="ask the administrator of the target to correct its redirects",
    )


class _Attempt:
    """One login at one portal. `stage` says where it is, for the text of a time-out."""

    def __init__(self, portal: Portal, make: Make, listen: Callable[[Dialogue], None] | None) -> None:
        self.portal = portal
        self._make = make
        self._listen = listen
        self.stage = "the TCP connect"
        self._loop = asyncio.get_running_loop()
        self._heard = False
        self._pdu = bytearray()
        """What has arrived of the PDU that is being received."""

    async def run(self, config: LoginConfig) -> tuple[socket.socket, LoginResult, Address, Address]:
        with contextlib.ExitStack() as stack:
            sock = await self._reach()
            stack.callback(sock.close)
            try:
                result = await self._log_in(sock, config)
                # A reset that came right behind the last answer is noticed here first: there is no peer any more.
                local, peer = sock.getsockname()[:2], sock.getpeername()[:2]
            except OSError as error:
                raise ConnectionLost(
                    f"{self.portal}: the connection broke in {self.stage}: {error.strerror or error}",
                    code="connection-broken",
                ) from error
            stack.pop_all()
            return sock, result, local, peer

    async def _reach(self) -> socket.socket:
        try:
            return await self._open()
        except socket.gaierror as error:
            raise ConnectionLost(
                f"{self.portal}: the host name is not known ({error.strerror})", code="unknown-host"
            ) from error
        except OSError as error:
            raise ConnectionLost(f"{self.portal}: {error.strerror or error}", code="connect-failed") from error

    async def _open(self) -> socket.socket:
        """A connection to the first of the portal's addresses that takes one."""
        found = await self._loop.getaddrinfo(self.portal.host, self.portal.port, type=socket.SOCK_STREAM)
        failure: OSError = ConnectionRefusedError("the host has no address")
        for family, kind, protocol, _, address in found:
            try:
                sock = self._make(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
            except OSError as error:  # a family that this kernel has not, or no descriptor left
                failure = error
                continue
            with contextlib.ExitStack() as stack:
                stack.callback(sock.close)
                try:
                    await self._loop.sock_connect(sock, address)
                except OSError as error:
                    failure = error
                    continue
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stack.pop_all()
                return sock
        raise failure

    async def _log_in(self, sock: socket.socket, config: LoginConfig) -> LoginResult:
        dialogue = Dialogue(str(self.portal))
        try:
            result = await self._talk(sock, LoginMachine(config), dialogue)
        except IscsiError as error:
            dialogue.failed(error)
            raise
        else:
            dialogue.agreed(result)
            return result
        finally:
            if self._listen is not None:
                self._listen(dialogue)

    async def _talk(self, sock: socket.socket, machine: LoginMachine, dialogue: Dialogue) -> LoginResult:
        machine.start()
        while not machine.done:
            self.stage = machine.stage
            for request in machine.to_send():
                await self._loop.sock_sendall(sock, request.encode())
                dialogue.sent(request)
            answer = await self._receive(sock)
            dialogue.received(answer)
            machine.receive(answer)
        return machine.result

    async def _receive(self, sock: socket.socket) -> Pdu:
        """Exactly one PDU: not a byte of what may follow it is taken from the socket."""
        self._pdu.clear()
        while len(self._pdu) < BHS_BYTES:
            await self._more(sock, BHS_BYTES)
            if len(self._pdu) >= BANNER_BYTES:
                self.check_banner()
        self._heard = True
        ahs_bytes, length = frame_length(self._pdu)
        if length > MAX_LOGIN_DATA:
            raise RemoteProtocolError(
                f"{self.portal}: the peer announces a data segment of {length} bytes in the login (RFC 7143, 13.12)",
                code="segment-too-long",
            )
        start = BHS_BYTES + ahs_bytes
        while len(self._pdu) < start + padded(length):
            await self._more(sock, start + padded(length))
        pdu = bytes(self._pdu)
        return decode(pdu[:BHS_BYTES], pdu[BHS_BYTES:start], pdu[start : start + length])

    async def _more(self, sock: socket.socket, end: int) -> None:
        """What comes next of a PDU, or of that part of it which ends at `end`."""
        piece = await self._loop.sock_recv(sock, end - len(self._pdu))
        if piece:
            self._pdu += piece
            return
        self.check_banner()
        if self._pdu:
            raise ConnectionLost(
                f"{self.portal}: the peer closed the connection inside a PDU, in {self.stage}", code="closed-mid-pdu"
            )
        raise ConnectionLost(f"{self.portal}: the peer closed the connection in {self.stage}", code="closed-by-target")

    def check_banner(self) -> None:
        """Refuse what cannot be the beginning of a target's PDU, by its name where it is known."""
        if not self._pdu:
            return
        stranger = None if self._heard else looks_like(self._pdu)
        if stranger is not None:
            raise RemoteProtocolError(
                f"{self.portal} is not an iSCSI portal: it answers like {stranger}",
                code="not-iscsi",
                fix="check the address and the port; iSCSI listens on 3260 unless told otherwise",
            )
        if self._pdu[0] & OPCODE_MASK not in TARGET_OPS:
            raise RemoteProtocolError(f"{self.portal}: opcode {self._pdu[0]:#04x} during the login (RFC 7143, 4.2.4)")
