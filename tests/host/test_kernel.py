"""Sessions, disks, paths and maps joined: every combination of what SCSI, the map and multipathd say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from initiator import inventory, model
from initiator.host.blockreader import read_block
from initiator.host.iscsi import SessionReader
from initiator.host.kernel import KernelReader, KernelReport, read_kernel
from initiator.host.kernelsessions import SessionMaker
from initiator.host.links import read_links
from initiator.host.multipath import MapInfo, parse_dm_status
from initiator.host.nodes import Records
from initiator.model import (
    Access,
    DiskState,
    MapState,
    PathState,
    SessionState,
    Severity,
    Source,
    TcpInfo,
)
from tests.host.fakemultipathd import MAP, PATH, FakeMultipathd, maps_json
from tests.host.kerneltree import KernelTree, big, naa

WWID = naa(0)
TWO_PATHS = [{**PATH, "dev": "sda", "dev_t": "8:0"}, {**PATH, "dev": "sdb", "dev_t": "8:16"}]
LISTED = (
    f"1:0:0:0|sda|8:0|active|running|ready|mpatha|0|ok|3{WWID}\n"
    f"2:0:0:0|sdb|8:16|active|running|ready|mpatha|0|ok|3{WWID}\n"
)
ORPHANS = (
    f"1:0:0:0|sda|8:0|undef|unknown|undef|[orphan]|0|ok|3{WWID}\n"
    f"2:0:0:0|sdb|8:16|undef|unknown|undef|[orphan]|0|ok|3{WWID}\n"
)


@pytest.fixture(params=[(5, 10), (6, 12)], ids=["5.10", "6.12"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> KernelTree:
    """Two portals lead to one disk."""
    tree = KernelTree(tmp_path / "host", request.param)
    for sid, kname in ((1, "sda"), (2, "sdb")):
        tree.session(sid, address=f"10.9.{sid}.2", local=f"10.9.{sid}.1")
        tree.lun(sid, 0, kname=kname, dev=f"8:{sid * 16 - 16}", digits=WWID)
    return tree


@pytest.fixture
def joined(tree: KernelTree) -> KernelTree:
    """The same with a map over both."""
    tree.map("mpatha", f"3{WWID}", ("sda", "sdb"))
    return tree


@pytest.fixture
def daemon(tree: KernelTree) -> Iterator[FakeMultipathd]:
    fields = {**MAP, "uuid": f"3{WWID}"}
    with FakeMultipathd(tree.root, maps_json([fields], [[TWO_PATHS]]), LISTED) as daemon:
        yield daemon


Read = Callable[[], KernelReport]


def reader_of(
    tree: KernelTree, dm: Callable[[], Mapping[str, MapInfo] | None] = lambda: None, at: list[float] | None = None
) -> tuple[KernelReader, Read]:
    now = [1000.0] if at is None else at
    reader = KernelReader(tree.root, clock=lambda: now[0], dm_status=dm)
    return reader, lambda: reader.read(read_block(tree.root)[0])


def read(tree: KernelTree, dm: Callable[[], Mapping[str, MapInfo] | None] = lambda: None) -> KernelReport:
    reader, again = reader_of(tree, dm)
    with reader:
        return again()


def test_a_broken_connection_leads_where_the_kernel_would_send(tree: KernelTree) -> None:
    """It has no address any more; the cable that is pulled must not go out of sight with it."""
    found_links = [
        model.Link(f"link:eth{n}", f"eth{n}", model.LinkState.UP, addresses=(f"10.9.{n}.1",)) for n in (1, 2)
    ]
    for host in (tree.root / "sys/class/iscsi_host").iterdir():
        if (host / "ipaddress").read_text().strip() == "10.9.2.1":
            (host / "ipaddress").unlink()
    asked: list[str] = []

    def way(host: str) -> str | None:
        asked.append(host)
        return {"10.9.2.2": "eth2"}.get(host)

    found = SessionReader(tree.root).read()
    for maker, second in ((SessionMaker(way), "link:eth2"), (SessionMaker(), None)):
        made = maker.make(found, Records(), {}, found_links)
        assert [made[sid].link for sid in (1, 2)] == ["link:eth1", second]
    assert asked == ["10.9.2.2"]


def test_two_paths_under_a_map(joined: KernelTree, daemon: FakeMultipathd) -> None:
    report = read(joined)
    (disk,), (multipath,) = report.disks, report.maps
    assert report.problems == ()
    assert (disk.id, disk.name, disk.state, disk.source) == (
        f"kernel:d:naa.{WWID}",
        "mpatha",
        DiskState.ATTACHED,
        Source.KERNEL,
    )
    assert (disk.device, disk.dev, disk.wwid, disk.multipath) == ("/dev/mapper/mpatha", "252:0", f"naa.{WWID}", True)
    assert (disk.vendor, disk.product, disk.revision, disk.serial) == ("LIO-ORG", "FILEIO", "4.0", "moor0000")
    assert (disk.block_bytes, disk.write_cache, disk.thin, disk.read_only, disk.lun) == (512, True, False, False, 0)
    assert disk.designators == (f"naa.{WWID}", "t10.LIO-ORG%20FILEIO:moor")
    assert [path.id for path in report.paths] == list(disk.paths) == ["kernel:p:1:0:0:0", "kernel:p:2:0:0:0"]
    first = report.paths[0]
    assert (first.state, first.in_use, first.session, first.map) == (
        PathState.ACTIVE,
        True,
        "kernel:s:1",
        f"kernel:m:3{WWID}",
    )
    assert (first.device, first.access, first.group, first.priority, first.checker) == (
        "/dev/sda",
        Access.OPTIMIZED,
        1,
        50,
        "ready",
    )
    assert (first.reads, first.writes, first.errors, first.timeouts, first.in_flight) == (129, 1, 1, 0, 0)
    assert (first.read_bytes, first.write_bytes) == (5475 * 512, 8 * 512)
    assert (multipath.id, multipath.state, multipath.active, multipath.total) == (
        f"kernel:m:3{WWID}",
        MapState.OK,
        2,
        2,
    )
    assert (multipath.policy, multipath.queueing, multipath.answered_at) == ("service-time 0", "12 chk", None)
    assert multipath.details["features"] == "1 queue_if_no_path"


def test_one_path_without_multipath(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(1)
    tree.lun(1, 3, kname="sdc", dev="8:32", digits=WWID)
    report = read_kernel(tree.root)
    (disk,), (path,) = report.disks, report.paths
    assert (disk.name, disk.device, disk.state, disk.multipath) == ("sdc", "/dev/sdc", DiskState.ATTACHED, False)
    assert (path.state, path.in_use, path.map, path.lun) == (PathState.ACTIVE, True, None, 3)
    assert report.maps == ()


def test_a_lun_that_is_no_disk_is_listed(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(1)
    tree.lun(1, 0, kind=12)
    tree.lun(1, 1, kind=1, digits="")
    disks = {disk.kind: disk for disk in read(tree).disks}
    assert set(disks) == {"controller", "tape"}
    assert disks["tape"].id == "kernel:d:1:0:0:1"
    assert (disks["tape"].state, disks["tape"].device, disks["tape"].multipath) == (DiskState.AVAILABLE, None, False)


def test_two_devices_that_no_map_joins_are_one_disk(tree: KernelTree) -> None:
    (disk,) = read(tree).disks
    assert disk.device == "/dev/sda"
    assert len(disk.paths) == 2
    assert disk.reason == "several devices are this one disk and no map joins them: /dev/sda, /dev/sdb"
    tree.block("sdb1", "8:17", parent="sdb")
    (tree.root / "sys/class/block/sdb1").unlink()
    tree.block("dm-9", "252:9")
    tree.stack("dm-9", "sdb")
    assert read(tree).disks[0].device == "/dev/sdb"


@pytest.mark.parametrize(
    ("state", "session", "expected", "disk"),
    [
        ("offline", "LOGGED_IN", PathState.OFFLINE, DiskState.DEGRADED),
        ("transport-offline", "FREE", PathState.FAILED, DiskState.DEGRADED),
        ("blocked", "FAILED", PathState.FAILED, DiskState.DEGRADED),
        ("quiesce", "LOGGED_IN", PathState.FAILED, DiskState.DEGRADED),
        ("created-blocked", "FAILED", PathState.FAILED, DiskState.DEGRADED),
        ("cancel", "LOGGED_IN", PathState.OFFLINE, DiskState.DEGRADED),
        ("running", "FAILED", PathState.FAILED, DiskState.DEGRADED),
        ("running", "FREE", PathState.FAILED, DiskState.DEGRADED),
        ("running", "ODD", PathState.UNKNOWN, DiskState.DEGRADED),
        ("odd", "LOGGED_IN", PathState.UNKNOWN, DiskState.DEGRADED),
        ("", "LOGGED_IN", PathState.UNKNOWN, DiskState.DEGRADED),
        ("running", "LOGGED_IN", PathState.ACTIVE, DiskState.ATTACHED),
    ],
)
def test_what_scsi_says_of_a_path(
    joined: KernelTree, daemon: FakeMultipathd, state: str, session: str, expected: PathState, disk: DiskState
) -> None:
    joined.attribute("iscsi_session/session1/state", session)
    joined.attribute("scsi_device/1:0:0:0/device/state", state)
    report = read(joined)
    assert report.paths[0].state is expected
    assert (report.paths[0].reason is None) == (expected is PathState.ACTIVE)
    assert report.paths[1].state is PathState.ACTIVE
    assert report.disks[0].state is disk
    assert report.maps[0].active == (2 if expected is PathState.ACTIVE else 1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dm_st": "failed", "chk_st": "faulty"}, PathState.FAILED),
        ({"dm_st": "failed", "chk_st": "ready"}, PathState.FAILED),
        ({"dm_st": "active", "chk_st": "faulty"}, PathState.FAILED),
        ({"dm_st": "active", "chk_st": "i/o timeout"}, PathState.FAILED),
        ({"dm_st": "active", "chk_st": "i/o pending"}, PathState.ACTIVE),
        ({"dm_st": "active", "chk_st": "ghost"}, PathState.ACTIVE),
        ({"dm_st": "undef", "chk_st": "undef"}, PathState.UNKNOWN),
    ],
)
def test_what_multipathd_says_of_a_path(
    joined: KernelTree, daemon: FakeMultipathd, fields: dict[str, str], expected: PathState
) -> None:
    daemon.maps = maps_json([{**MAP, "uuid": f"3{WWID}"}], [[[{**TWO_PATHS[0], **fields}, TWO_PATHS[1]]]])
    report = read(joined)
    assert report.paths[0].state is expected
    assert report.paths[1].state is PathState.ACTIVE


def test_a_path_in_a_group_that_waits_is_standby(joined: KernelTree, daemon: FakeMultipathd) -> None:
    groups = [[[TWO_PATHS[0]], [TWO_PATHS[1]]]]
    daemon.maps = maps_json([{**MAP, "uuid": f"3{WWID}"}], groups, ["active", "enabled"])
    report = read(joined)
    assert [path.state for path in report.paths] == [PathState.ACTIVE, PathState.STANDBY]
    assert [path.in_use for path in report.paths] == [True, False]
    assert [path.group for path in report.paths] == [1, 2]
    assert (report.disks[0].state, report.maps[0].state) == (DiskState.ATTACHED, MapState.OK)


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ("active/non-optimized", PathState.ACTIVE),
        ("standby", PathState.STANDBY),
        ("transitioning", PathState.STANDBY),
        ("unavailable", PathState.FAILED),
        ("lba-dependent", PathState.ACTIVE),
    ],
)
def test_what_the_target_port_group_says(tree: KernelTree, access: str, expected: PathState) -> None:
    tree.attribute("scsi_device/1:0:0:0/device/access_state", access)
    assert read(tree).paths[0].state is expected


def test_no_path_left(joined: KernelTree, daemon: FakeMultipathd) -> None:
    for sid in (1, 2):
        joined.attribute(f"iscsi_session/session{sid}/state", "FAILED")
    report = read(joined)
    assert (report.disks[0].state, report.maps[0].state) == (DiskState.NO_PATH, MapState.NO_PATH)
    assert report.disks[0].reason is not None
    for sid in (1, 2):
        joined.attribute(f"iscsi_session/session{sid}/state", "LOGGED_IN")
        joined.attribute(f"scsi_device/{sid}:0:0:0/device/state", "offline")
    assert read(joined).disks[0].state is DiskState.OFFLINE


# --- multipathd is not there, or does not answer ---


def test_without_multipathd_the_device_mapper_is_asked(joined: KernelTree) -> None:
    status = "mpatha: 0 524288 multipath 2 0 1 0 2 1 A 0 1 2 8:0 F 1 0 1 E 0 1 2 8:16 A 0 0 1 \n"
    report = read(joined, lambda: {found.name: found for found in parse_dm_status(status)})
    assert [path.state for path in report.paths] == [PathState.FAILED, PathState.STANDBY]
    assert report.paths[0].failures == 1
    assert (report.maps[0].state, report.maps[0].queueing, report.maps[0].answered_at) == (
        MapState.DEGRADED,
        None,
        None,
    )
    assert report.problems == ()


def test_where_nobody_answers_the_paths_of_a_map_are_unknown(joined: KernelTree) -> None:
    report = read(joined)
    assert {path.state for path in report.paths} == {PathState.UNKNOWN}
    assert (report.disks[0].state, report.maps[0].state) == (DiskState.UNKNOWN, MapState.UNKNOWN)
    assert report.maps[0].answered_at is None


def test_a_failed_session_is_known_without_multipathd(joined: KernelTree) -> None:
    for sid in (1, 2):
        joined.attribute(f"iscsi_session/session{sid}/state", "FREE")
    assert read(joined).disks[0].state is DiskState.NO_PATH


def test_silence_keeps_the_last_answer_for_a_while_and_says_so(joined: KernelTree, daemon: FakeMultipathd) -> None:
    now = [1000.0]
    reader, again = reader_of(joined, at=now)
    with reader:
        assert again().problems == ()
        daemon.answer = daemon.silent
        now[0] += 5
        report = again()
        assert {path.state for path in report.paths} == {PathState.ACTIVE}
        assert report.maps[0].answered_at == 1000.0
        assert "5 s old" in report.problems[0].reason
        now[0] += 60
        assert {path.state for path in again().paths} == {PathState.UNKNOWN}


def test_a_map_that_only_multipathd_believes_in_does_not_exist(tree: KernelTree, daemon: FakeMultipathd) -> None:
    report = read(tree)
    assert report.maps == ()
    assert report.disks[0].multipath is None


def test_multipath_yes_no_unknown(tree: KernelTree) -> None:
    assert read(tree).disks[0].multipath is False
    tree.write("etc/multipath/wwids", f"# Valid WWIDs:\n/3{WWID}/\n")
    assert read(tree).disks[0].multipath is None
    (tree.root / "etc/multipath/wwids").unlink()
    with FakeMultipathd(tree.root, maps_json([], []), ORPHANS) as daemon:
        assert read(tree).disks[0].multipath is False
        daemon.paths = ORPHANS.replace("|ok|", "|new|")
        assert read(tree).disks[0].multipath is None
        daemon.answer = lambda command: b"garbage"
        assert read(tree).disks[0].multipath is None
    tree.map("mpatha", f"3{WWID}", ("sda", "sdb"))
    assert read(tree).disks[0].multipath is True


# --- what does not fit together ---


def test_a_path_of_another_disk_in_a_map(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    for sid, digits in ((1, naa(0)), (2, naa(7))):
        tree.session(sid)
        tree.lun(sid, 0, kname=f"sd{'ab'[sid - 1]}", dev=f"8:{sid * 16 - 16}", digits=digits)
    tree.map("mpatha", f"3{naa(0)}", ("sda", "sdb"))
    report = read(tree)
    (disk,) = report.disks
    assert disk.state is DiskState.UNKNOWN
    assert "sdb is in map mpatha but is another disk" in (disk.reason or "")
    assert report.problems[-1].source == "kernel"
    assert len(report.maps) == 1


def test_devices_of_different_sizes_are_not_one_disk(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    for sid in (1, 2):
        tree.session(sid)
        tree.lun(sid, 0, kname=f"sd{'ab'[sid - 1]}", dev=f"8:{sid * 16 - 16}", digits=WWID, size=sid << 28)
    report = read(tree)
    assert report.disks[0].state is DiskState.UNKNOWN
    assert "different sizes" in report.problems[-1].reason


def test_a_map_whose_paths_are_all_gone_is_left_over(tree: KernelTree) -> None:
    tree.map("mpathz", f"3{naa(9)}", ())
    report = read(tree)
    left = next(disk for disk in report.disks if disk.name == "mpathz")
    assert (left.state, left.paths, left.device) == (DiskState.DEAD, (), "/dev/mapper/mpathz")
    assert report.maps[0].state is MapState.NO_PATH


def test_maps_of_other_transports_are_not_ours(tree: KernelTree) -> None:
    tree.block("sdq", "65:0")
    tree.map("fibre", f"3{naa(8)}", ("sdq",))
    report = read(tree)
    assert [disk.name for disk in report.disks] == ["sda"]
    assert report.maps == ()


# --- time ---


def test_what_changes_is_noticed_and_what_does_not_stays_the_same_object(
    joined: KernelTree, daemon: FakeMultipathd
) -> None:
    now = [1000.0]
    reader, again = reader_of(joined, at=now)
    with reader:
        first = again()
        second = again()
        assert all(one is two for one, two in zip(first.paths, second.paths, strict=True))
        assert first.disks[0] is second.disks[0]
        assert first.sessions[0] is second.sessions[0]
        now[0] = 1010.0
        joined.attribute("iscsi_session/session1/state", "FAILED")
        third = again()
        assert (third.paths[0].since, third.paths[0].failures) == (1010.0, 1)
        assert third.paths[1] is first.paths[1]
        now[0] = 1020.0
        joined.attribute("iscsi_session/session1/state", "LOGGED_IN")
        fourth = again()
        assert (fourth.paths[0].since, fourth.paths[0].failures) == (1020.0, 1)


def test_latency_is_that_of_the_requests_in_between(joined: KernelTree, daemon: FakeMultipathd) -> None:
    reader, again = reader_of(joined)
    with reader:
        joined.counters("sda", reads=100, writes=0, busy_ms=500)
        assert again().paths[0].latency_us is None
        joined.counters("sda", reads=110, writes=10, busy_ms=530, in_flight=3)
        path = again().paths[0]
        assert (path.latency_us, path.in_flight, path.read_bytes) == (1500.0, 3, 110 * 4096)
        joined.counters("sda", reads=110, writes=10, busy_ms=530, in_flight=2)
        assert again().paths[0].latency_us == 1500.0


def test_a_session_knows_its_record_and_tcp(tree: KernelTree) -> None:
    tree.record("iqn.2026-11.io.mooring.lab:two", "10.9.1.2,3260,1", **{"node.startup": "automatic"})
    info = TcpInfo("established", rtt_us=7)
    with KernelReader(tree.root, tcp=lambda: {(47964, "10.9.1.2", 3260): info}, dm_status=lambda: None) as reader:
        first, second = reader.read(read_block(tree.root)[0]).sessions
    assert first.details["startup"] == "automatic"
    assert first.details["record"].endswith("10.9.1.2,3260,1/default")
    assert first.connections[0].tcp == info
    assert "startup" not in second.details
    assert second.connections[0].tcp is None


def test_a_session_from_the_firmware_is_marked(tree: KernelTree) -> None:
    tree.write("sys/firmware/ibft/target0/target-name", "iqn.2026-11.io.mooring.lab:two\n")
    assert read(tree).sessions[0].details["boot"] == "yes"


# --- one snapshot ---


def test_a_snapshot_has_links_volumes_and_both_kinds(joined: KernelTree, daemon: FakeMultipathd) -> None:
    joined.net("eth1")
    joined.net("eth2")
    joined.mounts("1 1 8:99 / / rw - ext4 /dev/root rw", "7 1 252:0 / /mnt/a rw - ext4 /dev/mapper/mpatha rw")
    addresses = {"eth1": ("10.9.1.1",), "eth2": ("10.9.2.1",)}
    with inventory.Inventory(joined.root, addresses=addresses) as host:
        before = host.read()
        assert [session.link for session in before.sessions] == ["link:eth1", "link:eth2"]
        assert [path.link for path in before.paths] == ["link:eth1", "link:eth2"]
        (disk,) = before.disks
        assert [volume.mountpoint for volume in before.volumes if volume.id in disk.volumes] == ["/mnt/a"]
        assert inventory.diff(before, host.read()) == ()
        joined.attribute("iscsi_session/session2/state", "FAILED")
        events = inventory.diff(before, host.read())
    assert [(event.kind, event.subject, event.severity) for event in events] == [
        ("state", "kernel:s:2", Severity.BAD),
        ("state", disk.id, Severity.WARN),
        ("state", "kernel:p:2:0:0:0", Severity.BAD),
    ]


def test_a_file_system_on_one_of_two_unjoined_devices_is_on_the_disk(tree: KernelTree) -> None:
    tree.mounts("1 1 8:99 / / rw - ext4 /dev/root rw", "7 1 8:16 / /mnt/b rw - ext4 /dev/sdb rw")
    snapshot = inventory.read(tree.root)
    (disk,) = snapshot.disks
    assert disk.device == "/dev/sda"
    assert [volume.mountpoint for volume in snapshot.volumes if disk.id in volume.disks] == ["/mnt/b"]


def test_sessions_that_cannot_be_read_have_not_vanished(joined: KernelTree, daemon: FakeMultipathd) -> None:
    with inventory.Inventory(joined.root, addresses={}) as host:
        before = host.read()
    problem = model.Problem("iscsi", "/sys/class/iscsi_session", "may not be read")
    after = dataclasses.replace(before, sessions=(), disks=(), paths=(), maps=(), problems=(problem,))
    assert inventory.diff(before, after) == ()
    gone = dataclasses.replace(after, problems=())
    assert {event.kind for event in inventory.diff(before, gone)} == {"vanished"}


def test_links_bound_by_name_win(tree: KernelTree) -> None:
    tree.net("eth7")
    tree.attribute("iscsi_host/host1/netdev", "eth7")
    found, _ = read_links(tree.root, {})
    with KernelReader(tree.root, dm_status=lambda: None) as reader:
        report = reader.read(read_block(tree.root)[0], found)
    assert [session.link for session in report.sessions] == ["link:eth7", None]
    tree.attribute("scsi_host/host1/proc_name", "iscsi_iser")
    with KernelReader(tree.root, dm_status=lambda: None) as reader:
        report = reader.read(read_block(tree.root)[0], found)
    assert [session.link for session in report.sessions] == [None, None], "iSER goes where the route leads"


def test_a_big_host_fits_together(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 8, 32)
    report = read(tree)
    assert (len(report.sessions), len(report.disks), len(report.paths), len(report.maps)) == (8, 8, 32, 8)
    assert {len(disk.paths) for disk in report.disks} == {4}
    assert all(session.details["startup"] == "manual" for session in report.sessions)
    assert {session.state for session in report.sessions} == {SessionState.LOGGED_IN}
