"""Two boots of the lab's guest, side by side. One is looked at first; each then takes the next file that waits.

Its logs are kept when a scenario fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab import san
from tests.lab.image import ImageError
from tests.lab.machine import Machine
from tests.lab.noted import Noted

_LOOKED_AT = (
    "test_image.py",
    "test_boot.py",
    "test_advice.py",  # looks at the whole host: nothing else may be there yet; leaves nothing behind
    # these look at one scenario, and nobody else may change it meanwhile
    "test_kernel.py",
    "test_kernel_orders.py",
    "test_stack.py",
    "test_fields.py",
    "test_watch.py",  # changes it
    "test_actions.py",  # has targets of its own
    "test_health.py",  # and so has this, and cables
    "test_lio.py",  # and so has this, without any session of the kernel
)

_running: list[str] = []
"""The file of the test that runs."""


def _group(name: str) -> str:
    return "looked at" if name in _LOOKED_AT else Path(name).stem


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember for whom a guest is booted."""
    _running[:] = [item.path.name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each group in one boot, the files of `_LOOKED_AT` in that order.

    The groups with the most tests begin (pytest-xdist), so this one finds its guest as it was booted.
    """
    order = {name: number for number, name in enumerate(_LOOKED_AT)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path.name)))


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The running guest with Mooring installed."""
    try:
        # what changes has to be seen within a second, whatever else the guest, and the other guests, do
        watched = _group(_running[0]) == "looked at"
        machine = Machine(tmp_path_factory.mktemp("lab"), 2 if watched else 1, nice=0 if watched else 1)
    except ImageError as error:
        pytest.exit(f"the lab cannot run: {error}", returncode=1)
    yield machine
    if request.session.testsfailed:
        keep_logs(machine, _KEPT / os.environ.get("PYTEST_XDIST_WORKER", "alone"))
    machine.stop()


@pytest.fixture(autouse=True)
def told_by_the_guest(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the guest's kernel, daemons and last removal said, beside the report of a test that failed.

    Also kept at once: the run may take a while, or not come to its end.
    """
    yield
    report = request.node.stash.get(_REPORT, None)
    if report is None or report.passed or "guest" not in request.fixturenames:
        return
    machine: Machine = request.getfixturevalue("guest")
    told = ""
    with contextlib.suppress(AssertionError):
        told = machine.run(_TOLD, seconds=60, check=False).out
        print(told)
    _KEPT.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", request.node.nodeid.rpartition("/")[2])
    (_KEPT / f"{name}.txt").write_text(f"{report.longreprtext}\n{told}", encoding="utf-8")


_KEPT = Path(".lab/last-failure")
_REPORT = pytest.StashKey[pytest.TestReport]()
_TOLD = """
echo "--- the kernel"; dmesg | tail -n 25
echo "--- the daemons"; journalctl -b --no-pager -n 25 -u iscsid -u multipathd
echo "--- what there is"; iscsiadm -m session; lsblk -o NAME,TYPE,SIZE,MOUNTPOINTS; dmsetup ls; multipathd show paths
last=$(ls -t /var/lib/mooring/journal/*.jsonl 2>/dev/null | head -n 1)
echo "--- the last removal: $last"; [ -z "$last" ] || tail -n +2 $last | cut -c1-400 | tail -n 30
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember how a test went, for the fixture that tells what the guest said."""
    report = yield
    if report.when == "call":
        item.stash[_REPORT] = report
    return report


def keep_logs(machine: Machine, kept: Path) -> None:
    """The guest's whole journal and console, and the journals of all removals."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    script = "journalctl -b --no-pager | tail -n 4000; dmesg | tail -n 400; tail -n +2 /var/lib/mooring/journal/*.jsonl"
    (kept / "journal.txt").write_text(machine.run(script, check=False).out, encoding="utf-8")
    shutil.copy(machine.console, kept / "console.log")


@pytest.fixture(scope="session")
def built(guest: Machine) -> Machine:
    """The guest with sessions, maps and volumes of every kind."""
    san.make(guest)
    return guest


@pytest.fixture(scope="session")
def seen(built: Machine) -> Noted:
    """What `mooring list --json` prints, with a note of every field that a test looks at."""
    return Noted("snapshot", json.loads(built.mooring("list", "--json").out))
