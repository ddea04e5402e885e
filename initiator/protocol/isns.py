"""The wire format of iSNS (RFC 4171, 5): messages of one or more PDUs, attributes, status codes. Without any I/O.

What arrives is data from a stranger: nothing here trusts it, nothing grows without a limit, nothing prints it.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterable
from typing import NamedTuple

from initiator.names import clean
from initiator.protocol.errors import IscsiError, LocalProtocolError, RemoteProtocolError

DEFAULT_PORT = 3205
VERSION = 1
RESPONSE = 0x8000
"""Set in the function of an answer (5.1.2)."""
MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one whole message: room for some fifty thousand nodes."""
MAX_PDU = 65532
"""The largest payload whose length fits and is a multiple of four (5.1.3)."""

_HEADER = struct.Struct(">HHHHHH")
_TAG = struct.Struct(">II")


class Function(enum.IntEnum):
    """What a message is about (4.1.3)."""

    REGISTER = 0x0001
    QUERY = 0x0002
    GET_NEXT = 0x0003
    DEREGISTER = 0x0004
    SCN_REGISTER = 0x0005
    SCN_DEREGISTER = 0x0006
    SCN = 0x0008
    ESI = 0x000D


class Flag(enum.IntFlag):
    """Flags of a PDU (5.1.4)."""

    CLIENT = 0x8000
    SERVER = 0x4000
    AUTHENTICATED = 0x2000
    REPLACE = 0x1000
    LAST = 0x0800
    FIRST = 0x0400


class Tag(enum.IntEnum):
    """Attributes (6.1)."""

    DELIMITER = 0
    ENTITY = 1
    PROTOCOL = 2
    TIMESTAMP = 4
    PERIOD = 6
    PORTAL_ADDRESS = 16
    PORTAL_PORT = 17
    ESI_INTERVAL = 19
    ESI_PORT = 20
    SCN_PORT = 23
    NAME = 32
    NODE_TYPE = 33
    ALIAS = 34
    SCN_BITMAP = 35
    GROUP_NAME = 48
    GROUP_ADDRESS = 49
    GROUP_PORT = 50
    GROUP_TAG = 51


class Status(enum.IntEnum):
    """How a request ended (5.4)."""

    SUCCESS = 0
    UNKNOWN_ERROR = 1
    FORMAT_ERROR = 2
    INVALID_REGISTRATION = 3
    INVALID_QUERY = 5
    SOURCE_UNKNOWN = 6
    SOURCE_ABSENT = 7
    SOURCE_UNAUTHORIZED = 8
    NO_SUCH_ENTRY = 9
    VERSION_NOT_SUPPORTED = 10
    INTERNAL_ERROR = 11
    BUSY = 12
    OPTION_NOT_UNDERSTOOD = 13
    INVALID_UPDATE = 14
    MESSAGE_NOT_SUPPORTED = 15
    SCN_EVENT_REJECTED = 16
    SCN_REGISTRATION_REJECTED = 17
    ATTRIBUTE_NOT_IMPLEMENTED = 18
    ESI_NOT_AVAILABLE = 21
    INVALID_DEREGISTRATION = 22
    FEATURE_NOT_SUPPORTED = 23


_WAYS_OUT = {
    Status.SOURCE_UNKNOWN: "register this initiator there first: mooring isns register SERVER",
    Status.SOURCE_UNAUTHORIZED: "the server does not let this initiator's name do it; its administrator decides",
    Status.BUSY: "try again later",
}


class IsnsError(IscsiError):
    """The server refused.

    Attributes:
        status: Its status code, which need not be one of `Status`.
    """

    code = "isns-refused"

    def __init__(self, what: str, status: int) -> None:
        known = status in Status.__members__.values()
        words = Status(status).name.lower().replace("_", " ") if known else "unknown status"
        super().__init__(f"{what}: {words} ({status})", fix=_WAYS_OUT.get(Status(status), "") if known else "")
        self.status = status


