"""The network under the paths: what is shared that should be separate, and what differs that should be alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from initiator.model import Disk, Link, Path, PathState, Severity
from safety.advice.rule import WORKING, Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("network")


def _several(host: Host) -> Iterator[tuple[Disk, list[tuple[Path, Link]]]]:
    """The disks with more than one path, with the paths that leave this host."""
    for disk in host.disks:
        paths = host.path_links(disk)
        if len(paths) > 1:
            yield disk, paths


def _links(host: Host, *, cables: bool = True, used: bool = False) -> Iterator[tuple[Disk, list[Link]]]:
    """The disks whose paths leave through more than one link, with these links.

    Args:
        host: The host.
        cables: Whether what these links stand on counts in their place.
        used: Whether only paths that carry I/O count.
    """
    for disk, paths in _several(host):
        own = [link for path, link in paths if path.in_use or not used]
        links = list(dict.fromkeys(each for link in own for each in (host.below(link) if cables else (link,))))
        if len(links) > 1:
            yield disk, links


def _lost_links(host: Host) -> Iterator[Unsure]:
    """Disks with several paths of which nobody knows where they leave."""
    for disk in host.disks:
        unknown = [path for path in host.paths(disk) if path.link not in host.links]
        if unknown and len(host.paths(disk)) > 1:
            yield Unsure(disk.name, f"the link of path {unknown[0].name} is not known")


def _names(links: list[Link]) -> str:
    return ", ".join(sorted({link.name for link in links}))


@FAMILY.rule(
    "bond",
    Severity.WARN,
    "A session goes over a bond or team",
    "A bond moves packets around a lost cable, but it cannot see a storage port or a switch that is up and does not"
    " answer. Multipath sees both, and it cannot do its work where two cables look like one link to it.",
    "take the bond apart, give each link an address in a subnet of its own, and log in once over each",
)
def bond(host: Host) -> Iterator[Answer]:
    """The whole chain under a session's link: a VLAN on a bond is one too."""
    for session in host.unplaced:
        yield Unsure(session.name, "the link of this session is not known")
    for session, link in host.wired:
        found = [each for each in host.chain(link) if each.kind in ("bond", "team")]
        if found:
            members = ", ".join(found[0].lower) or "no link"
            evidence = f"{link.name} stands on {found[0].kind} {found[0].name} ({members})"
            yield Hit(session.name, evidence, about=session.id)


@FAMILY.rule(
    "one-link",
    Severity.WARN,
    "All paths of a disk leave through one link",
    "Several paths through one cable are lost together: this is one path that looks like two.",
    "give each path a link of its own: bind an interface for each (iscsiadm -m iface) or use a subnet for each",
)
def one_link(host: Host) -> Iterator[Answer]:
    """Compares what the links really stand on."""
    yield from _lost_links(host)
    for disk, paths in _several(host):
        below = [frozenset(host.below(link)) for _, link in paths]
        shared = frozenset.intersection(*below)
        if len(shared) == len(frozenset.union(*below)):
            yield Hit(disk.name, f"{len(paths)} paths through {_names([*shared])}", about=disk.id)


@FAMILY.rule(
    "one-subnet",
    Severity.WARN,
    "All paths of a disk are in one subnet",
    "With two links in one subnet the kernel sends through whichever it likes, usually always the same one, and answers"
    " ARP for both: the second cable may carry nothing, and both depend on one network.",
    "put each link and the target's portal for it into a subnet of its own",
)
def one_subnet(host: Host) -> Iterator[Answer]:
    """The networks of the links that the paths use."""
    fabric = host.facts.fabric
    for disk, links in _links(host, cables=False):  # of a single link the rule one-link says so
        networks = [
            set(fabric.nics[link.name].networks) if fabric and link.name in fabric.nics else None for link in links
        ]
        known = [each for each in networks if each]
        if len(known) < len(networks):
            yield Unsure(disk.name, f"the subnets of {_names(links)} are not known: {host.facts.why('fabric')}")
        elif shared := set.intersection(*known):
            yield Hit(disk.name, f"{_names(links)} are all in {', '.join(sorted(shared))}", about=disk.id)


