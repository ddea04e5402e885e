"""A raw initiator for testing the target: it sends any PDU, in any order, and takes what comes."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Self, TypeVar

from initiator.model import Portal
from initiator.protocol import pdu, text
from initiator.protocol.pdu import Framer
from initiator.scsi import commands
from initiator.scsi.sense import Sense, parse_sense

NAME = "iqn.2026-11.io.mooring.test:peer"
P = TypeVar("P", bound=pdu.Pdu)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """How a SCSI command ended."""

    status: int
    data: bytes = b""
    sense: Sense | None = None
    residual: int = 0
    overflow: bool = False
    underflow: bool = False

    @property
    def code(self) -> int | None:
        """ASC and ASCQ of the sense data."""
        return None if self.sense is None else self.sense.code


class Peer:
    """One TCP connection to a portal."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.framer = Framer(max_data=1 << 24)
        self.received: list[pdu.Pdu] = []
        self.cmd_sn = 1
        self.stat_sn = 0
        self.tag = 0
        self.lun = bytes(8)
        self.keys: dict[str, str] = {}
        self.digests = (False, False)
        self.login_answers: list[pdu.LoginResponse] = []

    @classmethod
    async def connect(cls, portal: Portal) -> Self:
        """Open a connection; nothing is sent."""
        return cls(*await asyncio.open_connection(portal.host, portal.port))

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- bytes and PDUs ---------------------------------------------------------------------------------------------

    async def send(self, request: pdu.Pdu) -> None:
        """Send a PDU with the digests that were agreed on."""
        self.writer.write(request.encode(*self.digests))
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, kind: type[P], patience: float = 5.0) -> P:
        """The next PDU of that kind; it has to be the next one that is no ping of the target.

        Raises:
            EOFError: the target closed the connection.
        """
        async with asyncio.timeout(patience):
            while True:
                while self.received:
                    found = self.received.pop(0)
                    if isinstance(found, pdu.Response):
                        self.stat_sn = found.stat_sn
                    if isinstance(found, kind):
                        return found
                    assert isinstance(found, pdu.NopIn), f"expected {kind.__name__}, got {found}"
                await self._more()

    async def _more(self) -> None:
        data = await self.reader.read(1 << 18)
        if not data:
            raise EOFError
        self.received.extend(self.framer.feed(data))

    async def ended(self, patience: float = 5.0) -> bool:
        """True when the target closes the connection; what it still sends is dropped."""
        try:
            async with asyncio.timeout(patience):
                while await self.reader.read(1 << 16):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    async def silent(self, seconds: float = 0.3) -> bool:
        """True if nothing at all comes."""
        try:
            async with asyncio.timeout(seconds):
                return not await self.reader.read(1)
        except TimeoutError:
            return True

    # --- login ------------------------------------------------------------------------------------------------------

    def login_request(self, pairs: dict[str, str], **fields: Any) -> pdu.LoginRequest:
        """A Login Request; by default one that wants to go straight to the full feature phase."""
        defaults: dict[str, Any] = {
            "transit": True,
            "csg": 1,
            "nsg": 3,
            "isid": b"\x80\0\0\0\0\1",
            "cmd_sn": self.cmd_sn,
        }
        return pdu.LoginRequest(initiator_task_tag=0, data=text.encode(pairs.items()), **{**defaults, **fields})

    async def exchange(self, pairs: dict[str, str], **fields: Any) -> pdu.LoginResponse:
        """One step of a login."""
        await self.send(self.login_request(pairs, **fields))
        answer = await self.receive(pdu.LoginResponse)
        self.login_answers.append(answer)
        return answer

    async def login(self, target: str | None, keys: dict[str, str] | None = None, **fields: Any) -> pdu.LoginResponse:
        """A whole login in one step, without CHAP."""
        pairs = {"InitiatorName": NAME, "SessionType": "Normal" if target else "Discovery"}
        if target:
            pairs["TargetName"] = target
        answer = await self.exchange({**pairs, **(keys or {})}, **fields)
        self.keys = dict(text.decode(answer.data))
        if answer.status_class == 0 and answer.transit:
            self.digests = (self.keys.get("HeaderDigest") == "CRC32C", self.keys.get("DataDigest") == "CRC32C")
            self.framer.header_digest, self.framer.data_digest = self.digests
        return answer

    # --- commands ---------------------------------------------------------------------------------------------------

    def next_tag(self) -> int:
        """An Initiator Task Tag."""
        self.tag += 1
        return self.tag

    def command(self, cdb: bytes, **fields: Any) -> pdu.ScsiCommand:
        """A SCSI Command with the next CmdSN."""
        number = self.cmd_sn
        if not fields.get("immediate"):
            self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        defaults: dict[str, Any] = {
            "initiator_task_tag": self.next_tag(),
            "cmd_sn": number,
            "lun": self.lun,
            "exp_stat_sn": (self.stat_sn + 1) & 0xFFFFFFFF,
            "cdb": cdb.ljust(16, b"\0"),
        }
        return pdu.ScsiCommand(**{**defaults, **fields})

    async def read(self, cdb: bytes, length: int) -> Result:
        """Run a command that gives data (or none)."""
        await self.send(self.command(cdb, read=length > 0, expected_data_transfer_length=length))
        return await self.result(length)

    async def result(self, length: int = 0) -> Result:
        """Collect Data-In and the status of the one command under way."""
        data, expected_sn = bytearray(length), 0
        seen = 0
        while True:
            answer = await self.receive(pdu.Response)  # type: ignore[type-abstract,unused-ignore]
            if isinstance(answer, pdu.DataIn):
                assert answer.data_sn == expected_sn
                expected_sn += 1
                data[answer.buffer_offset : answer.buffer_offset + len(answer.data)] = answer.data
                seen = max(seen, answer.buffer_offset + len(answer.data))
                if not answer.status_present:
                    continue
                assert answer.final
                return Result(
                    answer.status, bytes(data[:seen]), None, answer.residual_count, answer.overflow, answer.underflow
                )
            if isinstance(answer, pdu.NopIn):
                continue
            assert isinstance(answer, pdu.ScsiResponse), answer
            size = int.from_bytes(answer.data[:2], "big")
            sense = parse_sense(answer.data[2 : 2 + size]) if size else None
            return Result(
                answer.status, bytes(data[:seen]), sense, answer.residual_count, answer.overflow, answer.underflow
            )

    async def write(self, cdb: bytes, data: bytes, immediate: int = 0, unsolicited: int = 0) -> Result:
        """Run a command that takes data: so much in the command, so much unasked, the rest as R2Ts ask for it."""
        open_ = unsolicited > 0
        request = self.command(
            cdb, write=True, final=not open_, expected_data_transfer_length=len(data), data=data[:immediate]
        )
        await self.send(request)
        tag = request.initiator_task_tag
        if open_:
            await self.burst(tag, pdu.NO_TAG, data, immediate, unsolicited)
        while True:
            answer = await self.receive(pdu.Response)  # type: ignore[type-abstract,unused-ignore]
            if isinstance(answer, pdu.R2T):
                await self.burst(
                    tag, answer.target_transfer_tag, data, answer.buffer_offset, answer.desired_data_transfer_length
                )
                continue
            self.received.insert(0, answer)
            return await self.result()

    async def burst(self, tag: int, transfer_tag: int, data: bytes, offset: int, length: int, step: int = 8192) -> None:
        """One sequence of Data-Out PDUs."""
        end = offset + length
        for number, at in enumerate(range(offset, end, step)):
            await self.send(
                pdu.DataOut(
                    final=at + step >= end,
                    lun=self.lun,
                    initiator_task_tag=tag,
                    target_transfer_tag=transfer_tag,
                    data_sn=number,
                    buffer_offset=at,
                    data=data[at : min(at + step, end)],
                )
            )

    async def settle(self) -> None:
        """Read the unit attentions that wait."""
        for _ in range(8):
            if (await self.read(commands.test_unit_ready(), 0)).status == 0:
                return
        raise AssertionError("unit attentions without end")
