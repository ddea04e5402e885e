"""How the dashboard says things: glyphs, the word for each state, and numbers with their units.

A state is never shown by colour alone: each has a glyph of its own shape and a word. Strings that come from a target,
a label or a file go through `say`, which takes out everything that could act on a terminal.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
import time
from typing import NamedTuple

from initiator.model import DiskState, LinkState, MapState, PathState, SessionState, Severity, VolumeState
from initiator.names import clean


class Piece(NamedTuple):
    """A run of text in one role; the role becomes a colour in the style sheet (`good`, `bad`, `dim`, …)."""

    text: str
    role: str = ""
    to: str = ""
    """Where it leads: the id of what it names, or `view:` and a view. Enter or a click goes there."""


Line = tuple[Piece, ...]
"""One line of a pane."""
LABELLED = ("label", "term", "heading")
"""Roles of what names a line or the lines below it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Glyphs:
    """The drawing characters of one terminal; every one is one cell wide."""

    good: str = "✓"
    warn: str = "▲"
    bad: str = "✗"
    idle: str = "○"
    busy: str = "◌"
    held: str = "■"
    unknown: str = "?"
    opened: str = "▾"
    closed: str = "▸"
    branch: str = "├─"
    last: str = "└─"
    stem: str = "│ "
    bar_full: str = "█"
    bar_empty: str = "░"
    levels: str = "▁▂▃▄▅▆▇█"
    gap: str = "·"
    rule: str = "─"
    dot: str = "·"
    more: str = "…"
    micro: str = "µ"
    arrow: str = "→"
    here: str = "▶"
    rising: str = "↑"
    falling: str = "↓"
    side: str = "│"
    corners: str = "╭╮╰╯"
    joints: str = "┴┬├┼"
    """Of lines that meet: from above, from below, to the right, crossing."""


UNICODE = Glyphs()
ASCII = Glyphs(
    good="+",
    warn="!",
    bad="x",
    idle="o",
    busy="~",
    held="#",
    unknown="?",
    opened="v",
    closed=">",
    branch="|-",
    last="`-",
    stem="| ",
    bar_full="#",
    bar_empty="-",
    levels="_.-=+*%#",
    gap=" ",
    rule="-",
    dot="-",
    more="~",
    micro="u",
    arrow="->",
    here=">",
    rising="^",
    falling="v",
    side="|",
    corners="++++",
    joints="++++",
)


class Mark(NamedTuple):
    """A state as a person reads it."""

    shape: str
    """Which field of `Glyphs`."""
    word: str
    role: str

    def pieces(self, glyphs: Glyphs) -> Line:
        """The glyph and the word."""
        return (Piece(f"{getattr(glyphs, self.shape)} {self.word}", self.role),)


# By class first: members of two StrEnums with the same value are equal and would share one dictionary key.
MARKS: dict[type[enum.StrEnum], dict[str, Mark]] = {
    SessionState: {
        SessionState.LOGGED_IN: Mark("good", "logged in", "good"),
        SessionState.LOGGING_IN: Mark("busy", "logging in", "warn"),
        SessionState.FAILED: Mark("bad", "failed", "bad"),
        SessionState.FREE: Mark("bad", "given up", "bad"),
        SessionState.LOGGED_OUT: Mark("idle", "logged out", "dim"),
    },
    PathState: {
        PathState.ACTIVE: Mark("good", "active", "good"),
        PathState.STANDBY: Mark("idle", "standby", "calm"),
        PathState.FAILED: Mark("bad", "failed", "bad"),
        PathState.OFFLINE: Mark("held", "offline", "warn"),
    },
    DiskState: {
        DiskState.AVAILABLE: Mark("idle", "available", "calm"),
        DiskState.ATTACHED: Mark("good", "attached", "good"),
        DiskState.DEGRADED: Mark("warn", "degraded", "warn"),
        DiskState.NO_PATH: Mark("bad", "no path", "bad"),
        DiskState.OFFLINE: Mark("held", "offline", "warn"),
        DiskState.DEAD: Mark("bad", "dead", "bad"),
    },
    MapState: {
        MapState.OK: Mark("good", "ok", "good"),
        MapState.DEGRADED: Mark("warn", "degraded", "warn"),
        MapState.NO_PATH: Mark("bad", "no path", "bad"),
        MapState.SUSPENDED: Mark("held", "suspended", "warn"),
    },
    VolumeState: {
        VolumeState.MOUNTED: Mark("good", "mounted", "good"),
        VolumeState.READ_ONLY: Mark("held", "read-only", "calm"),
    },
    LinkState: {
        LinkState.UP: Mark("good", "up", "good"),
        LinkState.DOWN: Mark("bad", "down", "bad"),
    },
    Severity: {
        Severity.NOTE: Mark("dot", "note", "dim"),
        Severity.WARN: Mark("warn", "warning", "warn"),
        Severity.BAD: Mark("bad", "bad", "bad"),
    },
}

UNKNOWN = Mark("unknown", "unknown", "warn")


def mark(state: enum.StrEnum) -> Mark:
    """Glyph, word and role of any state of the model; an unknown one says so."""
    return MARKS[type(state)].get(state, UNKNOWN)


@functools.lru_cache(maxsize=8192)
def say(text: str) -> str:
    """A string from outside, made harmless for a terminal and kept on one line."""
    return clean(text)


def or_unknown(value: object | None, unit: str = "") -> str:
    """A value with its unit, or `not known`: absence is never shown as zero."""
    return "not known" if value is None else say(f"{value}{unit}")


@functools.lru_cache(maxsize=4096)
def size(count: int | None) -> str:
    """Bytes in binary units with three significant digits, as `256 MiB`."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 999.5 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.3g} {unit}"


def latency(microseconds: float | None, glyphs: Glyphs) -> str:
    """A time on the wire, as `180 µs`, `1.2 ms` or `3.4 s`."""
    if microseconds is None:
        return ""
    if microseconds < 999.5:
        return f"{microseconds:.0f} {glyphs.micro}s"
    if microseconds < 999_500:
        return f"{microseconds / 1000:.3g} ms"
    return f"{microseconds / 1_000_000:.3g} s"


def span(seconds: float) -> str:
    """A duration in its two largest units, as `12 s`, `3 min 5 s` or `2 d 4 h`."""
    whole = max(0, int(seconds))
    parts: list[str] = []
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, whole = divmod(whole, length)
        if amount or (name == "s" and not parts):
            parts.append(f"{amount} {name}")
    return " ".join(parts[:2])


def clock(at: float) -> str:
    """A Unix time as local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def day_and_time(at: float) -> str:
    """A Unix time as local date and time of day; 0 is not known."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "not known"


def short_target(iqn: str) -> str:
    """The part of an iSCSI name that people tell targets apart by: what follows the last colon."""
    return iqn.rsplit(":", 1)[-1] or iqn


def count(number: int, noun: str) -> str:
    """`1 path`, `2,000 paths`."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


_DIGITS = re.compile(r"(\d+)")


@functools.lru_cache(maxsize=16384)
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts `disk2` before `disk10`."""
    parts = _DIGITS.split(text.casefold())
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p)
