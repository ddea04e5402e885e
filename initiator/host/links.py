"""Network interfaces from sysfs, their addresses from psutil; and which of them a connection leaves through."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from initiator.host import attributes, sysfs
from initiator.host.attributes import Raw, number, text
from initiator.host.nicsettings import read_driver
from initiator.model import Link, LinkState, Problem

_ARPHRD_ETHER = 1
_ARPHRD_LOOPBACK = 772
_IFF_UP = 1
_COUNTERS = ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
_ATTRIBUTES = (
    "flags",
    "type",
    "uevent",
    "carrier",
    "carrier_changes",
    "speed",
    "duplex",
    "mtu",
    "address",
    *(f"statistics/{name}" for name in _COUNTERS),
)
_DEVTYPE = re.compile(rb"^DEVTYPE=(.+)$", re.MULTILINE)

Addresses = Mapping[str, tuple[str, ...]]
"""IP addresses by interface, without prefix length; link-local IPv6 ones with their scope."""
Driver = Callable[[str], str | None]
"""Tells the driver of an interface; None where it is not known."""


def read_links(
    root: Path = Path("/"), addresses: Addresses | None = None, driver: Driver | None = None
) -> tuple[tuple[Link, ...], tuple[Problem, ...]]:
    """Reads every network interface of the reader's network namespace.

    Args:
        root: Where `sys` is.
        addresses: The interfaces' addresses; asked from the kernel when None.
        driver: Tells what a virtual interface is; asked from the kernel when None, on this host's own root.

    Returns:
        The links, sorted by id, and what could not be read.
    """
    folder = f"{sysfs.base(root)}/sys/class/net"
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return (), (Problem("links", "/sys/class/net", error.strerror or "cannot be read"),)
    known = own_addresses() if addresses is None else addresses
    if driver is None:
        driver = read_driver if root == Path("/") else _nobody_tells
    found = (_read_link(f"{folder}/{name}", name, known.get(name, ()), driver) for name in names)
    return tuple(link for link in found if link is not None), ()


def own_addresses() -> dict[str, tuple[str, ...]]:
    """The IP addresses of this host by interface."""
    import socket

    import psutil

    wanted = (socket.AF_INET, socket.AF_INET6)
    return {
        name: tuple(sorted(entry.address for entry in entries if entry.family in wanted))
        for name, entries in psutil.net_if_addrs().items()
    }


def _nobody_tells(_: str) -> None:
    """The driver of an interface in a recorded tree."""


def _read_link(place: str, name: str, addresses: tuple[str, ...], driver: Driver) -> Link | None:
    entries = sysfs.names(place)
    raw = attributes.read_raw(place, _ATTRIBUTES) or {}
    flags = number(raw.get("flags"), 16)
    if flags is None or not entries:
        return None  # not an interface (bonding_masters), or gone meanwhile
    carrier = number(raw.get("carrier"))  # EINVAL while the interface is switched off
    speed, duplex = number(raw.get("speed")), text(raw.get("duplex"))
    return Link(
        id=f"link:{name}",
        name=name,
        state=_state(flags, carrier),
        kind=_kind(place, name, entries, raw, driver),
        carrier=None if carrier is None else bool(carrier),
        carrier_changes=number(raw.get("carrier_changes")),
        speed_mbps=speed if speed is not None and 0 < speed < 2**31 else None,  # -1: unknown
        duplex=duplex if duplex != "unknown" else None,
        mtu=number(raw.get("mtu")),
        master=_basename(sysfs.read_link(f"{place}/master")) if "master" in entries else None,
        lower=tuple(entry.removeprefix("lower_") for entry in entries if entry.startswith("lower_")),
        addresses=addresses,
        mac=text(raw.get("address")),
        driver=_basename(sysfs.read_link(f"{place}/device/driver")) if "device" in entries else None,
        **{name: number(raw.get(f"statistics/{name}")) for name in _COUNTERS},
    )


def _state(flags: int, carrier: int | None) -> LinkState:
    if not flags & _IFF_UP or carrier == 0:
        return LinkState.DOWN
    return LinkState.UNKNOWN if carrier is None else LinkState.UP


def _kind(place: str, name: str, entries: tuple[str, ...], raw: Raw, driver: Driver) -> str:
    """loopback, bond, bridge, vlan and what else the kernel names; ethernet for hardware without a name of its own."""
    hardware = number(raw.get("type"))
    if hardware == _ARPHRD_LOOPBACK:
        return "loopback"
    if (named := _DEVTYPE.search(raw.get("uevent", b""))) and (devtype := text(named[1])):
        return devtype
    for entry, kind in (("bonding", "bond"), ("bridge", "bridge"), ("tun_flags", "tun"), ("device", "ethernet")):
        if entry in entries:
            return kind
    if hardware != _ARPHRD_ETHER or any(entry.startswith("lower_") for entry in entries):
        return "virtual"
    return "veth" if _is_veth(place, driver(name)) else "virtual"


def _is_veth(place: str, driver: str | None) -> bool:
    """Whether an Ethernet without a device is one end of a pair.

    Where its driver does not tell: iflink names the other end, in whichever namespace that is. There it can have the
    number that this end has here, and then it looks like an interface without another end.
    """
    if driver is not None:
        return driver == "veth"
    ends = attributes.read_raw(place, ("iflink", "ifindex")) or {}
    return number(ends.get("iflink")) not in (None, number(ends.get("ifindex")))


def _basename(target: str | None) -> str | None:
    return None if target is None else os.path.basename(target)


def link_for(local_address: str | None, links: Iterable[Link]) -> str | None:
    """The id of the interface that has a connection's local address.

    The whole of 127.0.0.0/8 belongs to the loopback interface, whichever of its addresses are listed. A scope
    (`fe80::1%eth0`) decides; without one a link-local address that two interfaces have belongs to neither.

    Returns:
        None where the address is not known or is no address of this host.
    """
    wanted = _parsed(local_address)
    if wanted is None:
        return None
    every = tuple(links)
    if wanted.is_loopback:
        return next((link.id for link in every if link.kind == "loopback"), None)
    scope = wanted.scope_id if isinstance(wanted, ipaddress.IPv6Address) else None
    found = [
        link.id
        for link in every
        if scope in (None, link.name) and any(_same(wanted, _parsed(address)) for address in link.addresses)
    ]
    return found[0] if len(found) == 1 else None


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parsed(text: str | None) -> _Address | None:
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _same(one: _Address, other: _Address | None) -> bool:
    return other is not None and one.packed == other.packed
