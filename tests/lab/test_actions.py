"""Mooring's orders to the kernel's initiator on a real kernel, and what iscsiadm itself says afterwards."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.machine import Machine, Ran
from tests.lab.san import parse_p3

NAME = "iqn.2026-11.io.mooring.orders"
OPEN, LOCKED, EMPTY, NOBODY = (f"{NAME}:{name}" for name in ("open", "locked", "empty", "nobody"))
PORTAL = "10.8.1.2:3260"
USER, SECRET, WRONG = "keeper", "right$secret\\1", "wrong-secret-77"
TARGET_USER, TARGET_SECRET = "harbour", "other$secret\\2"
SIZE = 16 << 20
SPEC = {
    "disks": {
        "orders0": {"size": SIZE, "serial": "b0000001"},
        "orders1": {"size": SIZE, "serial": "b0000002"},
        "orders2": {"size": SIZE, "serial": "b0000003"},
    },
    "targets": {
        OPEN: {"luns": ["orders0"], "portals": [PORTAL]},
        LOCKED: {
            "luns": ["orders1"],
            "portals": [PORTAL],
            "chap": [USER, SECRET],
            "mutual": [TARGET_USER, TARGET_SECRET],
        },
        EMPTY: {"luns": [], "portals": [PORTAL]},
    },
}
CABLE = """
ip netns add orders
ip link add orders0 type veth peer name orders1 netns orders
ip addr add 10.8.1.1/24 dev orders0
ip link set orders0 up
ip -n orders addr add 10.8.1.2/24 dev orders1
ip -n orders link set orders1 up
ip -n orders link set lo up
"""
CLEAR = f"""
iscsiadm -m session 2>/dev/null | sed -n 's/^[a-z]*: \\[\\([0-9]*\\)\\] .* {NAME}:.*/\\1/p' |
    while read sid; do iscsiadm -m session -r $sid -u; done
for target in {OPEN} {LOCKED} {EMPTY} {NOBODY}; do iscsiadm -m node -T $target -o delete 2>/dev/null; done
iscsiadm -m discoverydb -t sendtargets -p {PORTAL} -o delete 2>/dev/null
cd /sys/kernel/config/target
for group in iscsi/{NAME}:*/tpgt_1; do
    echo 0 >$group/enable
    for lun in $group/lun/lun_*; do rm -f $lun/disk; rmdir $lun; done
    rmdir $group/np/* $group "$(dirname $group)"
done
rmdir core/fileio_*/orders?; rmdir core/fileio_* 2>/dev/null
ip netns del orders
"""


class Orders:
    """The guest, with Mooring's commands and iscsiadm's answers."""

    def __init__(self, guest: Machine) -> None:
        self.guest = guest

    def mooring(self, *words: str, code: int = 0, seconds: float = 240.0) -> Ran:
        """One command that has to end with this exit code; no secret is in what it prints."""
        ran = self.guest.mooring(*words, seconds=seconds, check=False)
        assert ran.code == code, str(ran)
        assert not any(secret in ran.out + ran.err for secret in (SECRET, WRONG, TARGET_SECRET))
        return ran

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mooring(*words, "--json").out)
        return found

    def sessions(self) -> dict[str, dict[str, Any]]:
        """iscsiadm's sessions with the targets of this file, by target."""
        told = parse_p3(self.guest.run("iscsiadm -m session -P 3", check=False).out)
        return {session["target"]: session for session in told.values() if session["target"].startswith(NAME)}

    def records(self) -> list[list[str]]:
        """iscsiadm's node records of these targets: portal with its tag, and name."""
        lines = self.guest.run("iscsiadm -m node", check=False).out.splitlines()
        return sorted(line.split() for line in lines if NAME in line)

    def secret(self, text: str, file: str = "/root/secret") -> str:
        """A private file in the guest with a secret."""
        self.guest.run(f"umask 077; printf '%s\\n' {shlex.quote(text)} >{file}")
        return file


