"""A cable between an initiator and a portal: a TCP relay that can fall silent, break, and work again."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from initiator.model import Portal


class Cable:
    """Forwards connections to `target`. Attributes: `portal` is where to connect instead."""

    def __init__(self, target: Portal) -> None:
        self.portal = target
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._plugged = asyncio.Event()
        self._plugged.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._target.host, 0)
        self.portal = Portal(self._target.host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def pull(self) -> None:
        """Nothing gets through any more; nobody is told."""
        self._plugged.clear()

    def plug(self) -> None:
        """What waited goes on."""
        self._plugged.set()

    def cut(self) -> None:
        """Break every connection that there is; new ones work if the cable is plugged in."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self._plugged.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._plugged.wait()
                await self._forward(data, sink)
        sink.transport.abort()

    async def _forward(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        sink.write(data)
        await sink.drain()
