"""One boot of the lab's guest for all its scenarios; its logs are kept when one fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.image import ImageError
from tests.lab.machine import Machine


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The running guest with Mooring installed."""
    try:
        machine = Machine(tmp_path_factory.mktemp("lab"))
    except ImageError as error:
        pytest.exit(f"the lab cannot run: {error}", returncode=1)
    yield machine
    if request.session.testsfailed:
        kept = Path(".lab/last-failure")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        journal = machine.run("journalctl -b --no-pager | tail -n 2000; dmesg | tail -n 300", check=False)
        (kept / "journal.txt").write_text(journal.out, encoding="utf-8")
        shutil.copy(machine.console, kept / "console.log")
    machine.stop()
