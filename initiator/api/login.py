"""What a login of the library is told, and how it is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypedDict

from initiator import places
from initiator.engine.session import EngineSession
from initiator.engine.session_config import OFFER, SessionConfig
from initiator.engine.whoami import initiator_name
from initiator.model import Portal, Severity
from initiator.names import parse_name, parse_portal
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.keys import Offer
from initiator.protocol.login import random_isid

Listener = Callable[[str, Severity], None]
"""Told what a person may want to know, with its weight."""


class LoginOptions(TypedDict, total=False):
    """What a login may be told besides target and portal; all of it has a default."""

    initiator: str
    """Our iSCSI name; by default this host's own."""
    chap: Chap | None
    """Name and secret; with `target_secret` the target has to prove who it is, too (mutual CHAP)."""
    chap_algorithms: Sequence[int]
    """CHAP algorithms to offer, best first: 8 SHA3-256, 7 SHA-256, 6 SHA-1, 5 MD5, which must be among them."""
    offer: Offer
    """Operational keys (RFC 7143, 13); by default both digests are offered."""
    require_digests: bool
    """Refuse a session without CRC32C over headers and data."""
    timeout: float
    """Seconds for connect and login (10)."""
    on_event: Listener


@contextlib.asynccontextmanager
async def logged_in(
    target: str, portal: str | Portal, isid: bytes | None, options: LoginOptions
) -> AsyncIterator[EngineSession]:
    """A session of the engine that is logged in, and is logged out at the end of the block."""
    engine = EngineSession(
        SessionConfig(
            target=str(parse_name(target)),
            portal=portal_of(portal),
            initiator=initiator_of(options.get("initiator")),
            isid=random_isid(os.urandom(3)) if isid is None else isid,
            chap=options.get("chap"),
            chap_algorithms=tuple(options.get("chap_algorithms", DEFAULT_ORDER)),
            offer=options.get("offer", OFFER),
            require_digests=options.get("require_digests", False),
            login_timeout=options.get("timeout", 10.0),
        )
    )
    listener = options.get("on_event")
    if listener is not None:
        engine.on_event = lambda _, text, severity: listener(text, severity)
    await engine.start()
    try:
        yield engine
    finally:
        with contextlib.suppress(ConnectionLost):  # it is closed all the same
            await engine.logout()


def portal_of(portal: str | Portal) -> Portal:
    """A portal as an object."""
    return parse_portal(portal) if isinstance(portal, str) else portal


def initiator_of(name: str | None) -> str:
    """An initiator name, by default that of this host."""
    return initiator_name(places.state_dir()) if name is None else str(parse_name(name))
