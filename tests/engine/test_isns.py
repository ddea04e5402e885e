"""Questions to Debian's isnsd, notifications from it, and servers that are none or mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from initiator.engine.isns import IsnsClient, Watch, watching
from initiator.model import Portal
from initiator.protocol import isns, isns_nodes
from initiator.protocol.errors import ConnectionLost, IscsiError, RemoteProtocolError
from initiator.protocol.isns import Flag, Function, IsnsError, Message, Status, Tag
from initiator.protocol.isns_nodes import Event, NodeType, Registration
from tests.isnsd import Isnsd, needs_isnsd
from tests.until import until

US = "iqn.2026-11.com.example:host7"
MAIL = "iqn.2026-11.com.example:mail"


def target(name: str, entity: str, host: str, port: int = 3260) -> bytes:
    """What a target's own registration looks like."""
    own = [isns.text(Tag.NAME, name), isns.number(Tag.NODE_TYPE, NodeType.TARGET), isns.text(Tag.ALIAS, "Mail store")]
    portal = [isns.address(Tag.PORTAL_ADDRESS, host), isns.number(Tag.PORTAL_PORT, port)]
    key = isns.text(Tag.ENTITY, entity)
    return isns.request(name, (key,), (key, isns.number(Tag.PROTOCOL, 2), *portal, *own))


@contextlib.asynccontextmanager
async def asking(server: Portal, patience: float = 10.0) -> AsyncIterator[IsnsClient]:
    async with await IsnsClient.connect(server, patience) as client:
        yield client


@pytest.fixture
def isnsd(tmp_path: Path) -> Iterator[Isnsd]:
    with Isnsd(tmp_path) as server:
        yield server


@needs_isnsd
async def test_a_target_that_registers_is_found_with_its_portals(isnsd: Isnsd) -> None:
    async with asking(isnsd.portal) as client:
        assert (await client.nodes(US)).nodes == ()
        await client.ask(Function.REGISTER, target(MAIL, "array1", "10.9.1.2"), "x")
        done = await client.register(Registration(US, "host seven"))
        assert done.period_s == 600
        found = await client.nodes(US)
        assert {(each.name, each.type, each.alias) for each in found.nodes} == {
            (MAIL, NodeType.TARGET, "Mail store"),
            (US, NodeType.INITIATOR, "host seven"),
        }
        targets = (await client.nodes(US, NodeType.TARGET)).targets()
        assert [(each.name, each.portals) for each in targets] == [(MAIL, (Portal("10.9.1.2", 3260, 1),))]
        assert await client.entity(US) == done.entity
        await client.deregister(US, done.entity)
        assert await client.entity(US) is None


@needs_isnsd
async def test_a_directory_too_large_for_one_answer_is_asked_for_node_by_node(isnsd: Isnsd) -> None:
    async with asking(isnsd.portal) as client:
        await client.register(Registration(US))
        for array in range(5):
            names = [f"{MAIL}-{array}-{number}-{'x' * 180}" for number in range(24)]
            nodes = [(isns.text(Tag.NAME, name), isns.number(Tag.NODE_TYPE, NodeType.TARGET)) for name in names]
            key = isns.text(Tag.ENTITY, f"array{array}")
            portal = (isns.address(Tag.PORTAL_ADDRESS, f"10.9.1.{array + 2}"), isns.number(Tag.PORTAL_PORT, 3260))
            about = (key, isns.number(Tag.PROTOCOL, 2), *portal, *(each for node in nodes for each in node))
            await client.ask(Function.REGISTER, isns.request(names[0], (key,), about), "x")
        found = await client.nodes(US, NodeType.TARGET)
        assert (len(found.nodes), found.skipped) == (120, 0)
        assert all(len(node.portals) == 1 for node in found.nodes)


