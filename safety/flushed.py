"""How long the proof of a flush counts, read from the journal's records.

A flush is proven under a claim, and a claim ends with its run: whoever mounts the disk afterwards can write anew. So a
flush counts while its run goes on; later only for what was closed under the same claim (a path taken offline, a loop
device detached), as nobody could write to that in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from safety.journal import Kind, Mark, Record

FLUSHES = frozenset({"fsync", "flush", "flush-paths"})
"""Kinds of steps that flush a disk. One that gives up what was not written is none."""
CLOSINGS = frozenset({"detach", "offline-path"})
"""Kinds of steps that close what was flushed, under the claim that it was flushed under."""
_OVER = (Kind.RUN, Kind.END)


def live(records: Iterable[Record], flushes: Collection[str]) -> bool:
    """Whether the run that wrote last goes on, and has proof of all these flushes."""
    proven: set[str | None] = set()
    for record in records:
        _follow(record, flushes, proven)
    return proven.issuperset(flushes)


def closed(records: Iterable[Record], flushes: Collection[str], closing: str) -> Mark | None:
    """How the last attempt ended to close something right after these flushes, in the same run.

    Returns:
        None if it was never tried, or came without the flushes; `STARTED` where the runner died in the middle of it.
    """
    proven: set[str | None] = set()
    found: Mark | None = None
    begun = False
    for record in records:
        _follow(record, flushes, proven)
        begun = begun and record.kind not in _OVER
        if record.step != closing:
            continue
        if record.mark in (Mark.STARTED, Mark.VERIFIED):
            # One that is verified without a new start was found closed: as before, or in the run that flushed it.
            held = proven.issuperset(flushes) or (record.mark is Mark.VERIFIED and found is not None)
            found, begun = record.mark if held else None, True
        elif begun and found is not None:
            found = record.mark
    return found


def _follow(record: Record, flushes: Collection[str], proven: set[str | None]) -> None:
    if record.kind in _OVER:
        proven.clear()
    elif record.step in flushes:
        (proven.add if record.mark is Mark.VERIFIED else proven.discard)(record.step)
