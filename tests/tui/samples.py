"""Hand-made snapshots: a practice range, a large host, a host with nothing, and one whose every name is hostile."""

from __future__ import annotations

import dataclasses
import random

from initiator.model import (
    Access,
    Connection,
    Disk,
    DiskState,
    Event,
    Link,
    LinkState,
    Map,
    MapState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Severity,
    Snapshot,
    Source,
    TcpInfo,
    Volume,
    VolumeState,
)

NOW = 1_795_000_000.0
"""The frozen wall clock of the tests."""
IQN = "iqn.2026-11.io.mooring.practice"
MIB = 1 << 20
PORTALS = (Portal("127.0.0.1"), Portal("127.0.0.2"))


def session(disk: str, target: str, portal: Portal, state: SessionState = SessionState.LOGGED_IN) -> Session:
    """One engine session that carries one disk."""
    name = f"{disk}-{portal.host}"
    alive = state is SessionState.LOGGED_IN
    tcp = TcpInfo("established", 62, 18, 204_000, 0, 0, 120, 914_000_000, 10) if alive else None
    ends = ("127.0.0.1", 41_000 + PORTALS.index(portal), portal.host, portal.port)
    return Session(
        id=f"engine:s:{name}",
        name=f"{target}@{portal}",
        state=state,
        source=Source.ENGINE,
        target=f"{IQN}:{target}",
        portal=portal,
        initiator="iqn.2026-11.io.mooring:practice",
        isid="80aa5c10f23e",
        tsih=7,
        tpgt=1,
        chap_user="keeper" if target == "lighthouse" else None,
        connections=(Connection(f"{name}:0", "0", "up" if alive else "down", 0, *ends, "CRC32C", "CRC32C", tcp),),
        negotiated={"MaxBurstLength": "1048576", "ImmediateData": "Yes", "InitialR2T": "No"},
        luns=(0,),
        reason=None if alive else "no answer for 1.2 s",
        link="link:lo",
    )


def path(disk: str, portal: Portal, state: PathState = PathState.ACTIVE, latency_us: float | None = 184.0) -> Path:
    """The route of one disk over one portal."""
    failed = state is PathState.FAILED
    return Path(
        id=f"engine:p:{disk}-{portal.host}",
        name=f"{disk}@{portal}",
        state=state,
        disk=f"engine:d:{disk}",
        session=f"engine:s:{disk}-{portal.host}",
        link="link:lo",
        map=f"engine:m:{disk}",
        access=Access.OPTIMIZED,
        in_use=not failed,
        since=NOW - (12 if failed else 3_725),
        latency_us=None if failed else latency_us,
        in_flight=0,
        reads=1_284,
        writes=903,
        read_bytes=41 * MIB,
        write_bytes=28 * MIB,
        errors=0,
        timeouts=0,
        failures=1 if failed else 0,
        reason="no answer for 1.2 s" if failed else None,
    )


def disk(name: str, target: str, lun: int, mib: int, state: DiskState, number: int, volume: str | None) -> Disk:
    """A disk that is attached over both portals."""
    return Disk(
        id=f"engine:d:{name}",
        name=name,
        state=state,
        source=Source.ENGINE,
        wwid=f"naa.6d0011c0ffee{number:02d}0000000000000000{number:02d}",
        size_bytes=mib * MIB,
        device=f"/dev/loop{number}",
        dev=f"7:{number}",
        diskseq=40 + number,
        paths=tuple(f"engine:p:{name}-{portal.host}" for portal in PORTALS),
        volumes=(volume,) if volume else (),
        map=f"engine:m:{name}",
        target=f"{IQN}:{target}",
        lun=lun,
        vendor="MOORING",
        product="PRACTICE",
        revision="0001",
        serial=f"PR{number:06d}",
        block_bytes=512,
        read_only=False,
        write_cache=True,
        unflushed=False,
    )


def volume(name: str, number: int, mib: int, used: float) -> Volume:
    """An ext4 file system mounted from a practice disk."""
    total = mib * MIB
    return Volume(
        id=f"volume:{number}",
        name=name,
        state=VolumeState.MOUNTED,
        mountpoint=f"/run/mooring/practice/{name}",
        fstype="ext4",
        device=f"/dev/loop{number}",
        dev=f"7:{number}",
        disks=(f"engine:d:{name}",),
        options="rw,relatime",
        mount_id=400 + number,
        size_bytes=total,
        used_bytes=int(total * used),
        free_bytes=int(total * (1 - used)),
        label=name,
        uuid=f"5f2c1a9e-0000-4000-8000-{number:012d}",
    )