@FAMILY.rule(
    "one-switch",
    Severity.WARN,
    "All paths of a disk go through one switch",
    "When that switch is restarted or fails, every path is lost in the same moment.",
    "plug one of the cables into another switch",
)
def one_switch(host: Host) -> Iterator[Answer]:
    """What LLDP tells of the other end of each cable."""
    neighbours = host.facts.fabric.neighbours if host.facts.fabric else {}
    for disk, real in _links(host):
        missing = [link.name for link in real if link.name not in neighbours]
        if missing:
            reason = (
                f"no LLDP neighbour of {', '.join(missing)} is known: lldpd is not installed, or the switch is silent"
            )
            yield Unsure(disk.name, reason)
        elif len({neighbours[link.name].switch for link in real}) == 1:
            switch = neighbours[real[0].name]
            evidence = f"{_names(real)} all end at switch {switch.name or switch.switch}"
            yield Hit(disk.name, evidence, about=disk.id)


@FAMILY.rule(
    "unequal-links",
    Severity.WARN,
    "The links of a disk's active paths differ in speed or duplex",
    "Round-robin gives each path the same work, so the pair runs at the pace of the slower one. A difference also is"
    " the usual sign of a bad cable or a port that negotiated wrongly.",
    "ethtool LINK; replace the cable or set the same speed at both ends, or put the slow path into a group of its own",
)
def unequal_links(host: Host) -> Iterator[Answer]:
    """Paths that are used at the same time."""
    for disk, links in _links(host, used=True):
        silent = [link.name for link in links if link.speed_mbps is None]
        seen = {(link.speed_mbps, link.duplex) for link in links if link.speed_mbps is not None}
        if len(seen) > 1:
            evidence = ", ".join(f"{link.name} {link.speed_mbps} Mb/s {link.duplex or ''}".strip() for link in links)
            yield Hit(disk.name, evidence, about=disk.id)
        elif silent:
            yield Unsure(disk.name, f"{', '.join(silent)} does not tell its speed")


@FAMILY.rule(
    "half-duplex",
    Severity.WARN,
    "A storage link runs at half duplex",
    "At half duplex sender and receiver take turns and collide. It nearly always comes from one end that negotiates and"
    " one that does not, and makes a link that passes a ping and fails under load.",
    "let both ends negotiate: ethtool -s LINK autoneg on, and the same at the switch",
)
def half_duplex(host: Host) -> Iterator[Answer]:
    """Each real link under a session."""
    for link in dict.fromkeys(real for each in host.storage_links for real in host.below(each)):
        if link.duplex is None:
            yield Unsure(link.name, "its driver does not tell the duplex")
        elif link.duplex == "half":
            fix = f"{command('ethtool', '-s', link.name, 'autoneg', 'on')}; and the same at the switch"
            yield Hit(link.name, f"{link.speed_mbps or '?'} Mb/s, half duplex", fix, link.id)


@FAMILY.rule(
    "mixed-cards",
    Severity.NOTE,
    "The links of one disk are cards of different models",
    "Cards and drivers differ in latency, offloading and in how they fail. Two alike behave alike under load, and one"
    " firmware to keep up to date is better than two. (Two models do guard against a fault of one: it is your choice.)",
    "use ports of the same model for the paths of one disk",
)
def mixed_cards(host: Host) -> Iterator[Answer]:
    """Drivers, and models where udev's hardware database knows them."""
    fabric = host.facts.fabric
    for disk, links in _links(host):
        nics = fabric.nics if fabric else {}
        kinds = {(link.driver, nics[link.name].model if link.name in nics else None) for link in links}
        if len(kinds) > 1:
            evidence = ", ".join(f"{link.name} {link.driver or link.kind}" for link in links)
            yield Hit(disk.name, evidence, about=disk.id)
        elif kinds == {(None, None)} and any(link.kind == "ethernet" for link in links):
            yield Unsure(disk.name, f"neither driver nor model of {_names(links)} is known")


