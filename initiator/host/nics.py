"""Network interfaces beyond their state: the networks of their addresses, the card's model, the active bond member."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path

from initiator.fabric import Nic
from initiator.host import sysfs
from initiator.model import Link
from initiator.names import clean

Networks = Mapping[str, tuple[str, ...]]
"""IP networks by interface."""
_MODEL = "E:ID_MODEL_FROM_DATABASE="


def read_nics(links: Iterable[Link], root: Path = Path("/"), networks: Networks | None = None) -> dict[str, Nic]:
    """What is known of each of these links, by name.

    Args:
        links: From `initiator.host.links.read_links`.
        root: Where `sys` and `run` are.
        networks: The interfaces' networks; asked from the kernel when None.
    """
    known = own_networks() if networks is None else networks
    base = sysfs.base(root)
    return {link.name: _read_nic(base, link, known.get(link.name, ())) for link in links}


def own_networks() -> dict[str, tuple[str, ...]]:
    """The IP networks that this host's interfaces are in."""
    import socket

    import psutil

    wanted = (socket.AF_INET, socket.AF_INET6)
    return {
        name: tuple(
            dict.fromkeys(
                network
                for entry in entries
                if entry.family in wanted and (network := network_of(entry.address, entry.netmask)) is not None
            )
        )
        for name, entries in psutil.net_if_addrs().items()
    }


def network_of(address: str, netmask: str | None) -> str | None:
    """The network of an address; None for link-local ones, which say nothing of where a packet can go."""
    host = address.partition("%")[0]
    try:
        bits = int(ipaddress.ip_address(netmask or "")).bit_count()
        network = ipaddress.ip_network(f"{host}/{bits}", strict=False)
    except ValueError:
        return None
    return None if network.is_link_local else str(network)


def _read_nic(base: str, link: Link, networks: tuple[str, ...]) -> Nic:
    bond = f"{base}/sys/class/net/{link.name}/bonding"
    mode = sysfs.read_text(f"{bond}/mode") if link.kind == "bond" else None
    return Nic(
        networks=networks,
        model=_model(base, link.name),
        mode=mode.split()[0] if mode else None,  # "active-backup 1"
        active=sysfs.read_text(f"{bond}/active_slave") if link.kind == "bond" else None,
    )


def _model(base: str, name: str) -> str | None:
    """From udev's database, whose entry for an interface is named by its number."""
    number = sysfs.read_int(f"{base}/sys/class/net/{name}/ifindex")
    lines = (sysfs.read_text(f"{base}/run/udev/data/n{number}") or "").splitlines()
    return next((clean(line.removeprefix(_MODEL), 80) for line in lines if line.startswith(_MODEL)), None)
