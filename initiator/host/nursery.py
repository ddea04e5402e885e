"""The process that helpers are forked from: an interpreter takes longer to start than most of what they do.

It is started when the first helper is wanted, does nothing itself that could hang, and ends with the process that
started it. Its own side is `initiator.host.helper.nursery`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import marshal
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from initiator.host.helper import NURSERY

PATIENCE = 20.0
"""Seconds for a fork and, at first, the start of an interpreter: on an idle machine they take 30 ms."""


class Born:
    """A helper: a child of the nursery, so it is watched through a descriptor of the process (pidfd_open(2)).

    It has what `subprocess.Popen` has of the same names.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = handle

    def poll(self) -> int | None:
        """0 if it has ended, whatever its status, else None."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def kill(self) -> None:
        """End it, however it may be: through the descriptor, so that no other process can be hit."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            if not poll.poll(timeout * 1000):
                raise subprocess.TimeoutExpired("helper", timeout)
            os.close(self._handle)
            self.returncode = 0
        return self.returncode

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._handle)


class Nursery:
    """Forks helpers on order; by one thread at a time.

    Args:
        start: Starts its process, with the given descriptor as standard input.
    """

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._killed: list[subprocess.Popen[bytes]] = []
        """Those that have not ended yet: nobody is kept waiting for them, and they are collected later."""
        self._owes = False
        """Whether an answer is to come yet: it was too late for who had asked."""
        self._since = 0.0
        """When that was asked for."""
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def bear(self, channel: int, pass_fds: Sequence[int], deadline: float = PATIENCE) -> Born:
        """Fork a helper.

        Args:
            channel: The helper's end of what it talks through.
            pass_fds: Descriptors that it gets, with their numbers.
            deadline: Seconds it may take.

        Raises:
            TimeoutError: it was not enough. A helper that is forked afterwards ends once its channel is closed.
            OSError: there are too many processes, or the nursery does not answer.
        """
        until = time.monotonic() + deadline
        if not self._lock.acquire(timeout=max(deadline, 0.0)):
            raise TimeoutError("other helpers are waited for")
        try:
            return self._born(channel, pass_fds, until)
        finally:
            self._lock.release()

    def _born(self, channel: int, pass_fds: Sequence[int], until: float) -> Born:
        self._killed = [each for each in self._killed if each.poll() is None]
        try:
            return self._ask(channel, pass_fds, until)
        except TimeoutError:  # it may only be slow, and would be as slow again if it were started anew
            if self._owes and time.monotonic() - self._since > PATIENCE:
                self._end(0.0)
            raise
        except OSError:  # it was killed, perhaps for memory
            self._end(min(1.0, _left(until)))
            return self._ask(channel, pass_fds, until)

    def _ask(self, channel: int, pass_fds: Sequence[int], until: float) -> Born:
        if self._channel is None:
            mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                self._process = self._start(its.fileno())
            self._channel, self._owes = mine, False
        if self._owes:
            for handle in self._answer(self._channel, until)[2]:
                os.close(handle)
        handles = array.array("i", (channel, *pass_fds))
        request = marshal.dumps(tuple(pass_fds))
        self._channel.settimeout(_left(until))
        self._channel.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self._owes, self._since = True, time.monotonic()
        number, text, born = self._answer(self._channel, until)
        if not born:
            raise OSError(number, text)
        return Born(number, born[0])

    def _answer(self, channel: socket.socket, until: float) -> tuple[int, str, array.array[int]]:
        """A process id and a descriptor of the process; or an error's number and text, and none."""
        channel.settimeout(_left(until))
        born = array.array("i")
        answer, extra, _, _ = channel.recvmsg(4096, socket.CMSG_SPACE(born.itemsize), socket.MSG_CMSG_CLOEXEC)
        if not answer:
            raise ConnectionResetError("the parent of all helpers ended")
        self._owes = False
        number, text = marshal.loads(answer)
        for _, _, handles in extra:
            born.frombytes(handles)
        return number, text, born

    def close(self) -> None:
        """End the process; helpers go on until they are ended themselves."""
        with self._lock:
            self._end(1.0)

    def _end(self, patience: float) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:  # it holds the descriptors of what was asked of it
                self._process.kill()
                self._killed.append(self._process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.1)
            self._process = None

    def _forget(self) -> None:
        """A forked process needs its own: the answers to two would be mixed up."""
        self._lock = threading.Lock()
        if self._channel is not None:
            self._channel.close()
        self._channel = self._process = None


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def name_of(pid: int, proc: str = "/proc") -> str:
    """The short name of a process; empty if it is gone."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as text:
        return text.readline().strip()
    return ""


def children_of(pid: int, proc: str = "/proc") -> list[int]:
    """The children of a process; those of its nursery in place of the nursery.

    Raises:
        OSError: the process is gone.
    """
    found: list[int] = []
    with open(f"{proc}/{pid}/task/{pid}/children", encoding="ascii") as text:
        children = [int(each) for each in text.read().split()]
    for child in children:
        if name_of(child, proc) == NURSERY:
            with contextlib.suppress(OSError):
                found += children_of(child, proc)
        else:
            found.append(child)
    return found
