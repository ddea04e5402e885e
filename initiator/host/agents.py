"""Who would bring a disk back: crypttab, systemd's automounts, Pacemaker. Read only."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from initiator.host import services, sysfs
from initiator.host.files import read_some
from initiator.names import clean

_CIB = "var/lib/pacemaker/cib/cib.xml"
_LARGEST = 8 << 20
_NAMES = frozenset({"device", "directory", "volgrpname", "vgname", "target", "portal", "targetname", "raiddev"})
"""Attributes of resource agents (ocf:heartbeat: Filesystem, LVM-activate, iscsi, mdraid) that name storage."""


@dataclasses.dataclass(frozen=True, slots=True)
class CryptEntry:
    """One line of crypttab(5)."""

    name: str
    spec: str
    """`/dev/…`, `UUID=…`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One setting of a Pacemaker resource that names storage."""

    id: str
    agent: str
    setting: str
    value: str


def read_crypttab(root: Path = Path("/")) -> tuple[CryptEntry, ...]:
    """The entries of crypttab; empty where there is no such file.

    Raises:
        OSError: it may not be read.
    """
    words = (line.split() for line in read_some(f"{sysfs.base(root)}/etc/crypttab", _LARGEST).splitlines())
    return tuple(CryptEntry(each[0], each[1]) for each in words if len(each) >= 2 and not each[0].startswith("#"))


def read_automounts() -> tuple[services.Automount, ...]:
    """The automount units of systemd; none where systemd does not run.

    Raises:
        ServicesError: systemd does not answer.
        Stuck: it hangs.
    """
    return services.read_automounts() if os.path.isdir("/run/systemd/system") else ()


def read_cluster(root: Path = Path("/")) -> tuple[Resource, ...]:
    """What Pacemaker's configuration names of storage; empty where there is no cluster.

    Raises:
        OSError: it may not be read.
        ElementTree.ParseError: it is no XML.
    """
    text = read_some(f"{sysfs.base(root)}/{_CIB}", _LARGEST)
    return tuple(_resources(text)) if text else ()


def _resources(text: str) -> Iterator[Resource]:
    for primitive in ElementTree.fromstring(text).iter("primitive"):
        agent = ":".join(filter(None, (primitive.get(key) for key in ("class", "provider", "type"))))
        for pair in primitive.iter("nvpair"):
            name, value = pair.get("name", ""), pair.get("value", "")
            if name.lower() in _NAMES and value:
                yield Resource(clean(primitive.get("id", "")), clean(agent), clean(name), clean(value))
