"""Builds what the kernel shows of iSCSI sessions, their disks and multipath maps, and what open-iscsi keeps on disk.

Shapes are those of Linux 5.10 (no target_state, no diskseq) and of 6.1 and later. `python -m tests.host.kerneltree
FOLDER SESSIONS PATHS` writes a big one.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.host.tree import Tree

INITIATOR = "iqn.1993-08.org.debian:01:a5e63b2160"


def naa(number: int) -> str:
    """The identity of disk `number`, as digits."""
    return f"6001405{number:025x}"


def page83(digits: str, t10: str = "LIO-ORG FILEIO:moor", port: int = 1) -> bytes:
    """A VPD page with one T10 and one NAA designator of the unit and a relative port."""
    name = t10.encode()
    body = struct.pack(">BBBB", 1, 3, 0, 16) + bytes.fromhex(digits)
    body += struct.pack(">BBBB", 2, 1, 0, len(name)) + name
    body += struct.pack(">BBBBxxH", 0x51, 0x94, 0, 4, port)
    return struct.pack(">BBH", 0, 0x83, len(body)) + body


def inquiry(kind: int = 0, vendor: str = "LIO-ORG", product: str = "FILEIO", revision: str = "4.0") -> bytes:
    """Standard INQUIRY data."""
    head = bytes((kind, 0, 6, 0x12, 31, 0x10, 0, 2))
    return head + vendor.encode().ljust(8)[:8] + product.encode().ljust(16)[:16] + revision.encode().ljust(4)[:4]


WHOLE_RECORD: Mapping[str, str] = {
    "node.leading_login": "No",
    "iface.prefix_len": "0",
    "iface.vlan_id": "0",
    "iface.vlan_priority": "0",
    "iface.iface_num": "0",
    "iface.mtu": "0",
    "iface.port": "0",
    "iface.tos": "0",
    "iface.ttl": "0",
    "iface.tcp_wsf": "0",
    "iface.tcp_timer_scale": "0",
    "iface.def_task_mgmt_timeout": "0",
    "iface.erl": "0",
    "iface.max_receive_data_len": "0",
    "iface.first_burst_len": "0",
    "iface.max_outstanding_r2t": "0",
    "iface.max_burst_len": "0",
    "node.discovery_address": "10.9.1.2",
    "node.discovery_port": "3260",
    "node.discovery_type": "send_targets",
    "node.session.initial_cmdsn": "0",
    "node.session.initial_login_retry_max": "8",
    "node.session.xmit_thread_priority": "-20",
    "node.session.cmds_max": "128",
    "node.session.queue_depth": "32",
    "node.session.nr_sessions": "1",
    "node.session.auth.chap_algs": "MD5",
    "node.session.timeo.replacement_timeout": "120",
    "node.session.err_timeo.abort_timeout": "15",
    "node.session.err_timeo.lu_reset_timeout": "30",
    "node.session.err_timeo.tgt_reset_timeout": "30",
    "node.session.err_timeo.host_reset_timeout": "60",
    "node.session.iscsi.FastAbort": "Yes",
    "node.session.iscsi.InitialR2T": "No",
    "node.session.iscsi.ImmediateData": "Yes",
    "node.session.iscsi.FirstBurstLength": "262144",
    "node.session.iscsi.MaxBurstLength": "16776192",
    "node.session.iscsi.DefaultTime2Retain": "0",
    "node.session.iscsi.DefaultTime2Wait": "2",
    "node.session.iscsi.MaxConnections": "1",
    "node.session.iscsi.MaxOutstandingR2T": "1",
    "node.session.iscsi.ERL": "0",
    "node.session.reopen_max": "0",
    "node.conn[0].tcp.window_size": "524288",
    "node.conn[0].tcp.type_of_service": "0",
    "node.conn[0].timeo.logout_timeout": "15",
    "node.conn[0].timeo.login_timeout": "15",
    "node.conn[0].timeo.auth_timeout": "45",
    "node.conn[0].timeo.noop_out_interval": "5",
    "node.conn[0].timeo.noop_out_timeout": "5",
    "node.conn[0].iscsi.MaxXmitDataSegmentLength": "0",
    "node.conn[0].iscsi.MaxRecvDataSegmentLength": "262144",
    "node.conn[0].iscsi.HeaderDigest": "None",
    "node.conn[0].iscsi.DataDigest": "None",
    "node.conn[0].iscsi.IFMarker": "No",
    "node.conn[0].iscsi.OFMarker": "No",
}
"""What open-iscsi 2.1.8 writes into a record besides what `KernelTree.record` writes."""


class KernelTree(Tree):
    """A host with open-iscsi.

    Args:
        root: The folder, which must not exist.
        kernel: Whose shape the files have.
    """

    def __init__(self, root: Path, kernel: tuple[int, int] = (6, 12)) -> None:
        super().__init__(root)
        self.kernel = kernel
        self._stats: dict[str, str] = {}
        self._next_dm = 0
        for name in ("iscsi_session", "iscsi_connection", "iscsi_host", "scsi_host", "scsi_device", "scsi_disk"):
            (root / "sys/class" / name).mkdir()

    # --- sessions ---

    def session(
        self,
        sid: int,
        target: str = "iqn.2026-11.io.mooring.lab:two",
        address: str = "10.9.1.2",
        *,
        host: int | None = None,
        persistent: str | None = None,
        transport: str = "tcp",
        local: str = "10.9.1.1",
        **attributes: str,
    ) -> str:
        """One session; gives its folder in sys/devices."""
        number = sid if host is None else host
        place = f"sys/devices/platform/host{number}/session{sid}"
        values = {
            "targetname": target,
            "tpgt": "1",
            "state": "LOGGED_IN",
            "ifacename": "default",
            "initiatorname": INITIATOR,
            "username": "(null)",
            "username_in": "(null)",
            "password": "(null)",
            "password_in": "(null)",
            "recovery_tmo": "120",
            "abort_tmo": "15",
            "lu_reset_tmo": "30",
            "tgt_reset_tmo": "30",
            "first_burst_len": "65536",
            "max_burst_len": "262144",
            "immediate_data": "1",
            "initial_r2t": "1",
            "max_outstanding_r2t": "1",
            "data_pdu_in_order": "0",
            "data_seq_in_order": "0",
            "erl": "0",
            "fast_abort": "1",
            "creator": "283",
            "target_id": "0",
        }
        if self.kernel >= (6, 2):
            values["target_state"] = "SCANNED"
        self._object("iscsi_session", f"session{sid}", place, values | attributes)
        self.connection(sid, number, address, persistent or address)
        if not (self.root / f"sys/class/scsi_host/host{number}").is_symlink():
            folder = f"sys/devices/platform/host{number}"
            self._object("iscsi_host", f"host{number}", folder, {
                "ipaddress": local, "hwaddress": "(null)", "netdev": "(null)", "initiatorname": "(null)",
            })  # fmt: skip
            self._object("scsi_host", f"host{number}", folder, {
                "state": "running", "proc_name": f"iscsi_{transport}", "can_queue": "113",
            })  # fmt: skip
        return place

    def vanish_session(self, sid: int) -> None:
        """The kernel takes a session and its connection away."""
        for name in (f"iscsi_session/session{sid}", f"iscsi_connection/connection{sid}:0"):
            (self.root / f"sys/class/{name}").unlink()

    def connection(self, sid: int, host: int, address: str, persistent: str, cid: int = 0) -> None:
        """The connection of a session."""
        values = {
            "address": address,
            "port": "3260",
            "persistent_address": persistent,
            "persistent_port": "3260",
            "local_port": "47964",
            "state": "up",
            "header_digest": "0",
            "data_digest": "0",
            "max_recv_dlength": "262144",
            "max_xmit_dlength": "262144",
            "ping_tmo": "5",
            "recv_tmo": "5",
            "exp_statsn": "3588188528",
        }
        name = f"connection{sid}:{cid}"
        self._object("iscsi_connection", name, f"sys/devices/platform/host{host}/session{sid}/{name}", values)

    def _object(self, kind: str, name: str, place: str, values: Mapping[str, str]) -> str:
        """One class device below its parent, with its link in sys/class."""
        folder = f"{place}/{kind}/{name}"
        for key, text in values.items():
            self.write(f"{folder}/{key}", f"{text}\n")
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.link(f"{folder}/device", "../..")
        self.link(f"sys/class/{kind}/{name}", f"../../{folder.removeprefix('sys/')}")
        return folder

    def attribute(self, path: str, text: str | bytes) -> None:
        """Changes or adds one attribute below sys/class; the file stays the same object, as in sysfs."""
        place = self.root / "sys/class" / path
        place.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())

    # --- LUNs ---

    def lun(
        self,
        sid: int,
        lun: int = 0,
        *,
        host: int | None = None,
        kname: str | None = None,
        dev: str = "8:0",
        digits: str | None = None,
        size: int = 1 << 28,
        kind: int = 0,
        vendor: str = "LIO-ORG",
        serial: str = "moor0000",
        diskseq: int = 1,
        **attributes: str,
    ) -> str:
        """One LUN of a session; with `kname` a disk. Gives its H:C:T:L."""
        number = sid if host is None else host
        hctl = f"{number}:0:0:{lun}"
        place = f"sys/devices/platform/host{number}/session{sid}/target{number}:0:0/{hctl}"
        identity = naa(lun) if digits is None else digits
        values = {
            "state": "running",
            "type": str(kind),
            "vendor": vendor.ljust(8),
            "model": "FILEIO".ljust(16),
            "rev": "4.0 ",
            "ioerr_cnt": "0x1",
            "iotmo_cnt": "0x0",
            "iorequest_cnt": "0xb3",
            "iodone_cnt": "0xb4",
            "access_state": "active/optimized",
            "queue_depth": "32",
            "timeout": "30",
        }
        if identity:
            values["wwid"] = f"naa.{identity}"
        folder = self.root / place
        for key, text in (values | attributes).items():
            self.write(f"{place}/{key}", f"{text}\n")
        if self.kernel >= (4, 0):
            (folder / "inquiry").write_bytes(inquiry(kind, vendor))
        if identity:
            (folder / "vpd_pg83").write_bytes(page83(identity))
        (folder / "vpd_pg80").write_bytes(struct.pack(">BBH", 0, 0x80, len(serial)) + serial.encode())
        (folder / f"scsi_device/{hctl}").mkdir(parents=True)
        self.link(f"{place}/scsi_device/{hctl}/device", f"../../../{hctl}")
        self.link(f"sys/class/scsi_device/{hctl}", f"../../{place.removeprefix('sys/')}/scsi_device/{hctl}")
        if kname is not None:
            self._disk(place, hctl, kname, dev, size, diskseq)
        return hctl

    def _disk(self, place: str, hctl: str, kname: str, dev: str, size: int, diskseq: int) -> None:
        major, minor = dev.split(":")
        folder = f"{place}/block/{kname}"
        event = f"MAJOR={major}\nMINOR={minor}\nDEVNAME={kname}\nDEVTYPE=disk\n"
        if self.kernel >= (5, 15):
            event += f"DISKSEQ={diskseq}\n"
        self.write(f"{folder}/uevent", event)
        for name, text in (("dev", dev), ("size", str(size // 512)), ("ro", "0")):
            self.write(f"{folder}/{name}", f"{text}\n")
        self.write(f"{folder}/queue/logical_block_size", "512\n")
        (self.root / folder / "holders").mkdir()
        (self.root / folder / "slaves").mkdir()
        self.link(f"{folder}/device", f"../../../{hctl}")
        self.link(f"sys/class/block/{kname}", f"../../{folder.removeprefix('sys/')}")
        self.write(f"{place}/scsi_disk/{hctl}/cache_type", "write back\n")
        self.write(f"{place}/scsi_disk/{hctl}/thin_provisioning", "0\n")
        self._stats[kname] = f"{major:>4} {minor:>7} {kname} 129 0 5475 4093 1 0 8 11 0 2108 4116 0 0 0 0 1 11"
        self._write_stats()

    def counters(self, kname: str, reads: int, writes: int, busy_ms: int, in_flight: int = 0) -> None:
        """The I/O counters of a disk; every request has 4096 bytes."""
        head = " ".join(self._stats[kname].split()[:3])
        self._stats[kname] = f"{head} {reads} 0 {reads * 8} {busy_ms} {writes} 0 {writes * 8} 0 {in_flight} 1 1"
        self._write_stats()

    def _write_stats(self) -> None:
        if self._batched:
            return
        self.write("proc/diskstats", "".join(f"{line}\n" for line in self._stats.values()))

    _batched = False

    def vanish(self, hctl: str, kname: str | None = None) -> None:
        """The kernel takes a LUN away."""
        (self.root / f"sys/class/scsi_device/{hctl}").unlink()
        if kname is not None:
            (self.root / f"sys/class/block/{kname}").unlink()

    # --- maps ---

    def map(self, name: str, wwid: str, members: tuple[str, ...], size: int = 1 << 28) -> str:
        """A multipath map over devices; gives its kernel name."""
        kname = f"dm-{self._next_dm}"
        self.block(kname, f"252:{self._next_dm}", size, diskseq=100 + self._next_dm, attributes={
            "dm/name": name, "dm/uuid": f"mpath-{wwid}", "dm/suspended": "0",
        })  # fmt: skip
        self._next_dm += 1
        for member in members:
            self.stack(kname, member)
        return kname

    # --- open-iscsi's database ---

    def record(
        self, target: str, portal: str, interface: str = "default", base: str = "etc/iscsi", **settings: str
    ) -> Path:
        """A node record; `portal` is as in the folder's name: `10.9.1.2,3260,1`."""
        address, port, tag = portal.split(",")
        values = {
            "node.name": target,
            "node.tpgt": tag,
            "node.startup": "manual",
            "iface.iscsi_ifacename": interface,
            "iface.transport_name": "tcp",
            "node.session.auth.authmethod": "None",
            "node.session.scan": "auto",
            "node.conn[0].address": address,
            "node.conn[0].port": port,
            "node.conn[0].startup": "manual",
        } | settings
        text = "".join(f"{key} = {value}\n" for key, value in values.items())
        path = f"{base}/nodes/{target}/{portal}/{interface}"
        return self.write(path, f"# BEGIN RECORD 2.1.8\n{text}# END RECORD\n")


