"""The block devices read again and again: always what a reading from scratch gives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from initiator.host.blockreader import BlockReader, read_block
from tests.host.kerneltree import KernelTree, big, naa
from tests.host.tree import Tree


def test_holders_and_slaves_are_what_the_folders_have(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 16)
    tree.block("loop3", "7:3", diskseq=9, attributes={"loop/backing_file": "/dev/mapper/mpatha"})
    tree.block("loop3p1", "259:0", parent="loop3")
    tree.block("md127", "9:127")
    tree.stack("md127", "loop3p1")
    tree.block("dm-70", "252:70", attributes={"dm/uuid": "part1-mpath-3x", "dm/name": "mpatha-part1"})
    tree.block("dm-71", "252:71", attributes={"dm/uuid": "CRYPT-LUKS2-x", "dm/name": "secret"})
    tree.stack("dm-71", "dm-70")
    tree.write("sys/class/block/torn/size", "8\n")
    tree.write("sys/class/block/torn/dev", "")
    nodes, problems = BlockReader(tree.root).read()
    assert [problem.subject for problem in problems] == ["torn"]
    for node in nodes:
        folder = tree.root / "sys/class/block" / node.kname
        for name, found in (("holders", node.holders), ("slaves", node.slaves)):
            listed = os.listdir(folder / name) if (folder / name).exists() else ()
            assert found == tuple(sorted(listed)), (node.kname, name)
    assert sum(bool(node.holders) for node in nodes) == 18


def test_unchanged_devices_are_the_same_objects(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 16)
    reader = BlockReader(tree.root)
    first, _ = reader.read()
    assert reader.read()[0] is first
    tree.write("sys/class/block/sdb/size", "1024\n")
    second, _ = reader.read()
    assert [one.kname for one, two in zip(first, second, strict=True) if one is not two] == ["sdb"]


def test_on_a_large_host_everything_gets_its_turn(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=4)
    for _ in range(40):
        reader.read()
    tree.write("sys/class/block/dm-5/ro", "1\n")
    readings = 0
    while not any(node.read_only for node in reader.read()[0]):
        readings += 1
        assert readings < 14


def test_what_changes_its_size_is_seen_at_once(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=1)
    tree.write("proc/partitions", "major minor  #blocks  name\n\n   8  0  262144 sda\n   8 16  262144 sdb\n")
    for _ in range(40):
        reader.read()
    tree.write("proc/partitions", "major minor  #blocks  name\n\n   8  0  524288 sda\n   8 16  262144 sdb\n")
    tree.write("sys/class/block/sda/size", f"{524288 * 2}\n")
    assert next(node for node in reader.read()[0] if node.kname == "sda").size_bytes == 524288 * 1024


def test_an_event_has_the_members_of_all_stacked_devices_read(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=0)
    for _ in range(2):
        reader.read()
    tree.stack("dm-3", "sdz")
    tree.write("sys/class/block/dm-4/dm/name", "renamed\n")
    assert reader.read()[0] is reader.read()[0]
    reader.stir()
    nodes = {node.kname: node for node in reader.read()[0]}
    assert "sdz" in nodes["dm-3"].slaves
    assert "dm-3" in nodes["sdz"].holders
    assert nodes["dm-4"].dm_name == "renamed"


def test_a_path_that_comes_later_is_seen_in_its_map(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=0)
    reader.read()
    tree.lun(1, 77, kname="sdzz", dev="8:4000", digits=naa(3))
    reader.read()
    tree.stack("dm-3", "sdzz")
    nodes = {node.kname: node for node in reader.read()[0]}
    assert "sdzz" in nodes["dm-3"].slaves


def test_a_whole_stack_may_go_at_once(tmp_path: Path) -> None:
    """An encrypted volume on a logical volume on a disk, as a removal takes them away."""
    tree = big(tmp_path / "host", 4, 40)
    tree.block("dm-90", "252:90", attributes={"dm/name": "vault-lv", "dm/uuid": "LVM-x"})
    tree.block("dm-91", "252:91", attributes={"dm/name": "secret", "dm/uuid": "CRYPT-x"})
    tree.stack("dm-91", "dm-90")
    reader = BlockReader(tree.root, turn=1)
    reader.read()
    for kname in ("dm-90", "dm-91"):
        shutil.rmtree(tree.root / f"sys/devices/virtual/block/{kname}")
        (tree.root / f"sys/class/block/{kname}").unlink()
    for _ in range(3):
        assert not {node.kname for node in reader.read()[0]} & {"dm-90", "dm-91"}


def test_what_comes_onto_a_device_is_seen_at_once(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=1)
    for _ in range(40):
        reader.read()
    tree.block("dm-90", "252:90", attributes={"dm/name": "vault-lv", "dm/uuid": "LVM-x"})
    tree.stack("dm-90", "dm-3")
    assert next(node for node in reader.read()[0] if node.kname == "dm-3").holders == ("dm-90",)
    shutil.rmtree(tree.root / "sys/devices/virtual/block/dm-90")
    (tree.root / "sys/class/block/dm-90").unlink()
    shutil.rmtree(tree.root / "sys/class/block/dm-3/holders/dm-90")
    assert next(node for node in reader.read()[0] if node.kname == "dm-3").holders == ()


def test_what_stood_on_a_device_that_goes_has_lost_a_member_at_once(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = BlockReader(tree.root, turn=0)
    before = {node.kname: node for node in reader.read()[0]}["dm-3"].slaves
    (tree.root / f"sys/class/block/dm-3/slaves/{before[0]}").rmdir()
    (tree.root / f"sys/class/block/{before[0]}").unlink()
    assert {node.kname: node for node in reader.read()[0]}["dm-3"].slaves == before[1:]


@pytest.mark.parametrize("missing", ["sys/class/block", "sys/class"])
def test_a_host_without_the_class_is_a_problem(tree: Tree, missing: str) -> None:
    shutil.rmtree(tree.root / missing)
    nodes, problems = BlockReader(tree.root).read()
    assert nodes == ()
    assert [(problem.source, problem.subject) for problem in problems] == [("block", "/sys/class/block")]


class Changes(RuleBasedStateMachine):
    """Whatever happens to a small host, the next reading is right."""

    @initialize(folder=st.uuids())
    def start(self, folder: object) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.tree = KernelTree(Path(self.folder.name) / "host")
        self.reader = BlockReader(self.tree.root)
        self.tree.session(1)
        self.disks: list[int] = []
        self.maps: list[str] = []
        self.count = 0

    @rule()
    def disk(self) -> None:
        self.count += 1
        name = f"sd{chr(96 + self.count % 26)}{self.count}"
        self.tree.lun(1, self.count, kname=name, dev=f"8:{self.count}", digits=naa(self.count))
        self.disks.append(self.count)

    @rule(data=st.data())
    def map(self, data: st.DataObject) -> None:
        if self.disks:
            number = data.draw(st.sampled_from(self.disks))
            name = f"sd{chr(96 + number % 26)}{number}"
            self.maps.append(self.tree.map(f"mpath{len(self.maps)}", f"3{naa(number)}", (name,)))

    @rule(data=st.data(), sectors=st.integers(0, 1 << 40))
    def resize(self, data: st.DataObject, sectors: int) -> None:
        if self.maps:
            self.tree.write(f"sys/class/block/{data.draw(st.sampled_from(self.maps))}/size", f"{sectors}\n")

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        if self.maps:
            name = data.draw(st.sampled_from(self.maps))
            self.tree.write(f"sys/class/block/{name}/dm/name", f"other{self.count}\n")

    @invariant()
    def same(self) -> None:
        if hasattr(self, "reader"):
            assert self.reader.read() == read_block(self.tree.root)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=12, stateful_step_count=12)
