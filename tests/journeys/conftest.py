"""The range that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.host import Harbour, harbour


@pytest.fixture(scope="module")
def shared_range() -> Iterator[Harbour]:
    """Made when the first test of a module wants it."""
    with harbour() as made:
        yield made


@pytest.fixture
def shore(shared_range: Harbour, own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harbour]:
    """The range of the module, with the commands of this test working on it; afterwards no fault is in force."""
    shared_range.use(monkeypatch)
    yield shared_range
    shared_range.settle()
