"""Asking an iSNS server over TCP, and being told by it of changes (RFC 4171)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Self

from initiator.model import Portal
from initiator.protocol import isns, isns_nodes
from initiator.protocol.errors import ConnectionLost, IscsiError, RemoteProtocolError
from initiator.protocol.isns import Answer, Function, IsnsError, Message, Reader, Status
from initiator.protocol.isns_nodes import Change, Directory, Node, NodeType, Registered, Registration

INQUIRY_S = 60
_RECEIVE_BYTES = 65536
_QUEUED = 256
"""Changes that may wait to be looked at."""
_QUERY = "the query was refused"
_MOST_NODES = 50_000
_SERVER_CONNECTIONS = 8
"""Connections that are taken at a time: the server needs one."""


class IsnsClient:
    """One connection to a server, for one question after another.

    Use it as `async with await IsnsClient.connect(server, 5.0) as client:`.
    """

    def __init__(self, server: Portal, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float):
        self._server = server
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._messages = Reader()
        self._transaction = 0

    @classmethod
    async def connect(cls, server: Portal, patience: float) -> Self:
        """Connects.

        Args:
            server: Where it listens.
            patience: Seconds for the connect, and for each answer.

        Raises:
            ConnectionLost: nobody listens there, or nobody answers in time.
        """
        try:
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_connection(server.host, server.port)
        except TimeoutError:
            raise _silent(server, patience) from None
        except socket.gaierror as error:
            reason = f"{server}: the host name is not known ({error.strerror})"
            raise ConnectionLost(reason, code="unknown-host") from error
        except OSError as error:
            fix = f"check that an iSNS server runs there; it listens on {isns.DEFAULT_PORT} unless told otherwise"
            reason = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text repeats the address
            raise ConnectionLost(f"{server}: {reason}", code="connect-failed", fix=fix) from error
        return cls(server, reader, writer, patience)

    @property
    def local_host(self) -> str:
        """The address from which the server is reached."""
        host: str = self._writer.get_extra_info("sockname")[0]
        return host

    @property
    def server_host(self) -> str:
        """The server's own address, whatever name it was reached by."""
        host: str = self._writer.get_extra_info("peername")[0]
        return host

    async def ask(self, function: Function, payload: bytes, what: str) -> Answer:
        """One question.

        Raises:
            IsnsError: the server refuses.
            RemoteProtocolError: it breaks a rule, or is no iSNS server.
            ConnectionLost: it fell silent, or went away.
        """
        self._transaction = (self._transaction + 1) & 0xFFFF
        message = Message(function, self._transaction, payload)
        try:
            async with asyncio.timeout(self._patience):
                self._writer.write(message.encode())
                await self._writer.drain()
                answer = await self._answer()
        except TimeoutError:
            raise _silent(self._server, self._patience) from None
        except OSError as error:
            raise ConnectionLost(f"{self._server}: {error.strerror or error}", code="connection-broken") from error
        return isns.parse_answer(answer, function, what)

    async def _answer(self) -> Message:
        while True:
            for message in await self._receive():
                if message.is_answer and message.transaction == self._transaction:
                    return message
                if message.is_answer:
                    raise RemoteProtocolError("the iSNS server answers a question that was not asked")
                await _give_answer(message, self._writer)

    async def _receive(self) -> list[Message]:
        data = await self._reader.read(_RECEIVE_BYTES)
        if not data:
            where = " inside a message" if self._messages.inside else ""
            raise ConnectionLost(
                f"{self._server}: the iSNS server closed the connection{where}", code="closed-by-target"
            )
        return self._messages.feed(data)

    async def close(self) -> None:
        """Closes the connection."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- what an initiator asks ---

    async def nodes(self, source: str, kind: NodeType | None = None) -> Directory:
        """The nodes that `source` may see; empty for one that the server does not know, with most servers."""
        try:
            answer = await self.ask(Function.QUERY, isns_nodes.query(source, kind), _QUERY)
        except IsnsError as error:
            if error.status != Status.INTERNAL_ERROR:
                raise
            # open-isns has no answers of more than one PDU: all nodes of a large site do not fit, but each one does
            return await self._one_by_one(source, kind)
        return isns_nodes.parse_nodes(answer.operating)

    async def _one_by_one(self, source: str, kind: NodeType | None) -> Directory:
        found: dict[str, Node] = {}
        skipped = 0
        last: str | None = None
        for _ in range(_MOST_NODES):
            try:
                answer = await self.ask(Function.GET_NEXT, isns_nodes.query_next(source, last), _QUERY)
            except IsnsError as error:
                if error.status != Status.NO_SUCH_ENTRY:
                    raise
                break
            name = isns_nodes.parse_next(answer)
            if name == last:
                break
            last = name
            answer = await self.ask(Function.QUERY, isns_nodes.query_one(source, name), _QUERY)
            told = isns_nodes.parse_nodes(answer.operating)
            skipped += told.skipped
            found |= {
                node.name: node for node in told.nodes if node.name == name and (kind is None or kind in node.type)
            }
        return Directory(tuple(found.values()), skipped)

    async def entity(self, name: str) -> str | None:
        """The key of the entity in which a node is registered; None where it is not, or may not be seen."""
        payload = isns_nodes.query_entity(name)
        return isns_nodes.parse_entity(await self.ask(Function.QUERY, payload, _QUERY))

    async def register(self, wanted: Registration) -> Registered:
        """Makes this initiator known."""
        payload = isns_nodes.register(wanted)
        return isns_nodes.parse_registered(await self.ask(Function.REGISTER, payload, "the registration was refused"))

    async def deregister(self, name: str, entity: str) -> None:
        """Takes a registration back, with all that is in its entity."""
        await self._take_back(isns_nodes.deregister_entity(name, entity))

    async def deregister_portal(self, name: str, host: str, port: int) -> None:
        """Takes one portal back; the registration stays."""
        await self._take_back(isns_nodes.deregister_portal(name, host, port))

    async def _take_back(self, payload: bytes) -> None:
        await self.ask(Function.DEREGISTER, payload, "the registration could not be taken back")

    async def register_notices(self, name: str) -> None:
        """Asks to be told of changes of targets."""
        await self.ask(Function.SCN_REGISTER, isns_nodes.register_notices(name), "notifications were refused")


def _silent(server: Portal, patience: float) -> ConnectionLost:
    return ConnectionLost(
        f"{server}: no answer within {patience:g} seconds",
        code="isns-timeout",
        fix="check that an iSNS server runs there and that no firewall drops its packets",
    )


async def _give_answer(message: Message, writer: asyncio.StreamWriter) -> None:
    answer = isns_nodes.answer_to(message)
    if answer is not None:
        writer.write(answer.encode())
        await writer.drain()


class Watch:
    """Listens for what a server tells: answers its inquiries, and gives its notifications.

    Use it as an async context manager. It listens on a free port of `host`, and on nothing else; the server has to be
    given that port with a registration. Only connections from the server's own address are taken.
    """

    def __init__(self, host: str, server_host: str) -> None:
        self._host = host
        self._server_host = server_host
        self._server: asyncio.Server | None = None
        self._changes: asyncio.Queue[Change] = asyncio.Queue(_QUEUED)
        self._open = 0
        self.inquiries = 0
        """How often the server has asked whether we are still there."""
        self.missed = 0
        """Changes that nobody looked at in time."""
        self.refused = 0
        """Connections that were none of the server's, or did not speak iSNS."""

    @property
    def portal(self) -> Portal:
        """Where it listens."""
        assert self._server is not None
        return Portal(self._host, self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    def _note(self, message: Message) -> None:
        if message.function == Function.SCN:
            for change in isns_nodes.parse_notice(message):
                if self._changes.full():
                    self.missed += 1
                else:
                    self._changes.put_nowait(change)
        elif message.function == Function.ESI:
            self.inquiries += 1

    async def changes(self) -> AsyncIterator[Change]:
        """The changes as they come, without end."""
        while True:
            yield await self._changes.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        messages = Reader()
        try:
            peer = writer.get_extra_info("peername")
            if self._open > _SERVER_CONNECTIONS or peer is None or peer[0] != self._server_host:
                self.refused += 1
                return
            while data := await reader.read(_RECEIVE_BYTES):
                for message in messages.feed(data):
                    self._note(message)
                    await _give_answer(message, writer)
        except (OSError, IscsiError):
            self.refused += 1
        finally:
            self._open -= 1
            writer.close()


class Standing:
    """What is known of a registration even where whoever waited for an answer has been interrupted."""

    registered = False
    """Whether the server may have a registration that was not taken back."""


@contextlib.asynccontextmanager
async def watching(
    server: Portal,
    name: str,
    patience: float,
    *,
    alias: str = "",
    inquiry_seconds: int = INQUIRY_S,
    standing: Standing | None = None,
) -> AsyncIterator[Watch]:
    """Registers `name` for notifications, and takes back in the end what it registered, and no more.

    No connection to the server stays open meanwhile: over one that is, it would send its notifications (5.6.5.8).

    Args:
        server: Whose notifications.
        name: This initiator.
        patience: Seconds for each answer.
        alias: A word for people.
        inquiry_seconds: How often the server is to ask whether we still live, so that it forgets a watch that died.
        standing: Kept up to date, for who is interrupted.

    Raises:
        IscsiError: as `IsnsClient.ask` has it.
    """
    standing = standing or Standing()
    async with await IsnsClient.connect(server, patience) as client:
        host, server_host = client.local_host, client.server_host
        before = await client.entity(name)
    async with Watch(host, server_host) as notices:
        wanted = Registration(name, alias, before or "", host, notices.portal.port, inquiry_seconds)
        try:
            async with await IsnsClient.connect(server, patience) as client:
                standing.registered = True
                await client.register(wanted)
            async with await IsnsClient.connect(server, patience) as client:
                await client.register_notices(name)
            yield notices
        finally:
            if standing.registered:
                async with await IsnsClient.connect(server, patience) as client:
                    if before is not None:
                        await client.deregister_portal(name, host, notices.portal.port)
                    elif (entity := await client.entity(name)) is not None:  # its key may have come to nobody
                        await client.deregister(name, entity)
                    standing.registered = False
