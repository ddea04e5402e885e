"""The traps that spring while a removal runs: it is stopped at one of its records, the trap is set, and it goes on.

Each ends in a state that is told and can be resumed or undone, and no byte is missing.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.disks import BOTH, EXT4, ONE, Ground, Stand
from tests.lab.machine import Machine, Ran

LOOK = "fsck.ext4 -fn $L >&2 && mount -o ro $L $M"
DISK = Stand("run", ONE, EXT4.format("$D"), LOOK)
MAP = Stand("runmap", BOTH, EXT4.format("$D"), LOOK)


@pytest.fixture(scope="module")
def ground(guest: Machine) -> Iterator[Ground]:
    """Nothing of it stays for the scenarios of other files in the same boot."""
    made = Ground(guest, (DISK, MAP), 0x80)
    yield made
    for stand in (DISK, MAP):
        if made.left(stand):
            made.clear(stand)


@dataclasses.dataclass(slots=True)
class Removal:
    """One that is under way."""

    ground: Ground
    stand: Stand
    plan: dict[str, Any]
    checksum: str
    pid: int = 0

    @property
    def journal(self) -> str:
        journal: str = self.plan["journal"]
        return journal

    @property
    def group(self) -> str:
        return f"/sys/kernel/config/target/iscsi/{self.stand.target}/tpgt_1"

    def stop_at(self, step: str, mark: str, when: str = "after", mode: str = "run") -> None:
        """Run until this record."""
        order = {"do": mode, "journal": self.journal, "pause": [step, mark, when]}
        ran = self.ground.guest.warm(order)
        assert ran.stopped is not None, f"{ran}\n{self.told()}"
        self.pid = ran.stopped

    def go_on(self) -> dict[str, Any]:
        """To its end; gives the last record's data with its text."""
        guest = self.ground.guest
        guest.run(f"kill -CONT {self.pid}")
        self.ground.wait(f"[ -e /run/warm/{self.pid} ]", seconds=300)
        return self.end()

    def end(self) -> dict[str, Any]:
        """The last word."""
        record = json.loads(self.ground.guest.run(f"tail -n 1 {self.journal}").out)
        assert record["kind"] == "end", self.told()
        return {"text": record["text"], **record["data"]}

    def die_at(self, step: str, mark: str, when: str = "after", mode: str = "run") -> None:
        ran = self.ground.guest.warm({"do": mode, "journal": self.journal, "die": [step, mark, when]})
        assert ran.code == -9, f"{ran}\n{self.told()}"

    def order(self, mode: str, **more: Any) -> Ran:
        return self.ground.guest.warm({"do": mode, "journal": self.journal, **more})

    def resumed(self) -> None:
        """It can be gone on with, to the end; every byte is on the target."""
        ran = self.order("resume")
        assert ran.code == 0, f"{ran}\n{self.told()}"
        assert self.ground.left(self.stand) == ""
        assert self.ground.on_the_target(self.stand) == self.checksum

    def undone(self) -> None:
        """It can be taken back; every byte is there, and then it can be removed as ever."""
        ran = self.order("undo")
        assert ran.code == 0, f"{ran}\n{self.told()}"
        place = self.stand.mountpoint
        assert (
            self.ground.guest.run(f"mountpoint -q {place} && sha256sum < {place}/file").out.split()[0] == self.checksum
        )

    def told(self) -> str:
        return self.ground.guest.run(f"tail -n +2 {self.journal} | cut -c1-500; dmesg | tail -n 20").out

    def hctl(self) -> list[str]:
        return [route["hctl"] for route in self.plan["disks"][0]["attach"]["routes"]]


def begin(ground: Ground, stand: Stand) -> Removal:
    """Plan it; a disk that the test before has kept whole is taken as it is, to build one takes most of a minute."""
    if not ground.whole(stand):
        if ground.left(stand):
            ground.clear(stand)
        ground.build(stand)
    checksum = ground.fill(stand)
    plan = ground.plan(ground.device(stand), watch_s=0.5, unmount_deadline_s=8.0, flush_deadline_s=8.0)
    assert not plan["blocked"], plan["findings"]
    return Removal(ground, stand, plan, checksum)


@pytest.fixture
def disk(ground: Ground) -> Removal:
    """A disk with one path."""
    return begin(ground, DISK)


@pytest.fixture
def joined(ground: Ground) -> Removal:
    """A disk with two paths and a map."""
    return begin(ground, MAP)


# --- names, states and sessions that change under it ---


