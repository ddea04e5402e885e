"""What only a network link's driver tells, and settings that matter for storage: flow control, ARP, filters."""

from __future__ import annotations

import array
import dataclasses
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from initiator.host import sysfs
from initiator.names import clean

if TYPE_CHECKING:
    import socket

_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x03
_ETHTOOL_GPAUSEPARAM = 0x12
_DRIVER = struct.Struct("=I32s160x")
"""struct ethtool_drvinfo, linux/ethtool.h: command, name of the driver."""
_PAUSE = struct.Struct("=IIII")
"""struct ethtool_pauseparam, linux/ethtool.h: command, autoneg, rx, tx. pyroute2 knows no ETHTOOL_MSG_PAUSE_GET."""
_REQUEST = struct.Struct("@16sP16x")
"""struct ifreq with a pointer in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Ethernet flow control (IEEE 802.3, annex 31B)."""

    rx: bool
    """Whether it stops sending when the switch asks it to."""
    tx: bool
    """Whether it asks the switch to stop when its own buffers fill."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arp:
    """What the kernel does with packets for another link's address (ip-sysctl.rst): the effective values."""

    rp_filter: int
    arp_ignore: int
    arp_announce: int


def read_driver(name: str) -> str | None:
    """The driver of a link, virtual ones too: `veth`, `dummy`, `ixgbe`; None where it does not tell.

    rtnetlink tells it as well (IFLA_INFO_KIND), but importing what speaks that takes longer than `mooring list` may.
    """
    import socket

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            told = _ask(channel, name, _DRIVER.pack(_ETHTOOL_GDRVINFO, b""))
    except OSError:
        return None  # it has just gone, or there is no IPv4
    _, driver = _DRIVER.unpack(told)
    return clean(driver.partition(b"\0")[0].decode("utf-8", "replace")) or None


def _ask(channel: socket.socket, name: str, question: bytes) -> bytes:
    """One question of ethtool's.

    Raises:
        OSError: the link is gone, or its driver does not answer this question.
    """
    import fcntl

    told = array.array("B", question)
    fcntl.ioctl(channel, _SIOCETHTOOL, _REQUEST.pack(name.encode()[:15], told.buffer_info()[0]))
    return told.tobytes()


def read_pauses(names: Iterable[str]) -> dict[str, Pause]:
    """Flow control of each link; one whose driver does not tell is left out.

    Raises:
        OSError: no socket can be made.
    """
    import socket

    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for name in names:
            try:
                told = _ask(channel, name, _PAUSE.pack(_ETHTOOL_GPAUSEPARAM, 0, 0, 0))
            except OSError:
                continue  # a virtual link, a driver without it, or a link that has just gone
            _, _, rx, tx = _PAUSE.unpack(told)
            found[name] = Pause(bool(rx), bool(tx))
    return found


def read_arp(names: Iterable[str], root: Path = Path("/")) -> dict[str, Arp]:
    """The effective settings of each link (of `all` and its own the higher counts), as far as they can be read."""
    found = {}
    for name in names:
        values = [_higher(root, name, key) for key in ("rp_filter", "arp_ignore", "arp_announce")]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found[name] = Arp(*known)
    return found


def _higher(root: Path, name: str, key: str) -> int | None:
    folder = f"{sysfs.base(root)}/proc/sys/net/ipv4/conf"
    both = (sysfs.read_int(f"{folder}/all/{key}"), sysfs.read_int(f"{folder}/{name}/{key}"))
    return None if None in both else max(value for value in both if value is not None)
