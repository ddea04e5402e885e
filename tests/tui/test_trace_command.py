"""`mooring trace` of a login that is made for it: what it prints, and the file."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from initiator.practice.target import Target
from tests.practice.conftest import LOCKED, OPEN, target
from tui import cli
from tui.exits import Exit

__all__ = ["target"]


async def trace(target: Target, name: str, file: Path, *more: str) -> int:
    words = ["trace", name, "--portal", str(target.config.portals[0]).partition(",")[0], "--output", str(file), *more]
    return await asyncio.to_thread(cli.main, words)


async def test_a_login_is_told_and_kept(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "trace.pcapng"
    assert await trace(target, OPEN, file) == Exit.DONE
    said = capsys.readouterr()
    assert "-> security, on to operational: InitiatorName=" in said.out
    assert "agreed: HeaderDigest=CRC32C" in said.out
    assert "LUN 1: MOORING PRACTICE DISK" in said.out
    assert "wireshark -d tcp.port==" in said.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b"\x0a\x0d\x0d\x0a")
    assert await trace(target, OPEN, file) == Exit.USAGE
    assert "exists already" in capsys.readouterr().err


async def test_a_login_that_fails_is_kept_too(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, secret = tmp_path / "trace.pcapng", tmp_path / "secret"
    secret.write_text("a wrong secret, of course\n")
    secret.chmod(0o600)
    chap = ("--chap-user", "keeper", "--chap-secret-file", str(secret), "--json")
    assert await trace(target, LOCKED, file, *chap) == Exit.ERROR
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert answer["negotiation"][-2:][0] == "<- status 0x0201"
    assert (answer["packets"] > 8, answer["whole"], answer["units"]) == (True, True, [])
    assert b"CHAP_R=X" in file.read_bytes()
