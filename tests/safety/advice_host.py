"""A host in values on which no rule has anything to say: two cables, two subnets, two switches, one disk."""

from __future__ import annotations

import dataclasses
from typing import Any

from initiator.fabric import Fabric, Neighbour, Nic, Route
from initiator.host.hostfiles import FstabEntry, InitiatorFile, SecretFile
from initiator.host.lundetails import LunDetail
from initiator.host.nicsettings import Arp, Pause
from initiator.host.nodes import DiscoveryRecord, NodeRecord, Records
from initiator.host.segments import Segment
from initiator.host.services import Listener, Unit
from initiator.model import (
    Access,
    Connection,
    Disk,
    DiskState,
    Link,
    LinkState,
    Map,
    MapState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Snapshot,
    Source,
    Volume,
    VolumeState,
)
from initiator.scsi.reservations import Registration
from safety.advice.facts import Facts

US = "iqn.2026-11.com.example:host7"
TARGET = "iqn.2026-11.com.example:mail"
DISK, MAP = "kernel:d:mail", "kernel:m:mail"
WWID = "naa.60014050000000010000000000000001"
UUID = "2f1c9c53-9d3b-4a52-8a55-b9a0d2f4c001"
NUMBERS = (1, 2)
FOLDER = "/etc/iscsi/nodes"
DAY = 86400.0


def link(number: int, **changes: Any) -> Link:
    plain = Link(
        id=f"link:eth{number}",
        name=f"eth{number}",
        state=LinkState.UP,
        kind="ethernet",
        carrier=True,
        speed_mbps=10000,
        duplex="full",
        mtu=9000,
        addresses=(f"10.9.{number}.1",),
        driver="ixgbe",
        rx_errors=0,
        tx_errors=0,
    )
    return dataclasses.replace(plain, **changes)


def connection(number: int, **changes: Any) -> Connection:
    plain = Connection(
        id=f"kernel:c:{number}:0",
        name=f"10.9.{number}.1 - 10.9.{number}.2",
        state="up",
        local_host=f"10.9.{number}.1",
        local_port=40000 + number,
        peer_host=f"10.9.{number}.2",
        peer_port=3260,
        header_digest="None",
        data_digest="None",
    )
    return dataclasses.replace(plain, **changes)


DETAILS = {
    "interface": "default",
    "recovery_timeout_s": "5",
    "ping_interval_s": "5",
    "ping_timeout_s": "5",
    "chap_user_in": "store",
    "startup": "automatic",
}


def session(number: int, **changes: Any) -> Session:
    portal = Portal(f"10.9.{number}.2", 3260)
    plain = Session(
        id=f"kernel:s:{number}",
        name=f"mail@{portal}",
        state=SessionState.LOGGED_IN,
        source=Source.KERNEL,
        target=TARGET,
        portal=portal,
        initiator=US,
        isid=f"00023d00000{number}",
        chap_user="host7",
        connections=(connection(number),),
        luns=(0,),
        link=f"link:eth{number}",
        details={**DETAILS, "persistent_portal": str(portal)},
    )
    return dataclasses.replace(plain, **changes)


def path(number: int, **changes: Any) -> Path:
    plain = Path(
        id=f"kernel:p:{number}:0:0:0",
        name=f"sd{'abc'[number]}",
        state=PathState.ACTIVE,
        disk=DISK,
        session=f"kernel:s:{number}",
        link=f"link:eth{number}",
        map=MAP,
        device=f"/dev/sd{'abc'[number]}",
        access=Access.OPTIMIZED,
        in_use=True,
        since=100.0,
        latency_us=200.0,
        timeouts=0,
    )
    return dataclasses.replace(plain, **changes)


def disk(**changes: Any) -> Disk:
    plain = Disk(
        id=DISK,
        name="mail",
        state=DiskState.ATTACHED,
        source=Source.KERNEL,
        wwid=WWID,
        size_bytes=1 << 40,
        device="/dev/mapper/mail",
        dev="253:0",
        paths=tuple(path(number).id for number in NUMBERS),
        volumes=("volume:40",),
        map=MAP,
        target=TARGET,
        lun=0,
        write_cache=False,
        multipath=True,
    )
    return dataclasses.replace(plain, **changes)


def map_(**changes: Any) -> Map:
    plain = Map(
        id=MAP,
        name="mail",
        state=MapState.OK,
        source=Source.KERNEL,
        wwid=WWID,
        device="/dev/mapper/mail",
        disk=DISK,
        paths=tuple(path(number).id for number in NUMBERS),
        active=2,
        total=2,
        policy="service-time 0",
        queueing="12 chk",
        details={"features": "1 queue_if_no_path"},
    )
    return dataclasses.replace(plain, **changes)


