"""fstab, iscsid.conf, the initiator's name, and secrets that are looked at and never given away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from initiator.host import hostfiles
from initiator.host.hostfiles import FstabEntry
from initiator.host.nodes import read_records
from tests.host.kerneltree import KernelTree

TARGET = "iqn.2026-11.io.mooring.lab:two"
AUTH = "node.session.auth"
SECRET = "sekret-of-harry-1"


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    return KernelTree(tmp_path / "host")


def test_fstab(tree: KernelTree) -> None:
    tree.write(
        "etc/fstab",
        "# comment\n\nLABEL=a\\040b /mnt/a\\040b ext4 _netdev,nofail 0 2\n/dev/sda1\t/boot\tvfat\nbroken line\n",
    )
    assert hostfiles.read_fstab(tree.root) == (
        FstabEntry("LABEL=a b", "/mnt/a b", "ext4", ("_netdev", "nofail")),
        FstabEntry("/dev/sda1", "/boot", "vfat", ("defaults",)),
    )


def test_a_host_without_any_of_the_files(tree: KernelTree) -> None:
    assert hostfiles.read_fstab(tree.root) == ()
    assert hostfiles.read_daemon_settings(tree.root) == {}
    assert hostfiles.read_initiator(tree.root) is None
    assert hostfiles.read_secrets(read_records(tree.root), tree.root) == ()


def test_the_daemons_settings_have_no_secret_in_them(tree: KernelTree) -> None:
    tree.write("etc/iscsi/iscsid.conf", f"iscsid.safe_logout = Yes\n#iscsid.x = 1\n{AUTH}.password = {SECRET}\n")
    assert hostfiles.read_daemon_settings(tree.root) == {"iscsid.safe_logout": "Yes"}


def test_the_initiators_name_as_it_stands_there(tree: KernelTree) -> None:
    name = tree.write("etc/iscsi/initiatorname.iscsi", "## generated\nInitiatorName=IQN.2026-11.io.mooring:Host\n")
    machine = tree.write("etc/machine-id", "0123\n")
    os.utime(name, (1000, 1000))
    os.utime(machine, (5000, 5000))
    found = hostfiles.read_initiator(tree.root)
    assert found == hostfiles.InitiatorFile("IQN.2026-11.io.mooring:Host", 1000.0, 5000.0)
    machine.unlink()
    assert hostfiles.read_initiator(tree.root) == hostfiles.InitiatorFile("IQN.2026-11.io.mooring:Host", 1000.0, None)


def test_secrets_are_compared_and_go_nowhere(tree: KernelTree) -> None:
    both = {f"{AUTH}.password": SECRET, f"{AUTH}.password_in": SECRET}
    one = tree.record(TARGET, "10.9.1.2,3260,1", **both)
    two = tree.record(TARGET, "10.9.2.2,3260,1", **both | {f"{AUTH}.password_in": "another-secret-2"})
    tree.record(TARGET, "10.9.3.2,3260,1")
    one.chmod(0o644)
    two.chmod(0o600)
    found = hostfiles.read_secrets(read_records(tree.root), tree.root)
    assert [(each.path, each.mode, each.same_both_ways) for each in found] == [
        (str(one), 0o644, (f"{AUTH}.password",)),
        (str(two), 0o600, ()),
    ]
    assert SECRET not in repr(found)


def test_a_discovery_record_has_a_secret_too(tree: KernelTree) -> None:
    config = tree.write(
        "etc/iscsi/send_targets/10.9.1.2,3260/st_config", f"discovery.sendtargets.auth.password = {SECRET}\n"
    )
    (found,) = hostfiles.read_secrets(read_records(tree.root), tree.root)
    assert found.path == str(config)
