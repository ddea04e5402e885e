from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.layout import end_of, fit, labelled, paragraph, width_of, wrap
from tui.words import Piece

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Mn", "Me", "Cf")), max_size=60)


@settings(max_examples=100)
@given(st.lists(TEXT, max_size=4), st.integers(1, 40), st.booleans())
def test_a_fitted_line_is_exactly_as_wide_as_asked(texts: list[str], width: int, right: bool) -> None:
    line = tuple(Piece(text, "good") for text in texts)
    assert width_of(fit(line, width, "…", right=right)) == width


@settings(max_examples=100)
@given(TEXT, st.integers(2, 40))
def test_wrapping_loses_nothing_and_stays_inside(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_cut_line_says_so_and_keeps_its_roles() -> None:
    assert fit((Piece("abcdef", "bad"), Piece("gh")), 5, "…") == (Piece("abcd", "bad"), Piece("…", "dim"))
    assert fit((Piece("ab"),), 4, "…", right=True) == (Piece("  "), Piece("ab"))


def test_a_wide_character_is_not_cut_in_half() -> None:
    assert width_of(fit((Piece("日本語"),), 4, "…")) == 4


def test_long_names_break_behind_a_colon_or_slash() -> None:
    assert wrap("iqn.2026-11.io.mooring.practice:harbour", 36) == ["iqn.2026-11.io.mooring.practice:", "harbour"]
    assert wrap("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert wrap("", 10) == [""]


def test_a_223_byte_name_is_shown_whole() -> None:
    name = "iqn.2026-11." + "a" * 211
    assert "".join(wrap(name, 30)) == name


def test_the_end_of_a_path_is_kept() -> None:
    assert end_of("/run/mooring/practice/data", 14, "…") == "…practice/data"
    assert end_of("/data", 14, "…") == "/data"


def test_labelled_values_hang_below_themselves_and_empty_ones_are_left_out() -> None:
    lines = labelled([("One", "aaaa bbbbb"), ("None", ""), ("Two", (Piece("x", "good"),))], 18)
    assert ["".join(piece.text for piece in line) for line in lines] == [
        "One       aaaa",
        "          bbbbb",
        "Two       x",
    ]


def test_a_paragraph_has_one_role() -> None:
    assert paragraph("aaaa bbbb cccc", 9, "warn") == [(Piece("aaaa bbbb", "warn"),), (Piece("cccc", "warn"),)]
