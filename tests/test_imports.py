"""The direction of imports, proved in fresh processes, and what the command line may not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def modules_after(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after running `code`."""
    program = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(done.stdout.splitlines()[-1]))


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    ("imports", "never"),
    [
        ("initiator.inventory, initiator.names, initiator.model", {"safety", "tui", "textual", "rich"}),
        ("initiator.engine.supervisor, initiator.engine.worker", {"safety", "tui", "textual", "rich"}),
        ("safety.plan, safety.runner, safety.journal", {"tui", "textual", "rich"}),
        ("tui.cli, tui.export, tui.find, tui.exits", {"textual", "rich"}),
        ("tui.commands.reading, tui.commands.sessions", {"textual", "rich"}),
        ("tui.commands.removal, tui.commands.practice", {"textual", "rich"}),
    ],
)
def test_rooms_import_downwards_only(imports: str, never: set[str]) -> None:
    assert roots(modules_after(f"import {imports}")) & never == set()


def test_the_protocol_loads_no_shell() -> None:
    before = modules_after("import crc32c, hashlib, base64, initiator.model")
    after = modules_after("import initiator.protocol.session, initiator.protocol.login, initiator.scsi.commands")
    assert (after - before) & {"asyncio", "socket", "select", "threading", "subprocess", "random"} == set()


def test_listing_loads_nothing_slow() -> None:
    loaded = roots(modules_after("import tui.commands.reading, initiator.inventory, initiator.engine.client"))
    assert loaded & {"asyncio", "pyroute2", "pyudev", "textual"} == set()


def test_the_first_screen_is_painted_before_what_reads_and_judges_is_loaded() -> None:
    loaded = modules_after("import tui.app")
    late = {
        "initiator.inventory",
        "initiator.host",
        "initiator.engine",
        "initiator.scsi",
        "initiator.history",
        "safety.advice",
        "safety.plan",
        "tui.explain",
        "tui.screens.help",
        "tui.tour",
    }
    assert loaded & late == set()


def test_only_the_removal_writes_state_or_delete_and_logs_out() -> None:
    """Whoever could take a disk away is named here; a new name in the list is a new way to lose data."""
    root = Path(__file__).parents[1]
    sources = [path for room in ("initiator", "safety", "tui") for path in (root / room).rglob("*.py")]
    words = {
        "write_attribute": {"initiator/host/helper_scsi.py", "safety/effects_kernel.py"},
        "dm_remove": {"initiator/host/helper_dm.py", "safety/effects_kernel.py", "safety/claims_kernel.py"},
        "world.kernel.offline(": {"safety/steps_kernel.py"},
        "world.kernel.delete(": {"safety/steps_kernel.py"},
        "world.kernel.logout(": {"safety/steps_session.py"},
        "_orders.logout(": {"safety/effects_kernel.py"},
        '"-u"]': {"initiator/host/iscsiadm.py"},
        "MNT_DETACH": set(),
        "MNT_FORCE": set(),
    }
    for word, allowed in words.items():
        found = {str(path.relative_to(root)) for path in sources if word in path.read_text(encoding="utf-8")}
        assert found == allowed, word
