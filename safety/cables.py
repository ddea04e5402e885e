"""Which sessions a link carries: its own, those of VLANs on it, and those of bonds that it is a member of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from initiator.chain import under
from initiator.model import Link, Session, SessionState, Snapshot

_JOINING = ("bond", "team")


class Carried(NamedTuple):
    """The living sessions of a link."""

    alone: tuple[Session, ...] = ()
    """They end with it."""
    shared: tuple[Session, ...] = ()
    """They go on over the other members of a bond."""
    unknown: tuple[Session, ...] = ()
    """Nobody knows which link they use, so it may be this one."""


def live(snapshot: Snapshot) -> list[Session]:
    """The sessions that are not logged out."""
    return [session for session in snapshot.sessions if session.state is not SessionState.LOGGED_OUT]


def carried(snapshot: Snapshot, link_id: str) -> Carried:
    """What hangs on one link."""
    links = {link.id: link for link in snapshot.links}
    found: tuple[list[Session], list[Session], list[Session]] = ([], [], [])
    for session in live(snapshot):
        top = links.get(session.link or "")
        if top is None:
            found[2].append(session)
            continue
        way = below(snapshot, top)
        if any(link.id == link_id for link in way):
            found[any(_joins(snapshot, link, link_id) for link in way)].append(session)
    return Carried(*map(tuple, found))


def below(snapshot: Snapshot, link: Link) -> tuple[Link, ...]:
    """A link and all that it stands on."""
    return under(link, {each.name: each for each in snapshot.links})


def names(found: Iterable[Session]) -> str:
    """Sessions, for a person."""
    return ", ".join(dict.fromkeys(session.name for session in found))


def _joins(snapshot: Snapshot, link: Link, member: str) -> bool:
    """Whether a link is a bond of several others, of which this is one or carries one."""
    if link.kind not in _JOINING or len(link.lower) < 2:
        return False
    return any(each.id == member for each in below(snapshot, link)[1:])
