"""Disks of the library: one logical unit over one or several paths."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self, Unpack

from initiator.api.login import LoginOptions, logged_in
from initiator.engine import probe
from initiator.engine.device import Device, DeviceOptions
from initiator.engine.probe import LunInfo
from initiator.engine.selector import DevicePath
from initiator.engine.session import EngineSession
from initiator.errors import BadInputError, MooringError, RefusedError
from initiator.model import Portal, Severity
from initiator.protocol.errors import IscsiError
from initiator.scsi import commands
from initiator.scsi.commands import Status
from initiator.scsi.errors import ScsiFormatError, UnitError
from initiator.scsi.sense import Key, explain, parse_sense


class MiscompareError(MooringError):
    """COMPARE AND WRITE found other data than were expected, and wrote nothing.

    Attributes:
        offset: Where the first difference is, in bytes from the start of the compared range; None if not told.
    """

    code = "miscompare"

    def __init__(self, offset: int | None) -> None:
        where = "" if offset is None else f" from byte {offset} of the range on"
        super().__init__(f"the blocks hold other data than expected{where}; nothing was written")
        self.offset = offset


class Disk:
    """One logical unit, over one session (`Session.disk`) or over several paths (`Disk.open`).

    Attributes:
        size_bytes, block_bytes: Its geometry; the size follows the target's.
    """

    def __init__(self, device: Device) -> None:
        """Wrap a multipath device of the engine."""
        self._device = device

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        target: str,
        portals: Sequence[str | Portal],
        lun: int = 0,
        *,
        policy: DeviceOptions | None = None,
        **options: Unpack[LoginOptions],
    ) -> AsyncIterator[Self]:
        """Log in over several portals and use the LUN over all of them; log out at the end of the block.

        Paths are joined only if the unit has the same identity (VPD page 83h) behind each. Portals that do not answer
        are told to `on_event`; one has to.

        Args:
            target: The target's iSCSI name.
            portals: `address[:port]` each.
            lun: Logical unit number, 0 to 16383 or as it is listed.
            policy: Time-outs, limits and the choice of paths.
            options: See `LoginOptions`; they hold for each portal.

        Raises:
            RefusedError: no disk with a size, or another unit behind another portal. Otherwise as `Session.login`, for
                the first portal.
        """
        tell = options.get("on_event")
        async with contextlib.AsyncExitStack() as stack:
            engines: list[EngineSession] = []
            failures: list[IscsiError] = []
            for portal in portals:
                try:
                    engine = await stack.enter_async_context(logged_in(target, portal, None, options))
                except IscsiError as error:
                    failures.append(error)
                    if tell is not None:
                        tell(f"no session over {portal}: {error}", Severity.WARN)
                else:
                    engines.append(engine)
            if not engines:
                raise failures[0] if failures else BadInputError("no portal is named")
            device = await open_device(engines, lun, policy)
            device.on_event = tell
            stack.callback(device.close)
            yield cls(device)

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self._device.size_bytes

    @property
    def block_bytes(self) -> int:
        """Bytes of a logical block: what offsets and lengths are multiples of."""
        return self._device.block_bytes

    @property
    def wwid(self) -> str | None:
        """Its identity, from VPD page 83h; None without one."""
        return self._device.wwid

    @property
    def info(self) -> LunInfo:
        """All that the target said of it."""
        return self._device.info

    @property
    def read_only(self) -> bool:
        """True if the target refuses writes."""
        return self._device.read_only

    @property
    def paths(self) -> tuple[DevicePath, ...]:
        """Its paths with their states and counters."""
        return tuple(self._device.paths)

    def close(self) -> None:
        """Fail what is not under way. `Session.login` and `Disk.open` do it at the end of their blocks."""
        self._device.close()

    async def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on.

        Raises:
            BadInputError: not whole blocks, or outside the disk.
            OSError: EIO (no path works any more, or the medium is bad), EBADE (RESERVATION CONFLICT).
        """
        buffer = bytearray(length)
        await self.read_into(offset, buffer)
        return bytes(buffer)

    async def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill a buffer from `offset` on, without a copy. Raises as `read`."""
        self._check(offset, len(buffer))
        await self._device.aread(offset, memoryview(buffer))

    async def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at `offset`. The data are safe from a loss of power only after `flush`.

        Raises:
            BadInputError: not whole blocks, or outside the disk.
            OSError: EIO, ENOSPC (a thin disk is full), EROFS (write protected), EBADE (RESERVATION CONFLICT).
        """
        self._check(offset, len(data))
        await self._device.awrite(offset, memoryview(data))

    async def flush(self) -> None:
        """Make every acknowledged write safe on the medium (SYNCHRONIZE CACHE).

        Raises:
            OSError: EIO, also once when acknowledged writes may have been lost before.
        """
        await self._device.aflush()

    async def discard(self, offset: int, length: int) -> None:
        """Tell the target that a range is not needed (UNMAP), within its limits.

        Raises:
            OSError: EOPNOTSUPP where it cannot take that; otherwise as `write`.
        """
        self._check(offset, length)
        await self._device.adiscard(offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes (WRITE SAME, or writes where the target does not know it). Raises as `write`."""
        self._check(offset, length)
        await self._device.awrite_zeroes(offset, length)

    async def compare_and_write(self, offset: int, expected: bytes, data: bytes) -> None:
        """Write `data` only if the blocks hold `expected`, in one step that nobody can come between (SBC-3, 5.2).

        It is never sent twice: code `outcome-unknown` means that it may have been done.

        Raises:
            MiscompareError: they hold something else; nothing was written.
            BadInputError: not whole blocks, outside the disk, or more than the target takes at once.
            RefusedError: no path works now, or RESERVATION CONFLICT.
            UnitError: the target refuses it. IscsiError: no SCSI status came.
        """
        self._check(offset, len(expected))
        blocks = len(data) // self.block_bytes
        limits = self._device.info.limits
        most = 255 if limits is None or not limits.maximum_compare else limits.maximum_compare
        if len(expected) != len(data) or not 0 < blocks <= most:
            raise BadInputError(f"both ranges have the same length, at most {most} blocks")
        path = next((each for each in self._device.paths if each.in_use), None)
        if path is None or not isinstance(path.session, EngineSession):
            raise RefusedError("no path works now", code="no-path")
        cdb = commands.compare_and_write(offset // self.block_bytes, blocks)
        answer = await probe.run(path.session, path.lun, probe.ask(cdb, data=bytes(expected) + bytes(data)))
        if answer.status == Status.GOOD:
            return
        if answer.status == Status.RESERVATION_CONFLICT:
            raise RefusedError("another initiator holds the unit", code="reservation-conflict")
        with contextlib.suppress(ScsiFormatError):
            sense = parse_sense(answer.sense)
            if sense.key == Key.MISCOMPARE:
                raise MiscompareError(sense.information)
        raise UnitError(f"COMPARE AND WRITE: {explain(answer.status, answer.sense)}")

    def _check(self, offset: int, length: int) -> None:
        if offset % self.block_bytes or length % self.block_bytes:
            raise BadInputError(
                f"{length} bytes at {offset} are not whole blocks of {self.block_bytes} bytes", code="not-whole-blocks"
            )
        if not 0 <= offset <= offset + length <= self.size_bytes:
            raise BadInputError(
                f"{length} bytes at {offset} are not inside a disk of {self.size_bytes}", code="outside-disk"
            )


async def open_device(sessions: Sequence[EngineSession], lun: int, options: DeviceOptions | None = None) -> Device:
    """The unit behind a LUN of one or more sessions.

    Raises:
        RefusedError: no disk with a size, or not the same one behind all of them.
        IscsiError, UnitError, ScsiFormatError: it does not answer as it should.
    """
    device: Device | None = None
    for session in sessions:
        info = await probe.probe_lun(session, lun)
        if device is None:
            device = Device(info, options)
        device.add_path(session, info, str(session.portal))
    assert device is not None, "there is a session"
    return device
