"""What every test shares: who may run, and folders of its own."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

# Wall time says nothing on a shared machine; a hang is caught by the per-test time limit.
hypothesis.settings.register_profile("mooring", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mooring")


_CLONE_NEWNS = 0x20000
_MS_PRIVATE_ALL = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker a mount namespace of its own.

    A test that makes a namespace copies every mount into it; without this, that of a test beside it too, whose disk
    then is rightly refused as mounted elsewhere.
    """
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for failed in (libc.unshare(_CLONE_NEWNS), libc.mount(b"none", b"/", None, _MS_PRIVATE_ALL, None)):
            if failed:
                raise OSError(ctypes.get_errno(), "no mount namespace for this worker's tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long ones, or one worker ends up with them alone; skip what needs root where there is none."""
    workers = config.workerinput["workercount"] if hasattr(config, "workerinput") else 1
    items[:] = dealt(items, workers)
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root (block devices, mounts, FUSE)")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in an order in which each worker begins with some modules of journeys, and with whole ones.

    `--dist worksteal` gives out equal parts of the list, and lets whoever is ready early take from the ends of others.
    A module of journeys that two workers have a part of costs a second practice range.
    """
    modules: dict[str, list[pytest.Item]] = {}
    others: list[pytest.Item] = []
    for item in items:
        module = item.nodeid.partition("::")[0]
        (modules.setdefault(module, []) if "/journeys/" in module else others).append(item)
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for module in sorted(modules, key=lambda name: -len(modules[name])):
        min(hands, key=len).extend(modules[module])
    order: list[pytest.Item] = []
    for number, hand in enumerate(hands):
        room = max(0, (len(items) - len(order)) // (workers - number) - len(hand))
        order += hand + others[:room]
        del others[:room]
    return order


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runtime, state and configuration folders that belong to this test alone. Short, as socket paths must be.

    Not below pytest's own temporary folder: pytest deletes old ones, and must never reach into a mount that a failed
    test left behind.
    """
    folder = Path(tempfile.mkdtemp(prefix="mooring-t-"))
    for name in ("runtime", "state", "config"):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(f"MOORING_{name.upper()}_DIR", str(folder / name))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    yield folder
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [point for point in mounted if point.startswith(f"{folder}/")]
    assert left == [], f"the test left mounts behind: {left}"
    shutil.rmtree(folder, ignore_errors=True)
