from __future__ import annotations

import dataclasses
import enum

import pytest
from rich.cells import cell_len

from initiator.model import DiskState, LinkState, MapState, PathState, SessionState, Severity, VolumeState
from tui import words
from tui.words import ASCII, UNICODE, Glyphs


@pytest.mark.parametrize(
    "kind",
    [SessionState, PathState, DiskState, MapState, VolumeState, LinkState, Severity],
    ids=lambda kind: kind.__name__,
)
def test_every_state_has_a_glyph_and_a_word(kind: type[enum.StrEnum]) -> None:
    for state in kind:
        mark = words.mark(state)
        assert mark.word
        assert getattr(UNICODE, mark.shape)
        assert (mark == words.UNKNOWN) is (state.value == "unknown")


def test_states_of_different_kinds_with_one_word_are_told_apart() -> None:
    assert words.mark(SessionState.FAILED).role == "bad"
    assert words.mark(DiskState.OFFLINE).word == "offline"
    assert words.mark(VolumeState.READ_ONLY).shape == "held"


def test_good_and_bad_differ_in_shape_not_only_in_colour() -> None:
    for glyphs in (UNICODE, ASCII):
        shapes = [getattr(glyphs, name) for name in ("good", "warn", "bad", "idle", "busy", "held", "unknown")]
        assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_glyphs_take_the_cells_they_are_meant_to(glyphs: Glyphs) -> None:
    two = {"branch", "last", "stem"}
    for field in dataclasses.fields(glyphs):
        text = getattr(glyphs, field.name)
        if field.name == "levels":
            assert len(text) == 8 == cell_len(text)
        elif field.name in ("corners", "joints"):
            assert len(text) == 4 == cell_len(text)
        elif field.name != "arrow":
            assert cell_len(text) == (2 if field.name in two else 1), field.name


def test_the_ascii_glyphs_are_ascii() -> None:
    assert all(getattr(ASCII, field.name).isascii() for field in dataclasses.fields(ASCII))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1 KiB"),
        (1_536, "1.5 KiB"),
        (256 << 20, "256 MiB"),
        (1000 << 20, "0.977 GiB"),
        (3 << 50, "3 PiB"),
        (5000 << 50, "5000 PiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(None, ""), (0, "0 µs"), (184.4, "184 µs"), (999.6, "1 ms"), (1_234, "1.23 ms"), (2_500_000, "2.5 s")],
)
def test_latencies(microseconds: float | None, text: str) -> None:
    assert words.latency(microseconds, UNICODE) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (12, "12 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7_205, "2 h 5 s"),
        (190_000, "2 d 4 h"),
    ],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


def test_natural_order_and_counts() -> None:
    assert sorted(["disk10", "disk2", "Disk1"], key=words.natural) == ["Disk1", "disk2", "disk10"]
    assert words.count(1, "path") == "1 path"
    assert words.count(2000, "path") == "2,000 paths"
    assert words.short_target("iqn.2026-11.com.example:a:harbour") == "harbour"
    assert words.short_target("naa.6001") == "naa.6001"


def test_what_comes_from_outside_cannot_act_on_the_terminal() -> None:
    assert words.say("\x1b[31mred\x07\u202e") == "[31mred"
    assert words.or_unknown(None) == "not known"
    assert words.or_unknown(3, " ms") == "3 ms"
