"""The targets of the kernel scenarios, what is built on their disks, and what other tools say of all that."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tests.lab.machine import Machine

NAME = "iqn.2026-11.io.mooring.lab"
TWO, SINGLE, CHAP, MD, MORE = (f"{NAME}:{name}" for name in ("two", "single", "chap", "md", "more"))
MIB = 1 << 20
USER, SECRET, TARGET_USER, TARGET_SECRET = "harry", "sekret\\$x!-1234", "tgt", "mutual-secret12"
SPEC: Mapping[str, Any] = {
    "disks": {
        "d0": {"size": 256 * MIB, "serial": "a0000001"},
        "d1": {"size": 160 * MIB, "serial": "a0000002"},
        "w0": {"size": 128 * MIB, "serial": "a0000003"},
        "c0": {"size": 128 * MIB, "serial": "a0000004"},
        "m0": {"size": 96 * MIB, "serial": "a0000005"},
        "m1": {"size": 96 * MIB, "serial": "a0000006"},
        "x0": {"size": 64 * MIB, "serial": "a0000007"},
        "back": {"size": 96 * MIB, "serial": "a0000008"},
        "cache": {"size": 512 * MIB, "serial": "a0000009"},
        "tree0": {"size": 192 * MIB, "serial": "a000000a"},
        "tree1": {"size": 192 * MIB, "serial": "a000000b"},
        "parted": {"size": 160 * MIB, "serial": "a000000c"},
        "again": {"size": 32 * MIB, "serial": "a000000d"},
        "nvme": {"size": 32 * MIB, "serial": "a000000e"},
    },
    "targets": {
        TWO: {"luns": ["d0", "d1"], "portals": ["10.9.1.2:3260", "10.9.2.2:3260"], "digests": "CRC32C"},
        SINGLE: {"luns": ["w0"], "portals": ["10.9.2.2:3261"]},
        CHAP: {
            "luns": ["c0"],
            "portals": ["[fd09:1::2]:3260"],
            "chap": [USER, SECRET],
            "mutual": [TARGET_USER, TARGET_SECRET],
        },
        MD: {"luns": ["m0", "m1"], "portals": ["10.9.1.2:3262"]},
        MORE: {
            "luns": ["back", "cache", "tree0", "tree1", "parted", "again", "nvme"],
            "portals": ["10.9.2.2:3263"],
        },
    },
}


def order(guest: Machine, *words: str, secrets: Sequence[str] = ()) -> dict[str, Any]:
    """One of Mooring's orders to iscsiadm, as root in the guest."""
    given = "".join(f"{line}\n" for line in secrets)
    command = shlex.join(["/opt/mooring/bin/python", "/opt/lab/order.py", *words])
    answer: dict[str, Any] = json.loads(guest.run(f"printf %s {shlex.quote(given)} | {command}", seconds=300).out)
    return answer


def make(guest: Machine) -> None:
    """Targets in their own network namespace, records, sessions, and a volume of every kind on the disks."""
    guest.run("modprobe -a iscsi_tcp dm-multipath raid1 dm-crypt; sh /opt/lab/cables.sh make")
    spec = shlex.quote(json.dumps(SPEC))
    guest.run(f"echo {spec} | nsenter --net=/run/netns/san python3 /opt/lab/lio.py make")
    for portal in ("10.9.1.2:3260", "10.9.2.2:3261", "10.9.1.2:3262", "10.9.2.2:3263", "[fd09:1::2]:3260"):
        assert order(guest, "discover", portal)["result"], portal
    update = "iscsiadm -m node -T {} -o update -n 'node.conn[0].iscsi.{}Digest' -v CRC32C"
    guest.run("; ".join(update.format(TWO, kind) for kind in ("Header", "Data")))
    plain = ((SINGLE, "10.9.2.2:3261"), (MD, "10.9.1.2:3262"), (MORE, "10.9.2.2:3263"))
    for target, portal in ((TWO, "10.9.1.2"), (TWO, "10.9.2.2"), *plain):
        assert "result" in order(guest, "login", target, portal), target
    secrets = (USER, SECRET, TARGET_USER, TARGET_SECRET)
    assert "result" in order(guest, "login", CHAP, "[fd09:1::2]", secrets=secrets)
    joined = "[ $(dmsetup ls --target multipath | wc -l) = 2 ]"
    guest.run(f"udevadm settle -t 240; for n in $(seq 60); do {joined} && break; sleep 1; done; {joined}")
    guest.run(SHELL + BUILD, seconds=900)
    guest.run(SHELL + BUILD_MORE, seconds=900)