@needs_isnsd
async def test_changes_are_told_and_inquiries_answered(isnsd: Isnsd) -> None:
    async with watching(isnsd.portal, US, 10.0, inquiry_seconds=1) as notices:
        changes = notices.changes()
        async with asking(isnsd.portal) as client:
            await client.ask(Function.REGISTER, target(MAIL, "array1", "10.9.1.2"), "x")
            change = await asyncio.wait_for(anext(changes), 10)
            assert (change.name, Event.ADDED in change.event) == (MAIL, True)
            await client.ask(Function.DEREGISTER, isns_nodes.deregister_entity(MAIL, "array1"), "x")
            change = await asyncio.wait_for(anext(changes), 10)
            assert (change.name, change.event) == (MAIL, Event.REMOVED)
            await until(lambda: notices.inquiries, 10, "isnsd asks whether we still live")
            assert await client.entity(US) is not None
    async with asking(isnsd.portal) as client:
        assert await client.entity(US) is None
    assert (notices.refused, notices.missed) == (0, 0)


@needs_isnsd
async def test_a_watch_leaves_a_registration_that_was_there_before(isnsd: Isnsd) -> None:
    async with asking(isnsd.portal) as client:
        done = await client.register(Registration(US, "host seven"))
    async with watching(isnsd.portal, US, 10.0) as notices, asking(isnsd.portal) as client:
        (node,) = (await client.nodes(US)).nodes
        assert [portal.port for portal in node.portals] == [notices.portal.port]
    async with asking(isnsd.portal) as client:
        assert await client.entity(US) == done.entity
        (node,) = (await client.nodes(US)).nodes
        assert node.portals == ()


@needs_isnsd
@pytest.mark.parametrize("known", [False, True], ids=["unknown before", "known before"])
async def test_a_watch_that_is_interrupted_while_it_registers_takes_that_back(
    isnsd: Isnsd, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """The server has the registration, and its answer never comes."""
    async with asking(isnsd.portal) as client:
        before = (await client.register(Registration(US, "host seven"))).entity if known else None
    registered = asyncio.Event()
    register = IsnsClient.register

    async def unanswered(self: IsnsClient, wanted: Registration) -> None:
        await register(self, wanted)
        registered.set()
        await asyncio.Event().wait()

    async def watch() -> None:
        async with watching(isnsd.portal, US, 10.0):
            raise AssertionError("it is interrupted before")

    monkeypatch.setattr(IsnsClient, "register", unanswered)
    interrupted = asyncio.create_task(watch())
    await registered.wait()
    interrupted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await interrupted
    async with asking(isnsd.portal) as client:
        assert await client.entity(US) == before
        assert [node.portals for node in (await client.nodes(US)).nodes] == [()] * known


@needs_isnsd
@pytest.mark.parametrize("known", [False, True], ids=["unknown before", "known before"])
async def test_a_watch_that_is_refused_says_so(isnsd: Isnsd, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """That it takes back what was never there changes nothing about that."""

    async def refused(self: IsnsClient, wanted: Registration) -> None:
        raise IsnsError("the registration was refused", Status.INTERNAL_ERROR)

    async with asking(isnsd.portal) as client:
        if known:
            await client.register(Registration(US, "host seven"))
    monkeypatch.setattr(IsnsClient, "register", refused)
    with pytest.raises(IsnsError, match="the registration was refused"):
        async with watching(isnsd.portal, US, 10.0):
            raise AssertionError("it is refused before")


@needs_isnsd
async def test_notifications_without_a_portal_are_refused_with_the_servers_reason(isnsd: Isnsd) -> None:
    async with asking(isnsd.portal) as client:
        await client.register(Registration(US))
        with pytest.raises(IsnsError, match="notifications were refused: scn registration rejected"):
            await client.register_notices(US)


@needs_isnsd
async def test_without_a_common_discovery_domain_nothing_is_shown(tmp_path: Path) -> None:
    with Isnsd(tmp_path, domain=False) as isnsd:
        async with asking(isnsd.portal) as client:
            await client.ask(Function.REGISTER, target(MAIL, "array1", "10.9.1.2"), "x")
            await client.register(Registration(US))
            assert MAIL not in {node.name for node in (await client.nodes(US)).nodes}


# --- servers that are none, or mean harm ---

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def stranger(serve: Serve) -> AsyncIterator[Portal]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        yield Portal("127.0.0.1", server.sockets[0].getsockname()[1])


async def question(reader: asyncio.StreamReader) -> Message:
    messages = isns.Reader()
    while True:
        if found := messages.feed(await reader.read(65536)):
            return found[0]


def answering(*answers: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        for each in answers:
            writer.write(each)
        await writer.drain()

    return serve


OTHER = Message(0x8002, 999, bytes(4)).encode(Flag.SERVER)
GOOD = Message(0x8002, 1, bytes(4)).encode(Flag.SERVER)


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), RemoteProtocolError, "no iSNS server"),
        ((), ConnectionLost, "closed the connection"),
        ((GOOD[:9],), ConnectionLost, "inside a message"),
        ((OTHER,), RemoteProtocolError, "was not asked"),
        ((Message(0x8002, 1, b"").encode(),), RemoteProtocolError, "no status"),
        ((Message(0x8002, 1, bytes(4) + b"\0\0\0\x20\xff\xff\xff\xfc").encode(),), RemoteProtocolError, "wrong length"),
    ],
    ids=["http", "hangs up", "half", "another answer", "no status", "length"],
)
async def test_an_answer_that_is_none(answers: tuple[bytes, ...], error: type[IscsiError], words: str) -> None:
    async with stranger(answering(*answers)) as portal, asking(portal) as client:
        with pytest.raises(error, match=words):
            await client.nodes(US)


