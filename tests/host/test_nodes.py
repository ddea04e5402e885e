"""open-iscsi's database in both places, and the firmware's table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from initiator.host.nodes import RecordReader, parse_settings, read_ibft, read_records
from initiator.model import Portal
from tests.host.kerneltree import KernelTree

TARGET = "iqn.2026-11.io.mooring.lab:two"


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    return KernelTree(tmp_path / "host")


def test_records_of_both_databases(tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1", **{"node.startup": "automatic"})
    tree.record(TARGET, "fd09:1::2,3261,-1", "iface0", base="var/lib/iscsi")
    found = read_records(tree.root)
    assert [(each.portal, each.interface, each.startup) for each in found.nodes] == [
        (Portal("10.9.1.2", 3260, 1), "default", "automatic"),
        (Portal("fd09:1::2", 3261, None), "iface0", "manual"),
    ]
    assert found.problems == ()
    assert found.of(TARGET, Portal("10.9.1.2"), "default") == found.nodes[:1]
    assert found.of(TARGET, Portal("10.9.1.2"), "iface0") == ()


def test_databases_that_disagree_are_a_problem(tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1")
    tree.record(TARGET, "10.9.1.2,3260,1", base="var/lib/iscsi", **{"node.startup": "automatic"})
    (problem,) = read_records(tree.root).problems
    assert problem.subject == f"{TARGET} at 10.9.1.2:3260"
    assert "manual" in problem.reason
    assert "automatic" in problem.reason


def test_no_password_is_taken_in(tree: KernelTree) -> None:
    secrets = {
        "node.session.auth.username": "harry",
        "node.session.auth.password": "sekretsekret1",
        "node.session.auth.password_in": "mutualsekret1",
    }
    tree.record(TARGET, "10.9.1.2,3260,1", **secrets)
    found = read_records(tree.root)
    assert found.nodes[0].chap_user == "harry"
    assert "sekret" not in repr(found)


def test_a_record_of_an_old_version_is_a_file_without_interfaces(tree: KernelTree) -> None:
    tree.write(f"etc/iscsi/nodes/{TARGET}/10.9.1.2,3260", "node.startup = onboot\n")
    (record,) = read_records(tree.root).nodes
    assert (record.interface, record.startup, record.portal.group_tag) == ("default", "onboot", None)


@pytest.mark.parametrize("name", ["nonsense", "10.9.1.2,x,1", "10.9.1.2", "256.1.1.1,3260,1", "10.9.1.2,99999,1"])
def test_a_folder_that_is_no_portal_is_a_problem(tree: KernelTree, name: str) -> None:
    tree.write(f"etc/iscsi/nodes/{TARGET}/{name}/default", "node.startup = manual\n")
    found = read_records(tree.root)
    assert found.nodes == ()
    assert "portal" in found.problems[0].reason


@pytest.mark.parametrize("text", ["", "\0" * 64, "# BEGIN RECORD 2.1.8\n"])
def test_a_torn_record_is_a_problem(tree: KernelTree, text: str) -> None:
    tree.write(f"etc/iscsi/nodes/{TARGET}/10.9.1.2,3260,1/default", text)
    found = read_records(tree.root)
    assert found.nodes[0].startup is None
    assert "torn" in found.problems[0].reason


def test_text_in_a_record_is_harmless() -> None:
    found = parse_settings("node.startup = \x1b[31mmanual\nnode.name=a b \n\xff = 3\n=\nx\n")
    assert found == {"node.startup": "[31mmanual", "node.name": "a b"}


def test_only_what_changed_is_read_again(tree: KernelTree) -> None:
    path = tree.record(TARGET, "10.9.1.2,3260,1")
    reader = RecordReader(tree.root)
    first = reader.read()
    assert reader.read() is first
    path.write_text("node.startup = automatic\n")
    assert reader.read().nodes[0].startup == "automatic"
    tree.record(TARGET, "10.9.2.2,3260,1")
    os.utime(tree.root / f"etc/iscsi/nodes/{TARGET}", ns=(1, 1))
    assert len(reader.read().nodes) == 2
    path.unlink()
    assert [str(each.portal) for each in reader.read().nodes] == ["10.9.2.2:3260"]


def test_discoveries(tree: KernelTree) -> None:
    tree.write("etc/iscsi/send_targets/10.9.1.2,3260/st_config", "discovery.sendtargets.use_discoveryd = Yes\n")
    tree.write("etc/iscsi/isns/10.9.1.9,3205/isns_config", "discovery.startup = manual\n")
    tree.link(f"etc/iscsi/send_targets/10.9.1.2,3260/{TARGET},10.9.1.2,3260,1,default", "/nowhere")
    found = read_records(tree.root).discoveries
    assert [(each.kind, each.address) for each in found] == [
        ("send_targets", "10.9.1.2,3260"),
        ("isns", "10.9.1.9,3205"),
    ]
    assert found[0].settings == {"discovery.sendtargets.use_discoveryd": "Yes"}


def test_the_firmwares_targets(tree: KernelTree) -> None:
    for name, text in (("target-name", TARGET), ("ip-addr", "10.9.1.2"), ("port", "3260"), ("chap-name", "boot")):
        tree.write(f"sys/firmware/ibft/target0/{name}", f"{text}\n")
    tree.write("sys/firmware/ibft/target1/flags", "0\n")
    tree.write("sys/firmware/ibft/initiator/initiator-name", "iqn.x\n")
    (found,) = read_ibft(tree.root)
    assert (found.name, found.portal, found.chap_user) == (TARGET, Portal("10.9.1.2"), "boot")


def test_a_host_without_open_iscsi_has_no_records(tmp_path: Path) -> None:
    found = read_records(tmp_path)
    assert (found.nodes, found.discoveries, found.boot, found.problems) == ((), (), (), ())


def test_records_that_only_root_may_read_are_a_problem(tree: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1")
    real = os.listdir

    def refuse(path: str) -> list[str]:
        if str(path).endswith("/nodes"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", refuse)
    found = read_records(tree.root)
    assert found.nodes == ()
    assert "only root" in found.problems[0].reason