@pytest.fixture(scope="module")
def orders(guest: Machine) -> Iterator[Orders]:
    """Three targets behind a cable of their own; nothing of them is left behind."""
    guest.run(f"modprobe -a iscsi_tcp; set -e; {CABLE}")
    spec = shlex.quote(json.dumps(SPEC))
    guest.run(f"echo {spec} | nsenter --net=/run/netns/orders python3 /opt/lab/lio.py make")
    yield Orders(guest)
    guest.run(CLEAR, check=False)
    left = guest.run("iscsiadm -m node; iscsiadm -m session; ls /sys/kernel/config/target/iscsi", check=False).out
    assert NAME not in left


@pytest.fixture
def known(orders: Orders) -> Orders:
    """The portal was discovered."""
    if not orders.records():
        orders.mooring("discover", PORTAL)
    return orders


def test_discover_against_iscsiadm(orders: Orders) -> None:
    said = orders.mooring("discover", PORTAL, "--dry-run")
    assert "via the kernel's initiator (open-iscsi)" in said.err
    assert orders.records() == []
    found = orders.json("discover", "10.8.1.2")
    told = orders.guest.run("iscsiadm -m discovery -t sendtargets -p 10.8.1.2 -o nonpersistent").out
    ours = sorted([f"{place},1", each["name"]] for each in found["targets"] for place in each["portals"])
    assert ours == sorted(line.split() for line in told.splitlines())
    # LIO names its targets of every network namespace
    assert [row for row in ours if NAME in row[1]] == orders.records()
    assert found["via"] == "kernel"
    assert len([path for path in found["new_records"] if NAME in path]) == 3
    assert orders.json("discover", PORTAL)["new_records"] == []


def test_records_and_startup_against_iscsiadm(known: Orders) -> None:
    listed = {each["target"]: each for each in known.json("records")["records"] if NAME in each["target"]}
    assert sorted([f"{each['portal']},1", each["target"]] for each in listed.values()) == known.records()
    assert listed[OPEN]["startup"] == "manual"
    node = f"iscsiadm -m node -T {OPEN} -p {PORTAL}"
    for mode, before in (("automatic", "manual"), ("manual", "automatic")):
        answer = known.json("startup", OPEN, PORTAL, mode)
        assert answer["records"] == [{"portal": PORTAL, "before": before, "after": mode}]
        shown = known.guest.run(f"{node} | grep startup").out.splitlines()
        assert shown == [f"node.startup = {mode}", f"node.conn[0].startup = {mode}"]


def test_a_login_needs_the_right_secret(known: Orders) -> None:
    record = f"/etc/iscsi/nodes/{LOCKED}/10.8.1.2,3260,1/default"
    login = ("login", LOCKED, "--portal", PORTAL)
    before = known.guest.run(f"cat {record}").out
    without = known.mooring(*login, code=1)
    assert "the target asks for CHAP and this host has no credentials" in without.err
    wrong = known.mooring(*login, "--chap-user", USER, "--chap-secret-file", known.secret(WRONG), code=1)
    assert f"wrong CHAP user or secret: the target refused those of {USER}" in wrong.err
    assert known.guest.run(f"cat {record}").out == before
    assert LOCKED not in known.sessions()
    theirs = known.secret(TARGET_SECRET, "/root/theirs")
    mutual = ("--chap-target-user", TARGET_USER, "--chap-target-secret-file", theirs)
    known.mooring(*login, "--chap-user", USER, "--chap-secret-file", known.secret(SECRET), *mutual)
    session = known.sessions()[LOCKED]
    assert (session["state"], session["username"], session["username_in"]) == ("LOGGED_IN", USER, TARGET_USER)
    assert SECRET in known.guest.run(f"cat {record}").out
    assert known.guest.run(f"stat -c %a {record}").out.strip() == "600"
    again = known.json(*login)
    assert again["sessions"] == [{"session": f"kernel:s:{session['sid']}", "portal": PORTAL, "new": False}]


def test_a_target_that_is_not_there_was_not_found(known: Orders) -> None:
    before = known.records()
    said = known.mooring("login", NOBODY, "--portal", PORTAL, code=1)
    assert "target not found" in said.err
    assert OPEN in said.err, "what the portal does offer"
    assert known.records() == before


