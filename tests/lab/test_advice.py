"""`mooring check` on a host that is set up as it should be, and on the same host after somebody was careless."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import san
from tests.lab.machine import Machine

INITIATOR = "iqn.2026-11.io.mooring.lab:host"
TARGET = f"{san.NAME}:mail"
PORTALS = ("10.9.1.2:3260", "10.9.2.2:3260")
CHAP, BACK = ("host", "sekret-of-host-1"), ("store", "secret-of-store-2")
SPEC = {
    "disks": {"mail": {"size": 64 * san.MIB, "serial": "b0000001", "write_cache": False}},
    "targets": {TARGET: {"luns": ["mail"], "portals": PORTALS, "chap": CHAP, "mutual": BACK}},
}
DISCOVERY = "/sys/kernel/config/target/iscsi/discovery_auth"
KEPT = "/etc/iscsi /etc/multipath /etc/fstab"
SETTINGS = {
    "node.startup": "automatic",
    "node.session.scan": "manual",
    "iscsid.safe_logout": "Yes",
    "node.session.auth.chap_algs": "SHA3-256,SHA256",
}

PREPARE = f"""
set -e
tar cf /root/kept.tar {KEPT}
modprobe -a iscsi_tcp dm-multipath
sh /opt/lab/cables.sh make
echo InitiatorName={INITIATOR} >/etc/iscsi/initiatorname.iscsi
for setting in {" ".join(f"'{name} = {value}'" for name, value in SETTINGS.items())}; do
    sed -i "/^${{setting%% =*}} *=/d" /etc/iscsi/iscsid.conf
    echo "$setting" >>/etc/iscsi/iscsid.conf
done
systemctl restart iscsid
"""
GUARD = f"""
cd {DISCOVERY}
printf %s {CHAP[0]} >userid; printf %s {CHAP[1]} >password
printf %s {BACK[0]} >userid_mutual; printf %s {BACK[1]} >password_mutual
echo 1 >enforce_discovery_auth
"""
MOUNT = r"""
set -e
iscsiadm -m session --rescan >/dev/null
udevadm settle -t 240
for n in $(seq 100); do [ $(dmsetup ls --target multipath | grep -c mpath) = 1 ] && break; sleep 0.2; done
udevadm settle -t 240
map=/dev/mapper/$(dmsetup ls --target multipath | cut -f1)
mkfs.ext4 -q -L mail $map
udevadm settle -t 240
mkdir -p /srv/mail
echo "LABEL=mail /srv/mail ext4 _netdev,nofail 0 0" >>/etc/fstab
systemctl daemon-reload
systemctl start srv-mail.mount
"""
CARELESS = f"""
set -e
mkdir -p /var/target/pr  # LIO writes down who registers, and refuses where it cannot
sg_persist --out --register --param-sark=1 $(ls /dev/disk/by-path/ip-10.9.1.2*-lun-0) >/dev/null
chmod 644 /etc/iscsi/nodes/{TARGET}/10.9.1.2,*/default
sed -i s/_netdev,// /etc/fstab
ip link set host1 mtu 9000
ip route add default via 10.9.2.2
mkdir -p /srv/hand
mount --bind /srv/mail /srv/hand
iscsiadm -m node -T {TARGET} -p 10.9.2.2 -o update -n node.session.scan -v auto
setsid python3 -c 'import socket, time; s = socket.create_server(("10.9.1.1", 445)); time.sleep(1000)' \
    </dev/null >/dev/null 2>&1 & echo $! >/run/lab-listener
for n in $(seq 200); do ss -Hltn sport = :445 | grep -q . && break; sleep 0.1; done
"""
CLEAR = f"""
[ -e /run/lab-listener ] && kill $(cat /run/lab-listener); rm -f /run/lab-listener
umount /srv/hand; umount /srv/mail
multipath -F
iscsiadm -m node -U all; iscsiadm -m node -o delete
echo 0 >{DISCOVERY}/enforce_discovery_auth
python3 /opt/lab/lio.py clear; rm -f /lab/mail.img
ip route del default
sh /opt/lab/cables.sh clear
rm -rf /etc/iscsi /etc/multipath
tar xf /root/kept.tar -C /
systemctl daemon-reload; systemctl restart iscsid
multipathd reconfigure
"""
FIRES = {
    "security/secrets-readable",
    "boot/fstab-netdev",
    "network/mtu-differs",
    "network/jumbo-blocked",
    "network/default-route",
    "network/services",
    "boot/unmount-order",
    "boot/scan-auto",
}


@pytest.fixture(scope="module")
def host(guest: Machine) -> Iterator[Machine]:
    """Two cables, two subnets, CHAP both ways, a map, a labelled volume in fstab."""
    try:
        guest.run(PREPARE)
        guest.run(f"echo {shlex.quote(json.dumps(SPEC))} | nsenter --net=/run/netns/san python3 /opt/lab/lio.py make")
        guest.run(GUARD)
        secrets = (*CHAP, *BACK)
        found = san.order(guest, "discover", PORTALS[0], secrets=secrets)
        assert [each[1] for each in found["result"]] == list(PORTALS), found
        for portal in PORTALS:
            done = san.order(guest, "login", TARGET, portal, secrets=secrets)
            assert "result" in done, done
        guest.run(MOUNT)
        yield guest
    finally:
        guest.run(CLEAR, check=False)


def check(host: Machine) -> Any:
    return json.loads(host.mooring("check", "--json").out)


def test_a_well_built_host_has_no_false_alarm(host: Machine) -> None:
    told = check(host)
    assert [(found["rule"], found["subject"], found["evidence"]) for found in told["findings"]] == []
    # what nobody can know in here: veth pairs have no switch that could tell its name
    assert {blank["rule"] for blank in told["unknown"]} == {"network/one-switch"}


def test_what_somebody_careless_did_is_found_and_nothing_else(host: Machine) -> None:
    """A key that this host has registered itself is none of another's."""
    host.run(CARELESS)
    told = check(host)
    assert {found["rule"] for found in told["findings"]} == FIRES
    by_rule = {found["rule"]: found for found in told["findings"]}
    assert by_rule["boot/unmount-order"]["subject"] == "/srv/hand"
    assert by_rule["network/services"]["evidence"].startswith("listens at 10.9.1.1 (python3")
    assert "host1 9000" in by_rule["network/mtu-differs"]["evidence"]
    assert "packets of 1500 bytes" in by_rule["network/jumbo-blocked"]["evidence"]
    assert host.mooring("check", "--fail-on", "bad", check=False).code == 1


def test_nothing_of_it_stays_for_the_others(guest: Machine, host: Machine) -> None:
    guest.run(CLEAR, check=False)
    left = guest.run(
        "ls /sys/class/iscsi_session | wc -l; dmsetup ls --target multipath; ip -br link show host1 2>&1 | wc -l"
    )
    assert left.out.split()[0] == "0"
    assert "mpath" not in left.out
