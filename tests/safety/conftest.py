from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator import inventory
from initiator.engine.client import EngineClient
from safety.plan import Options, Plan
from safety.prepare import prepare
from safety.scope import Reach, Scope
from tests.safety.fakeengine import WWID, FakeEngine

MISSING = [tool for tool in ("losetup", "mkfs.ext4", "mount", "unshare", "fsck.ext4") if shutil.which(tool) is None]
SIZE = 48 << 20


@dataclasses.dataclass(slots=True)
class Range:
    """A mounted ext4 on a real loop device that the fake engine serves."""

    engine: FakeEngine
    mountpoint: Path
    client: EngineClient
    state: Path
    image: Path

    @property
    def journals(self) -> Path:
        return self.state / "journal"

    def plan(self, watch_s: float = 0.2) -> Plan:
        return prepare(Scope(Reach.DISKS, (f"engine:d:{WWID}",), "data"), self.client, Options(watch_s=watch_s))

    def mounted(self) -> bool:
        return any(
            line.split()[4] == str(self.mountpoint) for line in Path("/proc/self/mountinfo").read_text().splitlines()
        )

    def sessions(self) -> int:
        return len(inventory.read(engine=self.client).sessions)

    def fill(self, name: str = "file", size: int = 3 << 20) -> str:
        """Write random bytes and leave them dirty; returns their checksum."""
        data = os.urandom(size)
        (self.mountpoint / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def checksum(self, name: str = "file") -> str:
        return hashlib.sha256((self.mountpoint / name).read_bytes()).hexdigest()

    def checksum_in_image(self, name: str = "file") -> str:
        """What the file holds when the image is looked at elsewhere: clean by fsck, then read without a mount."""
        subprocess.run(["fsck.ext4", "-fn", str(self.image)], check=True, capture_output=True)
        done = subprocess.run(["debugfs", "-R", f"cat /{name}", str(self.image)], check=True, capture_output=True)
        return hashlib.sha256(done.stdout).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Range]:
    if os.geteuid() != 0:
        pytest.skip("needs root: loop devices and mounts")
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}")
    monkeypatch.setenv("MOORING_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MOORING_STATE_DIR", str(tmp_path / "state"))
    with made(tmp_path) as found:
        yield found


@contextlib.contextmanager
def made(tmp_path: Path, fstype: str = "ext4", size: int = SIZE) -> Iterator[Range]:
    """A range in a folder; `MOORING_RUNTIME_DIR` and `MOORING_STATE_DIR` have to be its `run` and `state`."""
    runtime, state = tmp_path / "run", tmp_path / "state"
    for folder in (runtime, state):
        folder.mkdir(mode=0o700)
    image, mountpoint = tmp_path / "image", tmp_path / "mnt"
    mountpoint.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([f"mkfs.{fstype}", "-q", str(image)], check=True)
    engine = FakeEngine(runtime, image)
    try:
        subprocess.run(["mount", "-o", "noatime", str(engine.device), str(mountpoint)], check=True)
        yield Range(engine, mountpoint, EngineClient(), state, image)
    finally:
        with contextlib.suppress(OSError):
            (mountpoint / "none").stat()
        while subprocess.run(["umount", str(mountpoint)], check=False, capture_output=True).returncode == 0:
            pass
        engine.close()
