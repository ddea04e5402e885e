"""The table of TRAPS.md against the marks `trap(...)` of the lab's tests: `python -m tests.lab.traps`.

A row has a name, what goes wrong, the lab's tests that stage it, and a last column by hand: other tests that prove it,
or "Not staged:" with the reason. The third column is written by this module from the marks.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
PAGE = HERE / "TRAPS.md"
NOT_STAGED = "Not staged:"
NAMES = (
    *(f"T{number}" for number in range(1, 26)),
    *(str(number) for number in range(1, 72)),
    "71b",
    *map(str, range(72, 85)),
)

_ROW = re.compile(r"\| (T?\d+b?) \| ([^|]+) \| ([^|]*) \| ([^|]*) \|")
_TEST = re.compile(r"`((?:\w+/)?test_\w+)::(test_\w+)`")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: `T1` to `T25`, or the number of a bug.
        trap: What goes wrong.
        lab: The names of tests that stage it.
        more: Tests elsewhere, or why it is not staged.
    """

    name: str
    trap: str
    lab: str
    more: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.trap} | {self.lab} | {self.more} |"


def rows(page: str) -> list[Row]:
    """The rows in the text of the page, in order."""
    found = (_ROW.fullmatch(line) for line in page.splitlines())
    return [Row(*(row[number].strip() for number in range(1, 5))) for row in found if row]


def marks(files: Iterable[Path]) -> dict[str, list[str]]:
    """Rows and the tests that carry them, as `file::test`, read from the source of the files."""
    found: dict[str, list[str]] = {}
    for path in sorted(files):
        for name, given in _marked(ast.parse(path.read_text(encoding="utf-8"))):
            for row in given:
                found.setdefault(row, []).append(f"{path.stem}::{name}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            calls = (each for each in node.decorator_list if isinstance(each, ast.Call))
            marks_ = [call for call in calls if ast.unparse(call.func) == "pytest.mark.trap"]
            yield node.name, [str(ast.literal_eval(each)) for call in marks_ for each in call.args]


def filled(page: str, marked: Mapping[str, list[str]]) -> str:
    """The page with its third column as the marks have it."""
    lines = []
    for line in page.split("\n"):
        row = next(iter(rows(line)), None)
        names = ", ".join(f"`{name}`" for name in marked.get(row.name, [])) if row else ""
        lines.append(line if row is None else str(dataclasses.replace(row, lab=names)))
    return "\n".join(lines)


def unknown(page: str) -> list[str]:
    """Tests in the last column that do not exist."""
    wrong = []
    for row in rows(page):
        for file, test in _TEST.findall(row.more):
            path = TESTS / f"{file}.py"
            if not path.exists() or not re.search(rf"def {test}\(", path.read_text(encoding="utf-8")):
                wrong.append(f"{row.name}: {file}::{test}")
    return wrong


def lab_files() -> list[Path]:
    """Every file of the lab's tests."""
    return sorted(HERE.glob("test_*.py"))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), marks(lab_files())), encoding="utf-8")
