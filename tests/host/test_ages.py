"""How long a device has been there, from udev's database in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from initiator.host.ages import read_ages
from initiator.host.links import read_links
from initiator.inventory import read
from tests.host.kerneltree import KernelTree


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    tree = KernelTree(tmp_path / "host")
    tree.session(1, "iqn.2026-11.io.mooring.lab:two", "10.9.1.2", local="10.9.1.1")
    tree.lun(1, 0, kname="sdb", dev="8:16")
    tree.net("eth1", ifindex="7")
    return tree


def ages(tree: KernelTree, now: float) -> dict[str, float]:
    links, _ = read_links(tree.root, {})
    return read_ages(read(tree.root).paths, links, tree.root, lambda: now)


def test_since_udev_first_saw_it(tree: KernelTree) -> None:
    tree.write("run/udev/data/b8:16", "S:disk/by-id/x\nW:3\nI:5000000\nE:ID_FS_TYPE=ext4\n")
    tree.write("run/udev/data/n7", "I:2500000\nE:ID_NET_DRIVER=ixgbe\n")
    (path,) = read(tree.root).paths
    assert ages(tree, 65.0) == {path.id: 60.0, "link:eth1": 62.5}


@pytest.mark.parametrize("entry", ["", "E:ID_FS_TYPE=ext4\n", "I:\n", "I:-5\n", "I:5s\n", "I:66000000\n"])
def test_what_udev_does_not_tell_is_not_known(tree: KernelTree, entry: str) -> None:
    tree.write("run/udev/data/b8:16", entry)
    assert ages(tree, 65.0) == {}


def test_without_udev_nothing_is_known(tree: KernelTree) -> None:
    assert ages(tree, 65.0) == {}
