"""Sessions of the library, and discovery."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self, Unpack

from initiator.api.disk import Disk, open_device
from initiator.api.login import LoginOptions, initiator_of, logged_in, portal_of
from initiator.engine import claims, discovery, probe
from initiator.engine.discovery import DiscoveredTarget
from initiator.engine.probe import LunInfo
from initiator.engine.session import EngineSession
from initiator.engine.session_config import Completed
from initiator.errors import RefusedError
from initiator.model import Portal, SessionState
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.keys import Params
from initiator.scsi.commands import Status
from initiator.scsi.errors import UnitError
from initiator.scsi.reservations import Claims, Order, Type, reserve_out
from initiator.scsi.sense import explain


async def discover(
    portal: str | Portal,
    *,
    initiator: str | None = None,
    chap: Chap | None = None,
    chap_algorithms: Sequence[int] = DEFAULT_ORDER,
    timeout: float = 10.0,  # noqa: ASYNC109 - its error names the step that took too long
) -> list[DiscoveredTarget]:
    """Ask a portal which targets there are (SendTargets; RFC 7143, appendix C).

    Args:
        portal: `address[:port]`, IPv6 in brackets.
        initiator: Our iSCSI name; by default this host's own.
        chap: Name and secret, if discovery needs them.
        chap_algorithms: CHAP algorithms to offer, best first (RFC 7143, 12.1.3).
        timeout: Seconds for all of it.

    Returns:
        Targets with their portals, in the order told.

    Raises:
        LoginError: refused; AuthError if the portal does not believe who we are.
        RemoteProtocolError: the peer breaks RFC 7143, or speaks something else.
        ConnectionLost: nothing listens, or it fell silent.
    """
    return await discovery.discover(
        portal_of(portal), initiator_of(initiator), chap, timeout, chap_algorithms=tuple(chap_algorithms)
    )


class Session:
    """One session with one target through one portal. Made by `login`.

    When its connection breaks it logs in again by itself, under the same ISID; meanwhile reads and writes wait.
    """

    def __init__(self, engine: EngineSession) -> None:
        """Wrap a session of the engine, which has to be logged in."""
        self._engine = engine
        self._disks: dict[int, Disk] = {}
        self._fields: dict[int, bytes] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def login(
        cls,
        target: str,
        portal: str | Portal,
        *,
        isid: bytes | None = None,
        **options: Unpack[LoginOptions],
    ) -> AsyncIterator[Self]:
        """Log in, and log out at the end of the block.

        Args:
            target: The target's iSCSI name.
            portal: `address[:port]`, IPv6 in brackets.
            isid: Six bytes; the same ones reinstate a session that an earlier process left behind (RFC 7143, 6.3.5).
            options: See `LoginOptions`.

        Raises:
            LoginError, RemoteProtocolError, ConnectionLost: as `discover`.
            BadInputError: a name, portal, secret or order of algorithms cannot be used.
        """
        async with logged_in(target, portal, isid, options) as engine:
            session = cls(engine)
            try:
                yield session
            finally:
                for disk in session._disks.values():
                    disk.close()

    @property
    def state(self) -> SessionState:
        """LOGGED_IN takes commands, FAILED is being reconnected, FREE was given up, LOGGED_OUT is over."""
        return self._engine.state

    @property
    def params(self) -> Params:
        """What was negotiated.

        Raises:
            ConnectionLost: the session was never logged in.
        """
        if self._engine.params is None:
            raise ConnectionLost("the session is not logged in", code="not-logged-in")
        return self._engine.params

    @property
    def isid(self) -> bytes:
        """Our half of the session's identity."""
        return self._engine.isid

    async def luns(self) -> tuple[LunInfo, ...]:
        """Every logical unit of the target, whatever its device type; units that do not answer are left out.

        Raises:
            IscsiError: no SCSI status came. UnitError, ScsiFormatError: the target does not list its units.
        """
        found, _ = await probe.probe(self._engine)
        return found

    async def disk(self, lun: int = 0) -> Disk:
        """The disk behind a LUN, ready to be read and written.

        Raises:
            RefusedError: no disk with a size. IscsiError, UnitError, ScsiFormatError: it does not answer as it should.
        """
        if lun not in self._disks:
            self._disks[lun] = Disk(await open_device([self._engine], lun))
        return self._disks[lun]

    async def read(self, offset: int, length: int, *, lun: int = 0) -> bytes:
        """Bytes of a disk; see `Disk.read`."""
        return await (await self.disk(lun)).read(offset, length)

    async def write(self, offset: int, data: bytes | bytearray | memoryview, *, lun: int = 0) -> None:
        """Write to a disk; see `Disk.write`."""
        await (await self.disk(lun)).write(offset, data)

    async def flush(self, *, lun: int = 0) -> None:
        """Make acknowledged writes safe; see `Disk.flush`."""
        await (await self.disk(lun)).flush()

    async def execute(
        self,
        cdb: bytes,
        *,
        lun: int = 0,
        data_out: bytes | memoryview | None = None,
        read_length: int = 0,
        timeout: float = 30.0,  # noqa: ASYNC109 - becomes the task's deadline, with an abort behind it
    ) -> Completed:
        """Run any SCSI command; unit attentions and BUSY are the caller's to deal with.

        Raises:
            IscsiError: no SCSI status came. Its code `outcome-unknown` means that the command may have been done.
        """
        return await self._engine.execute(await self._field(lun), cdb, data_out, read_length, timeout)

    async def claims(self, *, lun: int = 0) -> Claims:
        """Who else has the unit in use, by its persistent reservations (SPC-4, 5.13).

        Raises:
            UnitError: the target has no persistent reservations. IscsiError, ScsiFormatError: no sound answer.
        """
        return await probe.run(self._engine, await self._field(lun), claims.read_claims())

    async def reserve(
        self, order: Order, key: int, *, new_key: int = 0, type: Type | None = None, lun: int = 0
    ) -> None:
        """Change registrations or the reservation (PERSISTENT RESERVE OUT; SPC-4, 6.16).

        Args:
            order: What to do.
            key: Our registered key, 0 for a first REGISTER.
            new_key: REGISTER: our key from now on, 0 to leave. PREEMPT: whose registration ends.
            type: Of the reservation, for RESERVE, RELEASE and PREEMPT.
            lun: Of the unit.

        Raises:
            RefusedError: RESERVATION CONFLICT: another initiator holds the unit, or `key` is not ours.
            UnitError: the target refuses it otherwise. IscsiError: no SCSI status came.
        """
        cdb, data = reserve_out(order, key, new_key, type or 0)
        answer = await probe.run(self._engine, await self._field(lun), probe.ask(cdb, data=data))
        if answer.status == Status.RESERVATION_CONFLICT:
            raise RefusedError(
                f"{order.name.replace('_', ' ')}: another initiator holds the unit, or the key is not ours",
                code="reservation-conflict",
                fix="look at who is registered",
            )
        if answer.status != Status.GOOD:
            raise UnitError(f"PERSISTENT RESERVE OUT: {explain(answer.status, answer.sense)}")

    async def _field(self, lun: int) -> bytes:
        """The LUN field of a number, asked for once."""
        if lun not in self._fields:
            self._fields[lun] = await probe.field_of(self._engine, lun)
        return self._fields[lun]
