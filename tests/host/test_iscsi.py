"""The kernel's sessions and LUNs, on trees of old and new kernels, whole, torn and hostile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.host import attributes
from initiator.host.iscsi import SessionReader
from initiator.host.kernelview import identity, to_session
from initiator.model import Portal, SessionState
from initiator.names import clean
from tests.host.kerneltree import INITIATOR, KernelTree, big


@pytest.fixture(params=[(5, 10), (6, 12)], ids=["5.10", "6.12"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> KernelTree:
    tree = KernelTree(tmp_path / "host", request.param)
    tree.session(4, address="10.9.2.2", host=2, local="10.9.2.1", username="harry", username_in="tgt")
    tree.attribute("iscsi_session/session4/password", "sekretsekret1")
    tree.attribute("iscsi_connection/connection4:0/header_digest", "1")
    tree.lun(4, 0, host=2, kname="sda")
    tree.lun(4, 1, host=2, kname="sdb", dev="8:16")
    tree.lun(4, 2, host=2, kind=12, digits="")
    return tree


def test_every_field_of_a_session_is_read(tree: KernelTree) -> None:
    found = SessionReader(tree.root).read()
    (session,) = found.sessions
    assert (session.sid, session.host) == (4, 2)
    made = to_session(session, [lun.lun for lun in found.luns], ())
    assert made.id == "kernel:s:4"
    assert made.name == "two@10.9.2.2:3260"
    assert made.state is SessionState.LOGGED_IN
    assert made.target == "iqn.2026-11.io.mooring.lab:two"
    assert made.portal == Portal("10.9.2.2", 3260, 1)
    assert made.initiator == INITIATOR
    assert made.chap_user == "harry"
    assert made.luns == (0, 1, 2)
    assert made.negotiated == {
        "HeaderDigest": "CRC32C",
        "DataDigest": "None",
        "MaxRecvDataSegmentLength": "262144",
        "MaxXmitDataSegmentLength": "262144",
        "FirstBurstLength": "65536",
        "MaxBurstLength": "262144",
        "ImmediateData": "Yes",
        "InitialR2T": "Yes",
        "MaxOutstandingR2T": "1",
    }
    assert made.details["transport"] == "tcp"
    assert made.details["interface"] == "default"
    assert made.details["recovery_timeout_s"] == "120"
    assert made.details["chap_user_in"] == "tgt"
    assert made.details["ip_address"] == "10.9.2.1"
    assert made.details.get("target_state") == ("SCANNED" if tree.kernel >= (6, 2) else None)
    assert "net_device" not in made.details
    (connection,) = made.connections
    assert (connection.local_host, connection.local_port) == ("10.9.2.1", 47964)
    assert (connection.peer_host, connection.peer_port) == ("10.9.2.2", 3260)
    assert (connection.header_digest, connection.data_digest) == ("CRC32C", "None")


def test_no_password_gets_into_memory(tree: KernelTree) -> None:
    assert "sekret" not in repr(SessionReader(tree.root).read())


def test_luns_of_every_type_are_found_by_way_of_their_session(tree: KernelTree) -> None:
    luns = {lun.hctl: lun for lun in SessionReader(tree.root).read().luns}
    assert {hctl: lun.kname for hctl, lun in luns.items()} == {"2:0:0:0": "sda", "2:0:0:1": "sdb", "2:0:0:2": None}
    assert [identity(luns[f"2:0:0:{lun}"].fixed).kind for lun in range(3)] == ["disk", "disk", "controller"]
    assert identity(luns["2:0:0:1"].fixed).wwid == "naa.60014050000000000000000000000001"
    assert "iorequest_cnt" in luns["2:0:0:2"].changing


def test_a_scsi_disk_without_a_session_is_not_ours(tree: KernelTree) -> None:
    place = "sys/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/scsi_device/0:0:0:0"
    (tree.root / place).mkdir(parents=True)
    tree.link("sys/class/scsi_device/0:0:0:0", f"../../{place.removeprefix('sys/')}")
    assert "0:0:0:0" not in {lun.hctl for lun in SessionReader(tree.root).read().luns}


def test_a_host_without_iscsi_has_no_sessions_and_no_problem(tmp_path: Path) -> None:
    (tmp_path / "sys/class").mkdir(parents=True)
    found = SessionReader(tmp_path).read()
    assert (found.sessions, found.luns, found.problems) == ((), (), ())


@pytest.mark.parametrize(
    ("state", "expected"),
    [("FAILED", SessionState.FAILED), ("FREE", SessionState.FREE), ("\x1b[31mODD", SessionState.UNKNOWN)],
)
def test_a_state_comes_with_its_reason(tree: KernelTree, state: str, expected: SessionState) -> None:
    reader = SessionReader(tree.root)
    reader.read()
    tree.attribute("iscsi_session/session4/state", state)
    made = to_session(reader.read().sessions[0], (), ())
    assert made.state is expected
    assert made.reason is not None
    assert "\x1b" not in made.reason


def test_ipv6_is_shown_in_its_shortest_form(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(6, address="fd09:0001:0000:0000:0000:0000:0000:0002", persistent="fd09:1::2", local="FD09:1:0:0::1")
    made = to_session(SessionReader(tree.root).read().sessions[0], (), ())
    assert str(made.portal) == "[fd09:1::2]:3260"
    assert made.connections[0].local_host == "fd09:1::1"
    assert made.details["persistent_portal"] == "[fd09:1::2]:3260"


@pytest.mark.parametrize("transport", ["iser", "cxgb4i", "qla4xxx"])
def test_any_transport_shows(tmp_path: Path, transport: str) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(1, transport=transport)
    tree.session(2, host=1, target="iqn.2026-11.io.mooring.lab:other")
    sessions = SessionReader(tree.root).read().sessions
    assert [(each.sid, each.host) for each in sessions] == [(1, 1), (2, 1)]
    assert {to_session(each, (), ()).details["transport"] for each in sessions} == {transport}


def test_every_attribute_may_be_missing(tree: KernelTree) -> None:
    whole = SessionReader(tree.root).read()
    folder = tree.root / "sys/devices/platform/host2/session4"
    for name in sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    ):
        path = folder / name
        kept = path.read_bytes()
        path.unlink()
        found = SessionReader(tree.root).read()
        assert [each.sid for each in found.sessions] == [4], name
        assert len(found.luns) == len(whole.luns), name
        for session in found.sessions:
            assert to_session(session, (), ()).id == "kernel:s:4", name
        for lun in found.luns:
            assert identity(lun.fixed).kind, name
        path.write_bytes(kept)


def test_a_session_of_which_nothing_can_be_read_is_a_problem(tree: KernelTree) -> None:
    shutil.rmtree(tree.root / "sys/devices/platform/host2/session4/iscsi_session")
    found = SessionReader(tree.root).read()
    assert found.sessions == ()
    assert [(problem.source, problem.subject) for problem in found.problems] == [("iscsi", "session4")]


def test_a_session_that_ended_is_gone_without_a_problem(tree: KernelTree) -> None:
    reader = SessionReader(tree.root)
    assert len(reader.read().sessions) == 1
    shutil.rmtree(tree.root / "sys/devices/platform/host2/session4")
    for kind in ("iscsi_session/session4", "iscsi_connection/connection4:0"):
        (tree.root / "sys/class" / kind).unlink()
    found = reader.read()
    assert (found.sessions, found.luns, found.problems) == ((), (), ())


def test_unchanged_objects_are_the_same_ones(tree: KernelTree) -> None:
    reader = SessionReader(tree.root)
    first, second = reader.read(), reader.read()
    assert first.sessions[0] is second.sessions[0]
    assert all(one is two for one, two in zip(first.luns, second.luns, strict=True))
    assert reader.read(full=True).sessions[0] is first.sessions[0]


def test_a_lun_that_took_over_an_address_is_read_anew(tree: KernelTree) -> None:
    reader = SessionReader(tree.root)
    reader.read()
    tree.vanish("2:0:0:1", "sdb")
    shutil.rmtree(tree.root / "sys/devices/platform/host2/session4/target2:0:0/2:0:0:1")
    (tree.root / "sys/class/scsi_device/.spare").touch()  # so that the new link cannot get the old one's inode
    tree.lun(4, 1, host=2, kname="sdz", dev="8:99", digits="6001405ffffffffffffffffffffffff0")
    (lun,) = (lun for lun in reader.read().luns if lun.lun == 1)
    assert lun.kname == "sdz"
    assert identity(lun.fixed).wwid == "naa.6001405ffffffffffffffffffffffff0"


def test_of_many_luns_each_gets_its_turn(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = SessionReader(tree.root, turn=8)
    luns = reader.read().luns
    for lun in luns:
        tree.attribute(f"scsi_device/{lun.hctl}/device/ioerr_cnt", "0x7")
    readings = 0
    while any(lun.changing["ioerr_cnt"].strip() != b"0x7" for lun in reader.read().luns):
        readings += 1
        assert readings <= 5


def test_a_changed_session_has_its_luns_read_at_once(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 4, 40)
    reader = SessionReader(tree.root, turn=1)
    reader.read()
    tree.attribute("iscsi_session/session3/state", "FAILED")
    for lun in range(10):
        tree.attribute(f"scsi_device/3:0:0:{lun}/device/state", "blocked")
    assert {lun.state for lun in reader.read().luns if lun.sid == 3} == {"blocked"}


def test_folders_that_may_not_be_listed_are_a_problem(tree: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> dict[str, int]:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(attributes, "entries", refuse)
    found = SessionReader(tree.root).read()
    assert found.sessions == ()
    assert found.problems[0].reason == "may not be read"


@settings(max_examples=60)
@given(data=st.binary(max_size=80))
def test_whatever_an_attribute_holds_becomes_a_harmless_session(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "hostile"
    if not root.exists():
        tree = KernelTree(root)
        tree.session(1)
        tree.lun(1, 0, kname="sda")
    session = root / "sys/class/iscsi_session/session1"
    for name in ("targetname", "tpgt", "state", "username", "recovery_tmo", "initial_r2t"):
        (session / name).write_bytes(data)
    for name in ("address", "port", "local_port", "header_digest", "max_recv_dlength"):
        (root / "sys/class/iscsi_connection/connection1:0" / name).write_bytes(data)
    for name in ("inquiry", "wwid", "state", "ioerr_cnt", "type"):
        (root / "sys/class/scsi_device/1:0:0:0/device" / name).write_bytes(data)
    found = SessionReader(root).read()
    made = to_session(found.sessions[0], [lun.lun for lun in found.luns], ())
    shown = [made.name, made.target, made.portal.host, made.reason or "", made.chap_user or ""]
    shown += [*made.details.values(), *made.negotiated.values()]
    shown += [text for lun in found.luns for text in identity(lun.fixed) if text]
    assert all(clean(text) == text for text in shown), shown


def test_attributes_that_are_unset_read_as_none(tmp_path: Path) -> None:
    for name, text in (("a", "(null)\n"), ("b", "<NULL>\n"), ("c", "\n"), ("d", " x \n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    raw = attributes.read_raw(str(tmp_path), ("a", "b", "c", "d", "missing", "folder"))
    assert raw is not None
    assert attributes.texts(raw) == {"d": "x"}
    assert attributes.read_raw(str(tmp_path / "missing"), ("a",)) is None
    assert attributes.read_one(str(tmp_path / "missing")) is None
    assert attributes.number(b"0x1f\n", 16) == 31
    assert attributes.number(b"many\n") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_only_root_may_read_is_left_out(tree: KernelTree) -> None:
    (tree.root / "sys/class/iscsi_session/session4/username").chmod(0)
    assert "username" not in SessionReader(tree.root).read().sessions[0].attributes
