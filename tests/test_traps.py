"""tests/lab/TRAPS.md says which test stages which trap, and nothing else; the tests themselves run in the lab."""

from __future__ import annotations

import pytest

from tests.lab.traps import NAMES, NOT_STAGED, PAGE, Row, filled, lab_files, marks, rows, unknown


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_trap_has_one_row(page: str) -> None:
    assert [row.name for row in rows(page)] == list(NAMES)


def test_every_trap_is_staged_or_proved_elsewhere_or_says_why_not(page: str) -> None:
    bare = [row.name for row in rows(page) if not row.lab and "::" not in row.more and NOT_STAGED not in row.more]
    assert bare == []


def test_the_column_of_the_lab_is_what_the_marks_say(page: str) -> None:
    """`python -m tests.lab.traps` writes it anew."""
    marked = marks(lab_files())
    assert set(marked) - set(NAMES) == set()
    assert filled(page, marked) == page


def test_every_test_that_is_named_by_hand_exists(page: str) -> None:
    assert unknown(page) == []


def test_the_check_itself_finds_what_is_wrong() -> None:
    page = "text\n| T3 | a | `old` | by hand |\n| 71b | b |  | `host/test_nowhere::test_gone` |\n| no | row |"
    written = filled(page, {"T3": ["test_x::test_y"]})
    assert rows(written) == [Row("T3", "a", "`test_x::test_y`", "by hand"), rows(page)[1]]
    assert written.splitlines()[0] == "text"
    assert unknown(written) == ["71b: host/test_nowhere::test_gone"]
