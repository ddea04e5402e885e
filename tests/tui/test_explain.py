"""Nothing on the screen goes without an explanation: every label, heading, column, state and rule."""

from __future__ import annotations

import ast
import dataclasses
import enum
import pathlib
from collections.abc import Iterator

import pytest

import safety
import tui
from initiator.judgement import Verdict
from initiator.model import Snapshot
from safety.advice.catalogue import RULES
from tests.tui import fakes, samples
from tests.tui.fakes import dashboard
from tests.until import until
from tui import detail, explain, glossary
from tui.guardwords import WHY
from tui.healthdetail import MARKS as VERDICTS
from tui.screens.help import HelpScreen
from tui.store import Store
from tui.views.catalogue import VIEWS
from tui.views.storage import DISKS
from tui.words import MARKS, UNICODE
from tui.world import Checked, Kind, Row, World

PAGES = ("detail.py", "healthdetail.py", "pasttext.py", "probetext.py")
"""The files in which the pages of details are made."""


def labels_in(source: str) -> Iterator[str]:
    """The labels and headings that a file can show: the first texts of pairs, and the titles of sections."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            first = node.elts[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value[:1].isupper():
                yield first.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "section":
            text = node.args[0]
            part = text.values[0] if isinstance(text, ast.JoinedStr) else text
            assert isinstance(part, ast.Constant)
            yield explain.stem(str(part.value).strip())


FOUND = sorted({label for name in PAGES for label in labels_in((pathlib.Path(tui.__path__[0]) / name).read_text())})


def test_labels_are_found_in_the_pages() -> None:
    assert {"WWID", "RTT", "Carrier", "Redundancy", "If it is lost", "Paths", "Journal", "Relogins"} <= set(FOUND)
    assert len(FOUND) > 80


@pytest.mark.parametrize("label", FOUND)
def test_every_label_of_a_page_has_a_word(label: str) -> None:
    assert explain.term_of(label) is not None


@pytest.mark.parametrize("kind", [None, *Kind])
def test_every_column_has_a_word(kind: Kind | None) -> None:
    told = [topic for view in VIEWS for topic in explain.columns(view, kind)]
    assert len(told) > 60
    assert [topic.name for topic in told if not topic.text] == []


def test_every_word_that_a_label_stands_for_is_in_the_glossary() -> None:
    names = {*explain.LABELS.values(), *explain.OF_KIND.values(), *explain.UNDER.values(), *explain.HEADS.values()}
    assert [name for name in names if glossary.find(name) is None] == []
    assert set(explain.HEADS) == set(Kind)


def test_every_state_has_a_word() -> None:
    words = {each.word for marks in MARKS.values() for each in marks.values()}
    words |= {each.word for each in VERDICTS.values()}
    assert [word for word in sorted(words) if glossary.find(word) is None] == []


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_every_rule_is_explained(rule: object) -> None:
    each = next(own for own in RULES if own is rule)
    row = Row("c", Kind.CHECK, Checked("c", each.severity, each.id, each.title, "sda", "", "seen", "", ""), "", None)
    first = explain.topics(row, (), VIEWS[0])[0]
    assert (first.name, first.where) == (each.id, "finding")
    assert each.reason in first.text
    assert each.fix in " ".join(first.text)


@pytest.mark.parametrize(
    "snapshot", [samples.practice(), samples.practice(pulled=samples.PORTALS[1]), samples.kernel(), samples.large(8)]
)
def test_every_field_that_is_shown_is_explained_with_what_it_says(snapshot: Snapshot) -> None:
    store = Store()
    store.apply(snapshot, (), 0.0)
    store.open_all(True)
    page = detail.Page(World(snapshot), {}, UNICODE, 60, samples.NOW)
    seen: set[str] = set()
    for row in store.rows:
        lines = detail.lines(row, page)
        fields = explain.fields(lines, row.kind)
        assert [field.name for field in fields if not field.text] == []
        shown = [label for label, value, role in explain.labels(lines) if role == "label" and value]
        assert {*shown} <= {field.name for field in fields}
        seen |= {field.name for field in fields}
    assert {"WWID", "MTU", "State"} <= seen or len(snapshot.paths) == 8


def test_the_same_label_means_something_else_below_another_heading() -> None:
    path = explain.term_of("Errors", Kind.PATH)
    link = explain.term_of("Errors", Kind.PATH, "Link")
    assert path is not None
    assert link is not None
    assert (path.name, link.name) == ("I/O error", "damaged packet")


def test_what_was_negotiated_is_explained_key_by_key() -> None:
    snapshot = samples.practice()
    item = dataclasses.replace(snapshot.sessions[0], negotiated={"DataDigest": "CRC32C", "InitialR2T": "No"})
    row = Row(item.id, Kind.SESSION, item, "", None)
    fields = explain.fields(detail.lines(row, detail.Page(World(snapshot), {}, UNICODE, 60, 0.0)), Kind.SESSION)
    told = {field.name: field for field in fields}
    assert told["DataDigest"].value == "CRC32C"
    assert "checksum" in told["DataDigest"].text[0]


def codes_of_guards() -> set[str]:
    """Every code that a finding of a guard is made with."""
    found: set[str] = set()
    for path in pathlib.Path(safety.__path__[0]).glob("guard*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > 2:
                first, second = node.args[:2]
                levelled = ast.unparse(first).startswith("Level.") or ast.unparse(node.func) == "Finding"
                if levelled and isinstance(second, ast.Constant):
                    found.add(str(second.value))
    return found | {"second-runner", "unfinished"}


def test_every_code_of_a_guard_is_explained() -> None:
    codes = codes_of_guards()
    assert {"open", "last-live-path", "vg-spans", "unsettled"} <= codes
    assert len(codes) > 70
    assert codes - set(WHY) == set()
    assert all(len(text.split()) > 8 for text in WHY.values())


def test_a_plan_is_asked_about_by_its_findings() -> None:
    found = explain.plan_topics(fakes.plan(samples.practice(), findings=(fakes.BLOCK, fakes.NOTE)))
    assert [topic.name for topic in found[:2]] == ["open", "mounted"]
    assert found[0].value == fakes.BLOCK.text
    assert fakes.BLOCK.fix in found[0].text[1]


def test_a_verdict_comes_before_the_state() -> None:
    disk = samples.practice().disks[0]
    found = explain.topics(Row(disk.id, Kind.DISK, disk, "", None), (), DISKS, Verdict.AT_RISK)
    assert [topic.name for topic in found[:3]] == ["at risk", "attached", "disk"]


def test_all_words_are_listed_after_what_is_on_the_screen() -> None:
    found = explain.topics(None, (), DISKS)
    words = [topic for topic in found if topic.where == "word"]
    assert len(words) == len(glossary.TERMS)
    assert all(topic.text for topic in found)
    assert len({topic.key for topic in found}) == len(found)


async def test_the_question_mark_begins_with_the_field_under_the_cursor(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="disks") as bench:
        await bench.pilot.press("enter")  # the keys go to the details, whose first link is the target
        await until(lambda: bench.app.focused is not None and bench.app.focused.id == "detail")
        await bench.pilot.press("question_mark")
        await until(lambda: isinstance(bench.app.screen, HelpScreen) and "storage array" in bench.flow())
        await bench.listen()
        await bench.pilot.press("down", "down")  # to the field below: LUN, then the identity
        await until(lambda: str(samples.practice().disks[0].wwid) in bench.flow())
        assert "The identity that the target gives a disk" in bench.flow()
        await bench.pilot.press("f1")
        await until(lambda: "Leave; removals" in bench.flow() or "Take the selected disk" in bench.flow())


async def test_a_click_on_a_label_asks_what_it_means(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, view="links") as bench:
        pane = bench.app.main.query_one("#detail")
        await until(lambda: any(line and line[0].text.startswith("MTU") for line in pane.lines))  # type: ignore[attr-defined]
        at = next(n for n, line in enumerate(pane.lines) if line and line[0].text.startswith("MTU"))  # type: ignore[attr-defined]
        await bench.pilot.click("#detail", offset=(3, at))
        await until(lambda: isinstance(bench.app.screen, HelpScreen) and "The largest packet" in bench.flow())


def test_the_words_are_not_told_twice() -> None:
    names = [term.name.casefold() for term in glossary.TERMS]
    assert len(names) == len(set(names))
    assert all(isinstance(mark, enum.Enum) for marks in MARKS.values() for mark in marks)
