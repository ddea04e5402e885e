"""What a range writes down, what it knows of its processes, and what it may delete."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.engine.client import EngineClient
from initiator.errors import BadInputError, MooringError, RefusedError
from initiator.model import Portal
from initiator.practice import config as configs
from initiator.practice import control, making, remains, volumes
from initiator.practice.config import ChapConfig
from initiator.practice.process import TargetProcess, listeners, listeners_on
from initiator.practice.record import Kind, Record, Recorder, RecordError, Thing, boot_id
from tests.practice.conftest import build

# --- configuration ------------------------------------------------------------------------------------------


def test_a_configuration_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = configs.standard(tmp_path, (Portal("127.0.0.1", 3260, 1),), tmp_path / "sock", "x" * 24)
    made.save(tmp_path / "range.json")
    assert configs.load(tmp_path / "range.json") == made
    assert (tmp_path / "range.json").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_in_no_repr() -> None:
    assert "hunter2" not in repr(ChapConfig("keeper", "hunter2hunter2"))


def test_each_range_has_identities_of_its_own(tmp_path: Path) -> None:
    def wwids() -> set[str]:
        made = configs.standard(tmp_path, (Portal("127.0.0.1", 3260, 1),), tmp_path / "sock", "x" * 24)
        return {disk.wwid for disk in made.disks}

    first, second = wwids(), wwids()
    assert len(first) == 3
    assert not first & second


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("disks"),
        lambda d: d["disks"][0].update(size_bytes=1000),
        lambda d: d["disks"][0].update(block_bytes=520),
        lambda d: d["disks"][0].update(uuid="none"),
        lambda d: d["targets"][0]["luns"].update({"0": "nothing"}),
        lambda d: d["targets"][0]["luns"].update({"16384": "data"}),
        lambda d: d["portals"][0].update(group_tag=2),
        lambda d: d.update(portals=[]),
        lambda d: d.update(targets=7),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, change: object) -> None:
    build(tmp_path).save(tmp_path / "range.json")
    document = json.loads((tmp_path / "range.json").read_text())
    change(document)  # type: ignore[operator]
    (tmp_path / "range.json").write_text(json.dumps(document))
    with pytest.raises(BadInputError):
        configs.load(tmp_path / "range.json")


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("c") / "range.json"
    path.write_bytes(data)
    with pytest.raises(BadInputError):
        configs.load(path)


# --- record -------------------------------------------------------------------------------------------------


def test_each_thing_stands_there_before_and_after(tmp_path: Path) -> None:
    book = Recorder(tmp_path / "practice.json")
    assert book.load() is None
    book.begin(tmp_path / "range", tmp_path / "range/range.json")
    book.add(Kind.ATTACH, "data", wwid="naa.3", lun=0)
    found = book.load()
    assert found is not None
    assert (found.boot, found.folder) == (boot_id(), str(tmp_path / "range"))
    assert found.find(Kind.ATTACH, "data") == Thing(Kind.ATTACH, "data", False, {"wwid": "naa.3", "lun": 0})
    book.done(Kind.ATTACH, "data", device="/dev/loop9")
    book.add(Kind.PROCESS, "target")
    book.add(Kind.PROCESS, "target")
    found = book.load()
    assert found is not None
    attach = found.find(Kind.ATTACH, "data")
    assert attach is not None
    assert (attach.done, attach.text("device"), attach.text("lun"), attach.text("nothing")) == (
        True,
        "/dev/loop9",
        "0",
        "",
    )
    assert len(found.of(Kind.PROCESS)) == 1
    book.forget(Kind.PROCESS, "target")
    assert [thing.kind for thing in (book.load() or found).things] == [Kind.ATTACH]
    book.end()
    assert book.load() is None


def test_a_cut_record_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    book = Recorder(tmp_path / "practice.json")
    book.begin(tmp_path, tmp_path / "range.json")
    whole = book.path.read_bytes()
    for length in range(0, len(whole), 7):
        book.path.write_bytes(whole[:length])
        with pytest.raises(RecordError):
            book.load()
    book.path.write_text(json.dumps({**json.loads(whole), "schema": 99}))
    with pytest.raises(RecordError, match="another version"):
        book.load()


def test_a_write_that_was_killed_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Recorder(tmp_path / "practice.json")
    book.begin(tmp_path, tmp_path / "range.json")
    before = book.load()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        book.add(Kind.FOLDER, "x")
    monkeypatch.undo()
    assert book.load() == before


# --- processes ----------------------------------------------------------------------------------------------


def test_the_listeners_share_one_port() -> None:
    with listeners() as (sockets, portals):
        assert [portal.host for portal in portals] == ["127.0.0.1", "127.0.0.2"]
        assert [portal.group_tag for portal in portals] == [1, 2]
        assert len({portal.port for portal in portals}) == 1
        for opened, portal in zip(sockets, portals, strict=True):
            assert opened.getsockname() == (portal.host, portal.port)
        with listeners() as (_, others):
            assert others[0].port != portals[0].port
        with pytest.raises(MooringError), listeners_on(portals):
            pass


def start(folder: Path) -> tuple[TargetProcess, Recorder, Path]:
    """A target process with its record."""
    with listeners() as (sockets, portals):
        made = configs.standard(folder, portals, folder / "sock", "x" * 24)
        made.save(folder / "range.json")
        book = Recorder(folder / "practice.json")
        book.begin(folder, folder / "range.json")
        book.add(Kind.PROCESS, "target")
        process = TargetProcess.start(folder / "range.json", folder / "target.log", sockets)
    process.wait_ready(folder / "sock")
    return process, book, folder / "sock"


def loaded(book: Recorder) -> Record:
    found = book.load()
    assert found is not None
    return found


def test_a_process_is_known_again_and_ends(own_folders: Path) -> None:
    process, book, sock = start(own_folders)
    try:
        assert TargetProcess.of(loaded(book)) == process  # found by its command line: the id is not written down yet
        book.done(Kind.PROCESS, "target", pid=process.pid, started=process.started)
        assert TargetProcess.of(loaded(book)) == process
        assert os.getsid(process.pid) == process.pid
        assert control.ask(sock, "status")["pid"] == process.pid
    finally:
        process.stop(sock)
    assert TargetProcess.of(loaded(book)) is None
    assert not sock.exists()


def test_a_stuck_process_is_killed(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, book, sock = start(own_folders)
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr("initiator.practice.process._STOP_S", 1.0)
    process.stop(sock)
    assert TargetProcess.of(loaded(book)) is None


def test_somebody_elses_process_is_never_ours(own_folders: Path) -> None:
    book = Recorder(own_folders / "practice.json")
    book.begin(own_folders, own_folders / "range.json")
    book.add(Kind.PROCESS, "target")
    book.done(Kind.PROCESS, "target", pid=os.getpid(), started=1)
    assert TargetProcess.of(loaded(book)) is None
    assert TargetProcess(os.getpid(), 1).wait(0.0)  # the id is in use, the start time is another: ours has ended


def test_a_target_that_cannot_start_says_why(own_folders: Path) -> None:
    (own_folders / "range.json").write_text("{}")
    process = TargetProcess.start(own_folders / "range.json", own_folders / "target.log", [])
    with pytest.raises(MooringError, match="its log says why"):
        process.wait_ready(own_folders / "sock")
    assert "not a practice configuration" in (own_folders / "target.log").read_text()


def test_two_targets_on_one_file(own_folders: Path) -> None:
    process, _, sock = start(own_folders)
    try:
        argv = [sys.executable, "-m", "initiator.practice.target", "--config", str(own_folders / "range.json")]
        second = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith("practice target:")
    finally:
        process.stop(sock)


# --- folders and files --------------------------------------------------------------------------------------


def test_only_recorded_files_are_deleted(own_folders: Path) -> None:
    book = Recorder(own_folders / "practice.json")
    base = making.make_folder(book, own_folders / "range")
    for name in ("data.img", "stranger"):
        (base / name).write_text(name)
    book.add(Kind.FILE, str(base / "data.img"))
    book.add(Kind.FOLDER, str(base / "volumes"))
    book.add(Kind.FOLDER, str(base / "volumes/data"))
    book.add(Kind.FOLDER, str(base / "volumes/vault"))
    (base / "volumes/data").mkdir(parents=True)
    (base / "volumes/vault").mkdir()
    kept = remains.remove_files(loaded(book))
    assert [path.name for path in base.iterdir()] == ["stranger"]
    assert kept == (f"{base}: Directory not empty",)
    (base / "stranger").unlink()
    assert remains.remove_files(loaded(book)) == ()
    assert not base.exists()


def test_a_folder_that_was_there_stays(own_folders: Path) -> None:
    book = Recorder(own_folders / "practice.json")
    (own_folders / "mine").mkdir()
    making.make_folder(book, own_folders / "mine")
    assert remains.remove_files(loaded(book)) == ()
    assert (own_folders / "mine").is_dir()


def test_a_folder_with_something_in_it_is_refused(own_folders: Path) -> None:
    book = Recorder(own_folders / "practice.json")
    (own_folders / "full").mkdir()
    (own_folders / "full/file").touch()
    for wanted in (own_folders / "full", own_folders / "full/file", own_folders / "no/such/parent"):
        with pytest.raises(RefusedError):
            making.make_folder(book, wanted)


def test_leftovers_are_named_one_by_one(own_folders: Path) -> None:
    book = Recorder(own_folders / "practice.json")
    base = making.make_folder(book, own_folders / "range")
    (base / "data.img").touch()
    book.add(Kind.FILE, str(base / "data.img"))
    book.add(Kind.ATTACH, "data", wwid="naa.3000000000000001", target="t", lun=0)
    book.done(Kind.ATTACH, "data", device="/dev/no-such-loop", dev="7:99", diskseq=1, backing="/nowhere/data")
    book.add(Kind.MOUNT, str(base / "volumes/data"), device="/dev/no-such-loop", dev="7:99", disk="data")
    found = remains.find(loaded(book), EngineClient())
    assert [(item.kind, item.name) for item in found] == [
        (Kind.FILE, str(base / "data.img")),
        (Kind.FOLDER, str(base)),
    ]
    assert all(item.text.endswith("is still there") for item in found)


def test_a_mount_inside_the_folder_stops_the_clean_up(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(str(own_folders / "range"), "", 0.0, boot_id())
    mounted = remains.Mounted(str(own_folders / "range/volumes/data"), "7:1", "/dev/loop1")
    monkeypatch.setattr(remains, "mounts", lambda: (mounted,))
    with pytest.raises(RefusedError, match="/dev/loop1 is still mounted"):
        remains.refuse_mounted(record)
    near = Record(str(own_folders / "range/vol"), "", 0.0, boot_id())
    remains.refuse_mounted(near)
    assert near.things == ()


def test_mountinfo_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    line = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext4 /dev/loop\0403 rw"
    (tmp_path / "proc/self/mountinfo").write_text(line + "\n")
    assert remains.mounts(tmp_path) == (remains.Mounted("/mnt/a b", "98:0", "/dev/loop 3"),)


# --- who a device is ----------------------------------------------------------------------------------------


def test_a_loop_device_is_described_from_sysfs(tmp_path: Path) -> None:
    folder = tmp_path / "sys/block/loop3/loop"
    folder.mkdir(parents=True)
    (folder / "backing_file").write_text("/run/x/data\n")
    for name, value in (("dev", "7:3\n"), ("diskseq", "44\n"), ("size", "2048\n")):
        (folder.parent / name).write_text(value)
    device = volumes.describe("/dev/loop3", tmp_path)
    assert (device.dev, device.diskseq, device.backing, device.size_bytes) == ("7:3", 44, "/run/x/data", 1 << 20)
    with pytest.raises(RefusedError):
        volumes.describe("/dev/loop4", tmp_path)


def test_a_token_is_written_into_fresh_files_only(tmp_path: Path) -> None:
    disk = build(tmp_path).disks[0]
    Path(disk.path).write_bytes(bytes(8192))
    volumes.write_token(disk)
    assert Path(disk.path).read_bytes()[: volumes.TOKEN_BYTES] == volumes.token(disk)
    with pytest.raises(RefusedError, match="not a fresh backing file"):
        volumes.write_token(disk)


def test_no_file_system_on_a_device_that_is_not_proved(tmp_path: Path) -> None:
    disk = build(tmp_path).disks[0]
    other = tmp_path / "other"
    other.write_bytes(bytes(8192))
    device = volumes.Device(str(other), "7:3", 1, "/run/x", 8192)
    with pytest.raises(RefusedError, match="no file system is made"):
        volumes.prove(disk, device)
    other.write_bytes(volumes.token(disk) + bytes(4096))
    volumes.prove(disk, device)


def test_a_port_that_is_taken_is_not_used() -> None:
    with listeners() as (_, portals), socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((portals[0].host, portals[0].port))
