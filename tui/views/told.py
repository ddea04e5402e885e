"""What happened: events since the dashboard was opened, and every removal that left a journal."""

from __future__ import annotations

from collections.abc import Iterator

from safety.past import Past
from tui.layout import width_of
from tui.pasttext import outcome_of
from tui.views.view import Draw, Field, Sight, View, row, text
from tui.words import Line, Piece, clock, day_and_time, mark, natural, say, span
from tui.world import Happened, Kind, Row


def _sign(item: Happened, draw: Draw, width: int) -> Line:
    return mark(item.event.severity).pieces(draw.glyphs)


def _told(item: Happened, draw: Draw, width: int) -> Line:
    role = mark(item.event.severity).role
    return text(say(item.event.text), role if role in ("bad", "warn") else "")


def _events(sight: Sight) -> Iterator[Row]:
    return (Row(item.id, Kind.EVENT, item, "", None) for item in sight.events)


EVENTS = View(
    "events",
    "9",
    "Events",
    "Events",
    "What changed since Mooring was opened, newest first; Enter goes to what it was about",
    (
        Field("Time", 9, lambda e, d, w: text(clock(e.event.at), "dim"), lambda e, w: e.event.at),
        Field("Weight", 10, _sign, lambda e, w: e.event.severity.value),
        Field("Kind", 9, lambda e, d, w: text(say(e.event.kind), "dim"), lambda e, w: e.event.kind, from_width=70),
        Field("What happened", 20, _told, lambda e, w: e.event.text, share=1),
    ),
    _events,
    "Nothing has happened yet.",
    detail=False,
)


def _outcome(past: Past, draw: Draw, width: int) -> Line:
    return outcome_of(past).pieces(draw.glyphs)


def _took(past: Past, draw: Draw, width: int) -> Line:
    if past.ended is not None:
        return text(span(past.ended - past.began))
    return text(span(draw.now - past.began), "warn") if past.running else ()


def _steps(past: Past, draw: Draw, width: int) -> Line:
    whole = past.proven == past.steps
    line = (Piece(str(past.proven)), Piece(f"/{past.steps}", "dim" if whole else ""))
    return line if past.steps and width_of(line) <= width else ()


def _removals(sight: Sight) -> Iterator[Row]:
    return (row(Kind.REMOVAL, past) for past in sight.removals)


REMOVALS = View(
    "removals",
    "0",
    "Removals",
    "Past",
    "Every removal of this host, from its journal: each step with what proved it",
    (
        Field("Begun", 16, lambda p, d, w: text(day_and_time(p.began), "dim"), lambda p, w: p.began),
        Field("Disk", 12, lambda p, d, w: text(say(p.name), "strong"), lambda p, w: natural(p.name), share=1),
        Field("Outcome", 11, _outcome, lambda p, w: outcome_of(p).word),
        Field("Steps", 6, _steps, lambda p, w: p.proven, right=True),
        Field("Took", 12, _took, lambda p, w: p.ended - p.began if p.ended is not None else None, from_width=70),
        Field("What the runner said", 20, lambda p, d, w: text(say(p.said)), lambda p, w: p.said, 3, 84),
        Field("WWID", 36, lambda p, d, w: text(say(p.wwid), "dim"), lambda p, w: p.wwid, from_width=170),
    ),
    _removals,
    "No removal has been made on this host.",
)
