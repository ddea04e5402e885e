"""What single paths of the kernel say that a disk as a whole does not: state, identity and ALUA; and registrations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from initiator.errors import MooringError
from initiator.host import attributes, sysfs
from initiator.host.run import Helper, Stuck
from initiator.model import Disk, Problem, Source
from initiator.scsi import reservations
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.reservations import Ask, Claims

_PREFIX = "kernel:p:"
_ANSWER_BYTES = 8192
_DEADLINE = 3.0
_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class LunDetail:
    """One path, from sysfs."""

    state: str | None
    """running, offline, transport-offline, …"""
    wwid: str | None
    alua: bool | None
    """Whether the array says that its ports differ (TPGS of standard INQUIRY data; SPC-4, 6.6.2)."""
    handler: str | None
    """The hardware handler on it: alua, rdac, …, or detached."""


def read_luns(path_ids: Iterable[str], root: Path = Path("/")) -> dict[str, LunDetail]:
    """By id of a kernel's path; one that is going away is left out."""
    found = {}
    for key in path_ids:
        if not key.startswith(_PREFIX):
            continue
        place = f"{sysfs.base(root)}/sys/class/scsi_device/{key.removeprefix(_PREFIX)}/device"
        raw = attributes.read_raw(place, ("state", "wwid", "inquiry", "dh_state"))
        if raw:
            inquiry = raw.get("inquiry", b"")
            alua = bool(inquiry[5] & 0x30) if len(inquiry) > 5 else None
            words = attributes.texts({name: raw[name] for name in ("state", "wwid", "dh_state") if name in raw})
            found[key] = LunDetail(words.get("state"), words.get("wwid"), alua, words.get("dh_state"))
    return found


def read_registrations(
    disks: Iterable[Disk],
) -> tuple[dict[str, tuple[reservations.Registration, ...]], tuple[Problem, ...]]:
    """Who is registered with each of the kernel's disks (PERSISTENT RESERVE IN, READ FULL STATUS); needs root.

    Of a target that does not tell names the keys are given; one that knows no reservations has nobody registered. Each
    question is asked by a child with a deadline: a device without a path can hold it for minutes.

    Returns:
        By disk id, and why the others are not known.
    """
    found: dict[str, tuple[reservations.Registration, ...]] = {}
    problems = []
    with Helper() as helper:
        for disk in disks:
            if disk.source is not Source.KERNEL or disk.device is None or disk.kind != "disk":
                continue
            try:
                found[disk.id] = _registered(helper, disk.device)
            except (MooringError, ScsiFormatError) as error:
                problems.append(Problem("registrations", disk.name, str(error)))
                if isinstance(error, Stuck):
                    break  # the others may hang as long; what is not asked is not known
    return found, tuple(problems)


class NotTold(MooringError):  # noqa: N818 - says what happened
    """The target does not say who is registered."""

    code = "not-told"


def _registered(helper: Helper, device: str) -> tuple[reservations.Registration, ...]:
    """READ FULL STATUS tells names, and not every target knows it; READ KEYS is known to all that know reservations."""
    told = _ask(helper, device, Ask.READ_FULL_STATUS)
    if told is not None:
        return reservations.parse_full_status(told)
    keys = _ask(helper, device, Ask.READ_KEYS)
    return () if keys is None else reservations.registered(Claims(reservations.parse_keys(keys)))


def _ask(helper: Helper, device: str, what: Ask) -> bytes | None:
    """One answer, cut to its length; None where the target does not know the question."""
    cdb = reservations.reserve_in(what, _ANSWER_BYTES)
    args = {"path": device, "cdb": cdb, "length": _ANSWER_BYTES, "seconds": _SECONDS}
    status, host, sense, data = helper.call("sg_read", args, _DEADLINE).value
    if host:
        raise NotTold(f"the kernel could not ask {device} (host status {host})")
    if status == 2 and _not_supported(sense):
        return None
    if status:
        raise NotTold(f"{device} answers with SCSI status {status:02x}h")
    told: bytes = data[: reservations.answer_needs(data)]
    return told


def _not_supported(sense: bytes) -> bool:
    """ILLEGAL REQUEST (SPC-4, 4.5): the command, or this form of it, is not known."""
    if len(sense) < 3:
        return False
    fixed = sense[0] & 0x7F in (0x70, 0x71)
    return (sense[2] if fixed else sense[1]) & 0x0F == 5
