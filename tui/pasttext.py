"""A removal of the past in words: how it stands, and its story from the journal."""

from __future__ import annotations

from initiator.errors import MooringError
from safety.journal import Outcome
from safety.past import Past
from tui.layout import labelled, paragraph
from tui.words import Glyphs, Line, Mark, Piece, day_and_time, say

OUTCOMES = {
    Outcome.DONE: Mark("good", "removed", "good"),
    Outcome.UNDONE: Mark("idle", "undone", "calm"),
    Outcome.REFUSED: Mark("held", "refused", "warn"),
    Outcome.STOPPED: Mark("bad", "stopped", "bad"),
    Outcome.UNKNOWN: Mark("unknown", "not known", "bad"),
}
RUNNING, DIED = Mark("busy", "under way", "warn"), Mark("bad", "died", "bad")


def outcome_of(past: Past) -> Mark:
    """How a removal stands."""
    return OUTCOMES[past.outcome] if past.outcome else RUNNING if past.running else DIED


def past_lines(past: Past, width: int, glyphs: Glyphs, now: float) -> list[Line]:
    """Its story: what was removed, and each step with what proved it."""
    from tui.progress import Progress

    facts = labelled([
        ("Begun", day_and_time(past.began)),
        ("Host", say(past.host)),
        ("WWID", say(past.wwid)),
        ("Journal", say(str(past.path))),
    ], width)  # fmt: skip
    title: Line = (Piece(f"Removal of {say(past.name)}", "title"),)
    progress = Progress()
    try:
        progress.take(past.records)
    except MooringError as error:
        return [title, *facts, (), *paragraph(say(str(error)), width, "bad")]
    if not past.records:
        return [title, *facts, (), *paragraph(say(past.said), width, "bad")]
    progress.runner_lost = past.outcome is None and not past.running
    return [title, *facts, (), *progress.lines(width, glyphs, now)]
