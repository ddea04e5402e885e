"""Numbers of sessions and workers: none is given twice in a runtime folder, whatever ends an engine."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from initiator.engine.crew import Crew
from initiator.engine.kernel import Protection
from initiator.engine.methods import Methods


def next_number(folder: Path) -> int:
    """What an engine gives that has just been started there."""
    methods = Methods(folder, Protection("", "", "", ""), lambda: None)
    methods.crew = cast(Crew, SimpleNamespace(members=()))
    return methods._number()


def test_numbers_go_on_where_the_last_engine_left_off(tmp_path: Path) -> None:
    assert [next_number(tmp_path) for _ in range(3)] == [1, 2, 3]


def test_a_number_that_could_not_be_written_down_starts_nothing_anew(tmp_path: Path) -> None:
    assert [next_number(tmp_path) for _ in range(3)] == [1, 2, 3]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # a file can be opened and emptied, and not filled
    try:
        with pytest.raises(OSError, match="File too large"):
            next_number(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert next_number(tmp_path) == 4
