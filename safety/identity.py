"""Who a disk is, and what differs now.

Names are reused: another disk may get the same `/dev/loop3` or the same LUN number between a plan and its execution.
So a disk is known by what the target says of it (VPD page 83h, size, target, LUN), and the device that carries it by
the kernel's sequence number, which no two devices of one boot share.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Self

from initiator.model import Disk


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What makes a disk this disk."""

    disk: str
    """Id in the snapshot."""
    name: str
    source: str
    wwid: str | None
    designators: tuple[str, ...]
    size_bytes: int | None
    block_bytes: int | None
    serial: str | None
    target: str | None
    lun: int | None
    device: str | None
    dev: str | None
    diskseq: int | None

    @classmethod
    def of(cls, disk: Disk) -> Self:
        """The identity of a disk as a snapshot shows it."""
        return cls(
            disk=disk.id,
            name=disk.name,
            source=str(disk.source),
            wwid=disk.wwid,
            designators=tuple(sorted(disk.designators)),
            size_bytes=disk.size_bytes,
            block_bytes=disk.block_bytes,
            serial=disk.serial,
            target=disk.target,
            lun=disk.lun,
            device=disk.device,
            dev=disk.dev,
            diskseq=disk.diskseq,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the same field names."""
        return {**dataclasses.asdict(self), "designators": list(self.designators)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: fields are missing or of the wrong kind.
        """
        fields = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "designators": tuple(str(item) for item in fields["designators"])})

    def key(self) -> str:
        """A word fit for a file name that is the same for every plan about this logical unit, on any boot."""
        text = self.wwid or f"{self.target}#{self.lun}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not what it was."""

    field: str
    planned: str
    found: str

    def __str__(self) -> str:
        return f"{self.field} was {self.planned}, is {self.found}"


LOGICAL_UNIT = ("wwid", "designators", "size_bytes", "block_bytes", "serial", "target", "lun")
"""Fields that belong to the logical unit: they hold whether it is attached or not."""

DEVICE = ("device", "dev", "diskseq")
"""Fields that belong to the block device: they hold from attach to detach."""


def missing(identity: Identity) -> tuple[str, ...]:
    """The fields without which nobody can say which disk this is."""
    needed = ("wwid", "size_bytes", "target", "lun")
    attached = DEVICE if identity.device is not None else ()
    return tuple(name for name in (*needed, *attached) if getattr(identity, name) is None)


def differences(planned: Identity, found: Identity, *, device: bool = True) -> tuple[Difference, ...]:
    """What of `planned` does not hold for `found`.

    Args:
        planned: The identity in the plan.
        found: The identity read just now.
        device: Compare the block device too; False once the device is meant to be gone or was made anew.

    Returns:
        One entry for each field that differs. A field that was known and is unknown now differs; a field that was
        not known when planned is not compared.
    """
    names = LOGICAL_UNIT + (DEVICE if device else ())
    changed = []
    for name in names:
        was, now = getattr(planned, name), getattr(found, name)
        if was not in (None, ()) and was != now:
            changed.append(Difference(name, _show(was), _show(now)))
    return tuple(changed)


def _show(value: object) -> str:
    if value is None or value == ():
        return "unknown"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
