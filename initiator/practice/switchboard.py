"""Puts faults into force in a running target, and says which are."""

from __future__ import annotations

import os
from typing import Any

from initiator.model import Access
from initiator.practice.control import PracticeError
from initiator.practice.faults import Order
from initiator.practice.nexus import ACCESS_CHANGED, CAPACITY_CHANGED
from initiator.practice.server import PortalServer, Server
from initiator.practice.unit import Unit


class Switchboard:
    """The switches of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def apply(self, order: Order) -> str:
        """Put a fault into force; one sentence that says what holds now.

        Raises:
            PracticeError: it cannot be had now.
        """
        if order.fault == "clear":
            return self._clear()
        if order.portal is not None:
            return self._portal_fault(order, self._server.portals[order.portal])
        return self._disk_fault(order, self._server.units[order.disk or ""])

    def _portal_fault(self, order: Order, at: PortalServer) -> str:
        sessions = [one for one in self._server.sessions.values() if one.port is at.port]
        match order.fault:
            case "cut" | "plug":
                at.faults.cut = order.fault == "cut"
                at.watch()
                return f"{at.portal} is {'silent: its cable is cut' if at.faults.cut else 'connected again'}"
            case "delay":
                at.faults.delay_s = (order.number or 0) / 1000
                return f"{at.portal} answers {order.number} ms late" if order.number else f"{at.portal} answers at once"
            case "corrupt-digest":
                if sessions and not any(one.params.header_digest or one.params.data_digest for one in sessions):
                    text = f"no session at {at.portal} has digests: there is nothing to corrupt"
                    raise PracticeError(text, code="no-digest", fix="log in with HeaderDigest=CRC32C")
                at.faults.corrupt = order.number or 1
                return f"the next {at.faults.corrupt} digests from {at.portal} are wrong"
            case "refuse-login":
                at.faults.refuse_login = order.on
                return f"{at.portal} {'refuses' if order.on else 'takes'} logins"
            case "alua":
                self._set_access(at, order.state or Access.OPTIMIZED)
                return f"port group {at.port.group} ({at.portal}) is {at.port.access}"
            case "ask-logout":
                for session in sessions:
                    session.ask_logout()
                return f"{len(sessions)} sessions at {at.portal} were asked to log out"
        count = len(at.links)
        for link in list(at.links):
            link.abort()
        return f"{count} connections of {at.portal} were reset"

    def _set_access(self, at: PortalServer, state: Access) -> None:
        if at.port.access is not state:
            at.port.access = state
            for device in self._server.devices.values():
                for unit in device.luns.values():
                    device.nexuses.attend(unit.config.name, ACCESS_CHANGED)

    def _disk_fault(self, order: Order, unit: Unit) -> str:
        name = unit.config.name
        match order.fault:
            case "read-only":
                unit.faults.read_only = order.on
                return f"disk {name} is {'write-protected' if order.on else 'writable'}"
            case "out-of-space":
                unit.faults.out_of_space = order.on
                return f"disk {name} has {'no new space' if order.on else 'space again'}"
            case "vanish":
                self._vanish(unit, order.on)
                return f"disk {name} {'has vanished' if order.on else 'is there'}"
        return self._grow(unit, (order.number or 0) + (unit.store.size if order.relative else 0))

    def _vanish(self, unit: Unit, gone: bool) -> None:
        if unit.faults.vanished != gone:
            unit.faults.vanished = gone
            for device in self._server.devices.values():
                if unit in device.luns.values():
                    device.luns_changed()

    def _grow(self, unit: Unit, size: int) -> str:
        if size <= unit.store.size or size % unit.config.block_bytes or size > 1 << 44:
            text = (
                f"disk {unit.config.name} has {unit.store.size} bytes and cannot get {size}: it only grows, by blocks"
            )
            raise PracticeError(text, code="bad-input")
        try:
            unit.store.grow(size)
        except OSError as error:
            raise PracticeError(f"disk {unit.config.name} cannot grow: {error.strerror}") from error
        for device in self._server.devices.values():
            device.nexuses.attend(unit.config.name, CAPACITY_CHANGED)
        return f"disk {unit.config.name} has {size} bytes now"

    def _clear(self) -> str:
        for portal in self._server.portals:
            portal.faults.delay_s, portal.faults.corrupt, portal.faults.refuse_login = 0.0, 0, False
            portal.faults.cut = False
            self._set_access(portal, Access.OPTIMIZED)
            portal.watch()
        for unit in self._server.units.values():
            unit.faults.read_only = unit.faults.out_of_space = False
            self._vanish(unit, False)
        return "no fault is in force"

    def status(self) -> dict[str, Any]:
        """What there is and which faults are in force, as plain JSON values."""
        return {
            "pid": os.getpid(),
            "portals": [
                {
                    "address": str(at.portal),
                    "group": at.port.group,
                    "access": at.port.access.value,
                    "cut": at.faults.cut,
                    "delay_ms": round(at.faults.delay_s * 1000),
                    "corrupt": at.faults.corrupt,
                    "refuse_login": at.faults.refuse_login,
                    "connections": len(at.links),
                }
                for at in self._server.portals
            ],
            "disks": [
                {
                    "name": unit.config.name,
                    "wwid": unit.config.wwid,
                    "size_bytes": unit.store.size,
                    "read_only": unit.faults.read_only,
                    "out_of_space": unit.faults.out_of_space,
                    "vanished": unit.faults.vanished,
                }
                for unit in self._server.units.values()
            ],
            "sessions": [
                {
                    "initiator": one.outcome.initiator,
                    "target": one.outcome.target,
                    "isid": one.outcome.isid.hex(),
                    "tsih": one.outcome.tsih,
                    "group": one.port.group,
                    "tasks": len(one.tasks.active),
                }
                for one in self._server.sessions.values()
            ],
        }
