"""Asks a logical unit who else has it in use: its persistent reservations (SPC-4, 5.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from initiator.engine.probe import Listener, Script, wanted
from initiator.scsi import reservations
from initiator.scsi.commands import Buffer
from initiator.scsi.errors import UnitError
from initiator.scsi.reservations import Ask, Claims

T = TypeVar("T")
_FIRST_BYTES = 1024
_MOST_BYTES = 0xFFFF


def read_claims(hear: Listener | None = None) -> Script[Claims]:
    """Keys, reservation and, where the target tells, who has the keys.

    Raises:
        UnitError: refused; a target without persistent reservations does not know the command.
        ScsiFormatError: malformed.
    """
    keys = yield from _read(Ask.READ_KEYS, reservations.parse_keys, hear)
    reservation = yield from _read(Ask.READ_RESERVATION, reservations.parse_reservation, hear)
    if not keys.keys:
        return Claims(keys, reservation)
    try:
        registrations = yield from _read(Ask.READ_FULL_STATUS, reservations.parse_full_status, hear)
    except UnitError:
        registrations = ()
    return Claims(keys, reservation, registrations)


def _read(ask: Ask, parse: Callable[[Buffer], T], hear: Listener | None) -> Script[T]:
    what = f"PERSISTENT RESERVE IN, {ask.name.lower().replace('_', ' ')}"
    data = yield from wanted(what, reservations.reserve_in(ask, _FIRST_BYTES), _FIRST_BYTES, hear)
    needed = min(reservations.answer_needs(data), _MOST_BYTES)
    if needed > _FIRST_BYTES:
        data = yield from wanted(what, reservations.reserve_in(ask, needed), needed, hear)
    return parse(data)
