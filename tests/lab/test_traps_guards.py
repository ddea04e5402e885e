"""The traps in which a removal must not begin: each is staged on a real disk, named by a finding, and nothing is done.

`trap(…)` says which rows of TRAPS.md a test is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import disks
from tests.lab.disks import BOTH, EXT4, MIB, ONE, Ground, Stand
from tests.lab.machine import Machine

LOOK = "fsck.ext4 -fn $L >&2 && mount -o ro $L $M"
DISK = Stand("trap", ONE, EXT4.format("$D"), LOOK)
MAP = Stand("trapmap", BOTH, EXT4.format("$D"), LOOK)
GROUP = Stand(
    "trapvg", ONE,
    "truncate -s 64M /var/tmp/elsewhere && F=$(losetup -f --show /var/tmp/elsewhere) && pvcreate -q $D $F &&"
    " vgcreate -q vgtrap $D $F && lvcreate -q -Wn -n data -L 8M vgtrap && " + EXT4.format("/dev/vgtrap/data"), "true",
)  # fmt: skip
ARRAY = Stand(
    "trapmd", ONE,
    "mdadm -q --create /dev/md43 --run --level=1 --size=32M --assume-clean --raid-devices=2 $D missing && "
    + EXT4.format("/dev/md43"), "true",
)  # fmt: skip
TWICE = Stand("traptwice", ONE, "true", "true", size=16 * MIB)


@pytest.fixture(scope="module")
def ground(guest: Machine) -> Ground:
    made = Ground(guest, (DISK, MAP, GROUP, ARRAY, TWICE), 0x40)
    made.build(DISK)
    made.build(MAP)
    return made


@contextlib.contextmanager
def beside(guest: Machine, script: str) -> Iterator[None]:
    """Something that goes on in the guest meanwhile; it prints `ready` when it is so far."""
    script = script.replace("'", "'\\''")
    guest.run(f"rm -f /run/beside; setsid bash -c '{script}' >/run/beside 2>&1 </dev/null & echo $! >/run/beside.pid")
    guest.run("for n in $(seq 400); do grep -q ready /run/beside && exit 0; sleep 0.1; done; cat /run/beside; exit 1")
    try:
        yield
    finally:
        guest.run(
            "kill -9 -- -$(cat /run/beside.pid); while kill -0 $(cat /run/beside.pid) 2>/dev/null; do :; done; true"
        )


def blocks(ground: Ground, stand: Stand) -> dict[str, dict[str, Any]]:
    """Why a plan is blocked, by code; it has to be, and to say of each reason how to get out."""
    device = ground.device(stand)
    ran = ground.guest.warm({"do": "plan", "names": [device]})
    assert ran.code == 3, str(ran)
    found = [each for each in json.loads(ran.out)["findings"] if each["level"] == "block"]
    assert all(each["text"] and each["evidence"] and each["fix"] for each in found), found
    return {each["code"]: each for each in found}


def free(ground: Ground, stand: Stand) -> dict[str, dict[str, Any]]:
    """That nothing stands in the way (any more); gives the other findings by code."""
    ran = ground.guest.warm({"do": "plan", "names": [ground.device(stand)]})
    assert ran.code == 0, str(ran)
    return {each["code"]: each for each in json.loads(ran.out)["findings"]}


def still_mounted(ground: Ground, stand: Stand) -> None:
    ground.guest.run(f"findmnt -n {stand.mountpoint} && touch {stand.mountpoint}/alive && sync -f {stand.mountpoint}")


# --- who has it open ---


@pytest.mark.trap("T5", 76)
def test_a_program_that_has_the_device_open(ground: Ground) -> None:
    device = ground.device(DISK)
    with beside(ground.guest, f"exec 3<{device}; echo ready; sleep 1000"):
        found = blocks(ground, DISK)
        assert device in found["open"]["evidence"]
        assert set(found) == {"open"}
    still_mounted(ground, DISK)


@pytest.mark.trap("T3")
def test_a_program_that_has_the_generic_device_open(ground: Ground) -> None:
    generic = ground.guest.run(f"ls /sys/block/{ground.device(DISK)[5:]}/device/scsi_generic").out.strip()
    with beside(ground.guest, f"exec 3<>/dev/{generic}; echo ready; sleep 1000"):
        assert f"/dev/{generic}" in blocks(ground, DISK)["open"]["evidence"]


@pytest.mark.trap("T3")
def test_a_program_that_has_a_path_of_a_map_open(ground: Ground) -> None:
    path = ground.guest.run(f"ls /sys/block/$(basename $(readlink -f {ground.device(MAP)}))/slaves").out.split()[0]
    with beside(ground.guest, f"exec 3</dev/{path}; echo ready; sleep 1000"):
        assert f"/dev/{path}" in blocks(ground, MAP)["open"]["evidence"]
    still_mounted(ground, MAP)


@pytest.mark.trap("T4")
def test_a_loop_device_on_the_disk(ground: Ground) -> None:
    loop = ground.guest.run(f"losetup -rf --show {ground.device(DISK)}").out.strip()
    try:
        assert loop[5:] in json.dumps(list(blocks(ground, DISK).values()))
    finally:
        ground.guest.run(f"losetup -d {loop}")
    free(ground, DISK)


@pytest.mark.trap("T6", 78)
def test_a_mount_in_a_namespace_of_its_own(ground: Ground) -> None:
    device = ground.device(DISK)
    script = (
        f"mount --make-rprivate /; mkdir -p /run/hidden; mount {device} /run/hidden; umount {DISK.mountpoint}; "
        "echo ready; sleep 1000"
    )
    with beside(ground.guest, f'exec unshare -m --propagation private bash -c "{script}"'):
        found = blocks(ground, DISK)
        assert "/run/hidden" in found["mounted-elsewhere"]["text"]
        assert "nsenter" in found["mounted-elsewhere"]["fix"]
    free(ground, DISK)


@pytest.mark.trap("T7", 44, 77)
def test_a_file_system_that_was_unmounted_lazily(ground: Ground) -> None:
    device, place = ground.device(DISK), DISK.mountpoint
    with beside(ground.guest, f"exec 3>{place}/open; umount -l {place}; echo ready; sleep 1000"):
        assert ground.guest.run(f"grep -F ' {place} ' /proc/self/mountinfo", check=False).code == 1
        found = blocks(ground, DISK)
        assert "mounted-invisibly" in found
    ground.wait(f"[ ! -e /sys/fs/ext4/{device[5:]} ]")
    ground.guest.run(f"mount {device} {place}")


# --- what stands on it ---


@pytest.mark.trap("T17", 31)
@pytest.mark.long
def test_a_volume_group_that_reaches_another_disk(ground: Ground) -> None:
    ground.build(GROUP)
    found = blocks(ground, GROUP)
    assert found["vg-spans"]["subject"] == "vgtrap"
    still_mounted(ground, GROUP)
    ground.guest.run(
        f"umount {GROUP.mountpoint}; vgchange -q -an vgtrap; losetup -d $(losetup -nO NAME -j /var/tmp/elsewhere)"
    )
    ground.forget(GROUP)


@pytest.mark.trap("T18", 82)
def test_an_array_that_is_degraded(ground: Ground) -> None:
    ground.build(ARRAY)
    assert blocks(ground, ARRAY)["md-degraded"]["subject"] == "md43"
    still_mounted(ground, ARRAY)
    ground.guest.run(f"umount {ARRAY.mountpoint}; mdadm -q --stop /dev/md43")
    ground.forget(ARRAY)


# --- sessions, daemons ---


@pytest.mark.trap("T14", 22, 28, 57)
def test_two_sessions_over_one_portal(ground: Ground) -> None:
    node = f"iscsiadm -m node -T {TWICE.target}"
    ground.guest.run(f"{node} -o update -n node.session.nr_sessions -v 2; {node} --login")
    ground.wait(f"[ $(grep -l '{TWICE.target}$' /sys/class/iscsi_session/*/targetname | wc -l) = 2 ]")
    ground.guest.run("udevadm settle -t 240")
    ground.wait(f"[ $({ground.names(TWICE)} | wc -l) = 2 ]")
    assert "session-twice" in blocks(ground, TWICE)
    ground.guest.run(f"multipath -f {ground.device(TWICE)}; {node} --logout")


@pytest.mark.trap("T21", 50)
def test_without_iscsid_nobody_could_log_out(ground: Ground) -> None:
    ground.guest.run("systemctl stop iscsid.socket iscsid")
    try:
        assert "systemctl start iscsid" in blocks(ground, DISK)["iscsid-dead"]["fix"]
    finally:
        ground.guest.run("systemctl start iscsid.socket iscsid")
        # a new iscsid sets up every connection anew, one after the other
        settled = "iscsiadm -m session -P 1 | grep -c 'iscsid Session State: NO CHANGE'"
        ground.wait(f"[ $({settled}) = $(ls /sys/class/iscsi_session | wc -l) ]", seconds=240)
    free(ground, DISK)
    still_mounted(ground, DISK)


@pytest.mark.trap("T11", 27, 70)
def test_a_multipathd_that_says_nothing_is_no_multipathd_that_says_no(ground: Ground) -> None:
    pid = ground.guest.run("pidof multipathd").out.strip()
    ground.guest.run(f"kill -STOP {pid}")
    try:
        assert set(blocks(ground, MAP)) <= {"multipathd-silent", "multipath-unknown", "unknown"}
    finally:
        ground.guest.run(f"kill -CONT {pid}; multipathd show daemon")
    free(ground, MAP)


@pytest.mark.trap("T1", "T15", 5, 54, 58, 72)
def test_a_map_that_queues_without_a_path(ground: Ground) -> None:
    """What was written waits in the map: to flush it would hang, to take it away would lose it."""
    name, place = ground.device(MAP)[12:], MAP.mountpoint
    group = f"/sys/kernel/config/target/iscsi/{MAP.target}/tpgt_1"
    ground.guest.run(f"dmsetup message {name} 0 queue_if_no_path; echo 0 >{group}/enable")
    try:
        ground.wait(f"multipathd show map {name} format '%N' | grep -q 0")
        ground.guest.run(f"echo queued >{place}/queued; setsid sync -f {place} >/dev/null 2>&1 </dev/null &")
        found = blocks(ground, MAP)
        assert {"queueing", "session-failed", "path-not-running"} <= set(found), found
    finally:
        ground.guest.run(f"echo 1 >{group}/enable")
    ground.wait(f"multipathd show map {name} format '%N' | grep -q 2")
    ground.guest.run(f"sync -f {place} && grep queued {place}/queued; multipathd restorequeueing map {name}")
    ground.wait_for_sessions(MAP)
    assert "queueing" not in free(ground, MAP)


# --- what is told of it ---


@pytest.mark.trap("T20", 79)
@pytest.mark.long
def test_an_automount_point_is_told(ground: Ground) -> None:
    device, place = ground.device(DISK), DISK.mountpoint
    unit = ground.guest.run(f"systemd-escape -p {place}").out.strip()
    ground.guest.run(
        f"umount {place}; cd /run/systemd/system;"
        f" printf '[Mount]\\nWhat={device}\\nWhere={place}\\n' >'{unit}.mount' &&"
        f" printf '[Automount]\\nWhere={place}\\n' >'{unit}.automount' && systemctl daemon-reload &&"
        f" systemctl start '{unit}.automount' && ls {place}/ >/dev/null"
    )
    try:
        assert place in json.dumps(free(ground, DISK)["automount"])
    finally:
        ground.guest.run(
            f"systemctl stop '{unit}.automount' '{unit}.mount'; rm '/run/systemd/system/{unit}.'*;"
            f" systemctl daemon-reload; mount {device} {place}"
        )


@pytest.mark.trap("T8", 55, 65)
@pytest.mark.long
def test_a_reading_while_sessions_come_and_go(ground: Ground) -> None:
    node = f"iscsiadm -m node -T {TWICE.target}"
    ground.guest.run(f"{node} -o update -n node.session.nr_sessions -v 1")
    script = f"echo ready; while :; do {node} --login; {node} --logout; done"
    with beside(ground.guest, script):
        for _ in range(5):
            ran = ground.guest.warm({"do": "mooring", "words": ["list", "--json"]})
            assert ran.code == 0, str(ran)
            assert DISK.target in {session["target"] for session in json.loads(ran.out)["sessions"]}
    ground.guest.run(f"{node} --logout", check=False)


@pytest.mark.trap("T13", "T24")
@pytest.mark.long
def test_a_unit_that_is_no_disk_and_a_map_whose_vendor_has_a_quote(ground: Ground) -> None:
    """tgt has a controller as LUN 0 of every target: it is nobody's disk, and goes with the session.

    multipathd does not escape strings: with a quote in one, its JSON is none.
    """
    guest, target = ground.guest, f"{disks.NAME}:tgt"
    admin = "tgtadm -C 9 --lld iscsi"
    guest.run(
        "mkdir -p /var/run/tgtd; truncate -s 32M /lab/tgt.img; nsenter --net=/run/netns/san setsid tgtd -f -C 9"
        " --iscsi portal=10.9.1.2:3281,portal=10.9.2.2:3281 >/run/tgtd.log 2>&1 </dev/null & "
        "for n in $(seq 100); do tgtadm -C 9 --op show --mode sys >/dev/null 2>&1 && break; sleep 0.2; done; "
        f"{admin} --op new --mode target --tid 1 -T {target} && "
        f"{admin} --op new --mode logicalunit --tid 1 --lun 1 -b /lab/tgt.img && "
        f"{admin} --op update --mode logicalunit --tid 1 --lun 1 --params vendor_id='Q\"uo' && "
        f"{admin} --op bind --mode target --tid 1 -I ALL && "
        # tgt tells of the portal alone that it is asked through
        "iscsiadm -m discovery -t st -p 10.9.1.2:3281 >/dev/null && "
        "iscsiadm -m discovery -t st -p 10.9.2.2:3281 >/dev/null && "
        f"iscsiadm -m node -T {target} --login >/dev/null"
    )
    sessions = f"$(grep -lx {target} /sys/class/iscsi_session/*/targetname | sed s/targetname/device/)"
    ground.wait(f"[ $(for s in {sessions}; do ls -d $s/target*/*:1/block/*/holders/dm-*; done | wc -l) = 2 ]")
    guest.run("udevadm settle -t 240")
    assert guest.run(f"for s in {sessions}; do cat $s/target*/*:0/type; done").out == "12\n12\n"
    kname = guest.run(f"for s in {sessions}; do ls $s/target*/*:1/block/*/holders; done").out.split()[0]
    device = f"/dev/mapper/{guest.run(f'cat /sys/block/{kname}/dm/name').out.strip()}"
    with pytest.raises(json.JSONDecodeError):
        json.loads(guest.run("multipathd show maps json").out)
    guest.run(f"mkfs.ext4 -q {device} && mkdir -p /mnt/tgt && mount {device} /mnt/tgt && echo kept >/mnt/tgt/file")
    found = json.loads(guest.warm({"do": "mooring", "words": ["list", "--json"]}).out)
    (disk,) = (disk for disk in found["disks"] if disk["target"] == target and disk["kind"] == "disk")
    assert (disk["vendor"], disk["device"], len(disk["paths"])) == ('Q"uo', device, 2)
    ran = ground.remove(device)
    assert ran.code == 0, str(ran)
    assert guest.run(f"grep -lx {target} /sys/class/iscsi_session/*/targetname", check=False).out == ""
    assert guest.run("mount -o ro,loop /lab/tgt.img /mnt/tgt && cat /mnt/tgt/file; umount /mnt/tgt").out == "kept\n"