@pytest.mark.trap("T9", 20, 23, 32, 40)
@pytest.mark.long
def test_another_device_with_the_same_name_is_not_touched(disk: Removal) -> None:
    """The path is deleted and found again: it has the same H:C:T:L, and is another device."""
    (hctl,), guest = disk.hctl(), disk.ground.guest
    disk.stop_at("silent", "verified")
    place = f"/sys/class/scsi_device/{hctl}/device"
    guest.run(f"echo 1 >{place}/delete; echo '- - -' >/sys/class/scsi_host/host{hctl.split(':')[0]}/scan")
    disk.ground.wait(f"grep -q running {place}/state")
    end = disk.go_on()
    assert end["outcome"] in ("stopped", "unknown"), end
    assert guest.run(f"cat {place}/state").out == "running\n"
    disk.undone()


@pytest.mark.trap("T2", 62)
@pytest.mark.long
def test_a_session_that_drops_and_comes_back_sets_its_paths_running(disk: Removal) -> None:
    guest = disk.ground.guest
    disk.stop_at("offline-1", "verified")
    guest.run(f"echo 0 >{disk.group}/enable")
    disk.ground.wait(f"{disk.ground.states(DISK)} | grep -q FAILED")
    guest.run(f"echo 1 >{disk.group}/enable")
    disk.ground.wait_for_sessions(DISK)
    disk.ground.wait(f"grep -q running /sys/class/scsi_device/{disk.hctl()[0]}/device/state")
    end = disk.go_on()
    assert (end["outcome"], end["code"], end["fix"]) == ("stopped", "not-offline", "resume")
    disk.resumed()


@pytest.mark.trap("T22", 46)
@pytest.mark.long
def test_a_session_without_a_node_record(disk: Removal) -> None:
    guest = disk.ground.guest
    guest.run(f"rm -r /etc/iscsi/nodes/{DISK.target}")
    plan = disk.ground.plan(disk.ground.device(DISK), watch_s=0.5)
    assert "no-record" in {each["code"] for each in plan["findings"]}
    disk.plan = plan
    ran = disk.order("run")
    assert ran.code == 0, f"{ran}\n{disk.told()}"
    assert disk.ground.left(DISK) == ""
    disk.undone()


@pytest.mark.trap("T25")
def test_a_restart_in_the_middle(disk: Removal) -> None:
    """The journal is of another boot then; the sessions, devices and mounts of that one are gone."""
    guest = disk.ground.guest
    disk.die_at("offline-1", "verified")
    guest.run(
        f"iscsiadm -m node -T {DISK.target} --logout; cat /proc/sys/kernel/random/uuid >/run/boot_id; "
        "mount --bind /run/boot_id /proc/sys/kernel/random/boot_id"
    )
    try:
        ran = disk.order("resume")
        end = disk.end()
        assert (ran.code, end["outcome"], end["code"]) == (4, "stopped", "restarted")
        assert "That everything had been flushed is proven" in end["text"]
        disk.undone()
    finally:
        guest.run("umount /proc/sys/kernel/random/boot_id")


# --- somebody who comes in between ---


@pytest.mark.trap(10, 13, 29)
@pytest.mark.long
def test_a_rescan_that_finds_a_deleted_path_again(disk: Removal) -> None:
    host = disk.hctl()[0].split(":")[0]
    disk.stop_at("delete-1", "verified")
    disk.ground.guest.run(f"echo '- - -' >/sys/class/scsi_host/host{host}/scan")
    end = disk.go_on()
    assert end["outcome"] == "stopped", end
    disk.undone()


@pytest.mark.trap(13, 61)
@pytest.mark.long
def test_a_startup_that_somebody_sets_again(disk: Removal) -> None:
    guest = disk.ground.guest
    disk.stop_at("watch", "started")
    node = f"iscsiadm -m node -T {DISK.target} -o update -n node.startup -v"
    guest.run(f"{node} automatic")
    end = disk.go_on()
    assert end["outcome"] == "stopped", end
    assert "node.startup" in end["text"]
    disk.resumed()


@pytest.mark.trap(6)
@pytest.mark.long
def test_an_opener_of_the_map_that_leaves_again(joined: Removal) -> None:
    device = joined.ground.device(MAP)
    joined.stop_at("hand-over", "started")
    joined.ground.guest.run(f"setsid bash -c 'exec 3<{device}; sleep 1' >/dev/null 2>&1 </dev/null &")
    end = joined.go_on()
    assert end["outcome"] == "done", end
    assert joined.ground.on_the_target(MAP) == joined.checksum


@pytest.mark.trap(6, 3, 4, 17)
@pytest.mark.long
def test_an_opener_of_the_map_that_stays(joined: Removal) -> None:
    device, guest = joined.ground.device(MAP), joined.ground.guest
    joined.stop_at("hand-over", "started")
    guest.run(
        f"setsid bash -c 'exec 3<{device}; sleep 1000' >/dev/null 2>&1 </dev/null & echo $! >/run/opener; sleep 1"
    )
    end = joined.go_on()
    assert end["outcome"] == "stopped", end
    assert "open 1 more times" in end["text"]
    assert joined.ground.device(MAP) == device
    guest.run("kill $(cat /run/opener)")
    joined.undone()


