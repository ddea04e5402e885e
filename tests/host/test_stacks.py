"""What LVM and md say: LVM's report as its tools print it, md from a recorded sysfs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from initiator.host.run import Finished
from initiator.host.stacks import StackError, VolumeGroup, read_array, read_groups, udev_properties, uses_lvm
from initiator.model import BlockNode
from tests.host.tree import Tree

UUID = "abcdef-0123-4567-89ab-cdef-0123-456789"


def lvm(pvs: list[dict[str, str]], lvs: list[dict[str, str]]) -> Any:
    def run(argv: list[str], deadline: float) -> Finished:
        kind = argv[0].removesuffix("s")
        # with --readonly LVM would not ask the device mapper, and call every volume's state unknown
        assert "--readonly" not in argv
        return Finished(0, json.dumps({"report": [{kind: pvs if kind == "pv" else lvs}]}), "", 0.1)

    return run


def pv(name: str, uuid: str, major: str, minor: str) -> dict[str, str]:
    return {"vg_name": name, "vg_uuid": uuid, "pv_name": "/dev/x", "pv_major": major, "pv_minor": minor}


def lv(name: str, active: str) -> dict[str, str]:
    return {"vg_uuid": UUID, "vg_name": "vg", "lv_name": name, "lv_active": active}


def test_a_group_has_devices_and_active_volumes() -> None:
    run = lvm(
        [pv("vg", UUID, "253", "3"), pv("vg", UUID, "-1", "-1"), pv("", "", "8", "0")],
        [lv("data", "active"), lv("cold", ""), lv("else", "locally")],
    )
    assert read_groups(run) == (VolumeGroup("vg", UUID.replace("-", ""), ("253:3", ""), ("vg/data",)),)


@pytest.mark.parametrize("number", ["-1", "0", ""])
def test_a_missing_physical_volume_has_no_device(number: str) -> None:
    """LVM calls it [unknown]; its number is -1 in older releases and 0 in newer ones."""
    missing = {**pv("vg", UUID, number, number), "pv_name": "[unknown]"}
    (group,) = read_groups(lvm([missing, pv("vg", UUID, "252", "2")], []))
    assert group.devices == ("", "252:2")


@pytest.mark.parametrize("out", ["", "{}", '{"report": []}', '{"report": [{"pv": [{"vg_name": "x"}]}]}', "not json"])
def test_an_answer_that_makes_no_sense_is_an_error(out: str) -> None:
    with pytest.raises(StackError, match="locked"):
        read_groups(lambda argv, deadline: Finished(5, out, "locked \x1b[31mby somebody", 0.1))


def test_what_udev_noted(tree: Tree) -> None:
    tree.write("run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_FS_TYPE=LVM2_member\nE:MD_UUID=a:b\n")
    assert udev_properties("8:0", tree.root) == {"ID_FS_TYPE": "LVM2_member", "MD_UUID": "a:b"}
    assert udev_properties("8:1", tree.root) == {}
    disk = BlockNode("sda", "8:0", "disk", 1, False)
    assert uses_lvm([disk], tree.root)
    assert not uses_lvm([BlockNode("sdb", "8:16", "disk", 1, False)], tree.root)
    assert uses_lvm([BlockNode("dm-1", "253:1", "lvm", 1, False)], tree.root)


def test_an_array(tree: Tree) -> None:
    folder = "sys/class/block/md7/md"
    for name, text in (("level", "raid1"), ("array_state", "clean"), ("degraded", "1"), ("sync_action", "idle")):
        tree.write(f"{folder}/{name}", f"{text}\n")
    tree.write("run/udev/data/b9:7", "E:MD_UUID=a:b:c:d\n")
    found = read_array(BlockNode("md7", "9:7", "md", 1, False, slaves=("sda", "sdb")), tree.root)
    assert (found.level, found.state, found.degraded, found.sync) == ("raid1", "clean", 1, "idle")
    assert (found.members, found.uuid) == (("sda", "sdb"), "a:b:c:d")
    unknown = read_array(BlockNode("md8", "9:8", "md", 1, False), tree.root)
    assert (unknown.degraded, unknown.state, unknown.uuid) == (None, None, None)
