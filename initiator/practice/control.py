"""How others speak to a running practice target: JSON lines over its control socket, blocking and time-limited.

Requests and answers have the form that every Mooring socket uses: `{"id":1,"method":"fault","params":{...}}` and
`{"id":1,"result":...}` or `{"id":1,"error":{"code":…,"message":…,"fix":…}}`.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from initiator.errors import MooringError, OutcomeUnknownError

LINE_LIMIT = 16 << 20
"""Longest line in bytes, both ways."""


class PracticeError(MooringError):
    """The practice target refused, with the code that it gave."""

    code = "practice"


class NotRunningError(PracticeError):
    """No practice target listens on the control socket."""

    code = "practice-not-running"
    fix = "mooring practice --headless"


def ask(path: Path, method: str, timeout: float = 5.0, **params: Any) -> Any:
    """Call one method of the practice target and return its result.

    Args:
        path: The control socket.
        method: `status`, `faults`, `fault` or `stop`.
        timeout: Seconds for the whole exchange.

    Raises:
        NotRunningError: nobody listens there.
        OutcomeUnknownError: the request was sent and no answer came in time.
        PracticeError: the target says no.
    """
    deadline = time.monotonic() + timeout
    line = json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError(f"no practice range is running ({path}: {error.strerror})") from error
        except OSError as error:
            raise NotRunningError(f"{path}: {error.strerror or error}") from error
        try:
            connection.sendall(line)
            answer = _read_line(connection, deadline)
        except OSError as error:
            raise OutcomeUnknownError(f"the practice target did not answer {method!r}: {error}") from error
    return _result(answer, method)


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(65536)
        if not piece or len(line) > LINE_LIMIT:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        line += piece
    return bytes(line)


def _result(line: bytes, method: str) -> Any:
    try:
        answer = json.loads(line)
        error = answer.get("error")
    except (ValueError, AttributeError) as problem:
        raise OutcomeUnknownError(f"the practice target answered {method!r} with something unreadable") from problem
    if error is not None:
        raise PracticeError(str(error["message"]), code=str(error["code"]), fix=str(error.get("fix", "")))
    return answer.get("result")