@pytest.mark.trap("T5")
def test_who_writes_to_a_path_after_its_flush_and_keeps_it_open(disk: Removal) -> None:
    """What it wrote is in memory only; neither its plain open nor any counter keeps the disk from being deleted."""
    device, guest = disk.ground.device(DISK), disk.ground.guest
    disk.stop_at("flush", "verified")
    guest.run(
        f"setsid bash -c 'exec 3<>{device}; dd bs=512 count=1 >&3 </dev/zero; sleep 1000' >/dev/null 2>&1 </dev/null &"
        " echo $! >/run/opener; sleep 1"
    )
    end = disk.go_on()
    assert (end["outcome"], end["code"]) == ("stopped", "busy"), end
    assert f"has {device} open" in end["text"]
    guest.run("kill $(cat /run/opener)")
    disk.undone()


INTRUDER = """
import json, os, sys, threading
sys.path.insert(0, sys.argv[1])
import helper_dm, helper_scsi
device, uuid, first, second, stays, patience = sys.argv[2:]
claim_all = helper_scsi.claim_all
held = []
def met(paths, waiting):
    held.append(os.open(first, os.O_RDWR | os.O_EXCL))
    leaves = threading.Timer(float(stays), lambda: os.close(held.pop()))
    leaves.daemon = True
    leaves.start()
    return claim_all(paths, waiting)
helper_scsi.claim_all = met
fd = os.open(device, os.O_RDONLY | os.O_EXCL)
try:
    helper_dm.hand_over(fd, uuid, [second, first], float(patience))
except OSError as error:
    print(json.dumps([error.errno, error.strerror]))
"""
"""Takes a path in the one moment in which it can be had: after the map has let go of it, before we ask for it."""


ASKER = """
import os, sys, time
while True:
    for path in sys.argv[1:]:
        try:
            fd = os.open(path, os.O_RDWR | os.O_EXCL)
        except OSError:
            continue
        print(path, flush=True)
        time.sleep(0.5)
        os.close(fd)
"""


@pytest.mark.trap(45)
def test_who_takes_a_path_in_the_hand_over_is_met_and_the_map_is_as_it_was(joined: Removal) -> None:
    ground, guest, device = joined.ground, joined.ground.guest, joined.ground.device(MAP)
    kname = guest.run(f"basename $(realpath {device})").out.strip()
    uuid = guest.run(f"cat /sys/block/{kname}/dm/uuid").out.strip()
    paths = [f"/dev/{name}" for name in guest.run(f"ls /sys/block/{kname}/slaves").out.split()]
    host = "$(/opt/mooring/bin/python -c 'import initiator.host; print(initiator.host.__path__[0])')"
    guest.run(f"umount {MAP.mountpoint}")
    before = guest.run(f"dmsetup table {device}").out
    assert "multipath" in before

    def taken(stays: float, patience: float) -> Any:
        given = f"{host} {device} {uuid} {paths[0]} {paths[1]} {stays} {patience}"
        return json.loads(guest.run(f"python3 -c {shlex.quote(INTRUDER)} {given}").out)

    number, text = taken(0.5, 30.0)
    assert number == errno.EBUSY
    assert f"{paths[0]}: Device or resource busy; the map has its paths again" in text
    assert guest.run(f"dmsetup table {device}").out == before
    guest.run(f"mount {device} {MAP.mountpoint}")
    assert guest.run(f"sha256sum < {MAP.mountpoint}/file").out.split()[0] == joined.checksum
    guest.run(f"umount {MAP.mountpoint}")
    # one that keeps it for good: the map cannot have it, and does not stay without its paths
    number, text = taken(60.0, 0.2)
    assert number == errno.EBUSY
    assert "the map goes" in text
    ground.wait(f"[ ! -e /sys/block/{kname}/dm ]")


@pytest.mark.trap(45)
@pytest.mark.long
def test_a_program_that_asks_for_the_paths_all_the_time(joined: Removal) -> None:
    """Either it never had one, or the removal stopped and the disk works."""
    ground, guest = joined.ground, joined.ground.guest
    names = [f"/dev/{route['kname']}" for route in joined.plan["disks"][0]["attach"]["routes"]]
    joined.stop_at("hand-over", "started")
    guest.run(
        f"setsid python3 -c {shlex.quote(ASKER)} {' '.join(names)} >/run/asked 2>&1 </dev/null & echo $! >/run/asker"
    )
    end = joined.go_on()
    guest.run("kill $(cat /run/asker)")
    if end["outcome"] == "done":
        assert guest.run("cat /run/asked").out == ""
        assert ground.left(MAP) == ""
        assert ground.on_the_target(MAP) == joined.checksum
    else:
        assert (end["outcome"], end["code"]) == ("stopped", "busy"), end
        assert guest.run("cat /run/asked").out != ""
        joined.undone()