LOOPBACK = Link(
    id="link:lo",
    name="lo",
    state=LinkState.UP,
    kind="loopback",
    carrier=True,
    mtu=65536,
    addresses=("127.0.0.1/8", "::1/128"),
    rx_bytes=912 * MIB,
    tx_bytes=912 * MIB,
    rx_errors=0,
    tx_errors=0,
)
ETHERNET = Link(
    id="link:eth0",
    name="eth0",
    state=LinkState.UP,
    kind="ethernet",
    carrier=True,
    speed_mbps=10_000,
    duplex="full",
    mtu=9000,
    addresses=("192.0.2.17/24",),
    mac="02:00:5e:10:00:11",
    rx_bytes=41 * MIB,
    tx_bytes=7 * MIB,
)


def practice(*, pulled: Portal | None = None, taken_at: float = NOW, latency_us: float = 184.0) -> Snapshot:
    """The practice range: two targets, three disks, six paths, two volumes. `pulled` is a portal without its cable."""
    layout = (("data", "harbour", 0, 256, 0), ("logs", "harbour", 1, 128, 1), ("vault", "lighthouse", 0, 128, 2))
    mounted = {"data": volume("data", 0, 240, 0.12), "vault": volume("vault", 2, 118, 0.61)}
    sessions, disks, paths, maps = [], [], [], []
    for name, target, lun, mib, number in layout:
        held = mounted.get(name)
        state = DiskState.ATTACHED if pulled is None else DiskState.DEGRADED
        disks.append(disk(name, target, lun, mib, state, number, held.id if held else None))
        for portal in PORTALS:
            lost = portal == pulled
            sessions.append(session(name, target, portal, SessionState.FAILED if lost else SessionState.LOGGED_IN))
            paths.append(path(name, portal, PathState.FAILED if lost else PathState.ACTIVE, latency_us + 11 * number))
        joined = MapState.OK if pulled is None else MapState.DEGRADED
        keys = tuple(found.id for found in paths if found.disk == f"engine:d:{name}")
        active = 2 if pulled is None else 1
        maps.append(
            Map(f"engine:m:{name}", name, joined, Source.ENGINE, None, None, f"engine:d:{name}", keys, active, 2)
        )
    return Snapshot(
        host="quay",
        taken_at=taken_at,
        sessions=tuple(sessions),
        disks=tuple(disks),
        paths=tuple(paths),
        maps=tuple(maps),
        volumes=tuple(mounted.values()),
        links=(ETHERNET, LOOPBACK),
        engine="running",
        practice=True,
    )


def kernel() -> Snapshot:
    """A target of the kernel's with a session that carries the disk `data`, and one that carries nothing."""
    base = practice()
    carrying, idle = (
        dataclasses.replace(
            found,
            id=f"kernel:s:{number}",
            source=Source.KERNEL,
            details={"startup": "automatic", "persistent_portal": str(found.portal), "record": f"/r/{number}"},
        )
        for number, found in enumerate(base.sessions[:2], 1)
    )
    held = dataclasses.replace(base.disks[0], id="kernel:d:data", source=Source.KERNEL, paths=("kernel:p:1",))
    route = dataclasses.replace(base.paths[0], id="kernel:p:1", disk=held.id, session=carrying.id, map=None)
    return dataclasses.replace(
        base,
        sessions=(carrying, idle, *base.sessions[4:]),
        disks=(held, *base.disks[2:]),
        paths=(route, *base.paths[4:]),
        maps=base.maps[2:],
        volumes=base.volumes[1:],
    )


def empty() -> Snapshot:
    """A host that has never heard of iSCSI."""
    return Snapshot(host="quay", taken_at=NOW, links=(ETHERNET,))


EVENTS = (
    Event(NOW - 3_700, "appeared", "engine:d:data", "disk data appeared"),
    Event(NOW - 3_695, "appeared", "volume:0", "volume data mounted on /run/mooring/practice/data"),
    Event(NOW - 12, "state", "engine:p:data-127.0.0.2", "path data@127.0.0.2:3260 failed: no answer", Severity.BAD),
    Event(NOW - 12, "state", "engine:d:data", "disk data is degraded", Severity.WARN),
)


