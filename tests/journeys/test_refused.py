"""What sits on a disk stops its removal, and is named."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.host import Harbour, disk_named, must

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
def point(shore: Harbour) -> Path:
    """The mount point of the practice disk `data`."""
    shore.bring("data")
    return Path(shore.disk("data")["mountpoint"])


def refused(code: str) -> dict[str, Any]:
    """Both the plan and the removal refuse for this reason, and the disk is as it was."""
    plan = must("plan", "data", "--json", code=3).json()
    found = [finding for finding in plan["findings"] if finding["level"] == "block"]
    assert code in {finding["code"] for finding in found}, found
    must("remove", "data", "--confirm", "data", code=3)
    assert disk_named("data")["state"] == "attached"
    finding: dict[str, Any] = next(finding for finding in found if finding["code"] == code)
    return finding


def test_a_shell_in_the_mount_is_named(point: Path) -> None:
    shell = subprocess.Popen(["sh", "-c", "read line"], cwd=point, stdin=subprocess.PIPE)
    try:
        finding = refused("open")
        assert str(shell.pid) in finding["text"] + finding["evidence"]
        assert point.is_mount()
    finally:
        shell.kill()
        shell.communicate()
    must("remove", "data", "--confirm", "data", "--watch", "0.2")
    assert not point.is_mount()


def test_a_swap_file_on_it(point: Path) -> None:
    file = point / "swap"
    file.write_bytes(bytes(4 << 20))
    file.chmod(0o600)
    subprocess.run(["mkswap", "-q", str(file)], check=True)
    subprocess.run(["swapon", str(file)], check=True)
    try:
        refused("swap")
    finally:
        subprocess.run(["swapoff", str(file)], check=True)
    must("remove", "data", "--confirm", "data", "--watch", "0.2")


def test_a_loop_device_on_a_file_inside(point: Path) -> None:
    file = point / "inner.img"
    file.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "--find", "--show", str(file)], check=True, capture_output=True, text=True)
    try:
        refused("loop")
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)
    must("remove", "data", "--confirm", "data", "--watch", "0.2")


def test_a_mount_in_another_namespace(point: Path) -> None:
    program = "import sys; print('ready', flush=True); sys.stdin.read()"
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", program]
    other = subprocess.Popen(argv, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        refused("mounted-elsewhere")
    finally:
        other.communicate(b"")
    must("remove", "data", "--confirm", "data", "--watch", "0.2")


def test_logout_of_an_attached_disk_is_refused_and_names_the_way(point: Path) -> None:
    disk = disk_named("data")
    shown = must("show", disk["paths"][0], "--json").json()
    denied = must("logout", shown["session"], code=3)
    assert "mooring remove data" in denied.err
    assert point.is_mount()


def test_the_engine_does_not_stop_under_an_attached_disk(point: Path) -> None:
    denied = must("engine", "stop", code=3)
    assert "attached" in denied.err
    started = time.monotonic()
    (point / "still").write_text("alive")
    assert (point / "still").read_text() == "alive"
    assert time.monotonic() - started < 30
