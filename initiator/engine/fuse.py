"""A mount that holds one file, served by speaking to /dev/fuse directly.

The server has no state of its own: node numbers and file handles are constants, so that a process that takes over the
descriptor goes on where the last one was killed. Each request is read into a buffer of a fixed pool and that buffer is
not touched again until the backend has called back: the iSCSI layer sends write data from it, maybe much later (R2T),
and reads land in it. When all buffers are in use, reading stops until one is free.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import io
import logging
import mmap
import os
import stat
from collections.abc import Callable
from typing import Protocol

from initiator.engine import fuse_abi as abi
from initiator.engine.book import Book
from initiator.errors import MooringError

MAX_IO = 1 << 20
"""Largest read or write of one request, in bytes."""
_DATA = 4096
"""Where the data of a read stands in its buffer; the answer's header stands directly before it."""
_BUFFER = MAX_IO + 8192
_BATCH = 32
"""How many requests are taken from the kernel before the event loop does something else."""
_LASTING_S = 3600
"""For how long the kernel need not ask again for the file's name and attributes, which stay as long as it is attached.
So LOOP_GET_STATUS64, by which others see that their disk is not below this one, never waits for a server that hangs."""

_CHANGES = (
    abi.Op.MKNOD,
    abi.Op.MKDIR,
    abi.Op.UNLINK,
    abi.Op.RMDIR,
    abi.Op.RENAME,
    abi.Op.RENAME2,
    abi.Op.CREATE,
)

Done = Callable[[int], None]

log = logging.getLogger(__name__)


def largest_request(block_bytes: int) -> int:
    """The most that one request may carry, in bytes.

    The kernel cuts a transfer after 256 pages or after this many bytes, whichever comes first. Where memory begins
    inside a page (a multiple of 512 is enough for direct I/O), 256 pages end inside a block of 4096 bytes. With half of
    that as the limit, the bytes always count, and every cut is between two blocks.
    """
    return MAX_IO if block_bytes <= 512 else MAX_IO // 2


class FuseError(MooringError):
    """The kernel's FUSE does not do what attaching needs."""

    code = "fuse"


class Backend(Protocol):
    """What the file is made of. Offsets and lengths are in bytes and multiples of `block_bytes`.

    Each call is answered once by `done(errno)`, 0 for success, maybe before it returns. A buffer belongs to the
    backend until then.
    """

    @property
    def size_bytes(self) -> int: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def read_only(self) -> bool: ...

    def read(self, offset: int, into: memoryview, done: Done) -> None: ...
    def write(self, offset: int, data: memoryview, done: Done) -> None: ...
    def flush(self, done: Done) -> None: ...
    def discard(self, offset: int, length: int, done: Done) -> None: ...
    def write_zeroes(self, offset: int, length: int, done: Done) -> None: ...


