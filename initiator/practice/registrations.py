"""Persistent reservations of one practice disk (SPC-4, 5.13): registrations, the reservation, and whom it refuses.

They are kept as long as the target runs (PTPL_C is 0) and hold for one I_T nexus each; naming other ports, ALL_TG_PT
and PREEMPT AND ABORT are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from initiator.practice.nexus import Nexus
from initiator.scsi import reservations
from initiator.scsi.commands import Buffer, Command, Op
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.reservations import Ask, Demand, Order, Registration, Reservation, Type

RELEASED = 0x2A04
PREEMPTED = 0x2A03
REGISTRATIONS_PREEMPTED = 0x2A05

INVALID_FIELD_IN_CDB = 0x2400
INVALID_FIELD_IN_LIST = 0x2600
INVALID_RELEASE = 0x2604
LIST_LENGTH = 0x1A00

CAPABILITIES = reservations.Capabilities(frozenset(Type), persist=False, persisting=False, all_ports=False)

_WRITES = frozenset({Op.WRITE, Op.WRITE_SAME, Op.UNMAP, Op.COMPARE_AND_WRITE, Op.SYNCHRONIZE_CACHE, Op.START_STOP_UNIT})
_READS = frozenset({Op.READ, Op.VERIFY})
_MODES = frozenset({Op.MODE_SENSE_6, Op.MODE_SENSE_10, Op.SET_TARGET_PORT_GROUPS})
"""Refused by every reservation to whoever is not registered (SPC-4, table 66)."""


class ConflictError(Exception):
    """The command ends with RESERVATION CONFLICT."""


class IllegalError(Exception):
    """The command ends with ILLEGAL REQUEST; the argument is the sense code."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


