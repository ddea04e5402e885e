"""What an initiator asks an iSNS server, and what it is told: nodes, portals, registrations, changes (RFC 4171)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from initiator.model import Portal
from initiator.protocol import isns
from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.isns import Attribute, Function, Message, Tag
from initiator.protocol.login_config import MAX_NAME
from initiator.protocol.sendtargets import DiscoveredTarget

_ISCSI = 2
"""Entity protocol (6.2.2)."""
_UDP = 0x10000
"""Bit of a port attribute (6.3.2)."""
_LONGEST = 256


class NodeType(enum.IntFlag):
    """What a node is (6.4.2)."""

    TARGET = 1
    INITIATOR = 2
    CONTROL = 4

    @property
    def words(self) -> str:
        """`target`, `initiator, control`."""
        return ", ".join(kind.name.lower() for kind in NodeType if kind in self and kind.name) or "unknown"


class Event(enum.IntFlag):
    """What a notification tells, and which a node wants (6.4.4)."""

    ADDED_TO_DOMAIN = 0x01
    REMOVED_FROM_DOMAIN = 0x02
    UPDATED = 0x04
    ADDED = 0x08
    REMOVED = 0x10
    MANAGEMENT = 0x20
    TARGETS = 0x40
    """Only of targets, and of the node itself."""

    @property
    def words(self) -> str:
        """`added`, `removed`, `updated`, …"""
        told = (Event.REMOVED, Event.ADDED, Event.UPDATED, Event.REMOVED_FROM_DOMAIN, Event.ADDED_TO_DOMAIN)
        names = (kind.name.lower().replace("_", " ") for kind in told if kind in self and kind.name)
        return ", ".join(names) or "changed"


WANTED = Event.TARGETS | Event.ADDED | Event.REMOVED | Event.UPDATED


@dataclass(frozen=True, slots=True)
class Node:
    """One storage node that a server knows."""

    name: str
    type: NodeType
    alias: str | None = None
    portals: tuple[Portal, ...] = ()
    """Where it can be reached, over TCP; the group tag is that of its portal group."""


class Directory(NamedTuple):
    """What a server told."""

    nodes: tuple[Node, ...]
    skipped: int
    """Entries that cannot be understood or shown. Anybody can register anything, and hides nobody else by it."""

    def targets(self) -> list[DiscoveredTarget]:
        """Those that can be logged in to, as a SendTargets discovery gives them."""
        nodes = (node for node in self.nodes if NodeType.TARGET in node.type and node.portals)
        return [DiscoveredTarget(node.name, node.portals) for node in nodes]


_ASKED = (
    *(Tag.NAME, Tag.NODE_TYPE, Tag.ALIAS, Tag.PORTAL_ADDRESS, Tag.PORTAL_PORT),
    *(Tag.GROUP_NAME, Tag.GROUP_ADDRESS, Tag.GROUP_PORT, Tag.GROUP_TAG),
)


def query(source: str, kind: NodeType | None = None) -> bytes:
    """Asks for every node that `source` may see (its discovery domains decide), or for those of one type (5.6.5.2)."""
    key = Attribute(Tag.NAME) if kind is None else isns.number(Tag.NODE_TYPE, kind)
    return isns.request(source, (key,), [Attribute(tag) for tag in _ASKED])


def query_one(source: str, name: str) -> bytes:
    """Asks for the one node `name`."""
    return isns.request(source, (isns.text(Tag.NAME, name),), [Attribute(tag) for tag in _ASKED])


def query_next(source: str, name: str | None) -> bytes:
    """Asks for the name of the node after `name`, or of the first one (5.6.5.3)."""
    key = Attribute(Tag.NAME) if name is None else isns.text(Tag.NAME, name)
    return isns.request(source, (key,))


def parse_next(answer: isns.Answer) -> str:
    """The answer to `query_next`.

    Raises:
        RemoteProtocolError: it names no node.
    """
    for each in answer.keys:
        if each.tag == Tag.NAME:
            return each.text
    raise RemoteProtocolError("the iSNS server does not say which node is the next (RFC 4171, 5.7.5.3)")


class _Found:
    """One node in the making."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = NodeType(0)
        self.alias: str | None = None
        self.portals: dict[tuple[str, int], Portal] = {}


