"""The engine's log stays short while processes go on writing to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator.engine.logfile import keep_short
from tests.engine.engines import Engine, engine, wait_for

__all__ = ["engine"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture
def writer(log: Path) -> Iterator[int]:
    """A descriptor as the engine's processes have it."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    yield handle
    os.close(handle)


def test_a_long_log_is_put_aside_and_its_writers_go_on(log: Path, writer: int) -> None:
    os.write(writer, b"early " * 100 + b"late  " * 100)
    keep_short(log, 600)
    os.write(writer, b"next")
    assert log.read_bytes() == b"next"
    old = log.with_name("engine.log.old")
    assert old.read_bytes() == b"late  " * 100
    assert old.stat().st_mode & 0o777 == 0o600
    os.write(writer, b"!" * 700)
    keep_short(log, 600)
    assert (log.read_bytes(), old.read_bytes()) == (b"", b"!" * 600)


def test_a_short_log_and_none_are_left_alone(log: Path, writer: int) -> None:
    os.write(writer, b"x" * 600)
    keep_short(log, 600)
    assert [path.name for path in log.parent.iterdir()] == ["engine.log"]
    log.unlink()
    keep_short(log, 0)
    assert list(log.parent.iterdir()) == []


def test_a_log_is_cut_also_where_no_copy_can_be_kept(log: Path, writer: int) -> None:
    os.write(writer, b"x" * 700)
    elsewhere = log.with_name("precious")
    elsewhere.write_text("precious")
    log.with_name("engine.log.old").symlink_to(elsewhere)
    keep_short(log, 600)
    assert log.read_bytes() == b""
    assert elsewhere.read_text() == "precious"


def test_a_running_engine_keeps_its_log_short(engine: Engine) -> None:
    engine.client.ensure()
    log = engine.runtime / "engine.log"
    with open(log, "ab") as flooding:
        flooding.write(b"a target goes on and on\n" * 300_000)
    wait_for(lambda: log.stat().st_size < 1 << 20, what="a short log")
    assert (engine.runtime / "engine.log.old").stat().st_size <= 4 << 20
    engine.call("stop")
    wait_for(lambda: "the engine ends" in engine.log(), what="its last word in the same file")
