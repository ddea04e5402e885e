"""Who a logical unit is: device identification, VPD page 83h (SPC-4, 7.8.6), and the WWID that is made from it."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Iterable, Mapping

from initiator.scsi.commands import Buffer
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.inquiry import VPD_DESIGNATORS, build_page, parse_page


class Association(enum.IntEnum):
    """What a designator names."""

    UNIT = 0
    PORT = 1
    TARGET = 2
    RESERVED = 3


class Kind(enum.IntEnum):
    """Designator types."""

    VENDOR = 0
    T10 = 1
    EUI64 = 2
    NAA = 3
    RELATIVE_PORT = 4
    PORT_GROUP = 5
    UNIT_GROUP = 6
    MD5 = 7
    SCSI_NAME = 8


_NAA_SIZES = {2: 8, 3: 8, 5: 8, 6: 16}
_NAA_RANK = (6, 5, 3, 2)
_RANK: Mapping[int, int] = {Kind.T10: 20, Kind.SCSI_NAME: 30}
_ASSOCIATIONS = tuple(Association)


@dataclasses.dataclass(frozen=True, slots=True)
class Designator:
    """One name of a logical unit, a target port or a target device."""

    kind: int
    value: bytes
    association: Association = Association.UNIT
    code_set: int = 1
    """1 binary, 2 ASCII, 3 UTF-8."""
    protocol: int | None = None
    """The protocol identifier where it counts (5 is iSCSI)."""

    @property
    def text(self) -> str | None:
        """`naa.…`, `eui.…`, `t10.…` or the SCSI name; None where it identifies nothing for certain."""
        if self.kind == Kind.NAA and self._naa_valid:
            return f"naa.{self.value.hex()}"
        if self.kind == Kind.EUI64 and len(self.value) in (8, 12, 16) and any(self.value):
            return f"eui.{self.value.hex()}"
        if self.kind == Kind.T10 and len(self.value) > 8 and self.value[8:].strip(b"\0 "):
            return "t10." + _visible(self.value)
        if self.kind == Kind.SCSI_NAME and self.value.lower().startswith((b"naa.", b"eui.", b"iqn.")):
            name = _visible(self.value)
            return name if len(name) > 4 else None
        return None

    @property
    def _naa_valid(self) -> bool:
        family = self.value[0] >> 4 if self.value else 0
        return _NAA_SIZES.get(family) == len(self.value) and any(self.value[1:])

    @property
    def rank(self) -> int:
        """How much it is trusted as an identity; lower is better."""
        if self.kind == Kind.NAA:
            return _NAA_RANK.index(self.value[0] >> 4)
        return 10 - len(self.value) // 8 if self.kind == Kind.EUI64 else _RANK[self.kind]


_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")

_ESCAPES = {byte: f"%{byte:02X}" for byte in range(256) if byte not in _SAFE}


def _visible(raw: bytes) -> str:
    # Everything outside a small safe alphabet is written as %XX, so that no space, control code or markup of a target
    # gets into an id, a file name or a screen. Padding at the end says nothing.
    raw = raw.rstrip(b"\0 ")
    if _SAFE.issuperset(raw):
        return raw.decode("ascii")
    return raw.decode("latin-1").translate(_ESCAPES)


def parse_designators(data: Buffer) -> tuple[Designator, ...]:
    """The designators of a VPD page 83h, in its order.

    Raises:
        ScsiFormatError: another page, or a designator that ends outside the page.
    """
    body = parse_page(data, VPD_DESIGNATORS)
    found: list[Designator] = []
    at = 0
    while at < len(body):
        if at + 4 > len(body) or at + 4 + body[at + 3] > len(body):
            raise ScsiFormatError("VPD page 83h ends inside a designator")
        size = body[at + 3]
        flags = body[at + 1]
        found.append(
            Designator(
                kind=flags & 0x0F,
                value=bytes(body[at + 4 : at + 4 + size]),
                association=_ASSOCIATIONS[flags >> 4 & 3],
                code_set=body[at] & 0x0F,
                protocol=body[at] >> 4 if flags & 0x80 else None,
            )
        )
        at += 4 + size
    return tuple(found)


def build_designators(items: Iterable[Designator]) -> bytes:
    """A VPD page 83h."""
    parts: list[bytes] = []
    for item in items:
        if len(item.value) > 255:
            raise ScsiFormatError(f"designator of {len(item.value)} bytes does not fit")
        known = item.protocol is not None
        flags = (0x80 if known else 0) | item.association << 4 | item.kind
        parts.append(struct.pack(">BBxB", (item.protocol or 0) << 4 | item.code_set, flags, len(item.value)))
        parts.append(item.value)
    return build_page(VPD_DESIGNATORS, b"".join(parts))


def unit_names(items: Iterable[Designator]) -> tuple[str, ...]:
    """Every identity of the logical unit itself, best first."""
    named = [(item.rank, text) for item in items if item.association is Association.UNIT and (text := item.text)]
    return tuple(dict.fromkeys(text for _, text in sorted(named)))


def wwid(items: Iterable[Designator]) -> str | None:
    """The identity of the logical unit: NAA (6, 5, 3, 2), else EUI-64, else T10, else SCSI name; None without one."""
    return next(iter(unit_names(items)), None)


def port_group(items: Iterable[Designator]) -> int | None:
    """The target port group of the port that answered (type 5)."""
    return _port_number(items, Kind.PORT_GROUP)


def relative_port(items: Iterable[Designator]) -> int | None:
    """The relative target port identifier of the port that answered (type 4)."""
    return _port_number(items, Kind.RELATIVE_PORT)


def _port_number(items: Iterable[Designator], kind: Kind) -> int | None:
    for item in items:
        if item.kind == kind and item.association is Association.PORT and len(item.value) == 4:
            return int.from_bytes(item.value[2:4], "big")
    return None


def same_unit(one: Iterable[Designator], other: Iterable[Designator]) -> bool:
    """True only if both lists certainly name the same logical unit.

    A logical unit answers the same identities through every port (SPC-4, 7.8.6.1). So the best identity must be
    equal and no kind of identity may be present on both sides without a common value.
    """
    first = _by_family(one)
    second = _by_family(other)
    best = wwid(first.pop("", ()))
    if best is None or best != wwid(second.pop("", ())):
        return False
    return all(values & second[family] for family, values in first.items() if family in second)


def _by_family(items: Iterable[Designator]) -> dict[str, set[Designator]]:
    families: dict[str, set[Designator]] = {"": set()}
    for item in items:
        text = item.text
        if item.association is Association.UNIT and text is not None:
            families[""].add(item)
            family = text[:5] if item.kind == Kind.NAA else str(item.kind)
            families.setdefault(family, set()).add(item)
    return families
