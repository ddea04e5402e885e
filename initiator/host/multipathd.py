"""Asking multipathd over its socket, without ever waiting long for it.

A question and an answer are each a length (native `size_t`, its NUL included) and text with a NUL. multipathd answers
under its main lock: while it reconfigures, or waits for a path that hangs, it is silent for seconds. So an answer that
is late is taken up by a later reading, and until then the last one stands, with its age.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Generator
from pathlib import Path

from initiator.errors import MooringError
from initiator.host import multipath, sysfs
from initiator.host.multipath import FormatError, ListedPath, MapInfo
from initiator.model import Problem
from initiator.names import clean

ABSTRACT = "\0/org/kernel/linux/storage/multipathd"
"""Of the network namespace; since multipath-tools 0.12 there is also a path."""
SOCKET = "run/multipathd.socket"
PATIENCE = 0.3
"""Seconds that one reading waits; multipathd usually answers within some milliseconds."""
GIVE_UP = 10.0
"""Seconds after which a question is taken for lost. multipathd's own limit is 4 s by default."""
_LENGTH = struct.Struct("@N")
_LARGEST = (32 << 20) - 1


class MultipathdError(MooringError):
    """multipathd cannot be asked, or gave a wrong answer."""

    code = "multipathd"
    fix = "look at: systemctl status multipathd"


class Daemon(enum.StrEnum):
    """Whether multipathd answers."""

    RUNNING = "running"
    ABSENT = "absent"
    """Nothing listens on its sockets. It may still run in another network namespace."""
    SILENT = "silent"
    BROKEN = "broken"
    """It answered, but not with what can be understood; or it went away in the middle."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What multipathd said last."""

    daemon: Daemon
    at: float | None = None
    """Unix time of the answer that `maps` and `listed` come from; None where there has been none."""
    maps: tuple[MapInfo, ...] = ()
    listed: tuple[ListedPath, ...] = ()
    reason: str | None = None
    """Why the answer is not a fresh one."""

    def problems(self, now: float) -> tuple[Problem, ...]:
        """What a guard has to know; that there is no multipathd is no problem."""
        if self.daemon in (Daemon.RUNNING, Daemon.ABSENT):
            return ()
        age = "it has never answered" if self.at is None else f"its last answer is {max(now - self.at, 0):.0f} s old"
        return (Problem("multipathd", "multipathd", f"{self.reason}; {age}"),)


