"""One chain for each path: map, path group, device, session, connection, TCP, links down to the cable, route, switch.

Everything that paths of one session share is a `Lane`, worked out once; a `Chain` is a lane with one path on it. What a
lane stands on, and would fall with, are its `Footing`s: two lanes with one in common are not independent.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from initiator.binding import bound_to, ends_of
from initiator.fabric import EMPTY, Fabric, Neighbour, Nic, Route, TargetPort
from initiator.model import (
    Access,
    Connection,
    Disk,
    Link,
    LinkState,
    Map,
    Path,
    Session,
    Snapshot,
    Source,
    TcpInfo,
)

_DEEPEST = 8


class Kind(enum.StrEnum):
    """What paths can have in common."""

    PORTAL = "portal"
    LINK = "link"
    NETWORK = "network"
    SWITCH = "switch"
    CONTROLLER = "controller"


class Footing(NamedTuple):
    """One thing that a path falls with."""

    kind: Kind
    name: str
    """The portal, the link's name, the network, the switch, or `TARGET, group N`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """The path group that a path is in."""

    number: int | None
    selector: str | None
    """The policy of the map, as `service-time 0`."""
    priority: int | None
    access: Access
    in_use: bool
    paths: int
    """How many paths are in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lane:
    """What all paths of one session have in common."""

    session: Session
    connection: Connection | None
    tcp: TcpInfo | None
    link: Link | None
    """The one that packets leave through: what the route says, else the one that it is bound to or that has the local
    address."""
    way: tuple[Link, ...]
    """That link and everything under it, top first: `bond0.12`, `bond0`, `eth0`, `eth1`."""
    cables: tuple[Link, ...]
    """The lowest of the way, of which one is enough."""
    nics: tuple[Nic, ...]
    """What is known of each link of the way, in its order."""
    route: Route | None
    network: str | None
    """The local IP network."""
    neighbours: tuple[Neighbour, ...]
    """The switch at each cable whose switch is known."""
    footings: tuple[Footing, ...]
    unknown: tuple[Kind, ...]
    """What nobody can say of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """One path with everything that carries it."""

    path: Path
    disk: Disk | None
    map: Map | None
    group: Group | None
    port: TargetPort | None
    lane: Lane | None
    """None where nothing tells which session the path belongs to."""


def chain_of(path: Path, snapshot: Snapshot, fabric: Fabric = EMPTY) -> Chain:
    """The chain of one path."""
    index = snapshot.index()
    disk, session = index.get(path.disk), index.get(path.session)
    joined = index.get(path.map or (disk.map if isinstance(disk, Disk) else None) or "")
    by_name = {link.name: link for link in snapshot.links}
    lane = lane_of(session, by_name, fabric) if isinstance(session, Session) else None
    return Chain(
        path=path,
        disk=disk if isinstance(disk, Disk) else None,
        map=joined if isinstance(joined, Map) else None,
        group=_group(path, joined, snapshot.paths) if isinstance(joined, Map) else None,
        port=fabric.ports.get(path.id),
        lane=lane,
    )


def lanes(snapshot: Snapshot, fabric: Fabric = EMPTY) -> dict[str, Lane]:
    """The lane of each session, by its id."""
    by_name = {link.name: link for link in snapshot.links}
    return {session.id: lane_of(session, by_name, fabric) for session in snapshot.sessions}


def lane_of(session: Session, links: Mapping[str, Link], fabric: Fabric = EMPTY) -> Lane:
    """The lane of one session; `links` by name."""
    connection = next(iter(session.connections), None)
    local = connection.local_host if connection is not None else None
    ends = ends_of(session, connection, links.values()) if connection is not None else None
    route = fabric.routes.get(ends) if ends is not None else None
    own = _own(session, links)
    leaves = links.get(route.device or "") if route is not None else None
    link = leaves or own
    way = under(link, links) if link is not None else ()
    cables = lowest(way)
    network = _network(local, own, fabric.nics)
    neighbours = tuple(fabric.neighbours[cable.name] for cable in cables if cable.name in fabric.neighbours)
    footings, unknown = _footings(session, link, cables, network, neighbours)
    if any(each.kind == "bridge" and len(tuple(_lower(each, links))) > 1 for each in way):
        unknown = (*unknown, Kind.LINK)  # which of its ports leads to the target is not told
    return Lane(
        session=session,
        connection=connection,
        tcp=connection.tcp if connection is not None else None,
        link=link,
        way=way,
        cables=cables,
        nics=tuple(fabric.nics.get(each.name, Nic()) for each in way),
        route=route,
        network=network,
        neighbours=neighbours,
        footings=footings,
        unknown=unknown,
    )


