"""Discovery: log in to a portal just to ask which targets there are (RFC 7143, 4.3 and appendix C)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

from initiator.engine.challenges import CHALLENGES
from initiator.engine.connect import Connected, connect
from initiator.model import Portal
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.dialogue import Dialogue
from initiator.protocol.errors import ConnectionLost, IscsiError
from initiator.protocol.keys import CRC32C, NONE, Offer
from initiator.protocol.login import LoginConfig, random_isid
from initiator.protocol.pdu import TARGET_OPS, Framer
from initiator.protocol.sendtargets import DiscoveredTarget, SendTargets

__all__ = ["OFFER", "DiscoveredTarget", "discover"]

OFFER = Offer(header_digest=(NONE, CRC32C), data_digest=(NONE, CRC32C), max_recv_data_segment_length=65536)
"""A list is short and TCP guards it well enough; a target that insists on digests gets them."""

log = logging.getLogger(__name__)

_RECEIVE_BYTES = 65536
_LOGOUT_SECONDS = 2.0


async def discover(
    portal: Portal,
    initiator: str,
    chap: Chap | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - covers several steps, and its error names the one that took too long
    *,
    chap_algorithms: tuple[int, ...] = DEFAULT_ORDER,
    require_auth: bool = True,
    isid: bytes | None = None,
    offer: Offer = OFFER,
) -> list[DiscoveredTarget]:
    """Asks a portal for its targets.

    Args:
        portal: Where to ask; redirects are followed.
        initiator: Our iSCSI name.
        chap: Name and secrets if the portal wants authentication for discovery.
        timeout: Seconds for all of it.
        chap_algorithms: What to offer, best first.
        require_auth: With `chap`: False lets the portal tell its targets to everybody; its login may ask all the same.
        isid: Six bytes; a random one by default, so that two discoveries at a time do not end each other.
        offer: Digests and segment length.

    Returns:
        The targets in the order told, each with at least one portal. An empty list is a valid answer.

    Raises:
        LoginError: the portal refuses us; AuthError if it does not believe who we are.
        RemoteProtocolError: it breaks a rule, or is no iSCSI portal.
        ConnectionLost: nothing listens there, or it fell silent, or it closed the connection.
    """
    chosen = isid or random_isid(os.urandom(3), int.from_bytes(os.urandom(2), "big"))

    def config() -> LoginConfig:
        return LoginConfig(
            initiator=initiator,
            target=None,
            isid=chosen,
            chap=chap,
            chap_algorithms=chap_algorithms,
            require_auth=require_auth,
            offer=offer,
            entropy=CHALLENGES.draw(chap),
            issued_challenges=CHALLENGES.issued,
        )

    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    connected = await connect(portal, config, timeout, listen=_log)
    with connected.sock:
        try:
            async with asyncio.timeout_at(deadline):
                return await _ask(connected)
        except TimeoutError:
            raise ConnectionLost(
                f"{connected.portal}: the login succeeded, but no list of targets came within {timeout:g} seconds",
                code="discovery-timeout",
                fix="try again; if it stays silent, look into the target's log",
            ) from None
        except OSError as error:
            raise ConnectionLost(f"{connected.portal}: {error.strerror or error}", code="connection-broken") from error


def _log(dialogue: Dialogue) -> None:
    for line in dialogue.lines:
        log.info("discovery: %s", line)


async def _ask(connected: Connected) -> list[DiscoveredTarget]:
    params = connected.result.params
    framer = Framer(params.header_digest, params.data_digest, params.max_recv_data_segment_length, TARGET_OPS)
    machine = SendTargets(connected.result, connected.portal)
    stream = _Stream(connected.sock, framer, machine, connected.portal)
    await stream.run_until_done()
    targets = machine.targets
    # The list is complete; a target that botches the farewell does not make it wrong.
    with contextlib.suppress(IscsiError, OSError, TimeoutError):
        async with asyncio.timeout(_LOGOUT_SECONDS):
            machine.logout()
            await stream.run_until_closed()
    return targets


class _Stream:
    """Moves PDUs between a socket and the machine."""

    def __init__(self, sock: socket.socket, framer: Framer, machine: SendTargets, portal: Portal) -> None:
        self._sock = sock
        self._framer = framer
        self._machine = machine
        self._portal = portal

    async def run_until_done(self) -> None:
        while not self._machine.done:
            await self._turn()

    async def run_until_closed(self) -> None:
        while not self._machine.closed:
            await self._turn()

    async def _turn(self) -> None:
        """Sends what is due and takes what comes."""
        loop = asyncio.get_running_loop()
        framer = self._framer
        for pdu in self._machine.to_send():
            await loop.sock_sendall(self._sock, pdu.encode(framer.header_digest, framer.data_digest))
        data = await loop.sock_recv(self._sock, _RECEIVE_BYTES)
        if not data:
            framer.end()
            raise ConnectionLost(
                f"{self._portal}: the target closed the connection before the discovery was complete",
                code="closed-by-target",
            )
        for received in framer.feed(data):
            self._machine.receive(received)
