from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tui.charts import bar, sparkline, trend
from tui.words import ASCII, UNICODE

SAMPLES = st.lists(st.none() | st.floats(0, 1e7), max_size=80)


def test_a_steady_line_is_half_high_and_a_peak_stands_out() -> None:
    assert sparkline([100] * 5, 5, UNICODE) == "▅▅▅▅▅"
    assert sparkline([100, 100, 100, 400], 4, UNICODE) == "▃▃▃█"


def test_only_the_newest_samples_are_shown_and_gaps_stay_visible() -> None:
    assert sparkline([9, 9, 9, None, 100], 3, UNICODE) == "▂·█"
    assert sparkline([], 4, UNICODE) == "    "
    assert sparkline([None, None], 3, UNICODE) == " ··"


def test_zero_is_no_gap() -> None:
    assert sparkline([0, 0], 2, UNICODE) == "▁▁"
    assert sparkline([0.0], 1, ASCII) == "_"


def test_a_trend_is_filled_from_below() -> None:
    lines = trend([1, 1, 1, 4], 4, 2, UNICODE)
    assert lines == ["   █", "▄▄▄█"]


@settings(max_examples=60)
@given(SAMPLES, st.integers(1, 60), st.integers(1, 5))
def test_charts_always_have_the_size_that_was_asked_for(samples: list[float | None], width: int, height: int) -> None:
    for glyphs in (UNICODE, ASCII):
        assert len(sparkline(samples, width, glyphs)) == width
        lines = trend(samples, width, height, glyphs)
        assert [len(line) for line in lines] == [width] * height


def test_a_bar_is_full_only_when_it_is() -> None:
    assert bar(0, 4, UNICODE) == "░░░░"
    assert bar(0.001, 4, UNICODE) == "█░░░"
    assert bar(0.999, 4, UNICODE) == "███░"
    assert bar(1.0, 4, UNICODE) == "████"
    assert bar(7.0, 4, ASCII) == "####"
