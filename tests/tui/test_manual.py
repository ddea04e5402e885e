"""The manual page tells of the commands that there are."""

from __future__ import annotations

from docs.manual import PAGE, manual


def test_the_page_is_that_of_the_commands_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual(), "make man"
