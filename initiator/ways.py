"""The ways of the kernel's sessions to their targets: what identifies one, and whether a probe can go it.

Apart from `initiator.probing`, which imports the engine: the dashboard asks this of what the cursor is on.
"""

from __future__ import annotations

from typing import NamedTuple

from initiator.model import Session, SessionState, Source

BAD = ("silent", "lost", "not-ready")
"""The states of a probe that are a fault of the way it went."""


class Way(NamedTuple):
    """What stays the same of a session when it is logged in again, under another id: its node record."""

    target: str
    portal: str
    interface: str
    """The iSCSI interface of open-iscsi."""


def way_of(session: Session) -> Way:
    """The way of a session of the kernel. A portal that redirects stays the one that was asked."""
    details = session.details
    portal = details.get("persistent_portal", str(session.portal))
    return Way(session.target, portal, details.get("interface", "default"))


def why_no_probe(session: Session) -> str:
    """Why no probe can stand beside a session, as a sentence; an empty string when one can."""
    if session.source is not Source.KERNEL:
        return "This session belongs to Mooring's own engine, which pings its target several times a second itself."
    if session.state is SessionState.LOGGED_OUT:
        return "The session is logged out, and a probe never comes before the kernel."
    if not session.initiator:
        return "Under which initiator name the session is logged in is not known; a probe needs the same."
    if session.details.get("transport", "tcp") != "tcp":
        return "The connections of this session are made by a card: nobody else can go its way."
    return ""
