"""The faults that a practice target can be given while it runs, as a table of data.

The table is shared: the command line and the dashboard's palette list it, `parse` checks what a person typed, and the
target process applies the order. Nothing here touches a socket or a file.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
from collections.abc import Sequence

from initiator.errors import BadInputError
from initiator.model import Access, Portal


class Kind(enum.StrEnum):
    """What an argument of a fault is."""

    PORTAL = "PORTAL"
    DISK = "DISK"
    MILLISECONDS = "MS"
    COUNT = "COUNT"
    SIZE = "SIZE"
    STATE = "STATE"
    SWITCH = "on|off"


@dataclasses.dataclass(frozen=True, slots=True)
class Arg:
    """One argument; one with a `default` may be left out."""

    kind: Kind
    default: str | None = None

    def __str__(self) -> str:
        return self.kind.value if self.default is None else f"[{self.kind.value}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table: how it is called, what it needs, what it does to an initiator."""

    name: str
    args: tuple[Arg, ...]
    text: str

    @property
    def usage(self) -> str:
        """`delay PORTAL MS`"""
        return " ".join([self.name, *map(str, self.args)])


_PORTAL = Arg(Kind.PORTAL)
_DISK = Arg(Kind.DISK)
_ON = Arg(Kind.SWITCH, "on")

FAULTS: tuple[Fault, ...] = (
    Fault("cut", (_PORTAL,), "Pull the cable: the portal goes silent. Nothing is closed, nothing is answered."),
    Fault("plug", (_PORTAL,), "Plug the cable in again: what waited is read and answered."),
    Fault("delay", (_PORTAL, Arg(Kind.MILLISECONDS)), "Send every answer of the portal so much later; 0 ends it."),
    Fault(
        "corrupt-digest",
        (_PORTAL, Arg(Kind.COUNT, "1")),
        "Flip a bit in the CRC32C digest of the next PDUs that the portal sends (data digest, else header digest).",
    ),
    Fault("refuse-login", (_PORTAL, _ON), "Answer every login at the portal with 'service unavailable' (0301h)."),
    Fault(
        "alua",
        (_PORTAL, Arg(Kind.STATE)),
        "Give the portal's port group another access state and tell every initiator (unit attention 2A/06).",
    ),
    Fault("ask-logout", (_PORTAL,), "Ask every session at the portal to log out (async message 1)."),
    Fault("drop", (_PORTAL,), "Reset every TCP connection of the portal; new ones are welcome."),
    Fault("read-only", (_DISK, _ON), "Write-protect the disk: writes fail with DATA PROTECT 27/00."),
    Fault(
        "out-of-space",
        (_DISK, _ON),
        "The thin pool is full: writes to blocks that were never written fail with DATA PROTECT 27/07.",
    ),
    Fault("grow", (_DISK, Arg(Kind.SIZE)), "Make the disk larger, to SIZE or by +SIZE (unit attention 2A/09)."),
    Fault("vanish", (_DISK, _ON), "Take the logical unit away: commands fail with LOGICAL UNIT NOT SUPPORTED 25/00."),
    Fault("clear", (), "End every fault that lasts. A disk that grew stays grown."),
)
"""Every fault, in the order in which a person meets them."""

STATES: dict[str, Access] = {
    "optimized": Access.OPTIMIZED,
    "non-optimized": Access.NON_OPTIMIZED,
    "standby": Access.STANDBY,
    "unavailable": Access.UNAVAILABLE,
    "transitioning": Access.TRANSITIONING,
    "offline": Access.OFFLINE,
}
"""What `alua` takes as STATE; `active/optimized` and `active/non-optimized` are understood too."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST_DELAY_MS = 60_000


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One checked order for the target. What the fault does not take stays None.

    Attributes:
        portal: Index into the portals that were given to `parse`.
        disk: Name of a disk.
        number: Milliseconds, a count, or a size in bytes.
        relative: The size is to be added to what the disk has.
        state: The access state of `alua`.
        on: The position of a switch.
    """

    fault: str
    portal: int | None = None
    disk: str | None = None
    number: int | None = None
    relative: bool = False
    state: Access | None = None
    on: bool = True


def find(name: str) -> Fault:
    """The row of that name.

    Raises:
        BadInputError: there is none; the text offers the nearest.
    """
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise BadInputError(_unknown("fault", name, [fault.name for fault in FAULTS]))


def parse(name: str, args: Sequence[str], portals: Sequence[Portal], disks: Sequence[str]) -> Order:
    """Check what a person typed against the table and against what the range has.

    Args:
        name: Name of a fault.
        args: Its arguments as text.
        portals: The portals of the range; one is named by its address, its address and port, or its group tag.
        disks: Names of the disks.

    Raises:
        BadInputError: names the argument, the reason, and the nearest right one.
    """
    fault = find(name)
    needed = sum(arg.default is None for arg in fault.args)
    if not needed <= len(args) <= len(fault.args):
        few = "needs more" if len(args) < needed else "takes fewer"
        raise BadInputError(f"fault {name} {few} arguments: {fault.usage}", fix=f"mooring practice fault {fault.usage}")
    order = Order(name)
    for position, arg in enumerate(fault.args):
        text = args[position] if position < len(args) else str(arg.default)
        order = _take(order, arg.kind, text, portals, disks)
    return order


def _take(order: Order, kind: Kind, text: str, portals: Sequence[Portal], disks: Sequence[str]) -> Order:
    match kind:
        case Kind.PORTAL:
            return dataclasses.replace(order, portal=_portal(text, portals))
        case Kind.DISK:
            if text not in disks:
                raise BadInputError(_unknown("practice disk", text, disks))
            return dataclasses.replace(order, disk=text)
        case Kind.SWITCH:
            if text not in ("on", "off"):
                raise BadInputError(f"{order.fault}: {text!r} is neither 'on' nor 'off'")
            return dataclasses.replace(order, on=text == "on")
        case Kind.STATE:
            word = text.removeprefix("active/")
            if word not in STATES:
                raise BadInputError(_unknown("access state", text, list(STATES)))
            return dataclasses.replace(order, state=STATES[word])
        case Kind.SIZE:
            return dataclasses.replace(order, number=_size(text), relative=text.startswith("+"))
        case Kind.MILLISECONDS:
            return dataclasses.replace(order, number=_number(order.fault, text, 0, _LONGEST_DELAY_MS))
        case Kind.COUNT:
            return dataclasses.replace(order, number=_number(order.fault, text, 1, 1_000_000))


def _portal(text: str, portals: Sequence[Portal]) -> int:
    found = [i for i, p in enumerate(portals) if text in (str(p), str(p.group_tag), p.host, f"[{p.host}]")]
    if len(found) == 1:
        return found[0]
    names = [str(portal) for portal in portals]
    if found:
        raise BadInputError(f"{text!r} fits several portals: {', '.join(names[i] for i in found)}; give the port too")
    raise BadInputError(_unknown("practice portal", text, names))


def _number(fault: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
        raise BadInputError(f"{fault}: {text!r} is not a whole number from {low} to {high}")
    return int(text)


def _size(text: str) -> int:
    digits = text.removeprefix("+").upper().removesuffix("IB")
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    number = digits.removesuffix(unit)
    if not (number.isascii() and number.isdigit() and len(number) < 16 and unit in _UNITS and int(number)):
        raise BadInputError(f"{text!r} is not a size: write bytes, or a number with K, M, G or T, as in 512M or +64M")
    return int(number) * _UNITS[unit]


def _unknown(what: str, text: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no {what} {text!r} among {', '.join(known)}{hint}"
