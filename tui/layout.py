"""Fitting text into cells: cutting, padding and wrapping by what a terminal shows, not by characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.cells import cell_len, chop_cells, set_cell_size

from tui.words import Line, Piece


def width_of(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(piece.text) for piece in line)


def fit(line: Line, width: int, more: str, *, right: bool = False) -> Line:
    """Exactly `width` cells: cut with a sign that something is missing, or padded."""
    have = width_of(line)
    if have <= width:
        padding = Piece(" " * (width - have))
        return (padding, *line) if right else (*line, padding)
    kept: list[Piece] = []
    left = max(0, width - cell_len(more))
    for piece in line:
        have = cell_len(piece.text)
        if have > left:
            kept.append(piece._replace(text=set_cell_size(piece.text, left)))
            break
        kept.append(piece)
        left -= have
    return (*kept, Piece(set_cell_size(more, min(width, cell_len(more))), "dim"))


def without_start(line: Line, cells: int) -> Line:
    """What is left of a line without its first cells; half of a wide character becomes a space."""
    kept: list[Piece] = []
    for piece in line:
        have = cell_len(piece.text)
        if cells >= have:
            cells -= have
            continue
        if cells:
            text, width = piece.text, have
            while width > have - cells:
                width -= cell_len(text[0])
                text = text[1:]
            piece = piece._replace(text=" " * (have - cells - width) + text)
            cells = 0
        kept.append(piece)
    return tuple(kept)


def end_of(text: str, width: int, more: str) -> str:
    """The last `width` cells of a text, with a sign where its beginning is missing."""
    if cell_len(text) <= width:
        return text
    kept = text
    while kept and cell_len(kept) + cell_len(more) > width:
        kept = kept[1:]
    return more + kept


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken at spaces where that is possible."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        candidate = f"{line} {word}" if line else word
        if cell_len(candidate) <= width:
            line = candidate
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, max(1, width))
        lines += full
    lines.append(line)
    return lines


_JOINTS = re.compile(r"(?<=[/:@,;=])")


def _broken(word: str, width: int) -> list[str]:
    """A word that may be longer than a line, cut behind a slash or colon where there is one, else anywhere."""
    lines = [""]
    for part in _JOINTS.split(word):
        if cell_len(lines[-1]) + cell_len(part) <= width:
            lines[-1] += part
        elif cell_len(part) <= width:
            lines.append(part)
        else:
            chopped = chop_cells(part, width)
            lines += chopped if lines[-1] else []
            lines = lines if lines[-1] else chopped
    return lines


def paragraph(text: str, width: int, role: str = "", indent: int = 0) -> list[Line]:
    """Wrapped text in one role."""
    margin = " " * indent
    return [(Piece(margin + line, role),) for line in wrap(text, max(8, width - indent))]


def labelled(
    pairs: Iterable[tuple[str, str | Line]], width: int, label_width: int = 10, role: str = "label"
) -> list[Line]:
    """Names to the left, values to the right, long values continued below themselves; empty values left out."""
    lines: list[Line] = []
    room = max(8, width - label_width)
    for label, value in pairs:
        if isinstance(value, tuple):
            lines.append((Piece(label.ljust(label_width), role), *value))
            continue
        if not value:
            continue
        for number, part in enumerate(wrap(value, room)):
            lines.append((Piece(("" if number else label).ljust(label_width), role), Piece(part)))
    return lines