@FAMILY.rule(
    "many-active",
    Severity.NOTE,
    "More than two paths of a disk are in use at once",
    "Two paths survive the loss of either. More of them add sessions, failover time and load on the target, and hardly"
    " any speed, unless each has a link of its own all the way.",
    "log out of the paths that share a link or a portal, or put them into a group of lower priority",
)
def many_active(host: Host) -> Iterator[Answer]:
    """Counts the paths that carry I/O."""
    for disk in host.disks:
        paths = host.paths(disk)
        used = [path for path in paths if path.in_use and path.state in WORKING]
        unknown = [path for path in paths if path.state is PathState.UNKNOWN]
        if len(used) > 2:
            yield Hit(disk.name, ", ".join(path.name for path in used), about=disk.id)
        elif len(used) + len(unknown) > 2:
            yield Unsure(disk.name, "nobody tells which of its paths are used")


@FAMILY.rule(
    "mtu-differs",
    Severity.WARN,
    "The MTU differs along or among the paths of a disk",
    "A frame that one link can send and the next cannot take is dropped without a word: the login works, and the first"
    " large write hangs. The MTU has to be the same from end to end, on every path.",
    "ip link set LINK mtu N on each, in the network configuration too; the switch and the target have to match",
)
def mtu_differs(host: Host) -> Iterator[Answer]:
    """A link against what it stands on, and the paths of a disk against each other."""
    for link in host.storage_links:
        smaller = [
            one for one in host.chain(link)[1:] if one.mtu is not None and link.mtu is not None and one.mtu < link.mtu
        ]
        if link.mtu is None:
            yield Unsure(link.name, "its MTU cannot be read")
        elif smaller:
            evidence = f"{link.name} {link.mtu}, under it {smaller[0].name} {smaller[0].mtu}"
            yield Hit(link.name, evidence, about=link.id)
    for disk, links in _links(host, cables=False):
        if len({link.mtu for link in links if link.mtu is not None}) > 1:
            yield Hit(disk.name, ", ".join(f"{link.name} {link.mtu}" for link in links), about=disk.id)


@FAMILY.rule(
    "same-subnet-arp",
    Severity.WARN,
    "Two storage links in one subnet answer for each other",
    "By default Linux answers ARP for any of its addresses on any link, and with rp_filter=1 drops what comes back"
    " another way. With two links in one subnet the target's packets then arrive on the wrong one, or not at all.",
    "best: a subnet for each link. Otherwise: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
    " net.ipv4.conf.all.rp_filter=2",
)
def same_subnet_arp(host: Host) -> Iterator[Answer]:
    """Pairs of storage links with a common IPv4 network, and the kernel's settings for each."""
    nics = host.facts.fabric.nics if host.facts.fabric else None
    if nics is None:
        if len(host.storage_links) > 1:
            yield Unsure("storage links", host.facts.why("fabric"))
        return
    for one, other in combinations(host.storage_links, 2):
        both = [nics[link.name].networks for link in (one, other) if link.name in nics]
        shared = [network for network in (set(both[0]) & set(both[1]) if len(both) == 2 else ()) if ":" not in network]
        for link in (one, other) if shared else ():
            arp = (host.facts.arp or {}).get(link.name)
            if arp is None:
                yield Unsure(link.name, f"its ARP settings cannot be read: {host.facts.why('arp')}")
            elif arp.rp_filter == 1 or arp.arp_ignore == 0 or arp.arp_announce < 2:
                evidence = f"{one.name} and {other.name} are in {shared[0]}; {link.name}: rp_filter {arp.rp_filter},"
                evidence += f" arp_ignore {arp.arp_ignore}, arp_announce {arp.arp_announce}"
                yield Hit(link.name, evidence, about=link.id)
