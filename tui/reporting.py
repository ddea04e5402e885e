"""Saves the report of a removal as text and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from initiator.errors import MooringError
from safety import journal
from safety.report import make_report
from tui.export import dumps


def save_report(path: Path, folder: Path) -> Sequence[Path]:
    """Write the report of a journal beside what is in a folder, readable for its owner alone.

    Returns:
        The two files: text and JSON.

    Raises:
        JournalError: the journal cannot be read.
        MooringError: a file cannot be written.
    """
    report = make_report(journal.read(path))
    texts = {".txt": "\n".join(report.lines()) + "\n", ".json": dumps(report.to_json()) + "\n"}
    saved = []
    for ending, text in texts.items():
        place = folder / f"mooring-report-{path.stem}{ending}"
        try:
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(text)
        except OSError as error:
            raise MooringError(f"{place}: {error.strerror}", code="report", fix="go to a folder of your own") from error
        saved.append(place)
    return saved