class Attribute(NamedTuple):
    """One attribute: its tag and its value with the padding."""

    tag: int
    value: bytes = b""

    @property
    def text(self) -> str:
        """A name or an alias.

        Raises:
            RemoteProtocolError: it is not UTF-8, or has something in it that would change a screen.
        """
        try:
            text = self.value.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError(f"iSNS attribute {self.tag} is not UTF-8 (RFC 4171, 6.1)") from None
        if clean(text) != text:
            raise RemoteProtocolError(f"iSNS attribute {self.tag} has invisible characters in it")
        return text

    @property
    def number(self) -> int:
        """A number of four bytes.

        Raises:
            RemoteProtocolError: it has another length.
        """
        if len(self.value) != 4:
            raise RemoteProtocolError(f"iSNS attribute {self.tag} has {len(self.value)} bytes, not 4 (RFC 4171, 6.1)")
        return int.from_bytes(self.value, "big")

    @property
    def address(self) -> str:
        """An IP address; an IPv4 one is stored as `::ffff:a.b.c.d` (6.3.1).

        Raises:
            RemoteProtocolError: it has another length, or is no address of a host.
        """
        if len(self.value) != 16:
            raise RemoteProtocolError(f"an address in iSNS has {len(self.value)} bytes, not 16 (RFC 4171, 6.3.1)")
        six = ipaddress.IPv6Address(self.value)
        found = six.ipv4_mapped or six
        if found.is_unspecified or found.is_multicast:
            raise RemoteProtocolError(f"{found} in iSNS is no address of a host")
        return str(found)


DELIMITER = Attribute(Tag.DELIMITER)


def text(tag: Tag, value: str) -> Attribute:
    """A text attribute: UTF-8, ended by a NUL, padded to four bytes (6.1)."""
    raw = value.encode() + b"\0"
    return Attribute(tag, raw + b"\0" * (-len(raw) % 4))


def number(tag: Tag, value: int) -> Attribute:
    """A numerical attribute."""
    return Attribute(tag, value.to_bytes(4, "big"))


def address(tag: Tag, host: str) -> Attribute:
    """An address attribute.

    Raises:
        LocalProtocolError: `host` is no IP address.
    """
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise LocalProtocolError(f"{host!r} is no IP address") from None
    mapped = b"\0" * 10 + b"\xff\xff" + found.packed if found.version == 4 else found.packed
    return Attribute(tag, mapped)


def encode_attributes(attributes: Iterable[Attribute]) -> bytes:
    """Tag, length and value of each (5.3)."""
    return b"".join(_TAG.pack(each.tag, len(each.value)) + each.value for each in attributes)


def decode_attributes(data: bytes) -> tuple[Attribute, ...]:
    """The attributes in a payload, in order.

    Raises:
        RemoteProtocolError: one is cut short, or its length is no multiple of four.
    """
    found = []
    at = 0
    while at < len(data):
        if len(data) - at < _TAG.size:
            raise RemoteProtocolError("an iSNS message ends inside an attribute (RFC 4171, 5.3)")
        tag, length = _TAG.unpack_from(data, at)
        at += _TAG.size
        if length % 4 or length > len(data) - at:
            raise RemoteProtocolError(f"iSNS attribute {tag} has a wrong length, {length} bytes (RFC 4171, 5.3)")
        found.append(Attribute(tag, data[at : at + length]))
        at += length
    return tuple(found)


class Message(NamedTuple):
    """A whole message."""

    function: int
    transaction: int
    payload: bytes
    replace: bool = False
    """DevAttrReg only: what was registered before goes."""

    @property
    def is_answer(self) -> bool:
        """Whether it answers a request, and is none."""
        return bool(self.function & RESPONSE)

    def encode(self, sender: Flag = Flag.CLIENT) -> bytes:
        """Its PDUs (5.2).

        Raises:
            LocalProtocolError: it is too long.
        """
        if len(self.payload) > MAX_MESSAGE or len(self.payload) % 4:
            raise LocalProtocolError(f"an iSNS message of {len(self.payload)} bytes cannot be sent")
        starts = range(0, max(len(self.payload), 1), MAX_PDU)
        out = []
        for sequence, start in enumerate(starts):
            piece = self.payload[start : start + MAX_PDU]
            flags = sender | (Flag.REPLACE if self.replace else 0)
            flags |= (Flag.FIRST if sequence == 0 else 0) | (Flag.LAST if sequence == len(starts) - 1 else 0)
            head = _HEADER.pack(VERSION, self.function, len(piece), flags, self.transaction, sequence)
            out.append(head + piece)
        return b"".join(out)


