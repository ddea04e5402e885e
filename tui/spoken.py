"""What happens on a host in whole sentences, one line each: for screen readers, and for who listens to a log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from initiator.model import Event, Severity, Snapshot
from initiator.names import clean
from tui import verdict
from tui.world import World

_WORDS = {Severity.BAD: "Bad", Severity.WARN: "Warning", Severity.NOTE: "Note"}


def opening(snapshot: Snapshot) -> Iterator[str]:
    """How the host is: how much there is, then what is wrong, worst first, or that nothing is."""
    world = World(snapshot)
    yield f"Mooring on {clean(snapshot.host)}: {', '.join(verdict.counts(world))}."
    found = list(verdict.troubles(world, snapshot.taken_at))
    if not found:
        well = verdict.verdict(world, snapshot.taken_at)[1]
        yield f"{well[0].upper()}{well[1:]}."
    for severity, text, _ in found:
        yield f"{_WORDS[severity]}: {clean(text)}."


def sentence(event: Event) -> str:
    """One change or alert; its severity comes first, then the time of day."""
    moment = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
    word = "Alert" if event.kind == "alert" and event.severity is not Severity.NOTE else _WORDS[event.severity]
    text = clean(event.text).rstrip(" .")
    return f"{word}, at {moment}: {text}."
