"""One snapshot of host and engine."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initiator import inventory, model
from initiator.engine.report import EngineReport
from initiator.errors import MooringError
from initiator.host import volumes
from initiator.inventory import Inventory
from initiator.model import (
    Connection,
    Disk,
    DiskState,
    Event,
    PathState,
    Portal,
    Session,
    SessionState,
    Snapshot,
    Source,
)
from tests.host.conftest import need_root
from tests.host.hanging import HangingMount
from tests.host.tree import Tree

TARGET = "iqn.2001-04.com.example:harbour"


class FakeEngine:
    """Answers as it is told."""

    def __init__(self, runtime: Path, answer: EngineReport | MooringError) -> None:
        self.runtime = runtime
        self.answer = answer

    def snapshot(self) -> EngineReport:
        if isinstance(self.answer, MooringError):
            raise self.answer
        return self.answer


def session(number: int, local: str | None) -> Session:
    connection = Connection(f"c{number}", "0", "up", local_host=local)
    portal = Portal(f"192.0.2.{number}")
    state = SessionState.LOGGED_IN
    return Session(f"s{number}", f"harbour@{portal}", state, Source.ENGINE, TARGET, portal, connections=(connection,))


def path(number: int) -> model.Path:
    return model.Path(f"p{number}", f"p{number}", PathState.ACTIVE, "d1", f"s{number}")


DISK = Disk("d1", "data", DiskState.ATTACHED, Source.ENGINE, "naa.6", 1 << 30, device="/dev/loop3", paths=("p1", "p2"))
REPORT = EngineReport(
    taken_at=1.0,
    sessions=(session(2, "127.0.0.2"), session(1, "198.51.100.1")),
    disks=(DISK,),
    paths=(path(2), path(1)),
    events=(Event(1.0, "engine", "s1", "hello"),),
)


@pytest.fixture
def host(tmp_path: Path) -> Tree:
    """loop3 is the engine's disk: partitioned, the partition encrypted, a file system on that, and a loop inside."""
    tree = Tree(tmp_path / "host")
    tree.block("sda", "8:0")
    tree.block("loop3", "7:3", diskseq=9, attributes={"loop/backing_file": "/run/mooring/disk"})
    tree.block("loop3p1", "259:0", parent="loop3")
    tree.block("dm-0", "253:0", attributes={"dm/uuid": "CRYPT-x", "dm/name": "secret"})
    tree.stack("dm-0", "loop3p1")
    tree.block("loop4", "7:4", attributes={"loop/backing_file": "/data/image"})
    tree.mounts(
        "20 1 8:0 / / rw - ext4 /dev/sda rw",
        "30 20 253:0 / /data rw - ext4 /dev/mapper/secret rw",
        "31 30 0:40 / /data/tmp rw - tmpfs tmpfs rw",
        "32 20 7:4 / /inner ro - ext4 /dev/loop4 ro",
        "33 20 0:5 / /proc rw - proc proc rw",
    )
    tree.write("run/udev/data/b253:0", "E:ID_FS_LABEL_ENC=ledger\nE:ID_FS_UUID=0f1e\n")
    tree.net("lo", kind=772)
    tree.net("eth0")
    return tree


def read(host: Tree, answer: EngineReport | MooringError, tmp_path: Path) -> Snapshot:
    addresses = {"lo": ("127.0.0.1",), "eth0": ("198.51.100.1",)}
    with Inventory(host.root, FakeEngine(tmp_path, answer), clock=lambda: 77.0, addresses=addresses) as reader:
        return reader.read()


def test_a_disk_gets_its_device_and_the_volumes_on_it(host: Tree, tmp_path: Path) -> None:
    snapshot = read(host, REPORT, tmp_path)
    assert snapshot.problems == ()
    assert (snapshot.engine, snapshot.taken_at, snapshot.practice) == ("running", 77.0, False)
    (disk,) = snapshot.disks
    assert (disk.dev, disk.diskseq, disk.state) == ("7:3", 9, DiskState.ATTACHED)
    found = {volume.mountpoint: volume for volume in snapshot.volumes}
    assert set(found) == {"/", "/data", "/data/tmp", "/inner"}
    assert found["/data"].disks == found["/inner"].disks == ("d1",)
    assert found["/"].disks == found["/data/tmp"].disks == ()
    assert (found["/data"].name, found["/data"].label, found["/data"].uuid) == ("ledger", "ledger", "0f1e")
    assert disk.volumes == ("volume:30", "volume:32")


