"""Sessions, disks, paths and maps, every field of them, against what the kernel's own tools print of the same."""

from __future__ import annotations

import ipaddress
import itertools
import json
from typing import Any

from tests.lab import san
from tests.lab.machine import Machine
from tests.lab.noted import Noted, by

PORTS = " or ".join(f"dport = {port}" for port in (3260, 3261, 3262, 3263))


def test_sessions_against_iscsiadm(built: Machine, seen: Noted) -> None:
    told = san.parse_p3(built.run("iscsiadm -m session -P 3").out)
    ours = {session["id"].removeprefix("kernel:s:"): session for session in seen["sessions"]}
    assert len(told) == 6
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
    place, _, tag = text.rpartition(",")
    host, _, port = place.rpartition(":")
    return f"{bracketed(str(ipaddress.ip_address(host.strip('[]'))))}:{port},{tag}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def test_what_was_asked_for_is_there(seen: Noted) -> None:
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


def test_maps_against_multipathd(built: Machine, seen: Noted) -> None:
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
        details = mine["details"]
        assert details.keys() == {
            key for key, value in each.items() if key not in ("name", "uuid", "sysfs", "path_groups")
        }
        for key in details:
            assert details[key] == str(each[key]), key
        devices = {path["dev"] for group in each["path_groups"] for path in group["paths"]}
        assert {paths[f"/dev/{dev}"]["id"] for dev in devices} == set(mine["paths"])
        assert mine["source"] == "kernel"
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


def test_paths_and_orphans_against_multipathd(built: Machine, seen: Noted) -> None:
    raw = built.run('multipathd show paths raw format "%i|%d|%D|%m|%w|%z"').out
    disks = by(seen["disks"], "id")
    paths = by(seen["paths"], "device")
    rows = [line.split("|") for line in raw.splitlines() if "|" in line]
    assert len(rows) == 15
    for hctl, dev, number, joined, wwid, serial in rows:
        path = paths[f"/dev/{dev}"]
        disk = disks[path["disk"]]
        assert path["id"] == f"kernel:p:{hctl}"
        assert (joined == "[orphan]") == (path["map"] is None) == (disk["map"] is None)
        assert disk["wwid"] == f"naa.{wwid[1:]}"
        assert disk["serial"] == serial
        assert {node["kname"]: node["dev"] for node in seen["block"]}[dev] == number
        assert disk["multipath"] is (joined != "[orphan]")


def test_a_single_path_without_multipath(seen: Noted) -> None:
    session = next(session for session in seen["sessions"] if session["target"] == san.SINGLE)
    (path,) = (path for path in seen["paths"] if path["session"] == session["id"])
    disk = by(seen["disks"], "id")[path["disk"]]
    assert (disk["map"], disk["multipath"], disk["device"], disk["state"]) == (None, False, path["device"], "attached")
    assert (path["state"], path["in_use"], path["access"]) == ("active", True, "active/optimized")


def test_connections_against_ss(built: Machine, seen: Noted) -> None:
    rows = [line.split() for line in built.run(f"ss -tnH state established '( {PORTS} )'").out.splitlines()]
    told = {(plain(f"{local},1"), plain(f"{peer},1")) for _, _, local, peer, *_ in rows}
    ours = {
        (
            f"{bracketed(each['local_host'])}:{each['local_port']},1",
            f"{bracketed(each['peer_host'])}:{each['peer_port']},1",
        )
        for session in seen["sessions"]
        for each in session["connections"]
    }
    assert len(ours) == 6
    assert ours == told


READ_TCP = f"""
import dataclasses, json, subprocess
from initiator.host.sockets import kernel_connections
from initiator.inventory import Inventory

def read():
    sessions = Inventory(tcp=kernel_connections).read().sessions
    return {{each.local_port: dataclasses.asdict(each.tcp) for session in sessions for each in session.connections}}

before = read()
told = subprocess.run(["ss", "-tinHO", "( {PORTS} )"], capture_output=True, text=True, check=True).stdout
print(json.dumps([before, told, read()]))
"""


def test_tcp_of_the_kernels_connections_against_ss(built: Machine) -> None:
    """Read as the dashboard reads it. The counters move: what is the same before and after ss is what ss has to say."""
    left: set[str] | None = None
    for _ in range(20):
        before, told, after = json.loads(built.run(f"/opt/mooring/bin/python -c '{READ_TCP}'").out)
        rows = {line.split()[3].rpartition(":")[2]: line.split() for line in told.splitlines()}
        assert len(rows) == 6
        left = set(rows) if left is None else left
        for port in [port for port in left if port in rows and stood_still(before[port], after[port])]:
            compare_tcp(before[port], rows[port])
            left.remove(port)
        if not left:
            return
    raise AssertionError(f"these never stood still: {left}")


