"""A cable that does more than break: it flips bits, dribbles, and sends a login elsewhere."""

from __future__ import annotations

import asyncio

from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.pdu import LoginRequest, LoginResponse
from tests.engine.cable import Cable

_LOGIN_BYTES = 48
_DRIBBLE_BYTES = 2000


class Line(Cable):
    """Attributes: `redirect` sends the next login back to this very line, as a target that moves would (11.13.5)."""

    def __init__(self, target: Portal) -> None:
        super().__init__(target)
        self.redirect = False
        self._garble: set[asyncio.StreamWriter] = set()
        self._dribble: dict[asyncio.StreamWriter, int] = {}

    def garble(self) -> None:
        """Flip a bit of what comes next over each connection that there is, in both directions."""
        self._garble = set(self._writers)

    def dribble(self) -> None:
        """Let the next bytes of each connection through one by one."""
        self._dribble = dict.fromkeys(self._writers, _DRIBBLE_BYTES)

    def cut(self) -> None:
        """Break every connection; what was to become of their bytes is of no interest any more."""
        super().cut()
        self._garble.clear()
        self._dribble.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.redirect:
            await super()._accept(reader, writer)
            return
        self.redirect = False
        await self._plugged.wait()
        try:
            request = LoginRequest.parse(await reader.readexactly(_LOGIN_BYTES), b"", b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
            return
        answer = LoginResponse(
            isid=request.isid,
            initiator_task_tag=request.initiator_task_tag,
            status_class=1,
            status_detail=1,
            data=text.encode([("TargetAddress", str(self.portal))]),
        )
        writer.write(answer.encode())
        writer.close()

    async def _forward(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        if sink in self._garble:
            self._garble.discard(sink)
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
        slow = min(len(data), self._dribble.pop(sink, 0))
        for position in range(slow):
            await super()._forward(data[position : position + 1], sink)
            await asyncio.sleep(0)
        await super()._forward(data[slow:], sink)