@pytest.mark.trap(17, 18, 68)
@pytest.mark.long
def test_a_map_that_somebody_flushes_meanwhile(joined: Removal) -> None:
    """What it had in memory was not proven to be written by us, so the removal does not go on."""
    joined.stop_at("unmount-1", "verified")
    joined.ground.guest.run(f"multipath -f {joined.ground.device(MAP)}")
    end = joined.go_on()
    assert end["outcome"] == "stopped", end
    joined.undone()


# --- parts that fail under it ---


def long(step: str, mark: str) -> object:
    """A place that only `make lab-long` tries."""
    return pytest.param(step, mark, marks=pytest.mark.long)


@pytest.mark.trap("T1", "T23", 8, 21, 69)
@pytest.mark.parametrize(
    ("step", "mark"), [("unmount-1", "started"), long("claim", "verified"), long("flush", "verified")]
)
def test_a_target_that_is_killed(disk: Removal, step: str, mark: str) -> None:
    """The only path: what hangs is given up at its deadline and told with the place where it hangs."""
    guest = disk.ground.guest
    disk.stop_at(step, mark)
    guest.run(f"echo 0 >{disk.group}/enable")
    disk.ground.wait(f"{disk.ground.states(DISK)} | grep -q FAILED")
    end = disk.go_on()
    assert end["outcome"] in ("stopped", "unknown"), end
    assert end["text"], end
    assert end["code"], end
    guest.run(f"echo 1 >{disk.group}/enable")
    disk.ground.wait_for_sessions(DISK)
    ran = disk.order("resume")
    if ran.code == 0:
        assert disk.ground.on_the_target(DISK) == disk.checksum
    else:
        disk.undone()


@pytest.mark.trap(7)
@pytest.mark.parametrize(("step", "mark"), [long("claim", "verified"), ("flush", "verified")])
def test_a_cable_that_is_pulled(joined: Removal, step: str, mark: str) -> None:
    """One of two paths."""
    guest = joined.ground.guest
    joined.stop_at(step, mark)
    guest.run("sh /opt/lab/cables.sh pull 2")
    try:
        joined.ground.wait(f"{joined.ground.states(MAP)} | grep -q FAILED")
        end = joined.go_on()
        assert end["outcome"] in ("done", "stopped", "unknown"), end
        assert end["text"], end
    finally:
        guest.run("sh /opt/lab/cables.sh plug 2")
    if end["outcome"] == "done":
        assert joined.ground.on_the_target(MAP) == joined.checksum
        return
    joined.ground.wait_for_sessions(MAP)
    ran = joined.order("resume")
    if ran.code == 0:
        assert joined.ground.on_the_target(MAP) == joined.checksum
    else:
        joined.undone()


@pytest.mark.trap("T21", 50, 51, 53)
@pytest.mark.parametrize(("step", "mark"), [long("unmount-1", "started"), ("delete-1", "verified")])
def test_an_iscsid_that_stops(disk: Removal, step: str, mark: str) -> None:
    """Masked: iscsiadm would start one that is only stopped."""
    guest = disk.ground.guest
    disk.stop_at(step, mark)
    guest.run("systemctl mask --runtime --now iscsid.socket iscsid")
    try:
        end = disk.go_on()
        assert end["outcome"] in ("stopped", "unknown"), end
        assert end["code"], end
    finally:
        guest.run("systemctl unmask --runtime iscsid.socket iscsid; systemctl start iscsid.socket iscsid")
    disk.resumed()


@pytest.mark.trap(19, 45, 71, "T11")
@pytest.mark.parametrize(("step", "mark"), [long("unmount-1", "started"), ("hand-over", "started")])
def test_a_multipathd_that_stops(joined: Removal, step: str, mark: str) -> None:
    guest = joined.ground.guest
    joined.stop_at(step, mark)
    guest.run("systemctl stop multipathd.socket multipathd")
    try:
        end = joined.go_on()
        assert end["outcome"] in ("done", "stopped"), end
    finally:
        guest.run("systemctl start multipathd.socket multipathd")
    if end["outcome"] == "done":
        assert joined.ground.left(MAP) == ""
        assert joined.ground.on_the_target(MAP) == joined.checksum
    else:
        joined.resumed()
