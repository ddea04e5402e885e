"""What a view shows as a file: the same rows in the same order, each column as text. No Textual here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from initiator.errors import MooringError
from tui.export import harmless
from tui.keytable import UNROLLED
from tui.views.view import Draw, View
from tui.words import Line
from tui.world import Row

SCHEMA = 1
DRAWN = ("spark", "bar", "rule")
"""Roles of what is a picture and not text."""


class Sheet(NamedTuple):
    """The rows of a view as text."""

    view: str
    host: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheet(view: View, rows: Sequence[Row], draw: Draw) -> Sheet:
    """Every row with every column, whatever the width of the screen; an empty cell where nothing is known."""
    titles = tuple(column.title for column in view.columns)
    wide = draw._replace(samples={})
    made = tuple(tuple(map(_text, view.cells(row, wide, [UNROLLED] * len(titles)))) for row in rows)
    return Sheet(view.id, draw.world.snapshot.host, titles, made)


def _text(cell: Line) -> str:
    return "".join(piece.text for piece in cell if piece.role not in DRAWN).strip()


def as_csv(found: Sheet) -> str:
    """RFC 4180, with a line of titles; what a spreadsheet would take for a formula is led in by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(found.titles)
    writer.writerows(map(harmless, row) for row in found.rows)
    return out.getvalue()


def as_json(found: Sheet) -> str:
    """One object for each row, by the titles of the columns."""
    rows = [dict(zip(found.titles, row, strict=True)) for row in found.rows]
    body = {"schema": SCHEMA, "host": found.host, "view": found.view, "rows": rows}
    return json.dumps(body, indent=2) + "\n"


FORMS: Mapping[str, Callable[[Sheet], str]] = {"csv": as_csv, "json": as_json}
"""By the ending of the file's name."""


def save(found: Sheet, path: Path) -> str:
    """Write a new file, for nobody else to read; the ending of its name says in which form.

    Raises:
        MooringError: there is one already, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            path.chmod(0o600)
            file.write(FORMS[path.suffix.removeprefix(".")](found))
    except OSError as error:
        raise MooringError(f"{path}: {error.strerror}", fix="start Mooring in a folder that can be written") from error
    return f"Saved {path.name} with {len(found.rows)} rows."
