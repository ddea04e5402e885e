"""Probes as the dashboard switches them: which sessions a row stands for, and why they cannot be probed. No Textual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initiator.model import Link, Path, Session
from initiator.ways import why_no_probe
from tui.world import Item, Row, World

if TYPE_CHECKING:
    from tui.backends import Switch

NOTHING_PROBES = "Nothing probes here: this is not a host as it is now."
ALL_PROBED = "Every session of the kernel is probed, here too: P ends that."


def why_no_probes(sessions: int | None) -> str:
    """Why the probes cannot be switched, where there are so many sessions to probe; None where nothing probes."""
    if sessions is None:
        return NOTHING_PROBES
    return "" if sessions else "There is no session of the kernel to probe; the engine measures its own by itself."


def sessions_at(item: Item | None, world: World) -> tuple[Session, ...]:
    """The sessions whose portals a thing stands for: itself, that of a path, those over a link."""
    if isinstance(item, Session):
        return (item,)
    if isinstance(item, Path):
        session = world.session_of(item)
        return (session,) if session is not None else ()
    return tuple(world.sessions_on(item)) if isinstance(item, Link) else ()


def probeable(item: Item | None, world: World) -> tuple[Session, ...]:
    """Those of them beside which a probe can stand."""
    return tuple(session for session in sessions_at(item, world) if not why_no_probe(session))


def why_no_portal(row: Row | None, world: World | None, switch: Switch | None) -> str:
    """Why the portal of a row cannot be probed by itself, as a sentence; empty when it can."""
    item = row.item if row else None
    if switch is None or world is None:
        return NOTHING_PROBES
    if not isinstance(item, Session | Path | Link):
        return "Move the cursor to a session, a path or a link: views 3, 5 and 6 list them."
    if not probeable(item, world):
        sessions = sessions_at(item, world)
        if sessions:
            return why_no_probe(sessions[0])
        return "No session goes over this link." if isinstance(item, Link) else "Nobody knows its session."
    return ALL_PROBED if switch.on else ""
