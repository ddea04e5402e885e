from __future__ import annotations

from tui.query import Term, fits, parse


def test_words_fields_and_negation() -> None:
    assert parse("data STATE:failed !lo !link:eth0") == (
        Term(None, "data", False),
        Term("state", "failed", False),
        Term(None, "lo", True),
        Term("link", "eth0", True),
    )


def test_names_with_colons_are_plain_words() -> None:
    assert parse("iqn.2026-11.io:x [fe80::1]:3260") == (
        Term(None, "iqn.2026-11.io:x", False),
        Term(None, "[fe80::1]:3260", False),
    )


def test_what_is_still_being_typed_means_nothing_yet() -> None:
    assert parse("  ! state: ") == ()


def test_every_word_has_to_fit() -> None:
    fields = {"name": "data", "state": "failed"}
    assert fits(parse("dat fail"), fields)
    assert not fits(parse("dat active"), fields)
    assert fits(parse("!active"), fields)
    assert not fits(parse("!state:failed"), fields)
    assert not fits(parse("name:failed"), fields)
    assert fits((), fields)