def big(root: Path, sessions: int, paths: int, kernel: tuple[int, int] = (6, 12)) -> KernelTree:
    """A host with many sessions: targets with four portals each, every path in a map of four, a record for each.

    Session `s` has `paths / sessions` LUNs; disk `n` of target `t` is reached over its four sessions.
    """
    tree = KernelTree(root, kernel)
    tree._batched = True
    ways = min(4, sessions)
    luns = paths // sessions
    number = 0
    for sid in range(1, sessions + 1):
        target, way = divmod(sid - 1, ways)
        name = f"iqn.2026-11.io.mooring.bench:t{target}"
        address = f"10.{way + 1}.{target // 250}.{target % 250 + 1}"
        tree.session(sid, name, address, local=f"10.{way + 1}.255.1")
        tree.record(name, f"{address},3260,1", **WHOLE_RECORD)
        for lun in range(luns):
            disk = target * luns + lun
            kname = f"sd{_letters(number)}"
            number += 1
            tree.lun(sid, lun, kname=kname, dev=_number(number), digits=naa(disk), serial=f"disk{disk}")
    for disk in range((sessions // ways) * luns):
        target, lun = divmod(disk, luns)
        members = tuple(f"sd{_letters((target * ways + way) * luns + lun)}" for way in range(ways))
        tree.map(f"mpath{_letters(disk)}", f"3{naa(disk)}", members)
    tree._batched = False
    tree._write_stats()
    return tree


def answers(sessions: int, paths: int) -> tuple[str, str]:
    """What multipathd says of the host that `big` writes: `show maps json` and `show paths raw format`."""
    from tests.host.fakemultipathd import MAP, PATH, maps_json

    ways = min(4, sessions)
    luns = paths // sessions
    maps, groups, listed = [], [], []
    for disk in range((sessions // ways) * luns):
        target, lun = divmod(disk, luns)
        name = f"mpath{_letters(disk)}"
        maps.append({**MAP, "name": name, "uuid": f"3{naa(disk)}", "sysfs": f"dm-{disk}", "paths": ways})
        members = []
        for way in range(ways):
            number = (target * ways + way) * luns + lun
            dev, dev_t = f"sd{_letters(number)}", _number(number + 1)
            members.append({**PATH, "dev": dev, "dev_t": dev_t})
            hctl = f"{target * ways + way + 1}:0:0:{lun}"
            listed.append(f"{hctl}|{dev}|{dev_t}|active|running|ready|{name}|0|ok|3{naa(disk)}\n")
        groups.append([members])
    return maps_json(maps, groups), "".join(listed)


def _letters(number: int) -> str:
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(97 + rest) + text
    return text


def _number(number: int) -> str:
    return f"{8 + number // (1 << 20)}:{number % (1 << 20) * 16}"


def disks_of(tree: KernelTree) -> list[str]:
    """The kernel names of all SCSI disks."""
    return sorted(os.path.basename(path) for path in tree._stats)


if __name__ == "__main__":
    big(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
