"""Hosts with cables for the tests of health: sessions over links, VLANs, bonds and bridges to one target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from initiator.fabric import Fabric, Neighbour, Nic, Route
from initiator.model import (
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
    TcpInfo,
    Volume,
    VolumeState,
)

TARGET = "iqn.2026-11.io.mooring.lab:two"


def link(name: str, *lower: str, state: LinkState = LinkState.UP, kind: str = "ethernet", **more: object) -> Link:
    carrier = {LinkState.UP: True, LinkState.DOWN: False, LinkState.UNKNOWN: None}[state]
    return Link(f"link:{name}", name, state, kind, carrier, 0, 10_000, "full", 9000, lower=lower, **more)  # type: ignore[arg-type]


def session(
    number: int,
    over: str | None,
    local: str,
    peer: str,
    state: SessionState = SessionState.LOGGED_IN,
    tcp: TcpInfo | None = None,
) -> Session:
    wire = Connection(f"c{number}", f"{local} - {peer}", "up", 0, local, 40_000, peer, 3260, tcp=tcp)
    return Session(
        id=f"s{number}",
        name=f"two@{peer}",
        state=state,
        source=Source.KERNEL,
        target=TARGET,
        portal=Portal(peer),
        connections=(wire,),
        link=None if over is None else f"link:{over}",
    )


def path(number: int, over: Session, state: PathState = PathState.ACTIVE, disk: str = "d1", **more: object) -> Path:
    return Path(
        id=f"p{number}", name=f"{over.name} lun 0", state=state, disk=disk, session=over.id, link=over.link,
        map=f"m{disk}", device=f"/dev/sd{'abcdefgh'[number]}", in_use=True, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def disk(state: DiskState = DiskState.ATTACHED, key: str = "d1", volumes: tuple[str, ...] = ("v1",)) -> Disk:
    return Disk(key, key, state, Source.KERNEL, f"naa.{key}", 1 << 30, "/dev/mapper/x", map=f"m{key}", volumes=volumes)


def host(
    links: tuple[Link, ...], sessions: tuple[Session, ...], paths: tuple[Path, ...], disks: tuple[Disk, ...] = ()
) -> Snapshot:
    every = disks or (disk(),)
    volume = Volume("v1", "data", VolumeState.MOUNTED, "/srv", "ext4", "/dev/mapper/x", "253:0", ("d1",))
    maps = tuple(
        Map(f"m{each.id}", each.name, MapState.OK, Source.KERNEL, None, None, each.id, policy="service-time 0")
        for each in every
    )
    return Snapshot("host", 0.0, sessions, every, paths, maps, (volume,), links)


def two_links() -> tuple[Snapshot, Fabric]:
    """Two cards in two networks to two portals: as it should be."""
    sessions = (session(1, "eth1", "10.9.1.1", "10.9.1.2"), session(2, "eth2", "10.9.2.1", "10.9.2.2"))
    paths = tuple(path(number, each) for number, each in enumerate(sessions))
    nics = {"eth1": Nic(("10.9.1.0/24",)), "eth2": Nic(("10.9.2.0/24",))}
    return host((link("eth1"), link("eth2")), sessions, paths), Fabric(nics=nics)


def unjoined() -> tuple[Snapshot, Fabric]:
    """As two_links, but multipathd did not start."""
    snapshot, fabric = two_links()
    disks = tuple(dataclasses.replace(each, map=None, device="/dev/sda") for each in snapshot.disks)
    paths = tuple(dataclasses.replace(each, map=None) for each in snapshot.paths)
    return dataclasses.replace(snapshot, disks=disks, paths=paths, maps=()), fabric


def changed(snapshot: Snapshot, *things: Link | Session | Path | Disk) -> Snapshot:
    """The same host with other things under the same ids."""
    fresh: Mapping[str, Link | Session | Path | Disk] = {each.id: each for each in things}
    return dataclasses.replace(
        snapshot,
        links=tuple(_fresh(each, fresh) for each in snapshot.links),
        sessions=tuple(_fresh(each, fresh) for each in snapshot.sessions),
        paths=tuple(_fresh(each, fresh) for each in snapshot.paths),
        disks=tuple(_fresh(each, fresh) for each in snapshot.disks),
    )


def bound(over: Session, **details: str) -> Session:
    """The same session with what the kernel tells of its transport, and of the interface that iscsid bound it to."""
    return dataclasses.replace(over, details={"transport": "tcp", **details})


def one_network() -> tuple[Snapshot, Fabric]:
    """Two cables in one network, one session bound to each, and the kernel's answers without and with a binding."""
    sessions = (
        bound(session(1, "eth1", "10.9.1.1", "10.9.1.8"), net_device="eth1"),
        bound(session(2, "eth2", "10.9.1.2", "10.9.1.9"), net_device="eth2"),
    )
    routes = {
        ("10.9.1.1", "10.9.1.8"): Route("eth1"),
        ("10.9.1.2", "10.9.1.9"): Route("eth1"),
        ("10.9.1.1%eth1", "10.9.1.8"): Route("eth1"),
        ("10.9.1.2%eth2", "10.9.1.9"): Route("eth2"),
    }
    links = tuple(
        dataclasses.replace(link(f"eth{n}"), mac=f"02:00:00:00:00:0{n}", addresses=(f"10.9.1.{n}",)) for n in (1, 2)
    )
    nics = {each.name: Nic(("10.9.1.0/24",)) for each in links}
    paths = tuple(path(number, each) for number, each in enumerate(sessions))
    return host(links, sessions, paths), Fabric(nics=nics, routes=routes)


T = TypeVar("T", Link, Session, Path, Disk)


def _fresh(old: T, fresh: Mapping[str, Link | Session | Path | Disk]) -> T:
    new = fresh.get(old.id, old)
    assert isinstance(new, type(old))
    return new


def switched(fabric: Fabric, **switches: str) -> Fabric:
    """The same fabric with a switch at each of these links."""
    return dataclasses.replace(fabric, neighbours={name: Neighbour(key) for name, key in switches.items()})
