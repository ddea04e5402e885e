"""The blocking client, against sockets that behave well and badly."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.engine import rpc
from initiator.engine.client import EngineClient, EngineError, EngineNotRunning, EngineSilent, start
from initiator.engine.report import EngineReport, ReportError

Play = Callable[[socket.socket, dict[str, Any]], None]


@pytest.fixture
def runtime(own_folders: Path) -> Path:
    return own_folders / "runtime"


@pytest.fixture
def play(runtime: Path) -> Iterator[Callable[[Play], EngineClient]]:
    """A socket whose answers are the test's, and a client of it."""
    listener = socket.socket(socket.AF_UNIX)
    threads: list[threading.Thread] = []

    def begin(answer: Play) -> EngineClient:
        listener.bind(str(runtime / rpc.SOCKET_NAME))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                request = json.loads(connection.recv(1 << 16))
                answer(connection, request)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        return EngineClient(runtime, timeout=10.0)

    yield begin
    for thread in threads:
        thread.join(5.0)
    listener.close()


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def test_without_an_engine_nothing_is_waited_for(runtime: Path) -> None:
    client = EngineClient(runtime)
    assert not client.running()
    with pytest.raises(EngineNotRunning) as caught:
        client.snapshot()
    assert (caught.value.code, caught.value.fix[:3]) == ("not-running", "it ")


def test_a_socket_without_a_listener_is_no_engine(runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(runtime / rpc.SOCKET_NAME))
    assert not EngineClient(runtime).running()


def test_an_answer_may_come_in_pieces_and_after_others(play: Callable[[Play], EngineClient]) -> None:
    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        assert (request["method"], request["params"]) == ("login", {"target": "t"})
        send(connection, {"id": 99, "result": "not this"})
        line = json.dumps({"id": 1, "result": {"sessions": ["ä"]}}).encode() + b"\n"
        for at in range(len(line)):
            connection.sendall(line[at : at + 1])

    assert play(answer).call("login", target="t") == {"sessions": ["ä"]}


def test_an_error_is_raised_as_it_was_sent(play: Callable[[Play], EngineClient]) -> None:
    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        send(connection, {"id": 1, "error": {"code": "attached", "message": "no", "fix": "mooring remove x"}})

    with pytest.raises(EngineError, match="no") as caught:
        play(answer).call("stop")
    assert (caught.value.code, caught.value.fix) == ("attached", "mooring remove x")


def test_silence_is_an_unknown_outcome_and_ends_in_time(play: Callable[[Play], EngineClient]) -> None:
    done = threading.Event()

    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        done.wait(5.0)

    began = time.monotonic()
    with pytest.raises(EngineSilent) as caught:
        play(answer).call("offline", timeout=0.3, disk="x")
    done.set()
    assert caught.value.code == "outcome-unknown"
    assert time.monotonic() - began < 3.0


def test_a_trickle_of_bytes_does_not_extend_the_time(play: Callable[[Play], EngineClient]) -> None:
    done = threading.Event()

    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        while not done.wait(0.02):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    began = time.monotonic()
    with pytest.raises(EngineSilent):
        play(answer).call("offline", timeout=0.3, disk="x")
    done.set()
    assert time.monotonic() - began < 3.0


def test_an_engine_that_dies_leaves_the_outcome_unknown(play: Callable[[Play], EngineClient]) -> None:
    with pytest.raises(EngineSilent, match="ended before it answered"):
        play(lambda connection, request: connection.close()).call("attach")


@pytest.mark.parametrize("line", [b"garbage\n", b"[1]\n", b'{"id":1}\n'])
def test_what_is_no_answer_is_an_error(play: Callable[[Play], EngineClient], line: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        play(lambda connection, request: connection.sendall(line)).call("hello")
    assert caught.value.code == "bad-message"


def test_a_report_of_another_version_is_refused(play: Callable[[Play], EngineClient]) -> None:
    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        send(connection, {"id": 1, "result": {"taken_at": 1.0, "disks": [{"shape": "round"}]}})

    with pytest.raises(ReportError) as caught:
        play(answer).snapshot()
    assert "mooring engine status" in caught.value.fix


def test_a_report_is_made_of_model_objects(play: Callable[[Play], EngineClient]) -> None:
    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        send(connection, {"id": 1, "result": {"taken_at": 1.0}})

    assert play(answer).snapshot() == EngineReport(1.0)


def test_an_engine_that_cannot_start_says_where_its_log_is(runtime: Path) -> None:
    with pytest.raises(EngineNotRunning, match="ended while it started") as caught:
        start(runtime, "tests.engine.no_such_module")
    assert str(runtime / "engine.log") in caught.value.fix
    assert "no_such_module" in (runtime / "engine.log").read_text()


def test_the_command_line_pays_for_no_event_loop() -> None:
    code = "import initiator.engine.client, sys; print([m for m in ('asyncio', 'subprocess') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