class _Collector:
    """Sorts attributes into nodes: a key attribute begins the next object, what follows belongs to it (5.6.5.2)."""

    def __init__(self) -> None:
        self.nodes: dict[str, _Found] = {}
        self.skipped = 0
        self._node: _Found | None = None
        self._group: _Found | None = None
        self._host: str | None = None
        self._portal: tuple[str, int] | None = None

    def take(self, each: Attribute) -> None:
        if each.tag == Tag.NAME:
            self._node = None
            self._node = self.nodes.setdefault(name := _name(each), _Found(name))
        elif each.tag == Tag.GROUP_NAME:
            self._group = None
            self._group = self.nodes.get(_name(each))
        elif each.tag in (Tag.PORTAL_ADDRESS, Tag.GROUP_ADDRESS):
            self._host = None
            self._host = each.address
        elif each.tag in (Tag.PORTAL_PORT, Tag.GROUP_PORT):
            self._take_port(each.number, self._node if each.tag == Tag.PORTAL_PORT else self._group)
        elif each.tag == Tag.GROUP_TAG:
            self._take_tag(each)
        elif self._node is not None and each.tag == Tag.NODE_TYPE:
            self._node.type = NodeType(each.number & 7)
        elif self._node is not None and each.tag == Tag.ALIAS:
            self._node.alias = each.text[:_LONGEST] or None

    def _take_port(self, port: int, node: _Found | None) -> None:
        self._portal = None
        if self._host is None or node is None or port & _UDP:
            return
        if not 0 < port <= 0xFFFF:
            raise RemoteProtocolError(f"{port} in iSNS is no TCP port (RFC 4171, 6.3.2)")
        self._portal = (self._host, port)
        node.portals.setdefault(self._portal, Portal(self._host, port))

    def _take_tag(self, each: Attribute) -> None:
        """The tag of a portal group; a null one says that the node is not to be reached there (3.4)."""
        node, portal = self._group, self._portal
        if node is None or portal is None:
            return
        if not each.value:
            node.portals.pop(portal, None)
        elif each.number <= 0xFFFF:
            node.portals[portal] = Portal(*portal, each.number)


def parse_nodes(attributes: Iterable[Attribute]) -> Directory:
    """The operating attributes of an answer to `query`."""
    found = _Collector()
    for each in attributes:
        try:
            found.take(each)
        except RemoteProtocolError:
            found.skipped += 1
    nodes = (Node(each.name, each.type, each.alias, tuple(each.portals.values())) for each in found.nodes.values())
    return Directory(tuple(nodes), found.skipped)


def _name(each: Attribute) -> str:
    name = each.text
    if not 0 < len(name.encode()) <= MAX_NAME or " " in name:
        raise RemoteProtocolError("a node in iSNS has no iSCSI name (RFC 7143, 4.2.7)")
    return name


@dataclass(frozen=True, slots=True)
class Registration:
    """How this initiator makes itself known."""

    name: str
    alias: str = ""
    entity: str = ""
    """The key of the entity; the server makes one up where it is empty."""
    host: str | None = None
    """Our address; None registers no portal."""
    port: int = 0
    """Where notifications and inquiries are to be sent, over TCP."""
    inquiry_seconds: int = 0
    """How often the server asks whether we are still there (ESI); when nobody answers it forgets us. 0 for never."""


def register(wanted: Registration) -> bytes:
    """Registers an entity with one initiator node in it, and a portal for notifications (5.6.5.1)."""
    keys = [isns.text(Tag.ENTITY, wanted.entity)] if wanted.entity else []
    operating = [isns.text(Tag.ENTITY, wanted.entity) if wanted.entity else Attribute(Tag.ENTITY)]
    operating.append(isns.number(Tag.PROTOCOL, _ISCSI))
    if wanted.host is not None:
        operating += [isns.address(Tag.PORTAL_ADDRESS, wanted.host), isns.number(Tag.PORTAL_PORT, wanted.port)]
        if wanted.inquiry_seconds:
            operating.append(isns.number(Tag.ESI_INTERVAL, wanted.inquiry_seconds))
            operating.append(isns.number(Tag.ESI_PORT, wanted.port))
        operating.append(isns.number(Tag.SCN_PORT, wanted.port))
    operating += [isns.text(Tag.NAME, wanted.name), isns.number(Tag.NODE_TYPE, NodeType.INITIATOR)]
    if wanted.alias:
        operating.append(isns.text(Tag.ALIAS, wanted.alias))
    return isns.request(wanted.name, keys, operating)


