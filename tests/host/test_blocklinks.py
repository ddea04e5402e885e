"""Where block devices are in /sys/devices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from initiator.host.blocklinks import BlockLinks
from initiator.host.iscsi import SessionReader
from tests.host.kerneltree import KernelTree, big


def test_each_device_is_where_its_link_leads(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 16)
    (tree.root / "sys/class/block/odd").mkdir()
    links = BlockLinks(tree.root)
    found = links.read()
    assert found is not None
    for name, link in found.items():
        assert Path(link.place) == (tree.root / f"sys/class/block/{name}").resolve(), name
    assert links.read() is found


def test_a_name_that_another_device_took_over_leads_elsewhere(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(1)
    tree.session(2)
    tree.lun(1, 0, kname="sda")
    links = BlockLinks(tree.root)
    before = links.read()
    assert before is not None
    tree.vanish("1:0:0:0", "sda")
    (tree.root / "sys/class/block/.spare").touch()  # so that the new link cannot get the old one's inode
    tree.lun(2, 0, kname="sda")
    after = links.read()
    assert after is not None
    assert ("/session1/" in before["sda"].place, "/session2/" in after["sda"].place) == (True, True)


@pytest.mark.parametrize("missing", ["sys/class/block", "sys/class"])
def test_a_host_without_the_class_has_none(tmp_path: Path, missing: str) -> None:
    tree = big(tmp_path / "host", 4, 16)
    links = BlockLinks(tree.root)
    links.read()
    shutil.rmtree(tree.root / missing)
    assert links.read() is None
    assert links.last == {}


def test_a_lun_is_not_taken_for_one_of_the_session_that_had_its_host_number(tmp_path: Path) -> None:
    """Block devices were listed a moment before the sessions: in between one can have gone and another one come."""
    tree = KernelTree(tmp_path / "host")
    tree.session(4, host=2)
    tree.lun(4, 0, host=2, kname="sda")
    links = BlockLinks(tree.root)
    stale = links.read()
    reader = SessionReader(tree.root)
    assert [lun.sid for lun in reader.read(blocks=stale).luns] == [4]
    tree.vanish("2:0:0:0", "sda")
    tree.vanish_session(4)
    (tree.root / "sys/class/scsi_device/.spare").touch()
    tree.session(5, host=2)
    tree.lun(5, 0, host=2, kname="sda")
    (lun,) = reader.read(blocks=stale).luns
    assert (lun.sid, "/session5/" in str(Path(lun.place).resolve())) == (5, True)
    (lun,) = reader.read(blocks=links.read()).luns
    assert (lun.sid, lun.kname) == (5, "sda")


def test_the_luns_of_a_session_that_is_listed_again_are_there_again(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(4, host=2)
    tree.lun(4, 0, host=2, kname="sda")
    reader = SessionReader(tree.root)
    link = tree.root / "sys/class/iscsi_session/session4"
    target = link.readlink()
    assert len(reader.read().luns) == 1
    link.unlink()
    assert reader.read().luns == ()
    link.symlink_to(target)
    assert [lun.sid for lun in reader.read().luns] == [4]
