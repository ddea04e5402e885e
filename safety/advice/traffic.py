"""What else is on the storage links, and whether large packets get through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from initiator.binding import ends_of
from initiator.errors import BadInputError
from initiator.model import Connection, Link, Portal, Session, Severity
from initiator.names import parse_portal
from safety.advice.rule import Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("network")

SERVICES = {
    21: "FTP",
    22: "SSH",
    80: "HTTP",
    139: "SMB",
    443: "HTTPS",
    445: "SMB",
    2049: "NFS",
    8080: "HTTP",
}
_HEADERS = {4: 20 + 20, 6: 40 + 20}
"""Bytes of the IP and TCP headers without options (RFC 9293, 3.1)."""
_OPTIONS = 12
"""TCP time stamps, which Linux sends (RFC 7323, 3.2); tcpi_snd_mss is without them."""
STANDARD_MTU = 1500


def _local(host: Host) -> dict[str, Link]:
    """The storage addresses of this host, each with its link."""
    return {
        connection.local_host: link
        for session, link in host.wired
        for connection in session.connections
        if connection.local_host is not None
    }


def _unheard(host: Host, addresses: Collection[str]) -> Iterator[Unsure]:
    """Says so where there are storage addresses and nobody tells who listens."""
    if addresses and host.facts.listeners is None:
        yield Unsure("listening services", host.facts.why("listeners"))


@FAMILY.rule(
    "default-route",
    Severity.WARN,
    "The default route leads through a storage link",
    "Everything that this host sends to the world then shares the storage's cable, and a storage network that reaches"
    " the world can be reached from it.",
    "give storage a link of its own; where the target is in that link's own subnet, take the gateway out of its"
    " settings",
)
def default_route(host: Host) -> Iterator[Answer]:
    """The kernel's default routes against the links of sessions."""
    if host.facts.default_links is None:
        if host.wired:
            yield Unsure("routes", host.facts.why("ways"))
        return
    for link in host.storage_links:
        if link.name in host.facts.default_links:
            sessions = ", ".join(session.name for session, through in host.wired if through == link)
            fix = ""
            if len(host.facts.default_links) > 1:  # or nobody could reach this host any more
                remove = command("ip", "route", "del", "default", "dev", link.name)
                fix = f"if no portal is behind that gateway: {remove}; and take the gateway out of its settings"
            yield Hit(link.name, f"default route dev {link.name}; sessions: {sessions}", fix, link.id)


@FAMILY.rule(
    "routed",
    Severity.NOTE,
    "A session goes through a router",
    "A router between host and storage adds latency, is one more thing that fails, and is rarely built for this load.",
    "give this host an address in the portal's own subnet",
)
def routed(host: Host) -> Iterator[Answer]:
    """The kernel's own answer for each connection."""
    fabric = host.facts.fabric
    for session, _ in host.wired:
        for each in session.connections:
            ends = ends_of(session, each, host.snapshot.links)
            if fabric is None or ends is None:
                yield Unsure(session.name, f"its route is not known: {host.facts.why('fabric')}")
                continue
            route = fabric.routes.get(ends)
            if route is None:
                yield Unsure(session.name, "the kernel tells no route for its addresses")
            elif route.gateway is not None:
                yield Hit(session.name, f"{each.peer_host} via {route.gateway} dev {route.device}", about=session.id)


@FAMILY.rule(
    "services",
    Severity.WARN,
    "A file, web or login service listens on a storage address",
    "The storage network should carry storage only. A service that listens there takes bandwidth, and whoever breaks"
    " into another machine of that network can attack it, past the firewall of the front door.",
    "have it listen on the management address only, for instance ListenAddress in sshd_config, or filter it on the"
    " link",
)
def services(host: Host) -> Iterator[Answer]:
    """Listening sockets against the addresses of sessions; a service on all addresses listens there too."""
    addresses = _local(host)
    yield from _unheard(host, addresses)
    for each in host.facts.listeners or ():
        word = SERVICES.get(each.port)
        if word is None:
            continue
        on = [address for address in addresses if _covers(each.address, address)]
        if on:
            who = f" ({each.program})" if each.program else ""
            yield Hit(f"{word} on port {each.port}", f"listens at {each.address}{who}, reached at {', '.join(on)}")


@FAMILY.rule(
    "other-listeners",
    Severity.NOTE,
    "Something else is bound to a storage address",
    "Whatever is bound to this address was put there on purpose, and its traffic competes with the storage's.",
    "move it to another link, or be sure that it belongs there",
)
def other_listeners(host: Host) -> Iterator[Answer]:
    """Sockets bound to just this address; the well-known services have a rule of their own."""
    addresses = _local(host)
    yield from _unheard(host, addresses)
    for each in host.facts.listeners or ():
        if each.address in addresses and each.port not in SERVICES:
            yield Hit(f"port {each.port}", f"{each.program or 'a program'} listens at {each.address}")


