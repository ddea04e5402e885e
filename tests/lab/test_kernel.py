"""Every field that Mooring shows of the kernel's sessions, against what the kernel's own tools print of the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.lab import san
from tests.lab.machine import Machine, accelerator

Json = dict[str, Any]


@pytest.fixture(scope="module")
def built(guest: Machine) -> Machine:
    """The guest with sessions of every kind."""
    san.make(guest)
    return guest


@pytest.fixture(scope="module")
def seen(built: Machine) -> Json:
    """What `mooring list --json` prints."""
    found: Json = json.loads(built.mooring("list", "--json").out)
    return found


def by(items: list[Json], key: str) -> dict[str, Json]:
    return {item[key]: item for item in items}


def test_sessions_against_iscsiadm(built: Machine, seen: Json) -> None:
    told = san.parse_p3(built.run("iscsiadm -m session -P 3").out)
    ours = {session["id"].removeprefix("kernel:s:"): session for session in seen["sessions"]}
    assert len(told) == 5
    assert ours.keys() == told.keys()
    paths = seen["paths"]
    for sid, session in told.items():
        mine, details = ours[sid], ours[sid]["details"]
        assert (mine["target"], mine["initiator"]) == (session["target"], session["initiator"])
        assert mine["source"] == "kernel"
        assert f"{details['persistent_portal']},{mine['tpgt']}" == session["persistent"]
        assert plain(session["current"]) == f"{mine['portal']},{mine['tpgt']}"
        assert (details["interface"], details["transport"]) == (session["iface"], session["transport"])
        assert plain(f"{session['ip']}:1,1") == f"{bracketed(details['ip_address'])}:1,1"
        assert details.get("hardware_address", "default") == session["hw"]
        assert details.get("net_device", "default") == session["netdev"]
        assert mine["state"].replace("-", "_").upper() == session["state"]
        assert details["recovery_timeout_s"] == session["recovery"]
        assert details["target_reset_timeout_s"] == session["target_reset"]
        assert details["lun_reset_timeout_s"] == session["lun_reset"]
        assert details["abort_timeout_s"] == session["abort"]
        assert (mine["chap_user"] or "<empty>") == session["username"]
        assert details.get("chap_user_in", "<empty>") == session["username_in"]
        assert mine["negotiated"] == session["negotiated"]
        assert (details["host"], details["host_state"]) == (session["host"], session["host_state"])
        own = {path["id"].removeprefix("kernel:p:"): path for path in paths if path["session"] == mine["id"]}
        assert {hctl: (path["device"] or "").removeprefix("/dev/") for hctl, path in own.items()} == {
            hctl: disk[0] if disk else "" for hctl, disk in session["luns"].items()
        }


def plain(text: str) -> str:
    """A portal as iscsiadm prints it, with the address in its shortest form."""
    import ipaddress

    place, _, tag = text.rpartition(",")
    host, _, port = place.rpartition(":")
    return f"{bracketed(str(ipaddress.ip_address(host.strip('[]'))))}:{port},{tag}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def test_what_was_asked_for_is_there(seen: Json) -> None:
    sessions = {(session["target"], session["portal"]): session for session in seen["sessions"]}
    two = sessions[san.TWO, "10.9.1.2:3260"]
    assert (two["negotiated"]["HeaderDigest"], two["negotiated"]["DataDigest"]) == ("CRC32C", "CRC32C")
    assert two["luns"] == [0, 1]
    chap = sessions[san.CHAP, "[fd09:1::2]:3260"]
    assert (chap["chap_user"], chap["details"]["chap_user_in"]) == (san.USER, san.TARGET_USER)
    assert san.SECRET not in json.dumps(seen)
    assert san.TARGET_SECRET not in json.dumps(seen)
    assert {session["link"] for session in seen["sessions"]} == {"link:host1", "link:host2"}
    assert {session["details"]["startup"] for session in seen["sessions"]} == {"manual"}


def test_maps_against_multipathd(built: Machine, seen: Json) -> None:
    told = json.loads(built.run("multipathd show maps json").out)["maps"]
    maps = by(seen["maps"], "name")
    paths = by(seen["paths"], "device")
    disks = by(seen["disks"], "id")
    assert len(told) == 2
    assert maps.keys() == {each["name"] for each in told}
    for each in told:
        mine = maps[each["name"]]
        assert (mine["wwid"], mine["device"]) == (each["uuid"], f"/dev/mapper/{each['name']}")
        assert (mine["total"], mine["active"], mine["state"]) == (each["paths"], each["paths"], "ok")
        assert mine["queueing"] == each["queueing"]
        assert mine["policy"] == each["path_groups"][0]["selector"]
        for key in ("features", "hwhandler", "failback", "write_prot", "vend", "prod", "rev"):
            assert mine["details"][key] == each[key]
        disk = disks[mine["disk"]]
        assert (disk["vendor"], disk["product"], disk["revision"]) == (each["vend"], each["prod"], each["rev"])
        assert (disk["multipath"], disk["state"]) == (True, "attached")
        assert disk["wwid"] == f"naa.{each['uuid'][1:]}"
        for group in each["path_groups"]:
            for path in group["paths"]:
                ours = paths[f"/dev/{path['dev']}"]
                assert (ours["map"], ours["group"], ours["priority"]) == (mine["id"], group["group"], path["pri"])
                assert ours["checker"] == path["chk_st"] == "ready"
                active = group["dm_st"] == "active" and path["dm_st"] == "active"
                assert ours["in_use"] is active
                assert ours["state"] == ("active" if active else "standby")
                assert int(path["lun_hex"][2:6], 16) == ours["lun"]


def test_paths_and_orphans_against_multipathd(built: Machine, seen: Json) -> None:
    raw = built.run('multipathd show paths raw format "%i|%d|%D|%m|%w|%z"').out
    disks = by(seen["disks"], "id")
    paths = by(seen["paths"], "device")
    rows = [line.split("|") for line in raw.splitlines() if "|" in line]
    assert len(rows) == 8
    for hctl, dev, number, joined, wwid, serial in rows:
        path = paths[f"/dev/{dev}"]
        disk = disks[path["disk"]]
        assert path["id"] == f"kernel:p:{hctl}"
        assert (joined == "[orphan]") == (path["map"] is None) == (disk["map"] is None)
        assert disk["wwid"] == f"naa.{wwid[1:]}"
        assert disk["serial"] == serial
        assert {node["kname"]: node["dev"] for node in seen["block"]}[dev] == number
        assert disk["multipath"] is (joined != "[orphan]")


def test_a_single_path_without_multipath(seen: Json) -> None:
    session = next(session for session in seen["sessions"] if session["target"] == san.SINGLE)
    (path,) = (path for path in seen["paths"] if path["session"] == session["id"])
    disk = by(seen["disks"], "id")[path["disk"]]
    assert (disk["map"], disk["multipath"], disk["device"], disk["state"]) == (None, False, path["device"], "attached")
    assert (path["state"], path["in_use"], path["access"]) == ("active", True, "active/optimized")


def test_the_block_stack_against_lsblk(built: Machine, seen: Json) -> None:
    columns = "NAME,KNAME,MAJ:MIN,SIZE,RO,TYPE,FSTYPE,LABEL,SERIAL,VENDOR,MODEL,REV,WWN,HCTL"
    told = json.loads(built.run(f"lsblk -J -b -o {columns}").out)["blockdevices"]
    nodes = by(seen["block"], "kname")
    kinds = {"raid1": "md"}
    every = {node["kname"]: node for top in told for node in san.flat(top)}
    assert every.keys() <= nodes.keys()
    for kname, node in every.items():
        mine = nodes[kname]
        assert (mine["dev"], mine["size_bytes"]) == (node["maj:min"], int(node["size"]))
        assert mine["read_only"] == node["ro"]
        assert mine["kind"] == kinds.get(node["type"], node["type"])
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
    ],
)
def test_volumes_against_findmnt(built: Machine, seen: Json, mountpoint: str, target: str, stack: list[str]) -> None:
    columns = "TARGET,SOURCE,FSTYPE,MAJ:MIN,VFS-OPTIONS,LABEL,UUID,SIZE,USED,AVAIL,FSROOT,PROPAGATION,ID,PARENT"
    told = json.loads(built.run(f"findmnt -J -b --mountpoint '{mountpoint}' -o {columns}").out)
    (mount,) = told["filesystems"]
    (mine,) = (
        volume for volume in seen["volumes"] if volume["mountpoint"] == mountpoint and volume["namespace"] is None
    )
    assert mine["fstype"] == mount["fstype"]
    assert (mine["mount_id"], mine["parent_id"], mine["dev"]) == (mount["id"], mount["parent"], mount["maj:min"])
    assert (mine["options"], mine["label"], mine["uuid"]) == (mount["vfs-options"], mount["label"], mount["uuid"])
    assert mine["root"] == mount["fsroot"]
    assert mine["size_bytes"] == int(mount["size"])
    disks = by(seen["disks"], "id")
    assert {disks[disk]["target"] for disk in mine["disks"]} == {target}
    assert len(mine["disks"]) == (2 if target == san.MD else 1)
    assert {disk["id"] for disk in seen["disks"] if mine["id"] in disk["volumes"]} == set(mine["disks"])
    above = by(seen["block"], "dev")[mine["dev"]]
    found = [above["kind"]]
    nodes = by(seen["block"], "kname")
    while above["slaves"] and above["kind"] not in ("mpath", "md"):
        above = nodes[above["slaves"][0]]
        found.append(above["kind"])
    assert found == stack[::-1]


def test_a_mount_in_another_namespace(built: Machine, seen: Json) -> None:
    assert built.run("findmnt /mnt/elsewhere", check=False).code == 1
    (mine,) = (volume for volume in seen["volumes"] if volume["mountpoint"] == "/mnt/elsewhere")
    told = built.run(f"cat /proc/{mine['namespace_pid']}/mountinfo; readlink /proc/{mine['namespace_pid']}/ns/mnt").out
    assert f"{mine['mount_id']} " in told
    assert f"mnt:[{mine['namespace']}]" in told
    assert {by(seen["disks"], "id")[disk]["target"] for disk in mine["disks"]} == {san.CHAP}


def test_lvm_against_pvs_and_lvs(built: Machine, seen: Json) -> None:
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


def test_swap_against_swapon(built: Machine, seen: Json) -> None:
    told = json.loads(
        built.run(
            'swapon --show=NAME,TYPE,USED --bytes --raw --noheadings | awk \'{print "[\\""$1"\\",\\""$2"\\","$3"]"}\''
        ).out
    )
    (swap,) = seen["swaps"]
    assert [swap["path"], swap["kind"], swap["used_bytes"]] == told
    disk = by(seen["disks"], "dev")[swap["dev"]]
    assert disk["target"] == san.SINGLE


def test_connections_against_ss(built: Machine, seen: Json) -> None:
    rows = [
        line.split()
        for line in built.run("ss -tnH state established '( dport 3260 or dport 3261 or dport 3262 )'").out.splitlines()
    ]
    told = {(plain(f"{local},1"), plain(f"{peer},1")) for _, _, local, peer, *_ in rows}
    ours = {
        (
            f"{bracketed(each['local_host'])}:{each['local_port']},1",
            f"{bracketed(each['peer_host'])}:{each['peer_port']},1",
        )
        for session in seen["sessions"]
        for each in session["connections"]
    }
    assert len(ours) == 5
    assert ours == told


def test_tcp_of_the_kernels_connections(built: Machine) -> None:
    script = (
        "from initiator.inventory import Inventory; from initiator.host.sockets import kernel_connections as tcp; "
        "print([(c.tcp.state, c.tcp.rtt_us) for s in Inventory(tcp=tcp).read().sessions for c in s.connections])"
    )
    found = built.run(f'/opt/mooring/bin/python -c "{script}"').out
    assert found.count("established") == 5


def test_counters_against_sysfs(built: Machine, seen: Json) -> None:
    path = seen["paths"][0]
    folder = f"/sys/class/scsi_device/{path['id'].removeprefix('kernel:p:')}/device"
    told = built.run(f"cat {folder}/ioerr_cnt {folder}/iotmo_cnt; cat {folder}/block/*/stat").out.split()
    assert path["errors"] <= int(told[0], 16)
    assert path["timeouts"] <= int(told[1], 16)
    assert 0 < path["reads"] <= int(told[2])
    assert 0 < path["read_bytes"] <= int(told[4]) * 512


# --- orders ---


def test_no_order_logs_out_of_a_session_with_a_disk(built: Machine, seen: Json) -> None:
    for session in seen["sessions"]:
        sid = session["id"].removeprefix("kernel:s:")
        assert san.order(built, "logout", sid)["error"] == "attached"
    assert len(san.parse_p3(built.run("iscsiadm -m session -P 3").out)) == 5


def test_startup_is_set_in_the_record(built: Machine) -> None:
    assert san.order(built, "startup", san.SINGLE, "10.9.2.2:3261", "automatic") == {"result": "manual"}
    shown = built.run(f"iscsiadm -m node -T {san.SINGLE} -p 10.9.2.2:3261 | grep startup").out
    assert shown.splitlines() == ["node.startup = automatic", "node.conn[0].startup = automatic"]
    assert san.order(built, "discover", "10.9.2.2:3261")["result"]
    assert san.order(built, "startup", san.SINGLE, "10.9.2.2:3261", "manual") == {"result": "automatic"}


def test_the_secret_is_in_the_record_and_only_root_can_read_it(built: Machine) -> None:
    record = f"/etc/iscsi/nodes/{san.CHAP}/fd09:1::2,3260,1/default"
    assert built.run(f"stat -c %a {record}").out.strip() == "600"
    assert san.SECRET in built.run(f"cat {record}").out


# --- live ---


def test_changes_show_within_a_second_of_the_kernel_knowing(built: Machine, seen: Json) -> None:
    sids = {session["target"]: session["id"].removeprefix("kernel:s:") for session in seen["sessions"]}
    python = "/opt/mooring/bin/python"
    built.run(f"rm -f /tmp/watch; setsid {python} /opt/lab/watch.py 150 /tmp/watch >/tmp/watch.log 2>&1 </dev/null &")
    built.run("for n in $(seq 100); do grep -q ready /tmp/watch && break; sleep 0.5; done; grep -q ready /tmp/watch")
    core = "/sys/kernel/config/target"
    group = f"{core}/iscsi/{san.MD}/tpgt_1"
    lun = f"{core}/iscsi/{san.TWO}/tpgt_1/lun/lun_5"
    node = f"iscsiadm -m node -T {san.TWO} -p 10.9.1.2"
    steps = (
        "sh /opt/lab/cables.sh pull 2; sleep 12; sh /opt/lab/cables.sh plug 2; sleep 8",
        f"echo 0 > {group}/enable; sleep 8; echo 1 > {group}/enable; sleep 8",
        f"mkdir {lun}; ln -s {core}/core/fileio_6/x0 {lun}/disk",
        f"iscsiadm -m session -r {sids[san.TWO]} -R; sleep 6",
        "for d in /sys/class/scsi_device/*:5; do echo 1 > $d/device/delete; done; sleep 6",
        f"{node} -u; sleep 6; {node} -l; sleep 10",
    )
    with built.timed():
        built.run("; ".join(steps), seconds=220, check=False)
    lines = [json.loads(line) for line in built.run("cat /tmp/watch").out.splitlines()]
    # A reading takes milliseconds on a machine, up to a second under emulation; one that just began has to end first.
    longest = max(float(line["what"]) for line in lines if line["who"] == "reading")
    limit = 1.0 if accelerator() == "kvm" else 1.0 + 2 * longest
    lines = [line for line in lines if line["who"] != "reading"]
    assert longest < 5, f"one reading took {longest} s\n{built.run('cat /tmp/watch.log').out}"
    told = [(line["at"], line["what"]) for line in lines if line["who"] == "kernel"]
    said = [(line["at"], line["what"]) for line in lines if line["who"] == "mooring"]
    report = "\n".join(f"{line['at']:.2f} {line['who']:8} {line['what']}" for line in lines)
    checks = [
        ("host2 1 -> 0", "link:host2"),
        ("host2 0 -> 1", "link:host2"),
        (f"session{sids[san.MD]} LOGGED_IN -> FAILED", f"kernel:s:{sids[san.MD]}"),
        (f"session{sids[san.MD]} FAILED -> LOGGED_IN", f"kernel:s:{sids[san.MD]}"),
        (":5 None -> there", ":5"),
        (":5 there -> None", ":5"),
        (r"session\d+ \w+ -> None", "vanished kernel:s:"),
        (r"session\d+ None -> \w+", "appeared kernel:s:"),
    ]
    for fact, event in checks:
        when = next((at for at, what in told if re.search(fact, what)), None)
        assert when is not None, f"the kernel never said {fact}\n{report}"
        delay = min((at - when for at, what in said if event in what and at > when - 0.3), default=99.0)
        assert delay < limit, f"{fact} was shown after {delay:.2f} s, the limit is {limit:.2f} s\n{report}"