class Multipathd:
    """Asks for all maps and paths again and again.

    Args:
        root: Where `run` is; on a root other than `/` only the socket there is tried.
        clock: Unix time.
        monotonic: A clock for durations.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        path = f"{sysfs.base(root)}/{SOCKET}"
        self._addresses = (ABSTRACT, path) if root == Path("/") else (path,)
        self._clock = clock
        self._monotonic = monotonic
        self._parser = multipath.MapsParser()
        self._paths = multipath.PathsParser()
        self._parsed: tuple[tuple[bytearray, bytearray], tuple[MapInfo, ...], tuple[ListedPath, ...]] | None = None
        """The last answers that were understood, and what they say."""
        self._told = Told(Daemon.ABSENT)
        self._round: Generator[None, None, None] | None = None
        self._socket: socket.socket | None = None
        self._began = 0.0
        self._until = 0.0

    def read(self, patience: float = PATIENCE) -> Told:
        """What it says now, or what it said last if it does not answer within `patience` seconds."""
        self._until = self._monotonic() + patience
        try:
            if self._round is None:
                self._connect()
                self._began = self._monotonic()
                self._round = self._ask_all()
            for _ in self._round:
                if self._monotonic() - self._began > GIVE_UP:
                    self.close()
                return self._failed(Daemon.SILENT, "multipathd does not answer")
            self.close()
        except BlockingIOError:
            self.close()
            return self._failed(Daemon.SILENT, "multipathd takes no more questions")
        except OSError as error:
            self.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                self._told = Told(Daemon.ABSENT, reason="no multipathd listens")
                return self._told
            return self._failed(Daemon.BROKEN, f"multipathd cannot be asked: {error.strerror or error}")
        except MultipathdError as error:
            self.close()
            return self._failed(Daemon.BROKEN, str(error))
        except FormatError as error:
            self.close()
            return self._failed(Daemon.BROKEN, str(error))
        return self._told

    def order(self, command: str, seconds: float) -> str | None:
        """Gives one order and waits for the answer; None where there is no multipathd.

        Raises:
            MultipathdError: it refused, or does not answer, so that nobody knows.
        """
        self.close()
        self._until = self._monotonic() + seconds
        asked = self._ask(command)
        try:
            self._connect()
            next(asked)
        except StopIteration as answered:
            return _answer(answered.value)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return None
            raise MultipathdError(f"multipathd cannot be asked: {error.strerror or error}") from error
        finally:
            self.close()
        raise MultipathdError(f"multipathd did not answer {command!r} within {seconds:.3g} s")

    def _failed(self, daemon: Daemon, reason: str) -> Told:
        self._told = dataclasses.replace(self._told, daemon=daemon, reason=reason)
        return self._told

    def _connect(self) -> None:
        failure: OSError = FileNotFoundError(errno.ENOENT, "no socket")
        for address in self._addresses:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                channel.connect(address)
            except OSError as error:
                channel.close()
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED) or not isinstance(failure, FileNotFoundError):
                    failure = error
                continue
            self._socket = channel
            return
        raise failure

    # Every generator here yields when it has to wait and time is up; the next reading goes on from there.

    def _ask_all(self) -> Generator[None, None, None]:
        about_paths = yield from self._ask(multipath.PATHS_COMMAND)
        about_maps = yield from self._ask(multipath.MAPS_COMMAND)
        if self._parsed is None or self._parsed[0] != (about_paths, about_maps):
            listed = self._paths.parse(_answer(about_paths))
            try:
                self._parsed = ((about_paths, about_maps), self._parser.parse(_answer(about_maps)), listed)
            except FormatError:
                raw = _answer((yield from self._ask(multipath.RAW_MAPS_COMMAND)))
                maps = multipath.parse_raw_maps(raw, listed)
                self._told = Told(Daemon.RUNNING, self._clock(), maps, listed)
                return
        _, maps, listed = self._parsed
        self._told = Told(Daemon.RUNNING, self._clock(), maps, listed)

    def _ask(self, command: str) -> Generator[None, None, bytearray]:
        yield from self._send(_request(command))
        (size,) = _LENGTH.unpack((yield from self._receive(_LENGTH.size)))
        if not 0 < size <= _LARGEST:
            raise MultipathdError(f"multipathd announces an answer of {size} bytes")
        return (yield from self._receive(size))

    def _send(self, data: bytes) -> Generator[None, None, None]:
        assert self._socket is not None
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                yield from self._wait(select.POLLOUT)

    def _receive(self, size: int) -> Generator[None, None, bytearray]:
        data = bytearray(size)
        left = memoryview(data)
        while left:
            assert self._socket is not None
            try:
                count = self._socket.recv_into(left)
            except BlockingIOError:
                yield from self._wait(select.POLLIN)
                continue
            if not count:
                raise MultipathdError("multipathd went away in the middle of an answer")
            left = left[count:]
        return data

    def _wait(self, event: int) -> Generator[None, None, None]:
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, event)
        while not poll.poll(max(self._until - self._monotonic(), 0) * 1000):
            yield

    def close(self) -> None:
        """Forgets the question that is under way."""
        self._round = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Multipathd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _request(command: str) -> bytes:
    data = command.encode("ascii") + b"\0"
    return _LENGTH.pack(len(data)) + data


def _answer(data: bytearray) -> str:
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    if text.startswith(("fail\n", "timeout")) or text in ("fail", "timeout"):
        reason = clean(text.removeprefix("fail\n").strip(), 120) or "no reason given"
        raise MultipathdError(f"multipathd refuses: {reason}")
    return text