class Slot:
    """One request in flight: its buffer, and views of the parts that are used again and again."""

    __slots__ = ("data", "unique", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.data = view[_DATA : _DATA + MAX_IO]
        self.unique = 0


class Pool:
    """Request buffers, allocated and touched once so that serving never waits for memory.

    Args:
        count: how many requests may be in flight.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, count * _BUFFER)
        whole = memoryview(self._memory)
        for page in range(0, len(whole), mmap.PAGESIZE):
            whole[page] = 0
        self.free = [Slot(whole[index * _BUFFER : (index + 1) * _BUFFER]) for index in range(count)]


class FuseServer:
    """Answers the requests of one FUSE connection on the running event loop.

    Args:
        fd: an open /dev/fuse that a mount was made with. It stays the caller's and is set to non-blocking.
        name: the file's name in the mount.
        backend: its content.
        pool: request buffers; `pool.count` is the number of requests in flight.
        book: where acknowledged writes are counted.
        on_end: called once when the connection is gone (unmounted or aborted).
    """

    def __init__(
        self, fd: int, name: str, backend: Backend, pool: Pool, book: Book, on_end: Callable[[], None]
    ) -> None:
        self._fd = fd
        self._name = os.fsencode(name)
        self._backend = backend
        self._pool = pool
        self._book = book
        self._on_end = on_end
        self._reading = False
        self._wanted = False
        self.ended = False
        self.opens = 0
        """How many openings of the file were seen here and not yet released; negative after a takeover."""
        self.requests = 0
        self.resent = 0
        """Requests that the kernel delivered again after a takeover."""
        self.errors = 0
        self._plain: dict[int, Callable[[Slot, int, int], None]] = {
            abi.Op.READ: self._read,
            abi.Op.WRITE: self._write,
            abi.Op.FSYNC: self._fsync,
            abi.Op.LOOKUP: self._lookup,
            abi.Op.GETATTR: self._getattr,
            abi.Op.SETATTR: self._setattr,
            abi.Op.OPEN: self._open,
            abi.Op.RELEASE: self._release,
            abi.Op.FALLOCATE: self._fallocate,
            abi.Op.STATFS: self._statfs,
            abi.Op.INIT: self._init,
            abi.Op.OPENDIR: self._opendir,
            abi.Op.READDIR: self._readdir,
            abi.Op.FORGET: self._silent,
            abi.Op.BATCH_FORGET: self._silent,
            abi.Op.INTERRUPT: self._silent,
            abi.Op.FLUSH: self._good,
            abi.Op.RELEASEDIR: self._good,
            abi.Op.FSYNCDIR: self._good,
            abi.Op.ACCESS: self._good,
            abi.Op.DESTROY: self._good,
            **dict.fromkeys(_CHANGES, self._forbidden),
        }
        os.set_blocking(fd, False)
        # says None where os.readv raises, and takes a buffer without a list around it
        self._read_into = io.FileIO(fd, "r", closefd=False).readinto

    @property
    def in_flight(self) -> int:
        """Requests that the backend has not answered yet."""
        return self._pool.count - len(self._pool.free)

    def start(self) -> None:
        """Begin to take requests."""
        self._wanted = True
        self._resume()

    def stop(self) -> None:
        """Take no more requests. Those in flight are answered still."""
        self._wanted = False
        self._pause()

    def resend(self) -> None:
        """Ask the kernel for every request again that it gave out and that nobody answered (FUSE_NOTIFY_RESEND).

        Raises:
            FuseError: the kernel is older than 6.9 and cannot; code `no-resend`.
        """
        try:
            os.write(self._fd, abi.OUT_HEADER.pack(abi.OUT_HEADER.size, abi.NOTIFY_RESEND, 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._end()
                return
            raise FuseError(
                "this kernel cannot send requests again (that came with Linux 6.9), so what was in flight is lost",
                code="no-resend",
            ) from error

    def _resume(self) -> None:
        if self._wanted and not self._reading and not self.ended and self._pool.free:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._fd)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._pause()
            self._on_end()

    def _readable(self) -> None:
        free, read_into, handlers, unpack = self._pool.free, self._read_into, self._plain, abi.IN_HEADER.unpack_from
        for _ in range(_BATCH):
            if not free or not self._reading:
                break
            slot = free.pop()
            try:
                length = read_into(slot.view)
            except OSError as error:
                free.append(slot)
                if error.errno == errno.ENOENT:  # the request was interrupted while it was copied
                    continue
                self._end()
                return
            if length is None:
                free.append(slot)
                return
            size, opcode, unique, node = unpack(slot.view)
            self.requests += 1
            if unique & abi.RESEND_UNIQUE:
                self.resent += 1
            slot.unique = unique
            handler = handlers.get(opcode)
            if handler is None or size != length:
                self._error(slot, errno.ENOSYS if handler is None else errno.EIO)
            else:
                handler(slot, node, length)
        if not free:
            self._pause()

    # Answers: each gives the slot back to the pool. `_error` with 0 is a success without a body.

    def _free(self, slot: Slot) -> None:
        self._pool.free.append(slot)
        if not self._reading:
            self._resume()

    def _error(self, slot: Slot, number: int) -> None:
        if number:
            self.errors += number not in (errno.ENOSYS, errno.ENOENT)
        self._send(abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -number, slot.unique))
        self._free(slot)

    def _answer(self, slot: Slot, body: bytes) -> None:
        self._send(abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), 0, slot.unique) + body)
        self._free(slot)

    def _send(self, data: bytes | memoryview) -> None:
        try:
            os.write(self._fd, data)
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._end()
            elif error.errno != errno.ENOENT:  # ENOENT: the kernel gave this request up
                log.error("an answer to the kernel failed: %s", error.strerror)

    def _good(self, slot: Slot, node: int, length: int) -> None:
        self._answer(slot, b"")

    def _forbidden(self, slot: Slot, node: int, length: int) -> None:
        """The folder is what it is: nothing in it is made, removed or renamed."""
        self._error(slot, errno.EPERM)

    def _silent(self, slot: Slot, node: int, length: int) -> None:
        """Requests that have no answer. An interrupt changes nothing: a command on its way is not taken back."""
        self._free(slot)

    # Data.

    def _read(self, slot: Slot, node: int, length: int) -> None:
        backend = self._backend
        offset, size = abi.READ_IN.unpack_from(slot.view, abi.BODY)
        size = max(0, min(size, backend.size_bytes - offset))
        if size > MAX_IO or (size | offset) % backend.block_bytes:
            self._error(slot, errno.EINVAL)
        elif not size:
            self._answer(slot, b"")
        else:
            backend.read(offset, slot.data[:size], functools.partial(self._read_done, slot, size))

    def _read_done(self, slot: Slot, size: int, number: int) -> None:
        if number:
            self._error(slot, number)
            return
        start = _DATA - abi.OUT_HEADER.size
        abi.OUT_HEADER.pack_into(slot.view, start, abi.OUT_HEADER.size + size, 0, slot.unique)
        self._send(slot.view[start : _DATA + size])
        self._free(slot)

    def _write(self, slot: Slot, node: int, length: int) -> None:
        backend = self._backend
        offset, size = abi.WRITE_IN.unpack_from(slot.view, abi.BODY)
        start = abi.BODY + abi.WRITE_IN.size
        if length != start + size or (size | offset) % backend.block_bytes:
            self._error(slot, errno.EINVAL)
        elif offset + size > backend.size_bytes:
            self._error(slot, errno.ENOSPC)
        else:
            data = slot.view[start : start + size].toreadonly()
            backend.write(offset, data, functools.partial(self._write_done, slot, size))

    def _write_done(self, slot: Slot, size: int, number: int) -> None:
        if number:
            self._error(slot, number)
        else:
            self._book.acknowledge()
            self._send(abi.WRITE_ANSWER.pack(abi.WRITE_ANSWER.size, 0, slot.unique, size))
            self._free(slot)

    def _fsync(self, slot: Slot, node: int, length: int) -> None:
        begun = self._book.begin_flush()
        self._backend.flush(functools.partial(self._fsync_done, slot, begun))

    def _fsync_done(self, slot: Slot, begun: int, number: int) -> None:
        if not number:
            self._book.end_flush(begun)
        self._error(slot, number)

    def _changed(self, slot: Slot, number: int) -> None:
        if not number:
            self._book.acknowledge()
        self._error(slot, number)

    def _fallocate(self, slot: Slot, node: int, length: int) -> None:
        backend = self._backend
        _, offset, size, mode, _ = abi.FALLOCATE_IN.unpack_from(slot.view, abi.BODY)
        if (size | offset) % backend.block_bytes or offset + size > backend.size_bytes:
            self._error(slot, errno.EINVAL)
        elif mode == abi.FALLOC_PUNCH_HOLE:
            backend.discard(offset, size, functools.partial(self._changed, slot))
        elif mode == abi.FALLOC_ZERO_RANGE:
            backend.write_zeroes(offset, size, functools.partial(self._changed, slot))
        else:
            self._error(slot, errno.EOPNOTSUPP)

    # The file and its folder.

    def _attributes(self, node: int) -> bytes:
        backend = self._backend
        if node == abi.ROOT_NODE:
            return abi.ATTR.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o500, 2, 0, 0, 0, 4096, 0)
        mode = stat.S_IFREG | (0o400 if backend.read_only else 0o600)
        size = backend.size_bytes
        return abi.ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _lookup(self, slot: Slot, node: int, length: int) -> None:
        name = bytes(slot.view[abi.BODY : length]).rstrip(b"\0")
        if node != abi.ROOT_NODE or name != self._name:
            self._error(slot, errno.ENOENT)
            return
        entry = abi.ENTRY_OUT.pack(abi.FILE_NODE, 1, _LASTING_S, _LASTING_S, 0, 0)
        self._answer(slot, entry + self._attributes(abi.FILE_NODE))

    def _getattr(self, slot: Slot, node: int, length: int) -> None:
        self._answer(slot, abi.ATTR_OUT.pack(_LASTING_S, 0, 0) + self._attributes(node))

    def _setattr(self, slot: Slot, node: int, length: int) -> None:
        valid, _, _, size = abi.SETATTR_IN.unpack_from(slot.view, abi.BODY)
        if valid & abi.SETATTR_SIZE and size != self._backend.size_bytes:
            self._error(slot, errno.EPERM)
        else:
            self._getattr(slot, node, length)

    def _open(self, slot: Slot, node: int, length: int) -> None:
        flags, _ = abi.OPEN_IN.unpack_from(slot.view, abi.BODY)
        if self._backend.read_only and flags & os.O_ACCMODE != os.O_RDONLY:
            self._error(slot, errno.EROFS)
            return
        self.opens += 1
        self._answer(slot, abi.OPEN_OUT.pack(1, abi.OPEN_DIRECT_IO | abi.OPEN_PARALLEL_DIRECT_WRITES, 0))

    def _release(self, slot: Slot, node: int, length: int) -> None:
        self.opens -= 1
        self._answer(slot, b"")

    def _opendir(self, slot: Slot, node: int, length: int) -> None:
        self._answer(slot, abi.OPEN_OUT.pack(0, 0, 0))

    def _readdir(self, slot: Slot, node: int, length: int) -> None:
        offset, size = abi.READ_IN.unpack_from(slot.view, abi.BODY)
        entries = ((1, b".", stat.S_IFDIR), (1, b"..", stat.S_IFDIR), (abi.FILE_NODE, self._name, stat.S_IFREG))
        body = b""
        for place, (node, name, kind) in enumerate(entries[offset:], offset + 1):
            entry = abi.DIRENT.pack(node, place, len(name), kind >> 12) + name
            body += entry + bytes(-len(entry) % 8)
        self._answer(slot, body if len(body) <= size else b"")

    def _statfs(self, slot: Slot, node: int, length: int) -> None:
        blocks = self._backend.size_bytes // 4096
        self._answer(slot, abi.STATFS_OUT.pack(blocks, 0, 0, 1, 0, 4096, 255, 4096, 0))

    def _init(self, slot: Slot, node: int, length: int) -> None:
        major, minor, readahead, offered = abi.INIT_IN.unpack_from(slot.view, abi.BODY)
        wanted = abi.INIT_ASYNC_READ | abi.INIT_BIG_WRITES | abi.INIT_ASYNC_DIO | abi.INIT_MAX_PAGES
        if major != abi.MAJOR or offered & wanted != wanted:
            log.error("the kernel's FUSE %d.%d lacks what attaching needs (flags %#x)", major, minor, offered)
            self._error(slot, errno.EPROTO)
            return
        count, most = self._pool.count, largest_request(self._backend.block_bytes)
        body = abi.INIT_OUT.pack(
            abi.MAJOR,
            min(minor, abi.MINOR),
            readahead,
            wanted,
            count,
            count * 3 // 4,
            most,
            1,
            MAX_IO // mmap.PAGESIZE,
            0,
            0,
        )
        self._answer(slot, body)
