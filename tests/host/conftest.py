"""Trees for readers, and real loop devices with a file system for tests that need root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host")


def sh(*argv: str) -> str:
    """Runs a tool that has to succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def need_root(*tools: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


class RealDisk:
    """A loop device with ext4 on it."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "image"
        self.mountpoint = folder / "mount point"
        self.mountpoint.mkdir()
        with self.image.open("wb") as image:
            image.truncate(32 << 20)
        sh("mkfs.ext4", "-q", "-L", "moor-test", str(self.image))
        self.device = sh("losetup", "--find", "--show", str(self.image))
        self.kname = self.device.removeprefix("/dev/")
        self.dev = Path(f"/sys/block/{self.kname}/dev").read_text().strip()

    def mount(self, *options: str) -> None:
        sh("mount", *options, self.device, str(self.mountpoint))

    def close(self) -> None:
        """Unmounts all that is there and gives the device back."""
        while str(self.mountpoint).replace(" ", "\\040") in Path("/proc/self/mountinfo").read_text():
            sh("umount", str(self.mountpoint))
        sh("losetup", "-d", self.device)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    need_root("mkfs.ext4", "losetup", "mount", "umount")
    real = RealDisk(tmp_path)
    try:
        yield real
    finally:
        real.close()