class Reader:
    """Puts the messages of one connection together from the bytes that arrive."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._parts: list[bytes] = []
        self._of: tuple[int, int] | None = None
        """Function and transaction of the message whose first PDUs are here."""
        self._size = 0

    @property
    def inside(self) -> bool:
        """True in the middle of a message."""
        return bool(self._bytes) or self._of is not None

    def feed(self, data: bytes) -> list[Message]:
        """Takes bytes; gives the messages that are complete now.

        Raises:
            RemoteProtocolError: this is no iSNS, or a message is out of order or too long.
        """
        self._bytes += data
        found = []
        while len(self._bytes) >= _HEADER.size:
            version, function, length, flags, transaction, sequence = _HEADER.unpack_from(self._bytes)
            if version != VERSION:
                raise RemoteProtocolError(
                    f"version {version:#06x} instead of 1: this is no iSNS server", code="not-isns"
                )
            if length % 4:
                raise RemoteProtocolError(f"an iSNS PDU has a payload of {length} bytes (RFC 4171, 5.1.3)")
            end = _HEADER.size + length
            if len(self._bytes) < end:
                break
            piece = bytes(self._bytes[_HEADER.size : end])
            del self._bytes[:end]
            if (whole := self._take(Flag(flags & 0xFC00), (function, transaction), sequence, piece)) is not None:
                found.append(Message(function, transaction, whole, bool(flags & Flag.REPLACE)))
        return found

    def _take(self, flags: Flag, of: tuple[int, int], sequence: int, piece: bytes) -> bytes | None:
        """One PDU; the whole message if it was its last one."""
        first = bool(flags & Flag.FIRST)
        if first != (self._of is None) or (not first and of != self._of) or sequence != len(self._parts):
            raise RemoteProtocolError("an iSNS PDU is out of order (RFC 4171, 5.2)")
        self._of = of
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > MAX_MESSAGE or (not piece and not flags & Flag.LAST):
            raise RemoteProtocolError("an iSNS message does not come to an end", code="isns-endless")
        if not flags & Flag.LAST:
            return None
        if flags & Flag.AUTHENTICATED:
            raise RemoteProtocolError("the iSNS server signs its messages, which is not supported", code="isns-signed")
        whole = b"".join(self._parts)
        self._parts, self._of, self._size = [], None, 0
        return whole


def request(source: str, keys: Iterable[Attribute] = (), operating: Iterable[Attribute] = ()) -> bytes:
    """The payload of a request: who asks, about what, and what (5.6.1)."""
    return encode_attributes((text(Tag.NAME, source), *keys, DELIMITER, *operating))


class Answer(NamedTuple):
    """What a server answered to a request that it granted."""

    keys: tuple[Attribute, ...]
    operating: tuple[Attribute, ...]


def parse_answer(message: Message, function: Function, what: str) -> Answer:
    """Reads the answer to a request (5.7.1).

    Args:
        message: What came.
        function: Of the request.
        what: What was asked for, for the text of an error.

    Raises:
        IsnsError: the server refused.
        RemoteProtocolError: it is no such answer.
    """
    if message.function != function | RESPONSE:
        raise RemoteProtocolError(f"an iSNS server answers {function.name} with function {message.function:#06x}")
    if len(message.payload) < 4:
        raise RemoteProtocolError("an iSNS answer has no status (RFC 4171, 5.7.1)")
    status = int.from_bytes(message.payload[:4], "big")
    if status != Status.SUCCESS:
        raise IsnsError(what, status)
    attributes = decode_attributes(message.payload[4:])
    ends = [at for at, each in enumerate(attributes) if each.tag == Tag.DELIMITER]
    middle = ends[0] if ends else len(attributes)
    return Answer(attributes[:middle], attributes[middle + 1 :])