def test_what_is_only_looked_into_is_told_by_its_place(
    host: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORING_RUNTIME_DIR", "/run/elsewhere")
    host.mounts(
        "20 1 8:0 / / rw - ext4 /dev/sda rw",
        "30 20 253:0 / /run/elsewhere/look/ledger ro - ext4 /dev/mapper/secret ro",
        "32 20 7:4 / /run/elsewhere/look ro - ext4 /dev/loop4 ro",
    )
    found = {volume.mountpoint: volume.look for volume in read(host, REPORT, tmp_path).volumes}
    assert found == {"/": False, "/run/elsewhere/look": False, "/run/elsewhere/look/ledger": True}


def test_sessions_and_paths_know_their_link(host: Tree, tmp_path: Path) -> None:
    snapshot = read(host, REPORT, tmp_path)
    assert [(item.id, item.link) for item in snapshot.sessions] == [("s1", "link:eth0"), ("s2", "link:lo")]
    assert [(item.id, item.link) for item in snapshot.paths] == [("p1", "link:eth0"), ("p2", "link:lo")]
    lost = dataclasses.replace(
        REPORT, sessions=(session(1, None), dataclasses.replace(session(2, None), connections=()))
    )
    assert [item.link for item in read(host, lost, tmp_path).paths] == [None, None]


def test_everything_is_in_the_order_of_its_id(host: Tree, tmp_path: Path) -> None:
    snapshot = read(host, REPORT, tmp_path)
    for group in (snapshot.sessions, snapshot.disks, snapshot.paths, snapshot.volumes, snapshot.links):
        ids = [item.id for item in group]
        assert ids == sorted(ids)
        assert len(ids) == len(set(ids))


def test_the_engines_events_are_kept_beside_the_snapshot(host: Tree, tmp_path: Path) -> None:
    reader = Inventory(host.root, FakeEngine(tmp_path, REPORT), addresses={})
    reader.read()
    assert reader.events == REPORT.events
    reader.close()


@pytest.mark.parametrize(
    ("error", "engine", "problems"),
    [
        (MooringError("the engine is not running", code="not-running"), "not running", 0),
        (MooringError("no answer within 5 s", code="outcome-unknown"), "no answer within 5 s", 1),
    ],
)
def test_an_engine_that_does_not_answer(
    host: Tree, tmp_path: Path, error: MooringError, engine: str, problems: int
) -> None:
    snapshot = read(host, error, tmp_path)
    assert (snapshot.engine, snapshot.disks) == (engine, ())
    assert [problem.source for problem in snapshot.problems] == ["engine"] * problems
    assert len(snapshot.volumes) == 3, "the host is there all the same; what hangs below no disk of ours is left out"


def test_without_an_engine_nobody_is_asked(host: Tree) -> None:
    with Inventory(host.root, addresses={}) as reader:
        assert reader.read().engine == "not asked"


@pytest.mark.parametrize("fields", [{"device": "/dev/loop9"}, {"diskseq": 8}])
def test_a_disk_whose_device_is_not_there_or_not_its_own(host: Tree, tmp_path: Path, fields: dict[str, object]) -> None:
    claimed = dataclasses.replace(DISK, **fields)  # type: ignore[arg-type]
    snapshot = read(host, dataclasses.replace(REPORT, disks=(claimed,)), tmp_path)
    (disk,) = snapshot.disks
    assert (disk.state, disk.dev, disk.volumes) == (DiskState.UNKNOWN, None, ())
    assert disk.reason is not None
    assert [(problem.source, problem.subject) for problem in snapshot.problems] == [("block", "data")]


def test_an_offline_disk_without_a_device_is_as_it_should_be(host: Tree, tmp_path: Path) -> None:
    offline = dataclasses.replace(DISK, state=DiskState.OFFLINE, device="/dev/loop9")
    snapshot = read(host, dataclasses.replace(REPORT, disks=(offline,)), tmp_path)
    assert (snapshot.disks[0].state, snapshot.disks[0].dev, snapshot.problems) == (DiskState.OFFLINE, None, ())


def test_a_practice_range_is_known_by_its_record(host: Tree, tmp_path: Path) -> None:
    (tmp_path / "practice.json").write_text("{}")
    assert read(host, REPORT, tmp_path).practice


def test_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "Sizes", functools.partial(volumes.Sizes, deadline=10.0))
    snapshot = inventory.read()
    assert snapshot.host == socket.gethostname()
    (root,) = [volume for volume in snapshot.volumes if volume.mountpoint == "/" and volume.namespace is None]
    assert root.size_bytes is not None
    assert root.used_bytes is not None
    assert 0 < root.used_bytes <= root.size_bytes
    assert any(link.kind == "loopback" for link in snapshot.links)
    assert snapshot.block


@pytest.mark.root
def test_a_dead_volume_does_not_hold_up_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_root()
    monkeypatch.setattr(volumes, "Sizes", functools.partial(volumes.Sizes, deadline=4.0))
    real = volumes.relevant
    # a FUSE file system without a device is no volume; here it stands for one whose disk has died
    monkeypatch.setattr(
        volumes,
        "relevant",
        lambda rows, behind, ours: (
            *real(rows, behind, ours),
            *(dataclasses.replace(row, fstype="fuseblk") for row in rows if row.fstype == "fuse.hanging"),
        ),
    )
    with HangingMount(tmp_path), Inventory() as reader:
        for _ in range(2):
            started = time.monotonic()
            snapshot = reader.read()
            assert time.monotonic() - started < 5
            (dead,) = [volume for volume in snapshot.volumes if volume.mountpoint == str(tmp_path)]
            assert dead.size_bytes is None
            assert ("sizes", str(tmp_path)) in {(problem.source, problem.subject) for problem in snapshot.problems}
            (root,) = [volume for volume in snapshot.volumes if volume.mountpoint == "/" and not volume.namespace]
            assert root.size_bytes is not None


def test_the_short_way_imports_nothing_heavy() -> None:
    code = "import sys, json, initiator.inventory; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    modules = set(json.loads(done.stdout))
    assert not modules & {"asyncio", "pyudev", "pyroute2", "textual", "psutil", "ctypes"}
