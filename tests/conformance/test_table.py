"""docs/conformance.md says what the tests prove, and nothing else."""

from __future__ import annotations

import re

import pytest

from tests.conformance.table import (
    NOT_APPLICABLE,
    NUMBERS,
    PAGE,
    ROOT,
    Row,
    collected_files,
    filled,
    marks,
    proof,
    rows,
)


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def marked() -> dict[int, list[str]]:
    return marks(collected_files())


def test_every_rule_has_one_row(page: str) -> None:
    assert [row.number for row in rows(page)] == list(NUMBERS)


def test_every_mark_has_a_row(marked: dict[int, list[str]]) -> None:
    assert sorted(set(marked) - set(NUMBERS)) == []


def test_every_row_is_proved_or_says_why_it_does_not_apply(page: str) -> None:
    bare = [row.number for row in rows(page) if "::" not in row.proof and NOT_APPLICABLE not in row.proof]
    assert bare == []


def test_every_named_test_exists_and_carries_the_number(page: str, marked: dict[int, list[str]]) -> None:
    """`python -m tests.conformance.table` writes the column anew."""
    wrong = {row.number: row.proof for row in rows(page) if row.proof != proof(row, marked)}
    assert wrong == {}


def test_no_mark_is_overlooked(marked: dict[int, list[str]]) -> None:
    """A mark on a helper, in a file of another place, or inside a class would prove nothing."""
    named = {name for names in marked.values() for name in names}
    assert [name for name in named if not re.fullmatch(r"\w+/test_\w+::test_\w+", name)] == []
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert sum(len(re.findall(r"^ *@pytest\.mark\.check\b", source, re.MULTILINE)) for source in sources) == len(named)


def test_a_column_is_written_from_the_marks() -> None:
    """The check itself: what is missing, made up or out of date does not pass."""
    page = "text\n| 7 | a | 1 | `x/test_y::test_gone` |\n| 8 | b | 2 | old. Does not apply: never. |\n| no | row |"
    written = filled(page, {7: ["p/test_q::test_r"], 9: ["p/test_q::test_s"]})
    assert rows(written) == [Row(7, "a", "1", "`p/test_q::test_r`"), Row(8, "b", "2", "Does not apply: never.")]
    assert written.startswith("text\n")
    assert written.endswith("\n| no | row |")
    assert filled(page, {}).splitlines()[1] == "| 7 | a | 1 |  |"
