"""What changed, in sentences."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.changes import diff
from initiator.model import (
    Access,
    Disk,
    DiskState,
    Event,
    Link,
    LinkState,
    Map,
    MapState,
    Path,
    PathState,
    Portal,
    Problem,
    Session,
    SessionState,
    Severity,
    Snapshot,
    Source,
    Volume,
    VolumeState,
)

NOTE, WARN, BAD = Severity.NOTE, Severity.WARN, Severity.BAD
SESSION = Session(
    "s1", "harbour@192.0.2.1", SessionState.LOGGED_IN, Source.ENGINE, "iqn.2001-04.x:h", Portal("192.0.2.1")
)
DISK = Disk("d1", "data", DiskState.ATTACHED, Source.ENGINE, None, 100, device="/dev/loop3", read_only=False)
PATH = Path("p1", "harbour@192.0.2.1", PathState.ACTIVE, "d1", "s1", access=Access.OPTIMIZED)
MAP = Map("m1", "data", MapState.OK, Source.ENGINE, None, "/dev/loop3", "d1")
VOLUME = Volume("volume:30", "harbour", VolumeState.MOUNTED, "/data", "ext4", "/dev/loop3", "7:3", disks=("d1",))
LINK = Link("link:eth0", "eth0", LinkState.UP, carrier=True, carrier_changes=2, speed_mbps=1000, mtu=1500)
OLD = Snapshot(
    "host",
    1.0,
    sessions=(SESSION,),
    disks=(DISK,),
    paths=(PATH,),
    maps=(MAP,),
    volumes=(VOLUME,),
    links=(LINK,),
    engine="running",
)


def changed(**groups: Any) -> list[tuple[str, str, str, Severity]]:
    new = dataclasses.replace(OLD, taken_at=2.0, **groups)
    events = diff(OLD, new)
    assert all(event.at == 2.0 for event in events)
    return [(event.kind, event.subject, event.text, event.severity) for event in events]


def test_nothing_has_changed() -> None:
    assert changed() == []


def test_what_only_counts_is_no_event() -> None:
    busy = dataclasses.replace(PATH, latency_us=9.0, reads=5, in_flight=3)
    full = dataclasses.replace(VOLUME, used_bytes=7)
    assert changed(paths=(busy,), volumes=(full,), links=(dataclasses.replace(LINK, rx_bytes=1),)) == []


@pytest.mark.parametrize(
    ("fields", "text", "severity"),
    [
        ({"state": PathState.FAILED, "reason": "no answer for 0.6 s"}, "has failed: no answer for 0.6 s", BAD),
        ({"state": PathState.FAILED}, "has failed.", BAD),
        ({"state": PathState.STANDBY}, "is standby.", NOTE),
        ({"state": PathState.OFFLINE, "reason": "removal"}, "is offline: removal", NOTE),
        ({"state": PathState.UNKNOWN}, "is unknown.", WARN),
        ({"access": Access.NON_OPTIMIZED}, "is now active/non-optimized, it was active/optimized.", NOTE),
    ],
)
def test_a_path_changes(fields: dict[str, Any], text: str, severity: Severity) -> None:
    found = changed(paths=(dataclasses.replace(PATH, **fields),))
    assert found == [("state", "p1", f"Path harbour@192.0.2.1 to disk data {text}", severity)]


def test_a_path_comes_back() -> None:
    failed = dataclasses.replace(OLD, paths=(dataclasses.replace(PATH, state=PathState.FAILED),))
    (event,) = diff(failed, OLD)
    assert (event.text, event.severity) == ("Path harbour@192.0.2.1 to disk data has come back: active.", NOTE)


def test_a_path_vanishes_from_a_disk_that_stays_or_goes() -> None:
    assert changed(paths=()) == [("vanished", "p1", "Path harbour@192.0.2.1 is gone.", WARN)]
    gone = changed(paths=(), disks=(dataclasses.replace(DISK, id="d2"),))
    assert ("vanished", "p1", "Path harbour@192.0.2.1 is gone.", NOTE) in gone


@pytest.mark.parametrize(
    ("fields", "text", "severity"),
    [
        ({"state": DiskState.DEGRADED}, "is degraded.", WARN),
        ({"state": DiskState.NO_PATH, "reason": "all cables"}, "is no-path: all cables", BAD),
        ({"state": DiskState.DEAD}, "is dead.", BAD),
        ({"state": DiskState.OFFLINE}, "is offline.", NOTE),
        ({"size_bytes": 200}, "has changed its size from 100 to 200 bytes.", WARN),
        ({"read_only": True}, "has become read-only.", BAD),
    ],
)
def test_a_disk_changes(fields: dict[str, Any], text: str, severity: Severity) -> None:
    assert changed(disks=(dataclasses.replace(DISK, **fields),)) == [("state", "d1", f"Disk data {text}", severity)]


def test_a_disk_that_is_looked_into_is_read_only_on_purpose() -> None:
    there = dataclasses.replace(VOLUME, id="volume:77", mountpoint="/run/mooring/look/data", look=True)
    found = changed(disks=(dataclasses.replace(DISK, read_only=True),), volumes=(*OLD.volumes, there))
    assert ("state", "d1", "Disk data is taken for read-only while somebody looks into it.", NOTE) in found
    assert not [each for each in found if each[3] is BAD]


@pytest.mark.parametrize(
    ("state", "severity"), [(DiskState.ATTACHED, BAD), (DiskState.OFFLINE, NOTE), (DiskState.AVAILABLE, NOTE)]
)
def test_a_disk_vanishes_well_only_after_it_was_offline(state: DiskState, severity: Severity) -> None:
    old = dataclasses.replace(OLD, disks=(dataclasses.replace(DISK, state=state),))
    (event,) = diff(old, dataclasses.replace(old, disks=()))
    assert (event.kind, event.text, event.severity) == ("vanished", "Disk data is gone.", severity)


@pytest.mark.parametrize(
    ("fields", "text", "severity"),
    [
        ({"state": SessionState.FAILED, "reason": "silence"}, "Session harbour@192.0.2.1 is failed: silence", BAD),
        ({"state": SessionState.FREE}, "Session harbour@192.0.2.1 is free.", BAD),
        ({"state": SessionState.LOGGED_OUT}, "Session harbour@192.0.2.1 is logged-out.", NOTE),
        ({"reconnects": 1}, "Session harbour@192.0.2.1 was lost and has come back.", WARN),
    ],
)
def test_a_session_changes(fields: dict[str, Any], text: str, severity: Severity) -> None:
    assert changed(sessions=(dataclasses.replace(SESSION, **fields),)) == [("state", "s1", text, severity)]


def test_things_appear() -> None:
    empty = dataclasses.replace(OLD, sessions=(), disks=(), paths=(), maps=(), volumes=(), links=())
    texts = [event.text for event in diff(empty, OLD)]
    assert texts == [
        "Session harbour@192.0.2.1 to iqn.2001-04.x:h has appeared: logged-in.",
        "Disk data has appeared: attached.",
        "Path harbour@192.0.2.1 to disk data has appeared: active.",
        "Volume harbour at /data was mounted.",
        "Link eth0 has appeared: up.",
    ]


def test_volumes_come_go_and_become_read_only() -> None:
    assert changed(volumes=()) == [("vanished", "volume:30", "Volume harbour at /data was unmounted.", NOTE)]
    broken = dataclasses.replace(VOLUME, state=VolumeState.READ_ONLY)
    assert changed(volumes=(broken,)) == [("state", "volume:30", "Volume harbour at /data has become read-only.", BAD)]
    elsewhere = dataclasses.replace(VOLUME, id="volume:9:30", namespace="9")
    assert changed(volumes=(VOLUME, elsewhere)) == [
        ("appeared", "volume:9:30", "Volume harbour at /data in namespace 9 was mounted.", NOTE)
    ]


def test_a_mount_id_that_the_kernel_gave_out_again_is_another_mount() -> None:
    other = dataclasses.replace(VOLUME, name="/logs", mountpoint="/logs", dev="7:4")
    assert changed(volumes=(other,)) == [
        ("appeared", "volume:30", "Volume /logs was mounted.", NOTE),
        ("vanished", "volume:30", "Volume harbour at /data was unmounted.", NOTE),
    ]


@pytest.mark.parametrize(
    ("fields", "text", "severity"),
    [
        ({"state": LinkState.DOWN, "carrier": False, "carrier_changes": 3}, "is down: no carrier.", BAD),
        ({"state": LinkState.DOWN, "carrier": None}, "is down: switched off.", BAD),
        ({"speed_mbps": 100}, "has changed its speed from 1000 to 100.", WARN),
        ({"mtu": 9000}, "has changed its MTU from 1500 to 9000.", WARN),
        ({"carrier_changes": 4}, "has lost its carrier and found it again.", WARN),
    ],
)
def test_a_link_changes(fields: dict[str, Any], text: str, severity: Severity) -> None:
    assert changed(links=(dataclasses.replace(LINK, **fields),)) == [
        ("state", "link:eth0", f"Link eth0 {text}", severity)
    ]


def test_a_map_is_suspended() -> None:
    suspended = dataclasses.replace(MAP, state=MapState.SUSPENDED)
    assert changed(maps=(suspended,)) == [("state", "m1", "Map data is suspended.", WARN)]


def test_a_silent_engine_has_not_taken_its_disks_along() -> None:
    silent = dataclasses.replace(
        OLD,
        engine="the engine did not answer",
        problems=(Problem("engine", "engine", "the engine did not answer"),),
        sessions=(),
        disks=(),
        paths=(),
        maps=(),
    )
    (event,) = diff(OLD, silent)
    assert (event.kind, event.severity) == ("engine", BAD)
    assert [event.text for event in diff(silent, OLD)] == ["The engine answers."]


def test_an_engine_that_ended_has() -> None:
    gone = dataclasses.replace(OLD, engine="not running", sessions=(), disks=(), paths=(), maps=())
    events = diff(OLD, gone)
    assert events[0].text == "The engine has ended, and disks were attached to it."
    assert {event.kind for event in events[1:]} == {"vanished"}


def test_mounts_that_could_not_be_read_have_not_vanished() -> None:
    assert changed(volumes=(), problems=(Problem("mounts", "x", "refused"),)) == []


def test_texts_from_outside_are_cleaned() -> None:
    evil = dataclasses.replace(PATH, state=PathState.FAILED, reason="\x1b[2J\u202egone")
    (event,) = diff(OLD, dataclasses.replace(OLD, paths=(evil,)))
    assert isinstance(event, Event)
    assert "\x1b" not in event.text
    assert "\u202e" not in event.text


def test_volumes_that_stand_on_no_disk_of_a_session_are_nobody_s_news() -> None:
    own = dataclasses.replace(VOLUME, id="volume:99", mountpoint="/tmp/x", device="tmpfs", disks=())
    assert changed(volumes=(VOLUME, own)) == []