def stood_still(before: dict[str, Any], after: dict[str, Any]) -> bool:
    silent, longer = before.pop("last_received_ms"), after.pop("last_received_ms")
    same = before == after and silent <= longer
    before["last_received_ms"] = silent
    return bool(same)


def compare_tcp(tcp: dict[str, Any], words: list[str]) -> None:
    numbers = dict(word.partition(":")[::2] for word in words[5:] if ":" in word)
    rtt, _, variance = numbers["rtt"].partition("/")
    expected = {
        "state": {"ESTAB": "established"}[words[0]],
        "rtt_us": round(float(rtt) * 1000),
        "rttvar_us": round(float(variance) * 1000),
        "rto_us": round(float(numbers["rto"]) * 1000),
        "retransmits": int(numbers.get("retrans", "0/0").partition("/")[2]),
        "unacked": int(numbers.get("unacked", 0)),
        "snd_cwnd": int(numbers["cwnd"]),
        "sent": int(numbers.get("data_segs_out", 0)),
    }
    assert {key: tcp[key] for key in expected} == expected
    assert tcp["last_received_ms"] <= int(numbers.get("lastrcv", 0))  # ss was asked a little later
    rate = next((after for word, after in itertools.pairwise(words) if word == "delivery_rate"), None)
    assert (tcp["delivery_rate_bytes_s"] is None) == (rate is None)


def test_session_fields_that_iscsiadm_does_not_print(built: Machine, seen: Noted) -> None:
    for mine in seen["sessions"]:
        sid = mine["id"].removeprefix("kernel:s:")
        files = ("isid", "tsid", "targetalias", "target_state")
        told = dict(
            line.split("=", 1)
            for line in built.run(
                f"cd /sys/class/iscsi_session/session{sid}; for f in {' '.join(files)}; do "
                "[ ! -e $f ] || echo $f=$(cat $f); done"
            ).out.splitlines()
        )
        assert (mine["isid"], mine["tsih"]) == (told.get("isid"), int(told["tsid"]) if "tsid" in told else None)
        assert (mine["alias"] or "", mine["details"].get("target_state")) == (
            told.get("targetalias", "").replace("(null)", ""),
            told.get("target_state"),
        )
        assert mine["name"] == f"{mine['target'].rpartition(':')[2]}@{mine['portal']}"
        assert (mine["reason"], mine["reconnects"]) == (None, 0)
        host, port = mine["portal"].rsplit(":", 1)
        record = built.run(f"iscsiadm -m node -T {mine['target']} -p '{host}:{port}' -o show").out
        values = dict(line.split(" = ", 1) for line in record.splitlines() if " = " in line)
        details = mine["details"]
        assert details["startup"] == values["node.startup"]
        assert details["ping_interval_s"] == values["node.conn[0].timeo.noop_out_interval"]
        assert details["ping_timeout_s"] == values["node.conn[0].timeo.noop_out_timeout"]
        assert f"node.name = {mine['target']}" in built.run(f"cat '{details['record']}'").out
        (route,) = json.loads(built.run(f"ip -j route get {host.strip('[]')}").out)
        assert mine["link"] == f"link:{route['dev']}"


def test_connections_against_sysfs(built: Machine, seen: Noted) -> None:
    for session in seen["sessions"]:
        sid = session["id"].removeprefix("kernel:s:")
        (mine,) = session["connections"]
        assert (mine["id"], mine["cid"]) == (f"kernel:c:{sid}:0", 0)
        folder = f"/sys/class/iscsi_connection/connection{sid}:0"
        assert mine["state"] == built.run(f"cat {folder}/state").out.strip() == "up"
        negotiated = session["negotiated"]
        assert (mine["header_digest"], mine["data_digest"]) == (negotiated["HeaderDigest"], negotiated["DataDigest"])
        near = f"{bracketed(mine['local_host'])}:{mine['local_port']}"
        assert mine["name"] == f"{near} - {session['portal']}"
        assert mine["tcp"] is None  # only a dashboard asks


