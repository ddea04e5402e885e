"""Small charts as text: sparklines, bars and a taller trend, in block characters or ASCII."""

from __future__ import annotations

from collections.abc import Sequence

from tui.words import Glyphs

Samples = Sequence[float | None]
"""Oldest first; None where nothing was measured."""


def sparkline(samples: Samples, width: int, glyphs: Glyphs) -> str:
    """The newest `width` samples as one line; gaps stay visible. See `_top` for the scale."""
    newest = list(samples)[-width:]
    top = _top(newest)
    cells = "".join(glyphs.gap if value is None else _level(value, top, glyphs.levels) for value in newest)
    return cells.rjust(width)


def trend(samples: Samples, width: int, height: int, glyphs: Glyphs) -> list[str]:
    """The newest `width` samples as `height` lines, top line first, filled from below."""
    newest = list(samples)[-width:]
    top = _top(newest)
    steps = len(glyphs.levels)
    filled = [
        None if value is None else max(1, round(height * steps * value / top)) if top > 0 else 1 for value in newest
    ]
    lines = []
    for row in reversed(range(height)):
        cells = []
        for amount in filled:
            if amount is None:
                cells.append(glyphs.gap if row == 0 else " ")
                continue
            inside = amount - row * steps
            cells.append(" " if inside <= 0 else glyphs.levels[min(inside, steps) - 1])
        lines.append("".join(cells).rjust(width))
    return lines


def bar(fraction: float, width: int, glyphs: Glyphs) -> str:
    """A horizontal bar; anything above zero shows at least one cell, and only a full one is drawn full."""
    share = min(1.0, max(0.0, fraction))
    full = round(share * width)
    if 0 < share < 1:
        full = min(max(full, 1), width - 1)
    return glyphs.bar_full * full + glyphs.bar_empty * (width - full)


def _top(samples: Samples) -> float:
    """The value at full height: twice the median, or the largest if that is more; so steady values fill half."""
    measured = sorted(value for value in samples if value is not None)
    return max(measured[-1], 2 * measured[(len(measured) - 1) // 2]) if measured else 0.0


def _level(value: float, top: float, levels: str) -> str:
    if top <= 0:
        return levels[0]
    return levels[min(len(levels) - 1, int(value / top * (len(levels) - 1) + 0.5))]
