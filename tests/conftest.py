"""What every test shares: who may run, and folders of its own."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# Wall time says nothing on a shared machine; a hang is caught by the per-test time limit.
hypothesis.settings.register_profile("mooring", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mooring")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where there is none, and say so."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root (block devices, mounts, FUSE)")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runtime, state and configuration folders that belong to this test alone. Short, as socket paths must be."""
    folder = tmp_path_factory.mktemp("m", numbered=True)
    for name in ("runtime", "state", "config"):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(f"MOORING_{name.upper()}_DIR", str(folder / name))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return folder