def test_disks_against_sg_tools_and_sysfs(built: Machine, seen: Noted) -> None:
    paths = by(seen["paths"], "id")
    kinds = {"disk": "0"}
    assert len(seen["disks"]) == 13
    for mine in seen["disks"]:
        first = paths[mine["paths"][0]]
        kname, hctl = first["device"].removeprefix("/dev/"), first["id"].removeprefix("kernel:p:")
        inquiry = built.run(f"sg_inq {first['device']}").out
        fields = dict(line.strip().split(": ", 1) for line in inquiry.splitlines() if ": " in line)
        assert (mine["vendor"], mine["product"], mine["revision"], mine["serial"]) == (
            fields["Vendor identification"].strip(),
            fields["Product identification"].strip(),
            fields["Product revision level"].strip(),
            fields["Unit serial number"].strip(),
        )
        pages = built.run(f"sg_vpd -p di {first['device']}; sg_vpd -p lbpv {first['device']}").out
        assert mine["wwid"].removeprefix("naa.") in pages.replace("0x", "")
        assert mine["designators"] == [mine["wwid"], f"t10.LIO-ORG%20{mine['product']}:{mine['serial']}"]
        assert f"vendor specific: {mine['product']}:{mine['serial']}" in pages
        assert mine["thin"] is ("Logical block provisioning VPD page" in pages and "(LBPU): 1" in pages)
        place = f"/sys/class/scsi_device/{hctl}/device"
        told = built.run(
            f"cat {place}/type {place}/scsi_disk/*/cache_type {place}/block/*/queue/logical_block_size; "
            f"blockdev --getro {mine['device']}; cat /sys/dev/block/{mine['dev']}/diskseq; "
            f"lsblk -dno KNAME,MAJ:MIN {mine['device']}"
        ).out.splitlines()
        assert (kinds[mine["kind"]], mine["write_cache"]) == (told[0], told[1] == "write back")
        assert (mine["block_bytes"], mine["read_only"], mine["diskseq"]) == (int(told[2]), told[3] != "0", int(told[4]))
        assert told[5].split()[1] == mine["dev"]
        own = [path for path in seen["paths"] if path["disk"] == mine["id"]]
        assert {path["id"] for path in own} == set(mine["paths"])
        assert {path["lun"] for path in own} == {mine["lun"]}
        assert mine["name"] == (mine["device"].rpartition("/")[2] if mine["map"] else kname)
        assert (mine["source"], mine["state"], mine["reason"]) == ("kernel", "attached", None)
        assert mine["unflushed"] is None


def test_paths_against_sysfs_and_multipathd(built: Machine, seen: Noted) -> None:
    sessions = by(seen["sessions"], "id")
    raw = built.run('multipathd show paths raw format "%d|%0"').out
    failures = dict(line.split("|") for line in raw.splitlines() if "|" in line)
    for mine in seen["paths"]:
        session = sessions[mine["session"]]
        kname, hctl = mine["device"].removeprefix("/dev/"), mine["id"].removeprefix("kernel:p:")
        assert hctl.split(":")[0] == session["details"]["host"]
        assert (mine["name"], mine["link"]) == (f"{session['name']} lun {mine['lun']}", session["link"])
        place = f"/sys/class/scsi_device/{hctl}/device"
        told = built.run(f"cat {place}/state {place}/access_state").out.split("\n")
        assert (told[0], told[1]) == ("running", mine["access"])
        assert mine["failures"] == int(failures[kname])
        assert (mine["since"], mine["latency_us"], mine["reason"]) == (None, None, None)  # of a first reading


def test_counters_against_sysfs(built: Machine) -> None:
    """What the kernel counts lies between a reading before and one after."""
    read = "for d in /sys/block/sd*; do echo ${d##*/} $(cat $d/stat $d/device/ioerr_cnt $d/device/iotmo_cnt); done"
    script = f"{read}; echo ---; /opt/mooring/bin/mooring list --json; echo ---; {read}"
    before, ours, after = built.run(script).out.split("---\n")
    low, high = ({line.split()[0]: line.split()[1:] for line in text.splitlines()} for text in (before, after))
    found = Noted("snapshot", json.loads(ours))["paths"]
    assert {path["device"].removeprefix("/dev/") for path in found} == low.keys()
    for mine in found:
        ends = [known[mine["device"].removeprefix("/dev/")] for known in (low, high)]
        for key, column, factor in (("reads", 0, 1), ("read_bytes", 2, 512), ("writes", 4, 1), ("write_bytes", 6, 512)):
            least, most = (int(words[column]) * factor for words in ends)
            assert least <= mine[key] <= most, f"{mine['device']} {key}"
        for key, column in (("errors", -2), ("timeouts", -1)):
            least, most = (int(words[column], 16) for words in ends)
            assert least <= mine[key] <= most, f"{mine['device']} {key}"
        assert mine["in_flight"] >= 0
    assert any(path["write_bytes"] > 0 for path in found)
