"""Children with a deadline, for everything that can hang in the kernel.

A call into a file system or device whose other end is gone can sleep uninterruptibly for ever. So such calls are
made by a child. When its time is up it is killed; one that does not die (D state) is left behind and reported
as `Stuck` with the kernel function it sleeps in. Either way nobody knows whether the operation happened.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Self

from initiator.errors import MooringError, OutcomeUnknownError
from initiator.host.nursery import PATIENCE, Born, Nursery, children_of
from initiator.names import clean

_PATIENCE = 0.2
"""Seconds that a killed child gets to die."""
_UNSCHEDULED = 2.0
"""Seconds at most that one gets which does not sleep in the kernel: a busy host has not let it run yet."""
_LARGEST_FRAME = 64 << 20
_ROOM_FOR_FDS = socket.CMSG_SPACE(253 * array.array("i").itemsize)
"""The kernel passes no more at once (SCM_MAX_FD)."""
_HERE = os.path.dirname(os.path.abspath(__file__))
_HELPER = f"import sys; sys.path.append({_HERE!r}); import helper; helper.nursery()"
"""`-c` and an import instead of the script, so that the compiled file is used."""
_left_behind: list[subprocess.Popen[bytes] | Born] = []


class Stuck(OutcomeUnknownError):  # noqa: N818 - says what happened
    """A child did not finish in its time; whether it did its work is not known.

    Attributes:
        pid: The child.
        wchan: The kernel function it slept in when its time was up, or an empty string.
        seconds: How long it was waited for.
        left_behind: True when it could not even be killed and still sleeps in the kernel.
    """

    code = "stuck"

    def __init__(self, what: str, pid: int, wchan: str, seconds: float, left_behind: bool) -> None:
        where = f" in {wchan}" if wchan else ""
        fate = "cannot be killed and was left behind" if left_behind else "was killed"
        super().__init__(
            f"{what} did not come back within {seconds:.3g} s; process {pid} hangs{where} and {fate}",
            fix="find out why the device does not answer; then look at the state again before going on",
        )
        self.pid = pid
        self.wchan = wchan
        self.seconds = seconds
        self.left_behind = left_behind


class CannotRun(MooringError):  # noqa: N818 - says what happened
    """A program cannot be started."""

    code = "cannot-run"


class HelperFailed(MooringError):  # noqa: N818 - says what happened
    """A helper's operation got an error from the kernel.

    Attributes:
        errno: The kernel's number.
        operation: The name of the operation.
    """

    code = "kernel-said-no"

    def __init__(self, operation: str, number: int, text: str) -> None:
        super().__init__(f"{operation}: {clean(text)} ({errno.errorcode.get(number, number)})")
        self.errno = number
        self.operation = operation


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class HelperResult:
    """What a helper's operation gave; the caller owns and closes the descriptors."""

    value: Any
    fds: tuple[int, ...] = ()


