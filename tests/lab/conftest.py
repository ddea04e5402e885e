"""One boot of the lab's guest for all its scenarios; its logs are kept when one fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import san
from tests.lab.image import ImageError
from tests.lab.machine import Machine
from tests.lab.noted import Noted

_FIRST = (
    "test_image.py",
    "test_boot.py",
    # these look at one scenario, and nobody else may change it meanwhile
    "test_kernel.py",
    "test_kernel_orders.py",
    "test_stack.py",
    "test_fields.py",
    "test_watch.py",  # changes it
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `_FIRST`, in that order, before all others."""
    items.sort(key=lambda item: _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST))


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


@pytest.fixture(scope="session")
def built(guest: Machine) -> Machine:
    """The guest with sessions, maps and volumes of every kind."""
    san.make(guest)
    return guest


@pytest.fixture(scope="session")
def seen(built: Machine) -> Noted:
    """What `mooring list --json` prints, with a note of every field that a test looks at."""
    return Noted("snapshot", json.loads(built.mooring("list", "--json").out))