class Registered(NamedTuple):
    """What a server has made of a registration."""

    entity: str
    """Its key of the entity."""
    period_s: int | None
    """After so many seconds without a sign of life it forgets the entity; None where it does not say, 0 for never."""


def parse_registered(answer: isns.Answer) -> Registered:
    """The answer to `register`.

    Raises:
        RemoteProtocolError: it does not say what was registered.
    """
    entity = _entity((*answer.keys, *answer.operating))
    if entity is None:
        raise RemoteProtocolError("the iSNS server does not say what it registered (RFC 4171, 5.7.5.1)")
    periods = [each.number for each in answer.operating if each.tag == Tag.PERIOD]
    return Registered(entity, periods[0] if periods else None)


def query_entity(name: str) -> bytes:
    """Asks in which entity the node `name` is."""
    return isns.request(name, (isns.text(Tag.NAME, name),), (Attribute(Tag.ENTITY),))


def parse_entity(answer: isns.Answer) -> str | None:
    """The answer to `query_entity`; None where the server knows no such node."""
    return _entity(answer.operating)


def _entity(attributes: Iterable[Attribute]) -> str | None:
    return next((each.text for each in attributes if each.tag == Tag.ENTITY and each.value), None)


def deregister_entity(name: str, entity: str) -> bytes:
    """Takes back an entity with all that is in it (5.6.5.4)."""
    return isns.request(name, (), (isns.text(Tag.ENTITY, entity),))


def deregister_portal(name: str, host: str, port: int) -> bytes:
    """Takes back one portal; the nodes of its entity stay."""
    return isns.request(name, (), (isns.address(Tag.PORTAL_ADDRESS, host), isns.number(Tag.PORTAL_PORT, port)))


def register_notices(name: str, events: Event = WANTED) -> bytes:
    """Asks for notifications of changes (5.6.5.5)."""
    return isns.request(name, (isns.text(Tag.NAME, name),), (isns.number(Tag.SCN_BITMAP, events),))


class Change(NamedTuple):
    """One change of which a server has notified."""

    event: Event
    name: str


def parse_notice(message: Message) -> tuple[Change, ...]:
    """What a state change notification tells (5.6.5.8).

    Raises:
        RemoteProtocolError: it is none.
    """
    event: Event | None = None
    found = []
    for at, each in enumerate(isns.decode_attributes(message.payload)):
        if each.tag == Tag.SCN_BITMAP:
            event = Event(each.number & 0x7F)
        elif each.tag == Tag.NAME and at:  # the first is the one that is told
            if event is None:
                raise RemoteProtocolError("an iSNS notification names a node and no event (RFC 4171, 5.6.5.8)")
            found.append(Change(event, _name(each)))
    return tuple(found)


def answer_to(message: Message) -> Message | None:
    """What a client answers to what a server asks of it; None where it was not asked for anything.

    A notification is answered with its destination (5.7.5.8), an inquiry with all its attributes (5.7.5.13).

    Raises:
        RemoteProtocolError: the message cannot be read.
    """
    if message.is_answer:
        return None
    success = bytes(4)
    if message.function == Function.ESI:
        return Message(Function.ESI | isns.RESPONSE, message.transaction, success + message.payload)
    if message.function == Function.SCN:
        to = [each for each in isns.decode_attributes(message.payload)[:1] if each.tag == Tag.NAME]
        return Message(Function.SCN | isns.RESPONSE, message.transaction, success + isns.encode_attributes(to))
    refusal = int(isns.Status.MESSAGE_NOT_SUPPORTED).to_bytes(4, "big")
    return Message(message.function | isns.RESPONSE, message.transaction, refusal)