def run(
    argv: Sequence[str],
    deadline: float,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Runs a program to its end: no shell, C locale, own session, standard input from `input` or /dev/null.

    Args:
        argv: Program and arguments; secrets belong into `input`, never here.
        deadline: Seconds it may take.
        input: Text for its standard input.
        env: Variables on top of PATH, HOME and LC_ALL, which are all that it inherits.
        pass_fds: Descriptors it keeps, with their numbers.

    Raises:
        CannotRun: there is no such program, or it may not be run.
        Stuck: it did not finish; it was killed or left behind.
    """
    started = time.monotonic()
    child = _start(
        argv, subprocess.PIPE, subprocess.PIPE, subprocess.PIPE if input else subprocess.DEVNULL, pass_fds, env
    )
    try:
        out, err = child.communicate(None if input is None else input.encode(), timeout=deadline)
    except subprocess.TimeoutExpired:
        raise _give_up(child, argv[0], started) from None
    return Finished(child.returncode, _text(out), _text(err), time.monotonic() - started)


def run_helper(
    name: str, args: Mapping[str, Any], deadline: float, pass_fds: Sequence[int] = (), want_fds: int = 0
) -> HelperResult:
    """Does one registered operation of `initiator.host.helper` in a child of its own.

    Args:
        name: The operation.
        args: Its arguments: numbers, text, bytes, lists, dictionaries. A descriptor is given by its number and named in
            `pass_fds` too.
        deadline: Seconds it may take, start-up of the child included.
        pass_fds: Descriptors that the child gets, with their numbers.
        want_fds: How many descriptors the operation has to give.

    Raises:
        CannotRun: the child was not there in time; nothing was done.
        HelperFailed: the kernel said no; see its errno.
        Stuck: no answer in time.
    """
    with Helper(pass_fds) as helper:
        result = helper.call(name, args, deadline)
    if len(result.fds) != want_fds:
        close_all(result.fds)
        raise HelperFailed(name, errno.EPROTO, f"{len(result.fds)} descriptors came instead of {want_fds}")
    return result


class Helper:
    """One helper child that is kept for several operations.

    Not for use by several threads at once. After `Stuck` the child is gone and the next call starts another one.
    """

    def __init__(self, pass_fds: Sequence[int] = ()) -> None:
        self._pass_fds = tuple(pass_fds)
        self._child: Born | None = None
        self._channel: socket.socket | None = None
        self._received = bytearray()
        self._fds: list[int] = []

    def start(self, deadline: float = PATIENCE) -> None:
        """Starts the child, if there is none; `call` does so too, but an early start hides the start-up time.

        Raises:
            CannotRun: it was not there within `deadline` seconds, or there are too many processes.
        """
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with its:
            _reap()
            with contextlib.ExitStack() as failed:
                failed.callback(mine.close)
                try:
                    self._child = _nursery.bear(its.fileno(), self._pass_fds, deadline)
                except TimeoutError as error:
                    raise CannotRun(f"no helper process was there within {deadline:g} s", fix="try again") from error
                except OSError as error:
                    raise CannotRun(f"no helper process can be started: {error}") from error
                failed.pop_all()
        self._channel = mine
        self._received.clear()

    def call(self, name: str, args: Mapping[str, Any], deadline: float) -> HelperResult:
        """Does one operation; what it yields on the way becomes the list that is the result's value."""
        stream = self.stream(name, args, deadline)
        parts = []
        while True:
            try:
                parts.append(next(stream))
            except StopIteration as end:
                result: HelperResult = end.value
                return HelperResult(parts, result.fds) if parts else result

    def stream(
        self, name: str, args: Mapping[str, Any], deadline: float, *, each: bool = False
    ) -> Generator[Any, None, HelperResult]:
        """Does one operation and yields its parts as they come; returns its result.

        Args:
            name: The operation.
            args: Its arguments.
            deadline: Seconds.
            each: Whether `deadline` is for each part, not for the whole: a large or slow host needs longer than another
                one, but one part of it hangs anywhere.

        Raises:
            CannotRun: the child was not there in time; nothing was done.
            HelperFailed: the kernel said no.
            Stuck: the operation as a whole did not end within `deadline` seconds, or its next part did not come.
        """
        started = time.monotonic()
        self.start(deadline)
        finished = False
        try:
            self._send(marshal.dumps((name, dict(args))), name, started, deadline)
            while True:
                kind, value = self._frame(name, started, deadline)
                if kind == "more":
                    yield value
                    started = time.monotonic() if each else started
                    continue
                finished = True
                if kind == "error":
                    raise HelperFailed(name, *value)
                fds, self._fds = tuple(self._fds), []
                return HelperResult(value, fds)
        finally:
            if not finished:  # later answers would be taken for those of the next call
                self.close()

    def _send(self, request: bytes, name: str, started: float, deadline: float) -> None:
        assert self._channel is not None
        left = max(started + deadline - time.monotonic(), 0.001)
        self._channel.settimeout(left)
        try:
            self._channel.sendall(request)
        except TimeoutError:
            raise self._stuck(name, started) from None
        except OSError as error:
            self.close()
            raise HelperFailed(name, error.errno or errno.EPIPE, "the helper process ended early") from error

    def _frame(self, name: str, started: float, deadline: float) -> tuple[str, Any]:
        while (end := self._complete()) is None:
            left = started + deadline - time.monotonic()
            assert self._channel is not None
            if left <= 0 or not _readable(self._channel, left):
                raise self._stuck(name, started)
            # not socket.recv_fds, which drops its flags: a claim must never slip into a child that is started meanwhile
            data, extra, _, _ = self._channel.recvmsg(1 << 18, _ROOM_FOR_FDS, socket.MSG_CMSG_CLOEXEC)
            for level, kind, numbers in extra:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self._fds += array.array("i", numbers)
            if not data:
                self.close()
                raise HelperFailed(name, errno.EPIPE, "the helper process ended early")
            self._received += data
        kind, value = marshal.loads(self._received[4:end])
        del self._received[:end]
        return kind, value

    def _complete(self) -> int | None:
        if len(self._received) < 4:
            return None
        length = int.from_bytes(self._received[:4], "little")
        if length > _LARGEST_FRAME:
            raise HelperFailed("helper", errno.EPROTO, "an answer is too long")
        return 4 + length if len(self._received) >= 4 + length else None

    def _stuck(self, name: str, started: float) -> Stuck:
        child, self._child = self._child, None
        assert child is not None
        self.close()
        return _give_up(child, name, started)

    def close(self) -> None:
        """Ends the child; one that does not end is left behind."""
        close_all(self._fds)
        self._fds = []
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._child is not None:
            child, self._child = self._child, None
            try:
                child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                _give_up(child, "helper", time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def still_stuck(pid: int) -> bool:
    """Whether a child that `Stuck` reported is still there."""
    _reap()
    return any(child.pid == pid for child in _left_behind)


def where_it_sleeps(pid: int, proc: str = "/proc") -> str:
    """The kernel function in which a process sleeps; empty where the kernel does not tell.

    /proc/PID/stack needs root and tells more: its first line is the innermost function.
    """
    for name in ("stack", "wchan"):
        with contextlib.suppress(OSError), open(f"{proc}/{pid}/{name}") as text:
            line = text.readline().strip().removeprefix("[<0>] ").partition("+")[0]
            if line not in ("", "0"):
                return clean(line, 80)
    return ""


def waiting_children(pid: int, proc: str = "/proc") -> str:
    """What the children of a process wait for in the kernel, as a part of a sentence; empty where none does.

    Args:
        pid: The process, of this or another program.
        proc: Where procfs is.
    """
    with contextlib.suppress(OSError):
        found = [(each, where_it_sleeps(each, proc)) for each in children_of(pid, proc)]
        return ", ".join(f"process {child} in {where}" for child, where in found if where)
    return ""


def close_all(fds: Sequence[int]) -> None:
    """Closes descriptors; one that is closed already does not matter."""
    for handle in fds:
        with contextlib.suppress(OSError):
            os.close(handle)


def _start(
    argv: Sequence[str], stdout: int, stderr: int, stdin: int, pass_fds: Sequence[int], env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    _reap()
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            env={**_environment(), **(env or {})},
            cwd="/",  # a working folder would hold a mount
            start_new_session=True,
        )
    except OSError as error:
        raise CannotRun(
            f"{argv[0]} cannot be run: {error.strerror}", fix=f"install the package that has {argv[0]}"
        ) from error


def _open_nursery(channel: int) -> subprocess.Popen[bytes]:
    argv = (sys.executable, "-I", "-S", "-c", _HELPER)
    return _start(argv, subprocess.DEVNULL, subprocess.DEVNULL, channel, (), None)


_nursery = Nursery(_open_nursery)


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "")
    folders = [*path.split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    kept = ":".join(dict.fromkeys(folder for folder in folders if folder.startswith("/")))
    return {"PATH": kept, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C"}


def _give_up(child: subprocess.Popen[bytes] | Born, what: str, started: float) -> Stuck:
    sleeping = where_it_sleeps(child.pid)
    if isinstance(child, Born):  # it is in the group of the nursery
        child.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    if not _dies(child, min(time.monotonic() - started, _UNSCHEDULED)):
        _left_behind.append(child)
    return Stuck(what, child.pid, sleeping, round(time.monotonic() - started, 3), child.returncode is None)


def _dies(child: subprocess.Popen[bytes] | Born, seconds: float) -> bool:
    """Whether a killed child ends, within `seconds` if it may still do so; they are never more than it had to work."""
    until = time.monotonic() + seconds
    while True:
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            if _uninterruptible(child.pid) or time.monotonic() >= until:
                return False
        else:
            return True


def _uninterruptible(pid: int, proc: str = "/proc") -> bool:
    """Whether a process is in D state: one that SIGKILL has woken is not any more, though it may not have run yet."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/stat", errors="replace") as text:
        return text.read().rpartition(")")[2].split()[0] == "D"
    return False


def _reap() -> None:
    """Collects children that were left behind and have come back since."""
    _left_behind[:] = [child for child in _left_behind if child.poll() is None]


def _readable(channel: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