def volume(**changes: Any) -> Volume:
    plain = Volume(
        id="volume:40",
        name="mail-spool",
        state=VolumeState.MOUNTED,
        mountpoint="/srv/mail",
        fstype="ext4",
        device="/dev/mapper/mail",
        dev="253:0",
        disks=(DISK,),
        mount_id=40,
        label="mail-spool",
        uuid=UUID,
    )
    return dataclasses.replace(plain, **changes)


def snapshot(**changes: Any) -> Snapshot:
    plain = Snapshot(
        host="host7",
        taken_at=1000.0,
        sessions=tuple(session(number) for number in NUMBERS),
        disks=(disk(),),
        paths=tuple(path(number) for number in NUMBERS),
        maps=(map_(),),
        volumes=(volume(),),
        links=(*(link(number) for number in NUMBERS), link(9, kind="ethernet", mtu=1500)),
    )
    return dataclasses.replace(plain, **changes)


RECORD_SETTINGS = {
    "node.startup": "automatic",
    "node.session.scan": "manual",
    "node.session.auth.authmethod": "CHAP",
    "node.session.auth.username": "host7",
    "node.session.auth.chap_algs": "SHA3-256,SHA256",
}


def record(number: int, *, target: str = TARGET, host: str | None = None, **settings: str) -> NodeRecord:
    portal = Portal(host or f"10.9.{number}.2", 3260, 1)
    changed = {**RECORD_SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}}
    return NodeRecord(target, portal, "default", f"{FOLDER}/{target}/{portal.host},3260,1/default", changed)


def discovery(**settings: str) -> DiscoveryRecord:
    plain = {"discovery.sendtargets.auth.authmethod": "CHAP", "discovery.sendtargets.use_discoveryd": "No"}
    changed = {**plain, **{name.replace("__", "."): value for name, value in settings.items()}}
    return DiscoveryRecord("send_targets", "10.9.1.2,3260", "/etc/iscsi/send_targets/10.9.1.2,3260/st_config", changed)


def records(*more: NodeRecord, discoveries: tuple[DiscoveryRecord, ...] | None = None) -> Records:
    return Records((record(1), record(2), *more), (discovery(),) if discoveries is None else discoveries)


def fabric(**changes: Any) -> Fabric:
    plain = Fabric(
        nics={f"eth{number}": Nic((f"10.9.{number}.0/24",), "Ethernet 10G") for number in NUMBERS},
        routes={(f"10.9.{number}.1", f"10.9.{number}.2"): Route(f"eth{number}") for number in NUMBERS},
        neighbours={f"eth{number}": Neighbour(f"switch{number}") for number in NUMBERS},
    )
    return dataclasses.replace(plain, **changes)


def unit(name: str, enabled: str = "enabled") -> Unit:
    return Unit(name, enabled, "active")


def facts(**changes: Any) -> Facts:
    plain = Facts(
        read_at=1000.0,
        fabric=fabric(),
        records=records(),
        initiator=InitiatorFile(US, 500.0, 400.0),
        secrets=(SecretFile(record(1).path, 0o600),),
        daemon={"iscsid.safe_logout": "Yes"},
        fstab=(FstabEntry(f"UUID={UUID}", "/srv/mail", "ext4", ("_netdev", "nofail")),),
        units={name: unit(name) for name in ("open-iscsi.service", "multipathd.service")},
        mounts_after={"/srv/mail": frozenset({"remote-fs-pre.target", "system.slice"})},
        listeners=(Listener("10.1.1.7", 22, "sshd"), Listener("0.0.0.0", 9100, "exporter")),
        default_links=frozenset({"eth9"}),
        ways={"10.9.1.2": "eth1", "10.9.2.2": "eth2"},
        segments={connection(number).id: Segment(9000, 8948) for number in NUMBERS},
        pauses={f"eth{number}": Pause(rx=True, tx=True) for number in NUMBERS},
        arp={f"eth{number}": Arp(2, 1, 2) for number in NUMBERS},
        luns={path(number).id: LunDetail("running", WWID, True, "alua") for number in NUMBERS},
        multipath={"find_multipaths": "strict"},
        ages={key: 3 * DAY for number in NUMBERS for key in (link(number).id, path(number).id)},
        registrations={DISK: (Registration(1, US, session(1).isid), Registration(1, US, session(2).isid))},
    )
    return dataclasses.replace(plain, **changes)