def _own(session: Session, links: Mapping[str, Link]) -> Link | None:
    """The link that a session is bound to, else the one that has its address; None where nobody can say."""
    bound = bound_to(session, links.values())
    if bound is not None:
        return links.get(bound[0]) if len(bound) == 1 else None
    return links.get((session.link or "").removeprefix("link:"))


def under(link: Link, links: Mapping[str, Link]) -> tuple[Link, ...]:
    """A link and everything it stands on, top first, each once; `links` by name.

    Of a bond with one member in use all members count: another one takes over. Of the ports of a bridge only those that
    can lead out of this host do, for the others belong to its guests.
    """
    found: dict[str, Link] = {}
    level = [link]
    for _ in range(_DEEPEST):
        found |= {each.name: each for each in level if each.name not in found}
        level = [links[name] for each in level for name in _lower(each, links) if name in links and name not in found]
    return tuple(found.values())


def _lower(link: Link, links: Mapping[str, Link]) -> Iterable[str]:
    if link.kind != "bridge":
        return link.lower
    outward = [name for name in link.lower if name in links and links[name].kind not in ("veth", "tun", "virtual")]
    return outward or link.lower


def lowest(way: tuple[Link, ...]) -> tuple[Link, ...]:
    """The links of a way that stand on no other one: where the cables are."""
    names = {each.name for each in way}
    return tuple(each for each in way if not names.intersection(each.lower))


def _footings(
    session: Session,
    link: Link | None,
    cables: tuple[Link, ...],
    network: str | None,
    neighbours: tuple[Neighbour, ...],
) -> tuple[tuple[Footing, ...], tuple[Kind, ...]]:
    """What the lane falls with, and of what nobody knows. The loopback interface has no cable that could be pulled."""
    found = [Footing(Kind.PORTAL, str(session.portal))]
    unknown = []
    if link is not None and link.kind == "loopback":
        return tuple(found), ()
    if link is None:
        unknown.append(Kind.LINK)
    else:  # of several cables one may go: then only their bond is what the lane falls with
        found.append(Footing(Kind.LINK, cables[0].name if len(cables) == 1 else link.name))
    if network is None:
        unknown.append(Kind.NETWORK)
    else:
        found.append(Footing(Kind.NETWORK, network))
    switches = {each.switch: f"{each.name} ({each.switch})" if each.name else each.switch for each in neighbours}
    if len(neighbours) < max(len(cables), 1):
        unknown.append(Kind.SWITCH)
    elif len(switches) == 1:
        found.append(Footing(Kind.SWITCH, next(iter(switches.values()))))
    return tuple(found), tuple(unknown)


def controller(lane: Lane, port: TargetPort | None) -> Footing | None:
    """The controller that a path leads to, as far as a target port group tells; None where it does not."""
    if port is None or port.group is None:
        return None
    return Footing(Kind.CONTROLLER, f"{lane.session.target}, target port group {port.group}")


def _network(local: str | None, link: Link | None, nics: Mapping[str, Nic]) -> str | None:
    if local is None or link is None or link.name not in nics:
        return None
    return _network_of(local, nics[link.name].networks)


@functools.lru_cache(maxsize=4096)
def _network_of(local: str, networks: tuple[str, ...]) -> str | None:
    try:
        address = ipaddress.ip_address(local.partition("%")[0])
    except ValueError:
        return None
    return next((text for text in networks if address in ipaddress.ip_network(text)), None)


def _group(path: Path, joined: Map, paths: Iterable[Path]) -> Group:
    mates = [each for each in paths if each.disk == path.disk and each.group == path.group]
    return Group(path.group, joined.policy, path.priority, path.access, path.in_use, len(mates))


def carries(lane: Lane) -> bool | None:
    """Whether at least one of the cables has a carrier; None where nobody can say."""
    states = {cable.state for cable in lane.cables}
    if LinkState.UP in states:
        return True
    return False if states == {LinkState.DOWN} else None


def unjoined(disk: Disk, paths: Iterable[Path]) -> bool:
    """Whether a disk of the kernel has several devices and no map over them: then each path is alone.

    Whatever uses one of the devices fails with its path, however many others there are.
    """
    return disk.source is Source.KERNEL and disk.map is None and len({path.device for path in paths if path.device}) > 1
