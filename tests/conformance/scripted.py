"""A scripted target that can misbehave at every byte: the peer of the conformance tests.

A test gives one coroutine for each connection it expects; the last one serves all further connections::

    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_raw(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")

    async with Scripted(script) as target:
        ... connect to target.portal ...

A failed assertion in a script fails the test when the block ends. A script that reads while the initiator has gone away
just ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.chap import ChapTarget
from initiator.protocol.keys import Offer, Params, Side
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import (
    INITIATOR_OPS,
    MAX_DATA_BYTES,
    NO_TAG,
    Framer,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NopOut,
    Pdu,
    Reject,
    Response,
)
from initiator.protocol.text import Pair

PATIENCE = 10.0
"""Seconds that a script waits for the initiator before it fails."""

Kind = TypeVar("Kind", bound=Pdu)


class GoneError(Exception):
    """The initiator has closed the connection."""


class Peer:
    """The target's end of one connection.

    Attributes:
        stat_sn: The StatSN of the next response.
        exp_cmd_sn: The command expected next.
        window: How many commands beyond that are allowed.
        received: Every PDU read, in order.
        framer: Change `header_digest` and `data_digest` to check and send digests.
        params: The outcome of `log_in`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stat_sn = 1000
        self.exp_cmd_sn = 1
        self.window = 32
        self.received: list[Pdu] = []
        self.framer = Framer(max_data=MAX_DATA_BYTES, expect=INITIATOR_OPS)
        self.params = Params()
        self._reader = reader
        self._writer = writer
        self._ready: list[Pdu] = []

    async def read_pdu(self) -> Pdu:
        """The next PDU, without acknowledgements that come only because all was quiet for a while.

        Raises:
            GoneError: the initiator has closed the connection.
        """
        pdu = await self._next_pdu()
        while isinstance(pdu, NopOut) and pdu.initiator_task_tag == pdu.target_transfer_tag == NO_TAG:
            pdu = await self._next_pdu()
        return pdu

    async def _next_pdu(self) -> Pdu:
        while not self._ready:
            async with asyncio.timeout(PATIENCE):
                data = await self._reader.read(65536)
            if not data:
                raise GoneError
            self._ready.extend(self.framer.feed(data))
        pdu = self._ready.pop(0)
        self.received.append(pdu)
        return pdu

    async def read(self, kind: type[Kind]) -> Kind:
        """The next PDU, which has to be of this kind."""
        pdu = await self.read_pdu()
        assert isinstance(pdu, kind), f"expected {kind.__name__}, got {pdu}"
        return pdu

    async def send_pdu(self, pdu: Pdu) -> None:
        """Sends a PDU with the digests of `framer`."""
        await self.send_raw(pdu.encode(self.framer.header_digest, self.framer.data_digest))

    async def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def send_bytewise(self, data: bytes) -> None:
        """Sends each byte in a TCP segment of its own, as far as the kernel lets it."""
        for value in data:
            await self.send_raw(bytes([value]))
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Closes the connection in order (FIN); what cannot be sent any more is dropped after a second."""
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()

    def reset(self) -> None:
        """Breaks the connection (RST)."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> list[Pdu]:
        """Waits until the initiator closes the connection; returns what it sent before that."""
        late: list[Pdu] = []
        with contextlib.suppress(GoneError, ConnectionError):
            while True:
                late.append(await self.read_pdu())
        return late

    async def silent(self) -> None:
        """Says nothing more, until the initiator goes away or the test ends."""
        with contextlib.suppress(GoneError, ConnectionError):
            while True:
                data = await self._reader.read(65536)
                if not data:
                    raise GoneError

    def numbered(self, pdu: Response) -> Any:
        """The PDU with the target's numbers in it; StatSN advances."""
        stat_sn, self.stat_sn = self.stat_sn, (self.stat_sn + 1) & 0xFFFFFFFF
        last = (self.exp_cmd_sn + self.window - 1) & 0xFFFFFFFF
        return dataclasses.replace(pdu, stat_sn=stat_sn, exp_cmd_sn=self.exp_cmd_sn, max_cmd_sn=last)

    def login_response(self, request: LoginRequest, pairs: Iterable[Pair] = (), **changes: Any) -> LoginResponse:
        """The honest answer to a login request, with whatever a test wants to be different."""
        final = request.transit and request.nsg == 3
        answer: LoginResponse = self.numbered(
            LoginResponse(
                transit=request.transit,
                csg=request.csg,
                nsg=request.nsg,
                isid=request.isid,
                tsih=1 if final else request.tsih,
                initiator_task_tag=request.initiator_task_tag,
                data=text.encode(pairs),
            )
        )
        return dataclasses.replace(answer, **changes)

    async def log_in(
        self, offer: Offer | None = None, extra: Iterable[Pair] = (), chap: ChapTarget | None = None
    ) -> LoginRequest:
        """Plays an honest target up to the full feature phase.

        Args:
            offer: What this target wants and accepts.
            extra: Keys to add to the first answer of the operational stage.
            chap: How it authenticates, or None if it does not.

        Returns:
            The first login request. The outcome is in `params`, and `framer` uses the digests agreed on.
        """
        first: LoginRequest | None = None
        negotiation: Negotiation | None = None
        while True:
            request = await self.read(LoginRequest)
            pairs = text.decode(request.data)
            if negotiation is None:
                first = request
                self.exp_cmd_sn = request.cmd_sn
                discovery = ("SessionType", "Discovery") in pairs
                negotiation = Negotiation(offer or Offer(), side=Side.TARGET, discovery=discovery)
            proofs = [pair for pair in pairs if pair[0] == "AuthMethod" or pair[0].startswith("CHAP_")]
            replies = negotiation.receive([pair for pair in pairs if pair not in proofs], security=request.csg == 0)
            if request.csg == 0:
                replies += self._authenticate(proofs, chap)
            else:
                replies += [*negotiation.propose(), *extra]
                extra = ()
            await self.send_pdu(self.login_response(request, replies))
            if request.transit and request.nsg == 3:
                break
        self.params = negotiation.params()
        self.framer.header_digest = self.params.header_digest
        self.framer.data_digest = self.params.data_digest
        assert first is not None
        return first

    @staticmethod
    def _authenticate(pairs: list[Pair], chap: ChapTarget | None) -> list[Pair]:
        """The target's half of one step of the security stage."""
        names = [name for name, _ in pairs]
        if "AuthMethod" in names:
            return [("AuthMethod", "None" if chap is None else "CHAP"), ("TargetPortalGroupTag", "1")]
        if chap is None or not pairs:
            return []
        return chap.challenge(pairs) if "CHAP_A" in names else chap.check(pairs)

    async def refuse_login(self, status_class: int, status_detail: int, pairs: Iterable[Pair] = ()) -> LoginRequest:
        """Answers the first request with a status other than success."""
        request = await self.read(LoginRequest)
        await self.send_pdu(
            self.login_response(request, pairs, status_class=status_class, status_detail=status_detail, transit=False)
        )
        return request

    async def reject(self, pdu: Pdu, reason: int) -> None:
        """Rejects a PDU (11.17)."""
        await self.send_pdu(self.numbered(Reject(reason=reason, data=pdu.encode()[:48])))

    async def answer_logout(self) -> LogoutRequest:
        """Reads a logout, agrees, and closes the connection."""
        request = await self.read(LogoutRequest)
        await self.send_pdu(self.numbered(LogoutResponse(initiator_task_tag=request.initiator_task_tag)))
        await self.close()
        return request


Script = Callable[[Peer], Awaitable[object]]


class Scripted:
    """The server; an asynchronous context manager.

    Attributes:
        portal: Where it listens.
        peers: One for each connection that came, in order.
    """

    def __init__(self, *scripts: Script) -> None:
        self.portal = Portal("127.0.0.1", 0)
        self.peers: list[Peer] = []
        self._scripts = scripts
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.portal = Portal("127.0.0.1", self._server.sockets[0].getsockname()[1], 1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            # A failed assertion of a script says more than the error that it caused at the other end.
            if not task.done():
                task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            await peer.close()  # the script of one that came last may never have begun
        await self._server.wait_closed()
        failures = [found for found in done if isinstance(found, AssertionError | Exception)]
        if failures:
            raise failures[0]

    async def settled(self) -> None:
        """Waits until every script that has begun has ended; fails if one failed."""
        await asyncio.gather(*self._tasks)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self._tasks.append(asyncio.get_running_loop().create_task(self._run(script, peer)))

    @staticmethod
    async def _run(script: Script, peer: Peer) -> None:
        try:
            with contextlib.suppress(GoneError, ConnectionError):
                await script(peer)
        finally:
            await peer.close()