async def test_a_server_that_is_silent_is_given_up() -> None:
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with stranger(silent) as portal, asking(portal, 0.5) as client:
        with pytest.raises(ConnectionLost, match=r"no answer within 0\.5 seconds"):
            await client.nodes(US)
        done.set()


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows no name stands in for this host's, which may be far away."""
    async with stranger(answering()) as portal:
        pass
    with pytest.raises(ConnectionLost, match="Connection refused") as caught:
        await IsnsClient.connect(portal, 5.0)
    assert "3205" in caught.value.fix

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionLost, match="host name is not known"):
        await IsnsClient.connect(Portal("nowhere.invalid", 3205), 5.0)


async def test_a_request_of_the_server_in_between_is_answered() -> None:
    heard: list[Message] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(
            Message(Function.ESI, 77, isns.encode_attributes([isns.text(Tag.ENTITY, "e")])).encode(Flag.SERVER)
        )
        heard.append(await question(reader))
        writer.write(GOOD)
        await writer.drain()

    async with stranger(serve) as portal, asking(portal) as client:
        assert (await client.nodes(US)).nodes == ()
    assert [(each.function, each.transaction) for each in heard] == [(0x800D, 77)]


async def test_a_watch_takes_nothing_from_strangers_and_outlives_nonsense() -> None:
    async with Watch("127.0.0.1", "127.0.0.9") as watch:
        async with asking(watch.portal, 5.0) as client:
            with pytest.raises(ConnectionLost):
                await client.nodes(US)
        assert watch.refused == 1
    async with Watch("127.0.0.1", "127.0.0.1") as watch:
        _, writer = await asyncio.open_connection(*_place(watch.portal))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: watch.refused == 1)
        writer.close()
        reader, writer = await asyncio.open_connection(*_place(watch.portal))
        told = (isns.text(Tag.NAME, US), isns.number(Tag.SCN_BITMAP, 8), isns.text(Tag.NAME, MAIL))
        writer.write(Message(Function.SCN, 4, isns.encode_attributes(told)).encode(Flag.SERVER))
        assert (await anext(watch.changes())).name == MAIL
        assert (await question(reader)).function == 0x8008
        writer.close()


async def test_changes_that_nobody_looks_at_are_counted_and_not_kept() -> None:
    many = [isns.text(Tag.NAME, MAIL)] * 300
    told = isns.encode_attributes((isns.text(Tag.NAME, US), isns.number(Tag.SCN_BITMAP, 8), *many))
    async with Watch("127.0.0.1", "127.0.0.1") as watch:
        reader, writer = await asyncio.open_connection(*_place(watch.portal))
        writer.write(Message(Function.SCN, 4, told).encode(Flag.SERVER))
        await question(reader)
        assert watch.missed == 300 - 256
        writer.close()


def _place(portal: Portal) -> tuple[str, int]:
    return portal.host, portal.port
