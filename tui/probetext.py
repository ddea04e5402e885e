"""What probes say, for the pages of details: that a session is probed, and the last answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initiator.model import Session
from initiator.ways import BAD
from tui import charts
from tui.beside import sessions_at
from tui.feed import Probed
from tui.layout import labelled
from tui.words import Line, Mark, Piece, clock, say
from tui.world import Item

if TYPE_CHECKING:
    from initiator.engine.prober import Found
    from tui.detail import Page

LAST = 4
"""So many answers are listed."""
MARKS = {
    "ok": Mark("good", "answers", "good"),
    "silent": Mark("bad", "silent", "bad"),
    "lost": Mark("bad", "lost", "bad"),
    "not-ready": Mark("warn", "not ready", "warn"),
    "refused": Mark("idle", "refused", "warn"),
    "waiting": Mark("busy", "waiting", "dim"),
}
_UNHEARD = Mark("busy", "no answer yet", "dim")


def with_probe(lines: list[Line], item: Item, page: Page) -> list[Line]:
    """A detail page with what the probes say of its sessions, before its first section."""
    probed = [(each, page.judged.probed[each.id]) for each in sessions_at(item, page.world) if _has(each, page)]
    if not probed:
        return lines
    if len(probed) == 1:
        told = page.section("Probe", _one(probed[0][1], page))
    else:
        told = page.section(f"Probes {len(probed)}", [_row(session, found, page) for session, found in probed])
    at = lines.index(()) if () in lines else len(lines)
    return [*lines[:at], *told, *lines[at:]]


def _has(session: Session, page: Page) -> bool:
    return session.id in page.judged.probed


def _one(probed: Probed, page: Page) -> list[Line]:
    newest = probed.answers[-1] if probed.answers else None
    trips = [each.rtt_us for each in probed.answers]
    known = [each for each in trips if each is not None]
    longest = f"at most {page.time(max(known))}" if len(known) > 1 else ""
    # told for as long as it is among the answers that are kept
    fault = next((each for each in reversed(probed.answers[:-1]) if each.state in BAD), None)
    facts: list[tuple[str, str | Line]] = [
        ("Probed", "this portal by itself" if probed.alone else "with every session of the kernel"),
        ("Answer", _state(newest, page)),
        ("Why", say(newest.reason or "") if newest is not None else ""),
        ("Fault", _fault(fault) if fault is not None else ""),
        ("RTT", page.join(page.time(newest.rtt_us), longest) if newest is not None else ""),
        ("Ready", f"after {page.time(newest.ready_us)}" if newest is not None and newest.ready_us is not None else ""),
        ("Access", say(newest.access or "") if newest is not None else ""),
    ]
    drawn = charts.sparkline(trips, min(page.width, len(trips)), page.glyphs)
    graph: list[Line] = [(Piece(drawn, "spark"),)] if len(known) > 1 else []
    last = [_answer(each, page) for each in reversed(probed.answers[-LAST:])]
    return [*labelled(facts, page.width), *graph, *last]


def _state(found: Found | None, page: Page) -> Line:
    return (MARKS[found.state] if found is not None else _UNHEARD).pieces(page.glyphs)


def _fault(found: Found) -> str:
    reason = f": {say(found.reason)}" if found.reason else ""
    return f"{clock(found.at)}  {MARKS[found.state].word}{reason}"


def _answer(found: Found, page: Page) -> Line:
    ready = f"ready {page.time(found.ready_us)}" if found.ready_us is not None else ""
    measured = page.join(page.time(found.rtt_us), ready)
    return (Piece(f"{clock(found.at)}  ", "dim"), *MARKS[found.state].pieces(page.glyphs), Piece(f"  {measured}"))


def _row(session: Session, probed: Probed, page: Page) -> Line:
    newest = probed.answers[-1] if probed.answers else None
    measured = page.time(newest.rtt_us) if newest is not None else ""
    reason = say(newest.reason or "") if newest is not None else ""
    where = Piece(say(str(session.portal)), "link", session.id)
    return (where, Piece("  "), *_state(newest, page), Piece(f"  {page.join(measured, reason)}"))