def _covers(listening: str, address: str) -> bool:
    """Whether a socket bound to `listening` gets what is sent to `address`."""
    return listening in (address, "::") or (listening == "0.0.0.0" and ":" not in address)


@FAMILY.rule(
    "jumbo-blocked",
    Severity.WARN,
    "Jumbo frames do not get through to the target",
    "This end is set up for large frames, but the other end, or something between, takes only smaller ones. At best the"
    " large MTU brings nothing; at worst large writes hang while small ones pass.",
    "set the same MTU at the switch and the target, or ip link set LINK mtu 1500 here; try: ping -M do -s 8972 PORTAL",
)
def jumbo_blocked(host: Host) -> Iterator[Answer]:
    """What TCP has agreed on and found out, against the link's own MTU."""
    for session, link in host.wired:
        if link.mtu is None or link.mtu <= STANDARD_MTU:
            continue
        for each in session.connections:
            segment = (host.facts.segments or {}).get(each.id)
            if segment is None or segment.sent_bytes is None:
                yield Unsure(session.name, f"TCP does not tell its packet size: {host.facts.why('segments')}")
                continue
            room = _packet(each, segment.sent_bytes)
            least = min(room, segment.path_mtu or room)
            if least < link.mtu:
                evidence = f"{link.name} has MTU {link.mtu}, TCP sends packets of {least} bytes to {each.peer_host}"
                smaller = command("ip", "link", "set", link.name, "mtu", "1500")
                fix = f"the same MTU at the switch and the target, or {smaller}"
                fix += f"; see with: ping -M do -s {link.mtu - 28} {each.peer_host}"
                yield Hit(session.name, evidence, fix, session.id)


def _packet(connection: Connection, segment: int) -> int:
    """The IP packet that carries a full segment, time stamps included; up to the next 12 bytes nobody can tell."""
    version = 6 if ":" in (connection.peer_host or "") else 4
    return segment + _HEADERS[version] + _OPTIONS


@FAMILY.rule(
    "flow-control",
    Severity.NOTE,
    "Flow control is off on a storage link",
    "When a switch port overflows it drops frames, and TCP halves its speed for each loss. With pause frames (802.3x)"
    " it asks the sender to wait instead. Many storage vendors ask for it, at least for receiving.",
    "ethtool -A LINK rx on, and at the switch; unless your storage's vendor advises against it",
)
def flow_control(host: Host) -> Iterator[Answer]:
    """Each real link under a session; a virtual one has no flow control."""
    for link in dict.fromkeys(real for each in host.storage_links for real in host.below(each)):
        if link.kind != "ethernet":
            continue
        pause = (host.facts.pauses or {}).get(link.name)
        if pause is None:
            yield Unsure(link.name, f"driver {link.driver or 'unknown'} does not tell")
        elif not pause.rx:
            fix = f"{command('ethtool', '-A', link.name, 'rx', 'on')}; and at the switch, unless your storage's vendor"
            fix += " advises against it"
            yield Hit(link.name, f"pause frames: rx off, tx {'on' if pause.tx else 'off'}", fix, link.id)


@FAMILY.rule(
    "scope",
    Severity.WARN,
    "A link-local IPv6 address has no interface with it",
    "fe80:: addresses exist on every link. Without %INTERFACE the kernel has to guess which cable is meant, and guesses"
    " differently after a reboot.",
    "write fe80::…%eth1, or better give the portal an address of a network of its own",
)
def scope(host: Host) -> Iterator[Answer]:
    """Portals of sessions and records."""
    if host.facts.records is None:
        yield Unsure("node records", host.facts.why("records"))
    places = [(_told(session), session.name) for session in host.snapshot.sessions if not _bound(session)]
    if host.facts.records is not None:
        places += [
            (record.portal, record.target) for record in host.facts.records.nodes if record.interface == "default"
        ]
    for portal, name in dict.fromkeys(places):
        try:
            address = ipaddress.ip_address(portal.host)
        except ValueError:
            continue  # a host name
        if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and address.scope_id is None:
            yield Hit(name, f"portal {portal}")


def _told(session: Session) -> Portal:
    """The portal as the initiator was told it; the kernel prints the address in use without its interface."""
    try:
        return parse_portal(session.details["persistent_portal"])
    except (KeyError, BadInputError):
        return session.portal


def _bound(session: Session) -> bool:
    """Whether its interface is decided by something else than the address."""
    return session.details.get("net_device") is not None
