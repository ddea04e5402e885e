"""Sessions and the links that carry them."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.model import Link, Session, SessionState, TcpInfo
from tui.rowtext import speed
from tui.views.storage import link_cell, link_order, mark_cell, name_cell, rank
from tui.views.view import Draw, Field, Sight, View, by_name, row, text
from tui.words import Line, Piece, count, latency, natural, say, short_target, size
from tui.world import Kind, Row, World

WORST_SESSIONS = (
    SessionState.FREE,
    SessionState.FAILED,
    SessionState.UNKNOWN,
    SessionState.LOGGING_IN,
    SessionState.LOGGED_OUT,
)


def tcp_of(session: Session) -> TcpInfo | None:
    """What TCP says of its first connection that tells."""
    return next((connection.tcp for connection in session.connections if connection.tcp), None)


def _target(session: Session, draw: Draw, width: int) -> Line:
    name = say(session.target)
    short = say(short_target(session.target))
    return text(name if len(name) <= width else short, "strong")


def _disks(session: Session, draw: Draw, width: int) -> Line:
    carried = draw.world.carried_by(session)
    if not carried:
        return text("no disk", "dim")
    return text(say(carried[0].name) if len(carried) == 1 else count(len(carried), "disk"))


def _rtt(session: Session, draw: Draw, width: int) -> Line:
    tcp = tcp_of(session)
    return text(latency(tcp.rtt_us if tcp else None, draw.glyphs))


def _rtt_order(session: Session, world: World) -> int | None:
    tcp = tcp_of(session)
    return tcp.rtt_us if tcp else None


def _resent(session: Session, draw: Draw, width: int) -> Line:
    tcp = tcp_of(session)
    return text("" if tcp is None or not tcp.retransmits else str(tcp.retransmits), "warn")


def _resent_order(session: Session, world: World) -> int | None:
    tcp = tcp_of(session)
    return tcp.retransmits if tcp else None


def _chap(session: Session, draw: Draw, width: int) -> Line:
    return text(say(session.chap_user), "") if session.chap_user else text("none", "dim")


def _digests(session: Session, draw: Draw, width: int) -> Line:
    first = session.connections[0] if session.connections else None
    kinds = {say(kind) for kind in (first.header_digest, first.data_digest) if kind} if first else set()
    return text(", ".join(sorted(kinds)), "dim")


def _why(session: Session, draw: Draw, width: int) -> Line:
    return text(say(session.reason or ""), "warn")


def _sessions(sight: Sight) -> Iterator[Row]:
    sessions = sorted(sight.world.snapshot.sessions, key=lambda s: (natural(s.target), natural(str(s.portal)), s.id))
    return (row(Kind.SESSION, session) for session in sessions)


SESSIONS = View(
    "sessions",
    "3",
    "Sessions",
    "Sess",
    "Every session: its target, portal and connection, and what it carries",
    (
        Field("Target", 10, _target, lambda s, w: natural(s.target), share=3),
        Field("State", 12, mark_cell, lambda s, w: rank(s.state, WORST_SESSIONS)),
        Field("Portal", 18, lambda s, d, w: text(say(str(s.portal))), lambda s, w: natural(str(s.portal)), share=1),
        Field("Carries", 8, _disks, lambda s, w: len(w.carried_by(s)), share=1),
        Field("RTT", 8, _rtt, _rtt_order, from_width=64, right=True),
        Field("Link", 8, link_cell, link_order, from_width=70),
        Field("By", 6, lambda s, d, w: text(s.source.value, "dim"), lambda s, w: s.source.value, from_width=90),
        Field("CHAP", 10, _chap, lambda s, w: s.chap_user, from_width=100),
        Field("Digests", 7, _digests, from_width=110),
        Field("Resent", 6, _resent, _resent_order, from_width=120, right=True),
        Field("Start-up", 9, lambda s, d, w: text(say(s.details.get("startup", "")), "dim"), None, 0, 130),
        Field("Why", 20, _why, lambda s, w: s.reason, share=2, from_width=130),
    ),
    _sessions,
    "No session: this host is logged in to no target. Press D to ask an array for its targets.",
)


# --- links ------------------------------------------------------------------------------------------------------------


def _carries(link: Link, draw: Draw, width: int) -> Line:
    number = len(draw.world.sessions_on(link))
    return text(str(number), "") if number else text("0", "dim")


def _address(link: Link, draw: Draw, width: int) -> Line:
    rest = f" +{len(link.addresses) - 1}" if len(link.addresses) > 1 else ""
    return (Piece(say(link.addresses[0])), Piece(rest, "dim")) if link.addresses else ()


def _rate(name: str, link: Link, draw: Draw) -> Line:
    old = draw.before.index.get(link.id) if draw.before else None
    now = getattr(link, name)
    if draw.before is None or not isinstance(old, Link) or now is None:
        return ()
    seconds = draw.world.snapshot.taken_at - draw.before.snapshot.taken_at
    moved = now - (getattr(old, name) or 0)
    return text(f"{size(int(moved / seconds))}/s" if seconds > 0 and moved > 0 else "", "dim")


def _faults(link: Link) -> int:
    return sum(filter(None, (link.rx_errors, link.tx_errors, link.rx_dropped, link.tx_dropped)))


def _faulty(link: Link, draw: Draw, width: int) -> Line:
    faults = _faults(link)
    return text(str(faults) if faults else "", "warn")


def _links(sight: Sight) -> Iterator[Row]:
    return (row(Kind.LINK, link) for link in sight.world.links)


LINKS = View(
    "links",
    "6",
    "Links",
    "Links",
    "The network interfaces: what is up, how fast, and what leaves through it",
    (
        Field("Link", 10, name_cell, by_name, share=1),
        Field("State", 9, mark_cell, lambda n, w: n.state.value),
        Field("Kind", 9, lambda n, d, w: text(say(n.kind), "dim"), lambda n, w: n.kind, from_width=70),
        Field("Speed", 8, lambda n, d, w: text(speed(n)), lambda n, w: n.speed_mbps, right=True),
        Field("MTU", 6, lambda n, d, w: text("" if n.mtu is None else str(n.mtu)), lambda n, w: n.mtu, 0, 82, True),
        Field("Sessions", 8, _carries, lambda n, w: len(w.sessions_on(n)), right=True),
        Field("Address", 18, _address, lambda n, w: n.addresses or None, share=2),
        Field("In", 10, lambda n, d, w: _rate("rx_bytes", n, d), lambda n, w: n.rx_bytes, 0, 90, True),
        Field("Out", 10, lambda n, d, w: _rate("tx_bytes", n, d), lambda n, w: n.tx_bytes, 0, 90, True),
        Field("Errors", 6, _faulty, lambda n, w: _faults(n), from_width=76, right=True),
        Field("Part of", 9, lambda n, d, w: text(say(n.master or ""), "dim"), lambda n, w: n.master, 0, 110),
        Field("MAC", 17, lambda n, d, w: text(say(n.mac or ""), "dim"), lambda n, w: n.mac, 0, 150),
    ),
    _links,
    "No link: this host has no hardware network interface, and none carries iSCSI.",
)