class Registrations:
    """Who is registered with a disk, and who holds it."""

    def __init__(self, disk: str) -> None:
        self._disk = disk
        self._generation = 0
        self._keys: dict[Nexus, int] = {}
        self._holder: Nexus | None = None
        self._type: Type | None = None
        self._orders: dict[int, Callable[[Nexus, Demand], None]] = {
            Order.REGISTER: self._register,
            Order.REGISTER_AND_IGNORE: self._register,
            Order.RESERVE: self._reserve,
            Order.RELEASE: self._release,
            Order.CLEAR: self._clear,
            Order.PREEMPT: self._preempt,
        }

    def refuses(self, nexus: Nexus, op: Op) -> bool:
        """True if the reservation keeps this command from this nexus (SPC-4, tables 66 and 67; SBC-3, table 15)."""
        kind = self._type
        if kind is None or self._holds(nexus) or (kind.of_registrants and nexus in self._keys):
            return False
        return op in _WRITES or op in _MODES or (op in _READS and kind.guards_reads)

    def _holds(self, nexus: Nexus) -> bool:
        if self._type is None:
            return False
        return nexus in self._keys if self._type.of_all else nexus is self._holder

    # What is told

    def tell(self, command: Command) -> bytes:
        """The answer to a PERSISTENT RESERVE IN.

        Raises:
            IllegalError: an unknown service action.
        """
        match command.select:
            case Ask.READ_KEYS:
                return reservations.build_keys(reservations.Keys(self._generation, tuple(self._keys.values())))
            case Ask.READ_RESERVATION:
                return reservations.build_reservation(self._generation, self._reservation())
            case Ask.REPORT_CAPABILITIES:
                return reservations.build_capabilities(CAPABILITIES)
            case Ask.READ_FULL_STATUS:
                return reservations.build_full_status(self._generation, (self._row(each) for each in self._keys))
        raise IllegalError(INVALID_FIELD_IN_CDB)

    def _reservation(self) -> Reservation | None:
        if self._type is None:
            return None
        return Reservation(0 if self._holder is None else self._keys[self._holder], self._type)

    def _row(self, nexus: Nexus) -> Registration:
        holds = self._holds(nexus)
        kind = int(self._type or 0) if holds else 0
        return Registration(self._keys[nexus], nexus.initiator, nexus.isid.hex(), holds, kind, port=nexus.port.group)

    # What is ordered

    def obey(self, nexus: Nexus, cdb: Buffer, data: Buffer) -> None:
        """Carry out a PERSISTENT RESERVE OUT.

        Raises:
            ConflictError, IllegalError: it is refused, and nothing has changed.
        """
        try:
            demand = reservations.parse_reserve_out(cdb, data)
        except ScsiFormatError:
            raise IllegalError(LIST_LENGTH) from None
        order = self._orders.get(demand.order)
        if order is None:
            raise IllegalError(INVALID_FIELD_IN_CDB)
        if demand.named_ports or demand.all_ports or demand.persist:
            raise IllegalError(INVALID_FIELD_IN_LIST)
        if demand.order in (Order.RESERVE, Order.RELEASE, Order.PREEMPT) and (
            demand.scope or demand.type not in frozenset(Type)
        ):
            raise IllegalError(INVALID_FIELD_IN_CDB)
        if demand.order not in (Order.REGISTER, Order.REGISTER_AND_IGNORE) and self._keys.get(nexus) != demand.key:
            raise ConflictError
        order(nexus, demand)

    def _register(self, nexus: Nexus, demand: Demand) -> None:
        if demand.order == Order.REGISTER and self._keys.get(nexus, 0) != demand.key:
            raise ConflictError
        if demand.new_key:
            self._keys[nexus] = demand.new_key
        elif nexus in self._keys:
            self._forget(nexus, told=False)
        else:
            return
        self._generation += 1

    def _reserve(self, nexus: Nexus, demand: Demand) -> None:
        if self._type is None:
            self._take(nexus, Type(demand.type))
        elif not self._holds(nexus) or self._type != demand.type:
            raise ConflictError

    def _release(self, nexus: Nexus, demand: Demand) -> None:
        if not self._holds(nexus):
            return
        if demand.type != self._type:
            raise IllegalError(INVALID_RELEASE)
        self._let_go(nexus)

    def _clear(self, nexus: Nexus, demand: Demand) -> None:
        others = [each for each in self._keys if each is not nexus]
        self._keys.clear()
        self._holder = self._type = None
        self._generation += 1
        for other in others:
            other.attend(self._disk, PREEMPTED)

    def _preempt(self, nexus: Nexus, demand: Demand) -> None:
        victim, kind = demand.new_key, self._type
        takes = kind is not None and (not victim if kind.of_all else self._held_by(victim))
        if not victim and not takes:
            raise IllegalError(INVALID_FIELD_IN_LIST)
        gone = [each for each, key in self._keys.items() if each is not nexus and (key == victim or not victim)]
        if not gone and not takes and self._keys.get(nexus) != victim:
            raise ConflictError
        if takes:
            self._holder = self._type = None
        for each in gone:
            self._forget(each, told=True)
        if takes:
            if kind != demand.type:
                self._tell_others(nexus, RELEASED)
            self._take(nexus, Type(demand.type))
        self._generation += 1

    def _held_by(self, key: int) -> bool:
        return self._holder is not None and self._keys[self._holder] == key

    def _take(self, nexus: Nexus, kind: Type) -> None:
        self._type = kind
        self._holder = None if kind.of_all else nexus

    def _forget(self, nexus: Nexus, *, told: bool) -> None:
        """A registration ends, and the reservation with it where nobody is left to hold it (5.13.11.2)."""
        last = self._holds(nexus) and (nexus is self._holder or len(self._keys) == 1)
        if last:
            self._let_go(nexus)
        del self._keys[nexus]
        if told:
            nexus.attend(self._disk, REGISTRATIONS_PREEMPTED)

    def _let_go(self, nexus: Nexus) -> None:
        kind, self._type, self._holder = self._type, None, None
        if kind is not None and kind.of_registrants:
            self._tell_others(nexus, RELEASED)

    def _tell_others(self, nexus: Nexus, code: int) -> None:
        for other in self._keys:
            if other is not nexus:
                other.attend(self._disk, code)
