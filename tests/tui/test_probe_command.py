"""`mooring probe NAME PORTAL` and `mooring watch --probes`: what is measured, and what may forbid it."""

from __future__ import annotations

import asyncio
import json
import pathlib
import signal
import subprocess
import sys

import pytest

from initiator.errors import BadInputError
from initiator.practice.target import Target
from tests.host.kerneltree import KernelTree, naa
from tests.practice.conftest import OPEN, target
from tests.tui import samples
from tui import cli, policy
from tui.commands import watching
from tui.exits import Exit
from tui.find import find_probed

__all__ = ["target"]

ARRAY = f"{samples.IQN}:harbour"
PROGRAM = """
import functools, pathlib, sys
from initiator import inventory
from initiator.probing import wanted
from tui import cli
from tui.commands import watching
root = pathlib.Path(sys.argv[1])
watching.snapshot = lambda: inventory.read(root)
watching.wanted = functools.partial(wanted, root=root)
sys.exit(cli.main(sys.argv[2:]))
"""
"""The command on a host in a folder."""


@pytest.mark.parametrize(
    ("name", "portal", "found"),
    [
        (ARRAY, None, ["kernel:s:1", "kernel:s:2"]),
        (ARRAY, "127.0.0.1:3260", ["kernel:s:1"]),
        (ARRAY, "127.0.0.2", ["kernel:s:2"]),
        ("127.0.0.2", None, ["kernel:s:2", "engine:s:vault-127.0.0.2"]),
        ("127.0.0.1:3260", None, ["kernel:s:1", "engine:s:vault-127.0.0.1"]),
        ("kernel:s:2", "127.0.0.2:3260", ["kernel:s:2"]),
    ],
)
def test_what_a_name_and_a_portal_mean(name: str, portal: str | None, found: list[str]) -> None:
    assert [each.id for each in find_probed(samples.kernel(), name, portal)] == found


@pytest.mark.parametrize(
    ("name", "portal", "told", "fix"),
    [
        (ARRAY, "127.0.0.1:3261", "has no session with 127.0.0.1:3261", "there is: 127.0.0.1:3260, 127.0.0.2:3260"),
        (ARRAY, "127.0.0.1:x", "is no portal", "write it like"),
        ("192.0.2.9", None, "no session is called '192.0.2.9'", "there is"),
    ],
)
def test_what_is_not_there_is_told_with_what_there_is(name: str, portal: str | None, told: str, fix: str) -> None:
    with pytest.raises(BadInputError, match=told) as raised:
        find_probed(samples.kernel(), name, portal)
    assert fix in raised.value.fix


async def test_one_portal_is_measured_until_it_is_interrupted(target: Target, tmp_path: pathlib.Path) -> None:
    tree = KernelTree(tmp_path / "host")
    for sid, portal in enumerate(target.config.portals, 7):
        tree.session(sid, target=OPEN, address=portal.host, local="127.0.0.1")
        for name in ("port", "persistent_port"):
            tree.attribute(f"iscsi_connection/connection{sid}:0/{name}", str(portal.port))
        tree.lun(sid, 0, kname=f"sd{'ab'[sid - 7]}", dev=f"8:{sid * 16}", digits=naa(1))
    place = str(target.config.portals[1])
    argv = ["-c", PROGRAM, str(tree.root), "probe", OPEN, place, "--json", "--interval", "0.05"]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *argv,
        stdout=subprocess.PIPE,
        # a shell that runs the tests in its background has them ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout is not None
    told: list[dict[str, object]] = []
    try:
        async with asyncio.timeout(60):
            while not any(each["state"] == "ok" and each["rtt_us"] and each["ready_us"] for each in told):
                line = await child.stdout.readline()
                assert line, "it ended"
                told.append(json.loads(line))
            (session,) = target.server.sessions.values()
            assert session.port is target.server.portals[1].port
            child.send_signal(signal.SIGINT)
            assert await child.wait() == Exit.DONE
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert {(each["schema"], each["target"], each["portal"], each["session"]) for each in told} == {
        (1, OPEN, place, "kernel:s:8")
    }


# --- what forbids it ----------------------------------------------------------------------------------------------


@pytest.fixture
def forbidden(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that forbids logins."""
    (tmp_path / "policy.toml").write_text('[forbid]\nlogin = "Ask the network team."\n')
    monkeypatch.setattr(policy, "FILE", tmp_path / "policy.toml")


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("words", [("probe",), ("probe", "x", "192.0.2.1"), ("watch", "--probes", "--for", "0")])
def test_a_policy_that_forbids_logins_forbids_probes(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert cli.main(words) == Exit.NOT_PERMITTED
    assert "“probe” (a part of “login”) is not allowed here: Ask the network team." in capsys.readouterr().err


def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Settings that want probes."""
    (tmp_path / "config.toml").write_text("[probes]\non = true\n")
    monkeypatch.setenv("MOORING_CONFIG_DIR", str(tmp_path))


@pytest.mark.usefixtures("forbidden")
def test_what_the_settings_want_is_not_begun_against_the_policy(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(monkeypatch, tmp_path)
    with watching._probes(watching.settings_in_force(), asked=False, read_only=False) as probes:
        assert probes is None
    assert "the settings want probes, but: “probe” (a part of “login”) is not allowed" in capsys.readouterr().err


def test_nor_where_nothing_may_be_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(monkeypatch, tmp_path)
    with watching._probes(watching.settings_in_force(), asked=False, read_only=True) as probes:
        assert probes is None
    assert "the settings want probes, but: probes log in to targets" in capsys.readouterr().err
    assert cli.main(["--read-only", "watch", "--probes", "--for", "0"]) == Exit.NOT_PERMITTED
    with watching._probes(watching.settings_in_force(), asked=False, read_only=False) as probes:
        assert probes is not None
