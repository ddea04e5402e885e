"""What this host is set up to suffer from one day: the rules of best practice, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from initiator.model import Severity
from tui.views.view import Draw, Field, Sight, View, row, text
from tui.words import UNKNOWN, Line, mark, natural, say
from tui.world import Checked, Kind, Row

if TYPE_CHECKING:
    from safety.advice.catalogue import Advice

WORST = (Severity.BAD, Severity.WARN, Severity.NOTE, None)


def checked(advice: Advice) -> Sequence[Checked]:
    """The findings, then the questions without an answer."""
    found = [
        Checked(
            f"check:{each.rule}:{each.about or each.subject}:{each.evidence}",
            *(each.severity, each.rule, each.title, each.subject, each.about, each.evidence, each.reason, each.fix),
        )
        for each in advice.findings
    ]
    blank = [
        Checked(f"check:{each.rule}:{each.subject}", None, each.rule, each.title, each.subject, "", each.reason)
        for each in advice.unknown
    ]
    return list({each.id: each for each in (*found, *blank)}.values())


def _weight(item: Checked, draw: Draw, width: int) -> Line:
    return (mark(item.severity) if item.severity else UNKNOWN).pieces(draw.glyphs)


def _title(item: Checked, draw: Draw, width: int) -> Line:
    role = mark(item.severity).role if item.severity else "dim"
    return text(say(item.name), role if role in ("bad", "warn", "dim") and item.severity is not Severity.NOTE else "")


def _rows(sight: Sight) -> Iterator[Row]:
    return (row(Kind.CHECK, each) for each in sight.checks)


CHECKS = View(
    "checks",
    "8",
    "Checks",
    "Check",
    "What this host is set up to suffer from one day: rules of best practice with evidence, reason and the way out",
    (
        Field("About", 12, lambda c, d, w: text(say(c.subject), "strong"), lambda c, w: natural(c.subject), share=1),
        Field("Weight", 10, _weight, lambda c, w: WORST.index(c.severity)),
        Field("What is not as it should be", 24, _title, lambda c, w: c.name, share=3),
        Field("Rule", 22, lambda c, d, w: text(c.rule, "dim"), lambda c, w: c.rule, from_width=100),
        Field("Evidence", 24, lambda c, d, w: text(say(c.evidence), "dim"), lambda c, w: c.evidence, 3, 120),
    ),
    _rows,
    "No rule fires, or they have not been asked yet.",
    sort="Weight",
)