def test_a_silent_portal_is_named_soon(known: Orders) -> None:
    before = known.records()
    said = known.mooring("login", OPEN, "--portal", "10.8.1.99", code=1, seconds=120)
    assert "the portal cannot be reached" in said.err
    refused = known.mooring("discover", "10.8.1.2:3299", "--via", "kernel", code=1, seconds=120)
    assert "nothing listens on port 3299" in refused.err
    assert known.records() == before


def test_a_portal_that_says_nothing_is_given_up_when_iscsid_does(known: Orders) -> None:
    mute = "import socket, time; s = socket.create_server(('10.8.1.2', 3277)); time.sleep(300)"
    known.guest.run(
        f"nsenter --net=/run/netns/orders setsid python3 -c {shlex.quote(mute)} >/dev/null 2>&1 </dev/null &"
    )
    known.guest.run("for n in $(seq 50); do ip netns exec orders ss -ltn | grep -q 3277 && break; sleep 0.2; done")
    node = f"iscsiadm -m node -T {OPEN} -p 10.8.1.2:3277"
    known.guest.run(
        f"{node} -o new; {node} -o update -n 'node.conn[0].timeo.login_timeout' -v 3;"
        f" {node} -o update -n node.session.initial_login_retry_max -v 2"
    )
    try:
        said = known.mooring("login", OPEN, "--portal", "10.8.1.2:3277", code=1)
    finally:
        known.guest.run(f"{node} -o delete; pkill -f 'create_server.*3277'")
    assert "the portal takes connections, but did not answer in time" in said.err


def test_a_session_with_a_disk_is_kept_and_an_empty_one_is_not(known: Orders) -> None:
    known.mooring("login", OPEN)
    session = known.sessions()[OPEN]
    ((hctl, (kname, _)),) = session["luns"].items()
    assert hctl == session["lun"]
    disk = next(each for each in known.json("list")["disks"] if each["device"] == f"/dev/{kname}")
    refused = known.mooring("logout", OPEN, code=3)
    assert f"/dev/{kname}" in refused.err
    assert f"mooring remove {disk['name']}" in refused.err
    assert known.sessions()[OPEN]["sid"] == session["sid"]
    known.mooring("login", EMPTY, "--portal", PORTAL)
    sid = known.sessions()[EMPTY]["sid"]
    answer = known.json("logout", EMPTY)
    assert answer["logged_out"] == [f"kernel:s:{sid}"]
    assert EMPTY not in known.sessions()


def test_rescan_finds_a_new_lun(known: Orders) -> None:
    known.mooring("login", EMPTY)
    session = known.sessions()[EMPTY]
    assert session["luns"] == {}
    assert known.json("rescan", f"kernel:s:{session['sid']}")["sessions"][0]["appeared"] == []
    lun = f"/sys/kernel/config/target/iscsi/{EMPTY}/tpgt_1/lun/lun_3"
    known.guest.run(f"mkdir {lun}; ln -s /sys/kernel/config/target/core/fileio_2/orders2 {lun}/disk")
    (told,) = known.json("rescan", EMPTY)["sessions"]
    luns = known.sessions()[EMPTY]["luns"]
    assert told["appeared"] == list(luns)
    assert [hctl.rpartition(":")[2] for hctl in luns] == ["3"]
    known.mooring("logout", EMPTY, code=3)
    known.guest.run(f"echo 1 >/sys/class/scsi_device/{told['appeared'][0]}/device/delete")
    known.mooring("logout", EMPTY)
    assert EMPTY not in known.sessions()


def test_the_dashboards_reader_asks_tcp(known: Orders) -> None:
    known.mooring("login", OPEN)
    script = (
        "import time; from tui.backends import HostSource; source = HostSource(); end = time.time() + 60\n"
        "while time.time() < end:\n"
        "    seen = [c.tcp for s in source.read().snapshot.sessions for c in s.connections]\n"
        "    if seen and all(seen): break\n"
        "    time.sleep(0.5)\n"
        "print(sorted({tcp.state for tcp in seen}) if all(seen) else seen); source.close()"
    )
    assert known.guest.run(f"/opt/mooring/bin/python -c {shlex.quote(script)}").out == "['established']\n"
