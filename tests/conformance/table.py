"""The table of docs/conformance.md against the marks `check(...)` of the tests: `python -m tests.conformance.table`.

A row has a number, what the rule asks for, its section of RFC 7143, and what proves it. The last column is written by
this module from the marks; only the reason why a rule does not apply is written by hand, after "Does not apply:".
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
NUMBERS = range(1, 157)
NOT_APPLICABLE = "Does not apply:"

_ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]*) \|")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        number: Of the rule.
        rule: What an initiator owes.
        section: Where RFC 7143 says so.
        proof: The names of tests, or why there are none.
    """

    number: int
    rule: str
    section: str
    proof: str

    def __str__(self) -> str:
        return f"| {self.number} | {self.rule} | {self.section} | {self.proof} |"


def rows(page: str) -> list[Row]:
    """The rows in the text of the page, in order."""
    found = (_ROW.fullmatch(line) for line in page.splitlines())
    return [Row(int(row[1]), row[2].strip(), row[3].strip(), row[4].strip()) for row in found if row]


def marks(files: Iterable[Path]) -> dict[int, list[str]]:
    """Numbers and the tests that carry them, as `folder/file::test`, read from the source of the files."""
    found: dict[int, list[str]] = {}
    for path in sorted(files):
        for name, numbers in _marked(ast.parse(path.read_text(encoding="utf-8"))):
            for number in numbers:
                found.setdefault(number, []).append(f"{path.parent.name}/{path.stem}::{name}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[int]]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            calls = (each for each in node.decorator_list if isinstance(each, ast.Call))
            numbers = [ast.literal_eval(each) for call in calls if _is_check(call) for each in call.args]
            yield node.name, numbers


def _is_check(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "pytest.mark.check"


def collected_files() -> list[Path]:
    """Every file that pytest collects tests from."""
    return [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name not in ("bench", "lab")]


def proof(row: Row, marked: Mapping[int, list[str]]) -> str:
    """What the last column of a row has to say."""
    names = ", ".join(f"`{name}`" for name in marked.get(row.number, []))
    reason = row.proof[row.proof.find(NOT_APPLICABLE) :] if NOT_APPLICABLE in row.proof else ""
    return " ".join(part for part in (names, reason) if part)


def filled(page: str, marked: Mapping[int, list[str]]) -> str:
    """The page with its last column as the marks have it."""
    lines = []
    for line in page.split("\n"):
        row = next(iter(rows(line)), None)
        lines.append(line if row is None else str(dataclasses.replace(row, proof=proof(row, marked))))
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), marks(collected_files())), encoding="utf-8")
