"""What stands on the disks, from partition to mount point, against what the tools that made it print of it."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab import san
from tests.lab.machine import Machine
from tests.lab.noted import Noted, by

SETTLING = 64 << 10
"""Bytes."""


def test_the_block_stack_against_lsblk(built: Machine, seen: Noted) -> None:
    columns = "NAME,KNAME,MAJ:MIN,SIZE,RO,TYPE,FSTYPE,LABEL,SERIAL,VENDOR,MODEL,REV,WWN,HCTL,PKNAME"
    told = json.loads(built.run(f"lsblk -J -b -o {columns}").out)["blockdevices"]
    nodes = by(seen["block"], "kname")
    kinds = {"raid1": "md"}
    every = {node["kname"]: node for top in told for node in san.flat(top)}
    assert every.keys() <= nodes.keys()
    above: dict[str, set[str]] = {}
    for top in told:
        for node in san.flat(top):
            for child in node.get("children", ()):
                above.setdefault(child["kname"], set()).add(node["kname"])
    for kname, node in every.items():
        mine = nodes[kname]
        part = mine["kind"] == "part"
        assert (mine["parent"], set(mine["slaves"])) == (
            (node["pkname"], set()) if part else (None, above.get(kname, set()))
        )
        assert (mine["dev"], mine["size_bytes"]) == (node["maj:min"], int(node["size"]))
        assert mine["read_only"] == node["ro"]
        assert mine["kind"] == ("bcache" if kname.startswith("bcache") else kinds.get(node["type"], node["type"]))
        assert set(mine["holders"]) | set(mine["partitions"]) == {each["kname"] for each in node.get("children", ())}
    disks = by(seen["disks"], "id")
    for path in seen["paths"]:
        node = every[path["device"].removeprefix("/dev/")]
        disk = disks[path["disk"]]
        assert node["hctl"] == path["id"].removeprefix("kernel:p:")
        assert node["serial"] == disk["serial"]
        assert (node["vendor"].strip(), node["model"]) == (disk["vendor"], disk["product"])
        assert node["wwn"] == f"0x{disk['wwid'].removeprefix('naa.')}"


@pytest.mark.parametrize(
    ("mountpoint", "target", "stack"),
    [
        ("/mnt/deep", san.TWO, ["mpath", "lvm", "crypt"]),
        ("/mnt/plain", san.TWO, ["mpath"]),
        ("/mnt/bind here", san.TWO, ["mpath"]),
        ("/mnt/mirror", san.MD, ["md"]),
        ("/mnt/cached", san.MORE, ["bcache"]),
        ("/mnt/tree", san.MORE, []),
        ("/mnt/branch", san.MORE, []),
        ("/mnt/shared", san.MORE, ["disk", "part"]),
    ],
)
def test_volumes_against_findmnt(built: Machine, seen: Noted, mountpoint: str, target: str, stack: list[str]) -> None:
    columns = "TARGET,SOURCE,FSTYPE,MAJ:MIN,VFS-OPTIONS,LABEL,UUID,SIZE,USED,AVAIL,FSROOT,PROPAGATION,ID,PARENT"
    told = json.loads(built.run(f"findmnt -J -b --mountpoint '{mountpoint}' -o {columns}").out)
    (mount,) = told["filesystems"]
    (mine,) = (
        volume for volume in seen["volumes"] if volume["mountpoint"] == mountpoint and volume["namespace"] is None
    )
    assert mine["fstype"] == mount["fstype"]
    assert (mine["mount_id"], mine["parent_id"], mine["dev"]) == (mount["id"], mount["parent"], mount["maj:min"])
    assert (mine["options"], mine["label"], mine["uuid"]) == (mount["vfs-options"], mount["label"], mount["uuid"])
    assert (mine["root"], mine["name"]) == (mount["fsroot"], mount["label"])
    assert mine["look"] == mine["mountpoint"].startswith("/run/mooring/look/")
    assert (mine["state"], mine["device"]) == ("mounted", re.sub(r"\[.*\]$", "", mount["source"]))
    assert mine["size_bytes"] == int(mount["size"])
    # the file system lives: what its journal and its inode tables take moves a little
    assert abs(mine["used_bytes"] - int(mount["used"])) <= SETTLING
    assert abs(mine["free_bytes"] - int(mount["avail"])) <= SETTLING
    assert mine["propagation"].partition(":")[0] == mount["propagation"] == "shared"
    disks = by(seen["disks"], "id")
    assert {disks[disk]["target"] for disk in mine["disks"]} == {target}
    assert len(mine["disks"]) == (2 if mount["label"] in ("mirror", "cached", "tree") else 1)
    assert {disk["id"] for disk in seen["disks"] if mine["id"] in disk["volumes"]} == set(mine["disks"])
    if mine["fstype"] == "btrfs":
        shown = built.run(f"btrfs filesystem show {mountpoint} | grep -o '/dev/.*'").out.split()
        assert {disks[disk]["device"] for disk in mine["disks"]} == set(shown)
        return
    above = by(seen["block"], "dev")[mine["dev"]]
    nodes = by(seen["block"], "kname")
    found = [above["kind"]]
    while (above["slaves"] and above["kind"] not in ("mpath", "md", "bcache")) or above["parent"]:
        above = nodes[above["parent"] or above["slaves"][0]]
        found.append(above["kind"])
    assert found == stack[::-1]


def test_block_devices_against_dmsetup_and_losetup(built: Machine, seen: Noted) -> None:
    nodes = by(seen["block"], "dev")
    told = built.run("dmsetup info -c --noheadings --separator '|' -o name,uuid,major,minor").out.splitlines()
    assert len(told) == 4
    for name, uuid, major, minor in (line.split("|") for line in told):
        mine = nodes[f"{major}:{minor}"]
        assert (mine["dm_name"], mine["dm_uuid"]) == (name, uuid)
    assert sum(node["dm_name"] is not None for node in nodes.values()) == len(told)
    (loop,) = json.loads(built.run("losetup -J -O NAME,BACK-FILE,MAJ:MIN,RO").out)["loopdevices"]
    mine = nodes[loop["maj:min"].strip()]
    assert (mine["kind"], mine["backing_file"]) == ("loop", loop["back-file"])
    assert mine["backing_dev"] is None  # it stands on a file
    assert mine["read_only"] is loop["ro"]
    numbers = built.run("cd /sys/class/block; for d in *; do echo $d $(cat $d/diskseq $d/../diskseq | head -n 1); done")
    for kname, number in (line.split() for line in numbers.out.splitlines() if len(line.split()) == 2):
        assert by(seen["block"], "kname")[kname]["diskseq"] == int(number), kname


def test_bcache_against_its_own_tool(built: Machine, seen: Noted) -> None:
    node = by(seen["block"], "kname")["bcache0"]
    told = {}
    for kname in node["slaves"]:
        told[kname] = built.run(f"bcache-super-show /dev/{kname} | grep sb.version").out
    assert sorted("backing" in text for text in told.values()) == [False, True]
    assert {by(seen["block"], "kname")[kname]["holders"][0] for kname in told} == {"bcache0"}


def test_links_against_ip(built: Machine, seen: Noted) -> None:
    told = {link["ifname"]: link for link in json.loads(built.run("ip -j -d -s addr").out)}
    assert {link["name"] for link in seen["links"]} == told.keys() >= {"lo", "host1", "host2"}
    for mine in seen["links"]:
        link, name = told[mine["name"]], mine["name"]
        assert mine["id"] == f"link:{name}"
        kind = link.get("linkinfo", {}).get("info_kind", "loopback")
        assert mine["kind"] in (kind, "virtual")
        assert mine["state"] == ("up" if "LOWER_UP" in link["flags"] else "down")
        assert mine["carrier"] is (True if "LOWER_UP" in link["flags"] else None)
        assert (mine["mtu"], mine["mac"], mine["master"], mine["lower"]) == (link["mtu"], link["address"], None, [])
        assert {text.partition("%")[0] for text in mine["addresses"]} == {each["local"] for each in link["addr_info"]}
        files = ("carrier_changes", "speed", "duplex")
        read = "; ".join(f"echo $(cat /sys/class/net/{name}/{file})" for file in files)
        changes, speed, duplex = built.run(f"{{ {read}; }} 2>/dev/null").out.split("\n")[:3]
        assert (mine["carrier_changes"], str(mine["speed_mbps"] or ""), mine["duplex"] or "") == (
            int(changes),
            speed.replace("-1", ""),
            duplex.replace("unknown", ""),
        )
        assert mine["driver"] is None  # none of these has hardware
        for way in ("rx", "tx"):
            for what in ("bytes", "errors", "dropped"):
                assert mine[f"{way}_{what}"] <= link["stats64"][way][what]
    assert all(link["rx_bytes"] > 0 for link in seen["links"] if link["name"] in ("host1", "host2"))


def test_a_mount_in_another_namespace(built: Machine, seen: Noted) -> None:
    assert built.run("findmnt /mnt/elsewhere", check=False).code == 1
    (mine,) = (volume for volume in seen["volumes"] if volume["mountpoint"] == "/mnt/elsewhere")
    told = built.run(f"cat /proc/{mine['namespace_pid']}/mountinfo; readlink /proc/{mine['namespace_pid']}/ns/mnt").out
    assert mine["name"] == "far"
    assert f"{mine['mount_id']} " in told
    assert f"mnt:[{mine['namespace']}]" in told
    assert {by(seen["disks"], "id")[disk]["target"] for disk in mine["disks"]} == {san.CHAP}


def test_lvm_against_pvs_and_lvs(built: Machine, seen: Noted) -> None:
    pvs = json.loads(built.run("pvs --reportformat json -o pv_name,vg_name,dev_size --units b --nosuffix").out)
    (volume,) = pvs["report"][0]["pv"]
    disk = by(seen["disks"], "device")[volume["pv_name"]]
    assert disk["size_bytes"] == int(volume["dev_size"])
    lvs = json.loads(
        built.run(
            "lvs --reportformat json -o vg_name,lv_name,lv_size,lv_kernel_major,lv_kernel_minor --units b --nosuffix"
        ).out
    )
    (logical,) = lvs["report"][0]["lv"]
    node = by(seen["block"], "dev")[f"{logical['lv_kernel_major']}:{logical['lv_kernel_minor']}"]
    assert (node["kind"], node["dm_name"], node["size_bytes"]) == ("lvm", "vault-crypt", int(logical["lv_size"]))
    assert by(seen["block"], "dev")[disk["dev"]]["kname"] in node["slaves"]


def test_swap_against_swapon(built: Machine, seen: Noted) -> None:
    columns = '{print $1 "|" $2 "|" $3}'
    lines = built.run(f"swapon --show=NAME,TYPE,USED --bytes --raw --noheadings | awk '{columns}'").out.splitlines()
    told = {(name, kind, int(used)) for name, kind, used in (line.split("|") for line in lines)}
    assert {(swap["path"], swap["kind"], swap["used_bytes"]) for swap in seen["swaps"]} == told
    area, file = sorted(seen["swaps"], key=lambda swap: swap["kind"], reverse=True)
    assert (area["kind"], file["kind"]) == ("partition", "file")
    assert by(seen["disks"], "dev")[area["dev"]]["target"] == san.SINGLE
    assert file["dev"] in {volume["dev"] for volume in seen["volumes"] if volume["mountpoint"] == "/mnt/shared"}


# --- what nobody sees in the block stack: the kernel's own uses ---


@pytest.mark.trap(75)
@pytest.mark.parametrize(
    ("serial", "code"),
    [
        ("a000000c", "exported nfs:/mnt/shared/export"),
        ("a000000c", "loop loop7"),
        ("a000000d", "exported lio:again"),
        ("a000000e", "exported nvme:again"),
        ("a0000008", "holder bcache0"),
        ("a0000009", "holder bcache0"),
    ],
)
def test_what_the_kernel_itself_uses_stands_in_the_way_of_a_removal(
    built: Machine, seen: Noted, serial: str, code: str
) -> None:
    (disk,) = (disk for disk in seen["disks"] if disk["serial"].startswith(serial))
    plan = json.loads(built.mooring("plan", disk["name"], "--json", check=False).out)
    found = [f"{each['code']} {each['subject']}" for each in plan["findings"] if each["level"] == "block"]
    assert code in found


@pytest.mark.trap("T16")
def test_a_swap_file_is_switched_off_by_the_plan(built: Machine, seen: Noted) -> None:
    (disk,) = (disk for disk in seen["disks"] if disk["serial"].startswith("a000000c"))
    plan = json.loads(built.mooring("plan", disk["name"], "--json", check=False).out)
    about = {each["code"]: each["level"] for each in plan["findings"] if each["subject"] == "/mnt/shared/swapfile"}
    assert about == {"swapped": "note"}


def test_what_is_exported_is_in_use(built: Machine) -> None:
    """LIO claims its disk. nvmet does not: an exclusive open of it succeeds, so only the guard above knows of it."""
    claim = "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)"
    node = "/dev/disk/by-id/wwn-0x6001405a000000"
    ran = built.run(f"python3 -c '{claim}' {node}d*", check=False)
    assert (ran.code, "Device or resource busy" in ran.err) == (1, True), str(ran)
    told = built.run(
        f"python3 -c '{claim}' {node}e*; cat /sys/kernel/config/nvmet/subsystems/again/namespaces/1/enable"
    )
    assert told.out == "1\n"
    assert "/mnt/shared/export" in built.run("exportfs -v").out
    assert int(built.run("cat /proc/fs/nfsd/threads").out) == 1
