"""JSON lines over a Unix socket: what the engine, its workers and its clients say to each other.

A message is one JSON object on one line of at most 16 MiB. A request has `id`, `method`, `params`; its answer has the
same `id` and either `result` or `error` (`code`, `message`, `fix`); a message without `id` is a note that nobody
answers. A message that carries file descriptors says how many in `fds`, and they arrive with its first bytes
(SCM_RIGHTS). Nothing here imports asyncio: the command line stands on it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from initiator.errors import MooringError

MAX_LINE = 16 << 20
"""Longest line that is sent or accepted, in bytes."""

SOCKET_NAME = "engine.sock"

Message = dict[str, Any]


class EngineError(MooringError):
    """The engine refused or failed; `code` and `fix` are the engine's own."""

    code = "engine"


class EngineNotRunning(EngineError):  # noqa: N818 - named as the state that it is
    """There is no engine to ask."""

    code = "not-running"
    fix = "it is started by the first login, for example: mooring login PORTAL"


class EngineSilent(EngineError):  # noqa: N818 - named as the state that it is
    """The engine did not answer in time, so that the outcome is not known."""

    code = "outcome-unknown"


class FormatError(EngineError):
    """The other side sent something that is not a message."""

    code = "bad-message"


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as a line.

    Raises:
        FormatError: the line would be longer than MAX_LINE.
    """
    line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise FormatError(f"a message of {len(line)} bytes is longer than the {MAX_LINE} that one line may have")
    return line


def decode(line: bytes | bytearray) -> Message:
    """The message of one line.

    Raises:
        FormatError: it is not a JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"a line is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FormatError("a line is not a JSON object")
    return message


class Lines:
    """Cuts a byte stream into messages."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they came and give the messages they complete.

        Raises:
            FormatError: a line is too long or no message; the stream is of no use afterwards.
        """
        searched = len(self._rest)
        self._rest += data
        start = 0
        while (end := self._rest.find(b"\n", max(start, searched))) >= 0:
            yield decode(self._rest[start:end])
            start = end + 1
        del self._rest[:start]
        if len(self._rest) > self._limit:
            raise FormatError(f"a line is longer than {self._limit} bytes")


def request(number: int, method: str, params: Mapping[str, Any]) -> Message:
    """A request that wants an answer."""
    return {"id": number, "method": method, "params": dict(params)}


def result(number: int, value: Any) -> Message:
    """The good answer to a request."""
    return {"id": number, "result": value}


def failure(number: int, error: MooringError) -> Message:
    """The bad answer to a request: the error's code, text and way out, and nothing of where it happened."""
    return {"id": number, "error": {"code": error.code, "message": str(error), "fix": error.fix}}


def unwrap(answer: Message) -> Any:
    """The value of an answer.

    Raises:
        EngineError: the answer is an error; it has the other side's code, message and fix.
        FormatError: it is neither.
    """
    error = answer.get("error")
    if isinstance(error, dict):
        text = str(error.get("message", "the engine failed without a reason"))
        raise EngineError(text, code=str(error.get("code", "engine")), fix=str(error.get("fix", "")))
    if "result" not in answer:
        raise FormatError("an answer has neither a result nor an error")
    return answer["result"]


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the process at the other end, as the kernel noted them when it connected."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", packed)
    return pid, uid


def trusted(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as root or as this process's own user."""
    return peer(connection)[1] in (0, os.geteuid())
