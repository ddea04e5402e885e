"""Removals of more, or less, than one disk of the real kernel: two disks of a group, a path, a session, a target."""

from __future__ import annotations

import json

import pytest

from tests.lab.disks import BOTH, EXT4, Ground, Stand
from tests.lab.machine import Machine, Ran

TWO = Stand("scope-two", BOTH, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M", luns=2)
MAP = Stand("scope-map", BOTH, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M")
SPREAD = Stand(
    "scope-vg", BOTH,
    "pvcreate -q -y $D $E && vgcreate -q vgspread $D $E && lvcreate -q -Wn -n data -l 100%VG -i 2 vgspread && "
    + EXT4.format("/dev/vgspread/data"),
    "true", luns=2, above="vgspread-",
)  # fmt: skip


@pytest.fixture(scope="module")
def ground(guest: Machine) -> Ground:
    return Ground(guest, (TWO, MAP, SPREAD), first=0x400)


def remove(ground: Ground, *names: str, confirm: str | None = None) -> Ran:
    typed = confirm or " ".join(names)
    return ground.guest.mooring(
        "remove", *names, "--confirm", typed, "--watch", "1", "--json", seconds=300, check=False
    )


def maps_of(ground: Ground, stand: Stand) -> list[str]:
    """Names of the maps over a target's disks."""
    return [device.rpartition("/")[2] for device in ground.devices(stand)]


@pytest.mark.long
def test_a_target_is_drained_of_all_its_disks_in_one_plan(ground: Ground) -> None:
    ground.build(TWO)
    checksum = ground.fill(TWO)
    ran = ground.guest.mooring(
        "drain", TWO.target, "--confirm", TWO.target, "--watch", "1", "--json", seconds=300, check=False
    )
    assert ran.code == 0, str(ran)
    assert f"No session of this host to {TWO.target} remains." in json.loads(ran.out)["reason"]
    assert ground.left(TWO) == ""
    assert ground.on_the_target(TWO) == checksum


@pytest.mark.long
def test_a_path_leaves_its_map_under_load_and_undo_brings_it_back(ground: Ground) -> None:
    device = ground.build(MAP)
    checksum = ground.fill(MAP)
    before = ground.guest.run(ground.names(MAP)).out.split()
    path = before[-1]
    # what was attached only just now has to last first: the plan says so until it has
    ground.wait(f"/opt/mooring/bin/mooring plan /dev/{path} >/dev/null 2>&1", seconds=90)
    made = json.loads(ground.guest.mooring("plan", f"/dev/{path}", "--json", check=False).out)
    assert not made["blocked"], made["findings"]
    assert [disk["whole"] for disk in made["disks"]] == [False]
    name = made["name"]
    load = f"dd if=/dev/zero of={MAP.mountpoint}/load bs=64k count=800 oflag=dsync status=none; echo $? > /run/load"
    ground.guest.run(f"rm -f /run/load; (setsid sh -c '{load}' >/dev/null 2>&1 </dev/null &)")
    ran = remove(ground, f"/dev/{path}", confirm=name)
    assert ran.code == 0, str(ran)
    assert ground.guest.run(ground.names(MAP)).out.split() == [kname for kname in before if kname != path]
    assert ground.guest.run(f"findmnt -n -o SOURCE {MAP.mountpoint}").out.strip() == device
    ground.wait("[ -s /run/load ]")
    assert ground.guest.run("cat /run/load").out.strip() == "0"
    ran = ground.guest.mooring("undo", json.loads(ran.out)["journal"], seconds=300, check=False)
    assert ran.code == 0, str(ran)
    back = ground.guest.run(f"for n in $({ground.names(MAP)}); do ls /sys/block/$n/holders; done").out.split()
    assert len(back) == 2
    assert len(set(back)) == 1
    assert ground.guest.run(f"sha256sum < {MAP.mountpoint}/file").out.split()[0] == checksum
    startups = ground.guest.run(f"iscsiadm -m node -T {MAP.target} | grep '^node.startup'").out.splitlines()
    assert set(startups) == {"node.startup = automatic"}
    assert remove(ground, device.rpartition("/")[2]).code == 0
    assert ground.left(MAP) == ""
    assert ground.on_the_target(MAP) == checksum


@pytest.mark.long
def test_a_group_over_two_disks_goes_with_both_and_comes_back_with_both(ground: Ground) -> None:
    ground.build(SPREAD)
    checksum = ground.fill(SPREAD)
    one, two = maps_of(ground, SPREAD)
    alone = json.loads(ground.guest.mooring("plan", one, "--json", check=False).out)
    fixes = [finding["fix"] for finding in alone["findings"] if finding["code"] == "vg-spans"]
    assert fixes
    assert "mooring remove" in fixes[0]
    ran = remove(ground, one, two)
    assert ran.code == 0, str(ran)
    assert ground.left(SPREAD) == ""
    ran = ground.guest.mooring("undo", json.loads(ran.out)["journal"], seconds=300, check=False)
    assert ran.code == 0, str(ran)
    assert ground.guest.run(f"sha256sum < {SPREAD.mountpoint}/file").out.split()[0] == checksum
    one, two = maps_of(ground, SPREAD)
    assert remove(ground, one, two).code == 0
    assert ground.left(SPREAD) == ""


@pytest.mark.long
def test_a_session_without_a_disk_is_logged_out(ground: Ground) -> None:
    node = f"iscsiadm -m node -T {MAP.target}"
    ground.guest.run(f"{node} --login >/dev/null")
    ground.wait(f"[ $({ground.names(MAP)} | wc -l) = 2 ]")
    ground.guest.run(
        f"udevadm settle -t 240; multipath -f {ground.device(MAP)}; "
        f"for n in $({ground.names(MAP)}); do echo 1 > /sys/block/$n/device/delete; done"
    )
    ran = ground.guest.mooring("drain", MAP.target, "--confirm", MAP.target, "--watch", "1", seconds=200, check=False)
    assert ran.code == 0, str(ran)
    assert ground.left(MAP) == ""


@pytest.mark.long
def test_a_disk_whose_target_is_gone_is_given_up_with_words_of_its_own(ground: Ground) -> None:
    node = f"iscsiadm -m node -T {MAP.target} -o update"
    for setting, value in (
        ("node.session.timeo.replacement_timeout", 5),
        ("node.conn[0].timeo.noop_out_interval", 2),
        ("node.conn[0].timeo.noop_out_timeout", 2),
    ):
        ground.guest.run(f"{node} -n '{setting}' -v {value}")
    name = ground.build(MAP).rpartition("/")[2]
    ground.fill(MAP)
    ground.guest.run("sh /opt/lab/cables.sh pull 1; sh /opt/lab/cables.sh pull 2")
    try:
        states = f"for n in $({ground.names(MAP)}); do cat /sys/block/$n/device/state; done | sort -u"
        ground.wait(f'[ "$({states})" = transport-offline ]', seconds=120)
        # multipathd lets it queue for some more looks; a plan of that time would not be true any more when it is run
        ground.wait(f"! dmsetup table {name} | grep -q queue_if_no_path")
        ordinary = json.loads(ground.guest.mooring("plan", name, "--json", check=False).out)
        assert ordinary["blocked"]
        words = ("remove", name, "--abandon", "--watch", "1", "--json", "--confirm")
        assert ground.guest.mooring(*words, name, seconds=200, check=False).code == 2
        ran = ground.guest.mooring(*words, f"lose {name}", seconds=300, check=False)
        assert ran.code == 0, str(ran)
        assert ground.left(MAP) == ""
    finally:
        ground.guest.run("sh /opt/lab/cables.sh plug 1; sh /opt/lab/cables.sh plug 2")
