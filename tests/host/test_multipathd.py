"""multipathd's socket: healthy, silent, late, garbling, dying in the middle, absent."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from initiator.host import multipathd
from initiator.host.multipathd import Daemon, Multipathd
from tests.host.fakemultipathd import MAP, PATH, FakeMultipathd, maps_json

PATHS = "3:0:0:0|sdb|8:16|active|running|ready|mpatha|0|ok|360014050000000000000000000000000\n"


class Clock:
    """Goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeMultipathd]:
    with FakeMultipathd(tmp_path, maps_json([MAP], [[[PATH]]]), PATHS) as daemon:
        yield daemon


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(tmp_path: Path, daemon: FakeMultipathd, clock: Clock) -> Iterator[Multipathd]:
    with Multipathd(tmp_path, clock) as client:
        yield client


def test_maps_and_paths(client: Multipathd, daemon: FakeMultipathd) -> None:
    told = client.read(5.0)
    assert (told.daemon, told.at, told.reason) == (Daemon.RUNNING, 1000.0, None)
    assert [each.name for each in told.maps] == ["mpatha"]
    assert [path.dev for path in told.listed] == ["sdb"]
    assert told.problems(1000.0) == ()
    assert client.read(5.0).maps[0] is told.maps[0]
    assert all(command.startswith("show ") for command in daemon.commands)


def test_nobody_listens(tmp_path: Path, client: Multipathd, daemon: FakeMultipathd) -> None:
    assert client.read(5.0).daemon is Daemon.RUNNING
    daemon.close()
    told = client.read(5.0)
    assert (told.daemon, told.at, told.maps, told.problems(0.0)) == (Daemon.ABSENT, None, (), ())
    (tmp_path / "run/multipathd.socket").unlink()
    assert client.read(5.0).daemon is Daemon.ABSENT


def test_silence_leaves_the_last_answer_with_its_age(client: Multipathd, daemon: FakeMultipathd, clock: Clock) -> None:
    before = client.read(5.0)
    daemon.answer = daemon.silent
    clock.now += 12
    told = client.read(0.01)
    assert told.daemon is Daemon.SILENT
    assert told.maps == before.maps
    (problem,) = told.problems(clock.now)
    assert (problem.source, problem.reason) == ("multipathd", "multipathd does not answer; its last answer is 12 s old")


def test_silence_from_the_beginning(client: Multipathd, daemon: FakeMultipathd) -> None:
    daemon.answer = daemon.silent
    told = client.read(0.01)
    assert (told.daemon, told.at, told.maps) == (Daemon.SILENT, None, ())
    assert "never" in told.problems(0.0)[0].reason


def test_a_late_answer_is_taken_up_by_a_later_reading(client: Multipathd, daemon: FakeMultipathd) -> None:
    daemon.answer = daemon.silent
    assert client.read(0.01).daemon is Daemon.SILENT
    asked = len(daemon.commands)
    daemon.release()
    assert client.read(5.0).daemon is Daemon.RUNNING
    assert daemon.commands[:asked] == daemon.commands[:1]
    assert len(daemon.commands) == 2


def test_a_question_without_an_answer_is_asked_again_in_the_end(tmp_path: Path, daemon: FakeMultipathd) -> None:
    monotonic = Clock()
    with Multipathd(tmp_path, monotonic=monotonic) as client:
        daemon.answer = daemon.silent
        monotonic.now += 1
        assert client.read(0.0).daemon is Daemon.SILENT
        monotonic.now += multipathd.GIVE_UP + 1
        assert client.read(0.0).daemon is Daemon.SILENT
        daemon.answer = daemon.usual
        assert client.read(5.0).daemon is Daemon.RUNNING


@pytest.mark.parametrize("cut", [0, 3, 8, 9, 60])
def test_death_in_the_middle_of_an_answer(client: Multipathd, daemon: FakeMultipathd, cut: int) -> None:
    before = client.read(5.0)
    daemon.cut = cut
    told = client.read(5.0)
    assert (told.daemon, told.maps, told.at) == (Daemon.BROKEN, before.maps, before.at)
    assert told.problems(0.0)
    daemon.cut = None
    assert client.read(5.0).daemon is Daemon.RUNNING


@pytest.mark.parametrize(
    "answer", [b"", b"\xff\xfe\0", b"fail\n", b"fail\ntimeout\n", b"timeout\n", b"a|b\n", b"hello " * 1000]
)
def test_garbage(client: Multipathd, daemon: FakeMultipathd, answer: bytes) -> None:
    daemon.answer = lambda command: answer
    told = client.read(5.0)
    assert told.daemon is Daemon.BROKEN
    assert told.problems(0.0)[0].reason


def test_broken_json_makes_it_ask_for_the_raw_format(client: Multipathd, daemon: FakeMultipathd) -> None:
    raw = b"mpatha|360014050000000000000000000000000|dm-0|12 chk|active|0|0|0|0\n"
    daemon.answer = lambda command: (
        raw if command.startswith("show maps raw") else b"{]" if "json" in command else PATHS.encode()
    )
    told = client.read(5.0)
    assert told.daemon is Daemon.RUNNING
    assert [(each.name, [path.dev for path in each.paths]) for each in told.maps] == [("mpatha", ["sdb"])]


@pytest.mark.parametrize("size", [0, 1 << 40, (32 << 20)])
def test_a_length_that_cannot_be(
    client: Multipathd, daemon: FakeMultipathd, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only what the daemon itself sees is replaced: the test runner packs with the same module.
    lying = SimpleNamespace(pack=lambda form, _: struct.pack(form, size), unpack=struct.unpack, error=struct.error)
    monkeypatch.setattr("tests.host.fakemultipathd.struct", lying)
    told = client.read(5.0)
    assert told.daemon is Daemon.BROKEN
    assert "bytes" in told.problems(0.0)[0].reason


def test_an_order_and_its_answer(client: Multipathd, daemon: FakeMultipathd) -> None:
    daemon.answer = lambda command: b"ok\n"
    assert client.order("del path sdb", 5.0) == "ok\n"
    assert daemon.commands == ["del path sdb"]
    daemon.answer = lambda command: b"fail\nmap or partition in use\n"
    with pytest.raises(multipathd.MultipathdError, match="in use"):
        client.order("del path sdb", 5.0)
    daemon.answer = daemon.silent
    with pytest.raises(multipathd.MultipathdError, match="did not answer"):
        client.order("del path sdb", 0.0)
    daemon.close()
    assert client.order("del path sdb", 5.0) is None
