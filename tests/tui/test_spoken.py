"""The host in whole sentences."""

from __future__ import annotations

import pytest

from initiator.model import Event, Severity
from tests.tui import samples
from tui.spoken import opening, sentence


def test_all_is_well_is_said_after_how_much_there_is() -> None:
    first, *rest = opening(samples.practice())
    assert first == f"Mooring on {samples.practice().host}: 2 targets, 6 sessions, 3 disks, 6 paths, 2 volumes."
    assert rest == ["All 6 paths work."]


def test_a_host_without_iscsi_is_told_in_two_sentences() -> None:
    told = list(opening(samples.empty()))
    assert told[0].endswith("0 targets, 0 sessions, 0 disks, 0 paths, 0 volumes.")
    assert told[1:] == ["Nothing is wrong."]


def test_what_is_wrong_comes_worst_first_in_a_sentence_each() -> None:
    _, *rest = opening(samples.practice(pulled=samples.PORTALS[1]))
    assert rest
    words = [line.partition(":")[0] for line in rest]
    assert words == sorted(words, key=["Bad", "Warning", "Note"].index)
    assert all(line.endswith(".") and not line.endswith("..") for line in rest)


@pytest.mark.parametrize(
    ("kind", "severity", "begins"),
    [
        ("state", Severity.BAD, "Bad, at "),
        ("state", Severity.NOTE, "Note, at "),
        ("alert", Severity.BAD, "Alert, at "),
        ("alert", Severity.NOTE, "Note, at "),
    ],
)
def test_a_change_is_one_sentence_without_escapes(kind: str, severity: Severity, begins: str) -> None:
    said = sentence(Event(samples.NOW, kind, "x", "Path \x1b[31mone has failed: no answer.\n", severity))
    assert said.startswith(begins)
    assert said.endswith(": Path [31mone has failed: no answer.")