def large(paths: int = 2_000, per_disk: int = 4, disks_per_target: int = 25) -> Snapshot:
    """A host with many paths: one session for each target and portal, `per_disk` paths to each disk."""
    portals = tuple(Portal(f"192.0.2.{number + 1}") for number in range(per_disk))
    sessions: dict[str, Session] = {}
    disks, routes = [], []
    for number in range(paths // per_disk):
        target = f"iqn.2004-10.com.example.array:pool{number // disks_per_target:03d}"
        keys = []
        for leg, portal in enumerate(portals):
            sid = f"kernel:s:{number // disks_per_target}-{leg}"
            if sid not in sessions:
                sessions[sid] = Session(
                    sid, f"{target}@{portal}", SessionState.LOGGED_IN, Source.KERNEL, target, portal, link="link:eth0"
                )
            key = f"kernel:p:{number}-{leg}"
            keys.append(key)
            state = PathState.ACTIVE if leg < 2 else PathState.STANDBY
            routes.append(
                Path(
                    key,
                    f"path {number}-{leg}",
                    state,
                    f"kernel:d:{number}",
                    sid,
                    "link:eth0",
                    latency_us=150.0 + number % 50,
                    device=f"/dev/sd{number}_{leg}",
                    access=Access.OPTIMIZED if leg < 2 else Access.NON_OPTIMIZED,
                )
            )
        disks.append(
            Disk(
                f"kernel:d:{number}",
                f"lun{number:04d}",
                DiskState.ATTACHED,
                Source.KERNEL,
                f"naa.6001405{number:025d}",
                (number % 9 + 1) << 30,
                device=f"/dev/mapper/mpath{number}",
                paths=tuple(keys),
                target=target,
                lun=number % disks_per_target,
            )
        )
    return Snapshot(
        host="quay",
        taken_at=NOW,
        sessions=tuple(sessions.values()),
        disks=tuple(disks),
        paths=tuple(routes),
        links=(ETHERNET,),
    )


def changed(snapshot: Snapshot, share: float, dice: random.Random) -> Snapshot:
    """The same host a second later: a share of the paths measured anew, a few of them failed or back."""
    paths = list(snapshot.paths)
    for number in dice.sample(range(len(paths)), int(len(paths) * share)):
        old = paths[number]
        state = PathState.FAILED if dice.random() < 0.02 else PathState.ACTIVE
        paths[number] = dataclasses.replace(old, latency_us=dice.uniform(90, 900), state=state)
    return dataclasses.replace(snapshot, paths=tuple(paths), taken_at=snapshot.taken_at + 1)


EVIL = (
    "[bold red]pwned[/]",
    "[/dev/sda]",
    "\x1b[2J\x1b[31mescape\x07",
    "\u202egnol si\u202c",
    "日本語ディスク",
    "a\nb\tc",
    "x" * 223,
    "$(reboot)`id`",
    "\x9b31m\x90",
    "[@click=app.quit]click[/]",
)
"""Names that act on a careless screen."""


def hostile(evil: str) -> Snapshot:
    """The practice range with one hostile string in every text that comes from outside."""
    base = practice(pulled=PORTALS[1])
    target = f"iqn.2026-11.{evil}"
    return dataclasses.replace(
        base,
        host=evil,
        sessions=tuple(
            dataclasses.replace(
                s,
                name=evil,
                target=target,
                alias=evil,
                initiator=evil,
                reason=evil,
                isid=evil,
                chap_user=evil,
                negotiated={evil: evil},
                connections=tuple(
                    dataclasses.replace(c, name=evil, state=evil, local_host=evil, header_digest=evil)
                    for c in s.connections
                ),
            )
            for s in base.sessions
        ),
        disks=tuple(
            dataclasses.replace(
                d,
                name=f"{evil}{n}",
                target=target,
                wwid=evil,
                device=evil,
                dev=evil,
                vendor=evil,
                product=evil,
                serial=evil,
                reason=evil,
            )
            for n, d in enumerate(base.disks)
        ),
        paths=tuple(dataclasses.replace(p, name=evil, device=evil, reason=evil) for p in base.paths),
        maps=tuple(dataclasses.replace(m, name=evil, policy=evil, queueing=evil) for m in base.maps),
        volumes=tuple(
            dataclasses.replace(
                v,
                name=evil,
                mountpoint=f"/mnt/{evil}",
                fstype=evil,
                device=evil,
                options=evil,
                label=evil,
                uuid=evil,
                namespace=evil,
            )
            for v in base.volumes
        ),
        links=tuple(dataclasses.replace(n, name=evil, kind=evil, addresses=(evil,), duplex=evil) for n in base.links),
    )
