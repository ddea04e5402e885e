"""The FUSE server alone: against a socket that plays the kernel, and against the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initiator.engine import attach, kernel
from initiator.engine import fuse_abi as abi
from initiator.engine.book import Book, create, exposed
from initiator.engine.fuse import MAX_IO, FuseError, FuseServer, Pool
from tests.engine.memory import MemoryBackend
from tests.until import until

SIZE = 8 << 20


class Player:
    """Plays the kernel over a pair of sockets that keep message borders, as /dev/fuse does."""

    def __init__(self, backend: MemoryBackend, buffers: int = 4, book: int | None = None) -> None:
        self.socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5.0)
        self.ended: list[int] = []
        self.pool = Pool(buffers)
        fd = self._theirs.fileno()
        self.server = FuseServer(fd, "disk", backend, self.pool, Book(book or create()), lambda: self.ended.append(1))
        self.server.start()

    def send(self, opcode: int, body: bytes = b"", unique: int = 1, node: int = abi.FILE_NODE) -> None:
        header = abi.IN_HEADER.pack(abi.BODY + len(body), opcode, unique, node)
        self.socket.send(header + body)

    async def answer(self) -> tuple[int, int, bytes]:
        data = await asyncio.to_thread(self.socket.recv, 2 << 20)
        length, error, unique = abi.OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return unique, -error, data[abi.OUT_HEADER.size :]

    async def ask(self, opcode: int, body: bytes = b"", node: int = abi.FILE_NODE) -> tuple[int, bytes]:
        self.send(opcode, body, node=node)
        _, error, found = await self.answer()
        return error, found

    def close(self) -> None:
        self.server.stop()
        self.socket.close()
        self._theirs.close()


@pytest.fixture
def backend(tmp_path: Path) -> MemoryBackend:
    return MemoryBackend(tmp_path / "medium", SIZE)


@pytest.fixture
async def player(backend: MemoryBackend) -> AsyncIterator[Player]:
    found = Player(backend)
    yield found
    found.close()


def read_body(offset: int, size: int) -> bytes:
    return struct.pack("=QQIIQII", 1, offset, size, 0, 0, 0, 0)


def write_body(offset: int, data: bytes, size: int | None = None) -> bytes:
    return abi.WRITE_IN.pack(offset, len(data) if size is None else size) + data


async def test_the_handshake_asks_for_large_requests_in_parallel(player: Player) -> None:
    error, body = await player.ask(abi.Op.INIT, struct.pack("=IIII", 7, 45, 131072, 0xFFFFFFFF), 0)
    major, minor, _, flags, background, _, max_write, _, pages, *_ = abi.INIT_OUT.unpack(body)
    assert (error, major, minor) == (0, 7, abi.MINOR)
    assert max_write == MAX_IO == pages * os.sysconf("SC_PAGESIZE")
    assert flags == abi.INIT_ASYNC_READ | abi.INIT_BIG_WRITES | abi.INIT_ASYNC_DIO | abi.INIT_MAX_PAGES
    assert background == player.pool.count


async def test_a_kernel_that_lacks_what_is_needed_is_refused(player: Player) -> None:
    error, _ = await player.ask(abi.Op.INIT, struct.pack("=IIII", 7, 12, 0, abi.INIT_ASYNC_READ), 0)
    assert error == errno.EPROTO


async def test_bytes_go_in_and_come_out(player: Player, backend: MemoryBackend) -> None:
    data = os.urandom(8192)
    error, body = await player.ask(abi.Op.WRITE, write_body(4096, data))
    assert (error, int.from_bytes(body[:4], sys.byteorder)) == (0, 8192)
    assert backend.memory[4096:12288] == data
    assert await player.ask(abi.Op.READ, read_body(4096, 8192)) == (0, data)
    assert await player.ask(abi.Op.READ, read_body(SIZE - 512, 4096)) == (0, bytes(512))
    assert await player.ask(abi.Op.READ, read_body(SIZE, 4096)) == (0, b"")


@pytest.mark.parametrize(
    ("opcode", "body", "error"),
    [
        (abi.Op.READ, read_body(1, 512), errno.EINVAL),
        (abi.Op.READ, read_body(0, 100), errno.EINVAL),
        (abi.Op.READ, read_body(0, MAX_IO + 4096), errno.EINVAL),
        (abi.Op.WRITE, write_body(0, b"x" * 100), errno.EINVAL),
        (abi.Op.WRITE, write_body(0, b"x" * 512, size=1024), errno.EINVAL),
        (abi.Op.WRITE, write_body(SIZE, b"x" * 512), errno.ENOSPC),
        (abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 0, 4096, 0, 0), errno.EOPNOTSUPP),
        (abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 100, 4096, 3, 0), errno.EINVAL),
        (abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, SIZE, 4096, 3, 0), errno.EINVAL),
        (abi.Op.SETATTR, abi.SETATTR_IN.pack(abi.SETATTR_SIZE, 0, 1, 4096), errno.EPERM),
        (abi.Op.UNLINK, b"disk\0", errno.EPERM),
        (abi.Op.CREATE, bytes(16) + b"x\0", errno.EPERM),
        (abi.Op.LOOKUP, b"disk\0", errno.ENOENT),
        (39, b"", errno.ENOSYS),
        (4000, b"", errno.ENOSYS),
    ],
)
async def test_what_cannot_be_is_refused(player: Player, opcode: int, body: bytes, error: int) -> None:
    assert (await player.ask(opcode, body))[0] == error
    assert player.server.in_flight == 0


async def test_the_folder_holds_one_file(player: Player) -> None:
    error, body = await player.ask(abi.Op.LOOKUP, b"disk\0", abi.ROOT_NODE)
    node, *_ = abi.ENTRY_OUT.unpack_from(body)
    size, mode = (abi.ATTR.unpack_from(body, abi.ENTRY_OUT.size)[i] for i in (1, 9))
    assert (error, node, size, mode) == (0, abi.FILE_NODE, SIZE, stat.S_IFREG | 0o600)
    assert (await player.ask(abi.Op.LOOKUP, b"other\0", abi.ROOT_NODE))[0] == errno.ENOENT


async def test_every_error_of_the_backend_reaches_the_writer(player: Player, backend: MemoryBackend) -> None:
    for number in (errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESHUTDOWN):
        backend.errors = dict.fromkeys(("read", "write", "flush", "discard", "write_zeroes"), number)
        assert (await player.ask(abi.Op.WRITE, write_body(0, bytes(512))))[0] == number
        assert (await player.ask(abi.Op.READ, read_body(0, 512)))[0] == number
        assert (await player.ask(abi.Op.FSYNC, bytes(16)))[0] == number
        assert (await player.ask(abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 0, 512, 0x03, 0)))[0] == number
        assert (await player.ask(abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 0, 512, 0x11, 0)))[0] == number


async def test_discard_and_zeroing_are_told_apart(player: Player, backend: MemoryBackend) -> None:
    assert (await player.ask(abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 512, 1024, 0x03, 0)))[0] == 0
    assert (await player.ask(abi.Op.FALLOCATE, abi.FALLOCATE_IN.pack(1, 0, 512, 0x11, 0)))[0] == 0
    assert backend.calls == [("discard", 512, 1024), ("write_zeroes", 0, 512)]


async def test_fsync_is_answered_after_the_flush_and_not_before(player: Player, backend: MemoryBackend) -> None:
    backend.held = []
    player.send(abi.Op.FSYNC, bytes(16), unique=9)
    await until(lambda: backend.calls == [("flush", 0, 0)])
    player.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        player.socket.recv(100)
    player.socket.settimeout(5.0)
    assert backend.held is not None
    backend.held.pop()()
    assert (await player.answer())[:2] == (9, 0)


async def test_a_buffer_is_not_used_again_before_its_write_is_done(player: Player, backend: MemoryBackend) -> None:
    backend.held = []
    views: list[tuple[memoryview, bytes]] = []
    write = backend.write

    def keep(offset: int, data: memoryview, done: object) -> None:
        views.append((data, bytes(data)))
        write(offset, data, done)  # type: ignore[arg-type]

    backend.write = keep  # type: ignore[method-assign]
    for number in range(6):
        player.send(abi.Op.WRITE, write_body(number * 512, bytes([number + 1]) * 512), unique=number + 1)
    await until(lambda: len(views) == 4, what="all four buffers are in use")
    assert player.server.in_flight == 4
    assert all(bytes(view) == copy for view, copy in views)
    backend.held.pop(0)()
    backend.held.pop(0)()
    await until(lambda: len(views) == 6, what="the two that had to wait")
    assert all(bytes(view) == copy for view, copy in views[2:])
    for done in tuple(backend.held):
        done()
    assert sorted([(await player.answer())[0] for _ in range(6)]) == [1, 2, 3, 4, 5, 6]
    assert bytes(backend.memory[: 6 * 512]) == b"".join(bytes([n]) * 512 for n in range(1, 7))


async def test_a_stopped_server_takes_nothing_new(player: Player, backend: MemoryBackend) -> None:
    backend.held = []
    player.send(abi.Op.FSYNC, bytes(16), unique=1)
    await until(lambda: backend.held)
    player.server.stop()
    player.send(abi.Op.FSYNC, bytes(16), unique=2)
    assert backend.held is not None
    backend.held.pop()()
    assert (await player.answer())[0] == 1
    assert len(backend.calls) == 1
    player.server.start()
    await until(lambda: len(backend.calls) == 2)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=80)), min_size=1, max_size=8))
def test_no_request_breaks_the_server(backend: MemoryBackend, requests: list[tuple[int, bytes]]) -> None:
    silent = {abi.Op.FORGET, abi.Op.BATCH_FORGET, abi.Op.INTERRUPT}

    async def play() -> int:
        player = Player(backend)
        try:
            for number, (opcode, body) in enumerate(requests):
                player.send(opcode, body, unique=number + 1)
                if opcode not in silent:
                    assert (await player.answer())[0] == number + 1
            return player.server.in_flight
        finally:
            player.close()

    assert asyncio.run(play()) == 0


# Against the kernel.


@contextlib.asynccontextmanager
async def mounted(folder: Path, backend: MemoryBackend, buffers: int = 8) -> AsyncIterator[tuple[FuseServer, str, int]]:
    made = attach.mount_file(folder, "disk", backend.block_bytes, backend.read_only)
    server = FuseServer(made.fd, "disk", backend, Pool(buffers), Book(create()), lambda: None)
    server.start()
    try:
        yield server, made.file, made.fd
    finally:
        kernel.abort(kernel.abort_path(made.dev))
        server.stop()
        os.close(made.fd)
        await attach.unmount(made.mountpoint, made.dev)


@pytest.fixture
def runtime(own_folders: Path) -> Path:
    return own_folders / "runtime"


@pytest.mark.root
async def test_the_kernel_reads_writes_syncs_and_punches(runtime: Path, backend: MemoryBackend) -> None:
    data = mmap.mmap(-1, 3 << 20)  # memory that begins with a page, as the block layer's
    data[:] = os.urandom(3 << 20)

    def use(file: str) -> bytes:
        handle = os.open(file, os.O_RDWR)
        try:
            os.pwrite(handle, data, 1 << 20)
            os.fsync(handle)
            libc = kernel._libc
            assert libc.fallocate(handle, abi.FALLOC_PUNCH_HOLE, libc_off(0), libc_off(4096)) == 0
            found = mmap.mmap(-1, 3 << 20)
            assert os.preadv(handle, [found], 1 << 20) == 3 << 20
            return found[:]
        finally:
            os.close(handle)

    async with mounted(runtime, backend) as (server, file, _):
        assert await asyncio.to_thread(use, file) == data[:]
        assert await asyncio.to_thread(lambda: sorted(os.listdir(os.path.dirname(file)))) == ["disk"]
        assert (await asyncio.to_thread(os.statvfs, file)).f_blocks == SIZE // 4096
        await until(lambda: server.opens == 0)
    operations = [call[0] for call in backend.calls]
    assert operations.index("flush") > operations.index("write")
    assert ("discard", 0, 4096) in backend.calls
    assert max(length for name, _, length in backend.calls if name == "write") == MAX_IO


def size_read(file: str) -> int:
    handle = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(handle, [mmap.mmap(-1, 8192)], SIZE - 4096)
    finally:
        os.close(handle)


def libc_off(value: int) -> object:
    import ctypes

    return ctypes.c_longlong(value)


@pytest.mark.root
async def test_a_read_only_disk_cannot_be_opened_for_writing(runtime: Path, tmp_path: Path) -> None:
    backend = MemoryBackend(tmp_path / "ro", SIZE, read_only=True)

    def attempt(file: str) -> int:
        try:
            os.close(os.open(file, os.O_RDWR))
        except OSError as error:
            return error.errno or 0
        return 0

    async with mounted(runtime, backend) as (_, file, _fd):
        assert await asyncio.to_thread(attempt, file) == errno.EROFS
        assert await asyncio.to_thread(size_read, file) == 4096


@pytest.mark.root
async def test_another_server_on_the_same_descriptor_gets_what_was_not_answered(
    runtime: Path, backend: MemoryBackend
) -> None:
    """A worker that is gone took requests with it; the next one has the kernel send them again."""
    backend.held = []
    data = os.urandom(4096)

    def write(file: str) -> None:
        handle = os.open(file, os.O_RDWR)
        try:
            assert os.pwrite(handle, data, 8192) == 4096
            os.fsync(handle)
        finally:
            os.close(handle)

    async with mounted(runtime, backend) as (server, file, fd):
        writing = asyncio.create_task(asyncio.to_thread(write, file))
        await until(lambda: ("write", 8192, 4096) in backend.calls)
        server.stop()
        backend.memory[8192:12288] = bytes(4096)
        backend.held = None
        heir = FuseServer(fd, "disk", backend, Pool(8), Book(create()), lambda: None)
        heir.resend()
        heir.start()
        await writing
        assert heir.resent == 1
        heir.stop()
    assert backend.memory[8192:12288] == data


@pytest.mark.root
async def test_an_aborted_connection_ends_the_server_and_frees_everybody(runtime: Path, backend: MemoryBackend) -> None:
    backend.held = []

    def write(file: str) -> int:
        handle = os.open(file, os.O_RDWR)
        try:
            os.pwrite(handle, bytes(4096), 0)
        except OSError as error:
            return error.errno or 0
        finally:
            with contextlib.suppress(OSError):  # closing asks the server, too
                os.close(handle)
        return 0

    made = attach.mount_file(runtime, "disk", backend.block_bytes, False)
    ended: list[int] = []
    server = FuseServer(made.fd, "disk", backend, Pool(4), Book(create()), lambda: ended.append(1))
    server.start()
    writing = asyncio.create_task(asyncio.to_thread(write, made.file))
    await until(lambda: backend.calls)
    assert kernel.abort(kernel.abort_path(made.dev))
    assert await writing == errno.ECONNABORTED
    await until(lambda: ended)
    assert backend.held is not None
    for done in backend.held:
        done()
    assert server.in_flight == 0
    os.close(made.fd)
    await attach.unmount(made.mountpoint, made.dev)
    assert not Path(made.mountpoint).exists()


async def test_a_kernel_that_cannot_resend_is_told_apart(backend: MemoryBackend, tmp_path: Path) -> None:
    (tmp_path / "unwritable").touch()
    handle = os.open(tmp_path / "unwritable", os.O_RDONLY)
    server = FuseServer(handle, "disk", backend, Pool(1), Book(create()), lambda: None)
    with pytest.raises(FuseError) as caught:
        server.resend()
    assert caught.value.code == "no-resend"
    os.close(handle)


@pytest.mark.root
async def test_locks_do_not_reach_the_server(runtime: Path, backend: MemoryBackend) -> None:
    def lock(file: str) -> None:
        with open(file, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async with mounted(runtime, backend) as (server, file, _):
        await asyncio.to_thread(lock, file)
        assert server.errors == 0


async def test_the_book_knows_what_no_flush_has_covered(backend: MemoryBackend) -> None:
    fd = create()
    player = Player(backend, book=fd)
    assert not exposed(fd)
    await player.ask(abi.Op.WRITE, write_body(0, bytes(512)))
    assert exposed(fd)
    backend.errors["flush"] = errno.EIO
    await player.ask(abi.Op.FSYNC, bytes(16))
    assert exposed(fd), "a flush that failed covers nothing"
    backend.errors.clear()
    await player.ask(abi.Op.FSYNC, bytes(16))
    assert not exposed(fd)
    backend.held = []
    player.send(abi.Op.FSYNC, bytes(16))
    await until(lambda: backend.held)
    held, backend.held = backend.held, None
    await player.ask(abi.Op.WRITE, write_body(0, bytes(512)))
    assert held is not None
    held[0]()
    await player.answer()
    assert exposed(fd), "the write came after the flush had begun"
    backend.errors["write"] = errno.EIO
    await player.ask(abi.Op.FSYNC, bytes(16))
    await player.ask(abi.Op.WRITE, write_body(0, bytes(512)))
    assert not exposed(fd), "a write that failed was not acknowledged"
    player.close()
    os.close(fd)
