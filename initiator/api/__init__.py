"""Mooring's initiator for other Python programs: discover targets, log in, read and write logical units.

    async with Session.login("iqn.2026-11.example:data", "192.0.2.10") as session:
        disk = await session.disk(0)
        first = await disk.read(0, disk.block_bytes)

    async with Disk.open("iqn.2026-11.example:data", ["192.0.2.10", "192.0.2.11"]) as disk:
        await disk.write(0, first)
        await disk.flush()

Offsets and lengths are in bytes and multiples of `block_bytes`; times are in seconds. Everything belongs to the event
loop that it was made in. What a target or a network does wrong is an `initiator.errors.MooringError` (its `code` is for
programs, its `fix` for people); a block that cannot be read or written is an `OSError` with its errno. For programs
without an event loop there is `initiator.api.blocking`. docs/library.md has the whole picture.
"""

from __future__ import annotations

from initiator.api.disk import Disk, MiscompareError
from initiator.api.login import LoginOptions
from initiator.api.session import Session, discover
from initiator.engine.device import DeviceOptions
from initiator.engine.discovery import DiscoveredTarget
from initiator.engine.probe import LunInfo
from initiator.engine.session_config import Completed
from initiator.protocol.chap import Chap
from initiator.protocol.keys import Offer
from initiator.scsi.reservations import Claims, Order, Type

__all__ = [
    "Chap",
    "Claims",
    "Completed",
    "DeviceOptions",
    "DiscoveredTarget",
    "Disk",
    "LoginOptions",
    "LunInfo",
    "MiscompareError",
    "Offer",
    "Order",
    "Session",
    "Type",
    "discover",
]