SHELL = r"""
set -e
node() { readlink -f $(ls /dev/disk/by-id/wwn-0x6001405a000000$1* | grep -v part); }
map() { echo /dev/mapper/$(dmsetup ls --target multipath | cut -f1 | while read n; do dmsetup info -c --noheadings \
    -o name,uuid $n; done | grep 6001405a000000$1 | cut -d: -f1); }
"""
BUILD = r"""
pvcreate -q "$(map 1)"
vgcreate -q vault "$(map 1)"
lvcreate -q -n crypt -L 128M vault
echo passphrase | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vault/crypt -
echo passphrase | cryptsetup open /dev/vault/crypt secret --key-file=-
mkfs.ext4 -q -L deep /dev/mapper/secret
mkdir -p /mnt/deep /mnt/plain /mnt/elsewhere /mnt/mirror "/mnt/bind here"
mount /dev/mapper/secret /mnt/deep
mkfs.ext4 -q -L plain "$(map 2)"
mount "$(map 2)" /mnt/plain
mkdir /mnt/plain/inner; mount --bind /mnt/plain/inner "/mnt/bind here"
mkswap -q "$(node 3)" && swapon "$(node 3)"
mkfs.ext4 -q -L far "$(node 4)"
setsid unshare -m sh -c "mount --make-rprivate /; mount $(node 4) /mnt/elsewhere; exec sleep 100000" \
    >/dev/null 2>&1 </dev/null &
yes | mdadm -q --create /dev/md7 --run --level=1 --raid-devices=2 "$(node 5)" "$(node 6)" 2>/dev/null
mkfs.ext4 -q -L mirror /dev/md7
mount /dev/md7 /mnt/mirror
udevadm settle -t 240
"""
BUILD_MORE = r"""
modprobe -a bcache btrfs nfsd nvmet target_core_iblock
mkdir -p /mnt/cached /mnt/tree /mnt/branch /mnt/shared
make-bcache -B "$(node 8)" -C "$(node 9)" >/dev/null
udevadm settle -t 240
for part in 8 9; do echo "$(node $part)" >/sys/fs/bcache/register 2>/dev/null || true; done
for n in $(seq 60); do [ -b /dev/bcache0 ] && break; sleep 0.5; done
mkfs.ext4 -q -L cached /dev/bcache0
mount /dev/bcache0 /mnt/cached
mkfs.btrfs -q -L tree -d raid1 -m raid1 "$(node a)" "$(node b)"
mount "$(node a)" /mnt/tree
btrfs -q subvolume create /mnt/tree/branch
mount -o subvol=branch "$(node b)" /mnt/branch
echo ',,L' | sfdisk -q "$(node c)"
udevadm settle -t 240
mkfs.ext4 -q -L shared "$(node c)1"
mount LABEL=shared /mnt/shared
dd if=/dev/zero of=/mnt/shared/swapfile bs=1M count=8 status=none; chmod 600 /mnt/shared/swapfile
mkswap -q /mnt/shared/swapfile; swapon /mnt/shared/swapfile
truncate -s 8M "/mnt/shared/loop file"; losetup /dev/loop7 "/mnt/shared/loop file"
mkdir /mnt/shared/export
mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /var/lib/nfs/v4recovery
exportfs -o rw,no_root_squash,no_subtree_check,insecure,fsid=7 127.0.0.1:/mnt/shared/export
rpc.mountd -N 2 -N 3
rpc.nfsd -N 3 -H 127.0.0.1 1
store=/sys/kernel/config/target/core/iblock_40/again
mkdir -p $store
echo "udev_path=$(ls /dev/disk/by-id/wwn-0x6001405a000000d*)" >$store/control
echo 1 >$store/enable
space=/sys/kernel/config/nvmet/subsystems/again/namespaces/1
mkdir -p ${space%/*/*}; mkdir -p $space
printf %s "$(ls /dev/disk/by-id/wwn-0x6001405a000000e*)" >$space/device_path
echo 1 >$space/enable
udevadm settle -t 240
"""


# --- what the others say ---

_FIELDS = {
    "Current Portal": "current",
    "Persistent Portal": "persistent",
    "Iface Name": "iface",
    "Iface Transport": "transport",
    "Iface Initiatorname": "initiator",
    "Iface IPaddress": "ip",
    "Iface HWaddress": "hw",
    "Iface Netdev": "netdev",
    "SID": "sid",
    "iSCSI Session State": "state",
    "Recovery Timeout": "recovery",
    "Target Reset Timeout": "target_reset",
    "LUN Reset Timeout": "lun_reset",
    "Abort Timeout": "abort",
    "username": "username",
    "username_in": "username_in",
}


def parse_p3(text: str) -> dict[str, dict[str, Any]]:
    """`iscsiadm -m session -P 3`, by session id."""
    sessions: list[dict[str, Any]] = []
    target = ""
    for line in (line.strip() for line in text.splitlines()):
        key, _, value = line.partition(": ")
        if key == "Target":
            target = value.split(" ")[0]
        elif key == "Current Portal":
            sessions.append({"target": target, "negotiated": {}, "luns": {}})
        if not sessions:
            continue
        session = sessions[-1]
        if key in _FIELDS:
            session[_FIELDS[key]] = value
        elif found := re.match(r"Host Number: (\d+)\tState: (\w+)", line):
            session["host"], session["host_state"] = found.groups()
        elif found := re.match(r"scsi(\d+) Channel (\d+) Id (\d+) Lun: (\d+)", line):
            session["lun"] = ":".join(str(int(number)) for number in found.groups())
            session["luns"][session["lun"]] = None
        elif found := re.match(r"Attached scsi disk (\w+)\s+State: (\S+)", line):
            session["luns"][session["lun"]] = found.groups()
        elif re.fullmatch(r"[A-Z][A-Za-z0-9]+", key) and value and key != "Target":
            session["negotiated"][key] = value
    return {session["sid"]: session for session in sessions}


def flat(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A device of `lsblk -J` with everything below it."""
    return [node, *(each for child in node.get("children", ()) for each in flat(child))]
