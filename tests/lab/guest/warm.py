"""A Mooring that is started already: `warm.py` imports everything once and forks for each order.

Under emulation the start of Python and its imports take longer than the work. An order is one line of JSON on a
connection to port 977 of the guest's own loopback interface, its answer another one: what was printed, and the exit
code (negative: the signal that ended it). Orders:

    {"do": "mooring", "words": [...]}                      a command of Mooring
    {"do": "plan", "names": [...], ...}                    a plan, written into a new journal; prints its path
    {"do": "run" | "resume" | "undo", "journal": PATH}     the runner's work on it
    {"do": "write", "file": PATH, "pieces": [[OFFSET, LENGTH, SEED, SYNC], ...]}    what `random.Random(SEED)` gives

A runner may be told where to end (`"die": [STEP, MARK, "before" | "after"]`, `"die_after": SECONDS`), or where to stop
(`"pause": [...]`): the answer comes then, with its process, and what became of it is in `/run/warm/PID` afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import psutil  # noqa: F401 - imported late, as the ones below, by whoever needs it
import pyroute2  # noqa: F401

import tui.cli
import tui.commands.kernel
import tui.commands.reading
import tui.commands.removal
import tui.commands.sessions
from initiator.engine.client import EngineClient
from initiator.errors import MooringError, RefusedError
from safety import (
    effects_kernel,  # noqa: F401
    evidence_kernel,  # noqa: F401
)
from safety import journal as journal_
from safety.effects import Host
from safety.journal import Journal, Kind, Record
from safety.places import journal_dir, new_journal
from safety.plan import Options
from safety.prepare import prepare
from safety.runner import work, write_plan
from safety.work import Secrets
from tui.find import find_scope

PORT = 977
ENDED = Path("/run/warm")


def main() -> None:
    """Serve for ever."""
    ENDED.mkdir(exist_ok=True)
    listener = socket.create_server(("127.0.0.1", PORT), backlog=32)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                serve(connection)
            finally:
                os._exit(0)
        connection.close()


def serve(connection: socket.socket) -> None:
    """One order: a child obeys, this process waits for it."""
    order = json.loads(connection.makefile().readline())
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            connection.close()
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            guarded(order)
        result = wait(child, order)
        answer(connection, result, out, err)
        if "stopped" in result:
            _, status = os.waitpid(child, 0)
            result = {"code": os.waitstatus_to_exitcode(status)}
            kept = ENDED / f"{child}.new"
            with kept.open("w") as file:
                json.dump(result | texts(out, err), file)
            kept.rename(ENDED / str(child))


def wait(child: int, order: dict[str, Any]) -> dict[str, Any]:
    """How a child ended, or that it stopped itself; one that is to die at a moment is killed then."""
    end = time.monotonic() + order["timeout"]
    due = time.monotonic() + order["die_after"] if "die_after" in order else end
    while True:
        found, status = os.waitpid(child, os.WUNTRACED | os.WNOHANG)
        if found and os.WIFSTOPPED(status):
            return {"code": 0, "stopped": child}
        if found:
            return {"code": os.waitstatus_to_exitcode(status)}
        now = time.monotonic()
        if now > min(due, end):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": -9, "late": now > end}
        time.sleep(0.02)


def answer(connection: socket.socket, result: dict[str, Any], out: Any, err: Any) -> None:
    """One line; nobody may be listening any more."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(result | texts(out, err)).encode() + b"\n")
    connection.close()


def texts(out: Any, err: Any) -> dict[str, str]:
    """What was printed until now."""
    sys.stdout.flush()
    files = {"out": out, "err": err}
    return {name: os.pread(file.fileno(), 1 << 26, 0).decode("utf-8", "replace") for name, file in files.items()}


def guarded(order: dict[str, Any]) -> NoReturn:
    """Obey and end; every error becomes a text and an exit code."""
    code = 1
    try:
        code = obey(order)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except MooringError as error:
        print(f"{error.code}: {error} {error.fix}", file=sys.stderr)
        code = 3 if isinstance(error, RefusedError) else 4
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def obey(order: dict[str, Any]) -> int:
    """One order; gives an exit code."""
    if order["do"] == "mooring":
        return tui.cli.main(order["words"])
    if order["do"] == "plan":
        return plan(order)
    if order["do"] == "write":
        return write(order["file"], order["pieces"])
    arm(order)
    path = Path(order["journal"])
    return work(
        path,
        order["do"],
        lambda place: Host(EngineClient(), place),
        secrets=Secrets(order.get("secret")),
        open_journal=lambda place: Mortal.open(place, boot=journal_.boot_id()),
    )


def plan(order: dict[str, Any]) -> int:
    """As `mooring remove` does before it starts the runner."""
    options = Options(**order.get("options", {}))
    made = prepare(lambda found: find_scope(found, order["names"]), EngineClient(), options)
    if made.blocked:
        print(json.dumps(made.to_json()))
        return 3
    path = new_journal(journal_dir(), made.digest, time.time())
    with Journal.create(path, boot=journal_.boot_id()) as journal:
        write_plan(journal, made)
    print(json.dumps({"journal": str(path), **made.to_json()}))
    return 0


def write(file: str, pieces: list[tuple[int, int, int, bool]]) -> int:
    """What is written counts as acknowledged: some of it was synced, the rest is for the removal to write back."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    for offset, length, seed, sync in pieces:
        if os.pwrite(fd, random.Random(seed).randbytes(length), offset) != length:
            return 1
        if sync:
            os.fsync(fd)
    os.close(fd)
    return 0


class Mortal(Journal):
    """Ends or stops the process at its record."""

    due: tuple[str, str, str] | None = None
    signal = signal.SIGKILL

    def append(self, kind: Kind, text: str = "", **more: Any) -> Record:
        """As the journal does, until it is time."""
        here = (more.get("step"), str(more.get("mark")))
        if self.due == (*here, "before"):
            os.kill(os.getpid(), self.signal)
        record = super().append(kind, text, **more)
        if self.due == (*here, "after"):
            os.kill(os.getpid(), self.signal)
        return record


def arm(order: dict[str, Any]) -> None:
    """Where a runner ends or stops."""
    for word, number in (("die", signal.SIGKILL), ("pause", signal.SIGSTOP)):
        if word in order:
            Mortal.due, Mortal.signal = tuple(order[word]), number


if __name__ == "__main__":
    main()
