"""What lies around a path and hardly ever changes: networks, cards, routes, switches, target ports. Frozen values.

A `Snapshot` says what there is; the `Fabric` says how it hangs together. `initiator.host.fabric` reads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from initiator.model import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Nic:
    """What is known of one network interface beyond its state."""

    networks: tuple[str, ...] = ()
    """The IP networks of its addresses, as `10.9.1.0/24`; link-local ones are left out."""
    model: str | None = None
    """What udev's hardware database calls the card."""
    mode: str | None = None
    """Bonds only: active-backup, 802.3ad, …"""
    active: str | None = None
    """Bonds with one member in use: its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """The kernel's own answer how it would send to a peer."""

    device: str | None
    gateway: str | None = None
    source: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """What is at the other end of a cable, as LLDP tells."""

    switch: str
    """The chassis id: the same for all ports of one switch."""
    name: str | None = None
    port: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TargetPort:
    """Through which port of the target a path goes (VPD page 83h; SPC-4, 7.8.6)."""

    group: int | None = None
    """Target port group: ports that always share their access state, on most arrays one controller."""
    number: int | None = None
    """Relative target port."""


Ends = tuple[str, str]
"""Local address and peer of a connection; the address as `10.9.1.7%eth1` where its socket is bound to an interface."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fabric:
    """One reading."""

    nics: Mapping[str, Nic] = dataclasses.field(default_factory=dict)
    """By name of the interface."""
    routes: Mapping[Ends, Route] = dataclasses.field(default_factory=dict)
    neighbours: Mapping[str, Neighbour] = dataclasses.field(default_factory=dict)
    """By name of the interface; empty without lldpd."""
    ports: Mapping[str, TargetPort] = dataclasses.field(default_factory=dict)
    """By path id."""
    problems: tuple[Problem, ...] = ()


EMPTY = Fabric()
