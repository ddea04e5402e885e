"""`mooring isns …` and `discover --isns` against Debian's isnsd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.protocol import isns, isns_nodes
from initiator.protocol.isns import Function
from tests.engine.test_isns import MAIL, US, asking, target
from tests.isnsd import Isnsd, needs_isnsd
from tests.until import until
from tui.cli import main
from tui.exits import Exit

pytestmark = needs_isnsd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with Isnsd(tmp_path) as isnsd:
        yield str(isnsd.portal)


def tell(server: str, function: Function, payload: bytes) -> None:
    """What a target tells the server."""

    async def work() -> None:
        async with asking(isns_portal(server)) as client:
            await client.ask(function, payload, "x")

    asyncio.run(work())


def isns_portal(server: str) -> Any:
    from initiator.names import parse_portal

    return parse_portal(server, isns.DEFAULT_PORT)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def mooring(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = run(capsys, *words, "--initiator", US, "--json")
    assert code == 0, err
    return json.loads(out)


def test_register_discover_show_and_deregister(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    tell(server, Function.REGISTER, target(MAIL, "array1", "10.9.1.2"))
    done = mooring(capsys, "isns", "register", server, "--alias", "host seven")
    assert (done["name"], done["period_s"]) == (US, 600)
    found = mooring(capsys, "discover", "--isns", server)
    assert found["targets"] == [{"name": MAIL, "portals": ["10.9.1.2:3260"]}]
    assert (found["schema"], found["via"], found["server"], found["skipped"]) == (1, "isns", server, 0)
    _, out, _ = run(capsys, "discover", "--isns", server, "--initiator", US)
    assert MAIL in out
    assert "10.9.1.2:3260" in out
    shown = mooring(capsys, "isns", "show", server)
    assert {(node["name"], node["type"], node["alias"]) for node in shown["nodes"]} == {
        (MAIL, "target", "Mail store"),
        (US, "initiator", "host seven"),
    }
    _, out, _ = run(capsys, "isns", "show", server, "--initiator", US)
    assert "10.9.1.2:3260,1" in out
    assert mooring(capsys, "isns", "deregister", server)["entity"] == done["entity"]
    code, _, err = run(capsys, "isns", "deregister", server, "--initiator", US)
    assert (code, "was not registered" in err) == (0, True)


def test_a_server_that_shows_nothing_says_so_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Isnsd(tmp_path, domain=False) as isnsd:
        tell(str(isnsd.portal), Function.REGISTER, target(MAIL, "array1", "10.9.1.2"))
        code, out, err = run(capsys, "discover", "--isns", str(isnsd.portal), "--initiator", US)
    assert (code, out) == (0, f"Targets at {isnsd.portal}: none\n")
    assert "same discovery domain only" in err
    assert f"mooring isns register {isnsd.portal}" in err


def test_to_register_again_renews_the_same_entity(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = mooring(capsys, "isns", "register", server)
    assert mooring(capsys, "isns", "register", server)["entity"] == first["entity"]


def test_a_portal_and_a_server_are_two_questions(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("discover",), ("discover", "10.9.1.2", "--isns", "10.9.1.3")):
        code, _, err = run(capsys, *words)
        assert (code, "one of the two" in err) == (2, True)


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "isns", "show", "127.0.0.1:1", "--initiator", US)
    assert (code, out) == (1, "")
    assert "127.0.0.1:1: Connection refused" in err
    assert "3205" in err


def begin_watch(server: str) -> subprocess.Popen[str]:
    """`mooring isns watch`, once it is registered."""
    words = ["isns", "watch", server, "--initiator", US, "--json"]
    watch = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # whoever runs the tests in a shell's background has it ignored, and so would the child
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert watch.stderr is not None
    assert "notifications come to 127.0.0.1:" in watch.stderr.readline()
    return watch


def test_a_watch_tells_of_changes_and_leaves_nothing_behind(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with begin_watch(server) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        tell(server, Function.REGISTER, target(MAIL, "array1", "10.9.1.2"))
        told = json.loads(watch.stdout.readline())
        assert (told["schema"], told["name"]) == (1, MAIL)
        assert "added" in told["event"]
        tell(server, Function.DEREGISTER, isns_nodes.deregister_entity(MAIL, "array1"))
        assert json.loads(watch.stdout.readline())["event"] == "removed"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0, watch.stderr.read()
    assert mooring(capsys, "isns", "deregister", server)["entity"] is None


async def test_a_second_ctrl_c_tells_that_the_registration_may_have_stayed(tmp_path: Path) -> None:
    with Isnsd(tmp_path) as isnsd, begin_watch(str(isnsd.portal)) as watch:
        isnsd.freeze()
        watch.send_signal(signal.SIGINT)
        await until(lambda: isnsd.unread, seconds=30, what="the question of a watch that takes itself back")
        watch.send_signal(signal.SIGINT)
        _, told = watch.communicate(timeout=20)
    assert watch.returncode == Exit.UNKNOWN
    assert f"interrupted: whether {isnsd.portal} still has the registration of this watch is not known" in told
    assert f"mooring isns show {isnsd.portal}" in told
    assert "Traceback" not in told


def test_a_watch_whose_time_is_up_leaves_nothing_behind(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "isns", "watch", server, "--initiator", US, "--for", "0.1")
    assert (code, out) == (0, "")
    assert f"registered at {server} as {US}" in err
    assert mooring(capsys, "isns", "deregister", server)["entity"] is None
