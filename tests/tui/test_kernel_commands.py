"""The commands on the kernel's sessions, over a scripted iscsiadm and a tree that it changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initiator import inventory
from initiator.engine.client import EngineClient
from initiator.engine.selector import SELECTORS
from initiator.host import openiscsi
from initiator.host.iscsi import SessionReader
from initiator.host.iscsiadm import Iscsiadm
from initiator.host.nodes import read_records
from tests.host.fakeiscsiadm import RECORD, TARGET, FakeIscsiadm
from tests.host.kerneltree import KernelTree
from tui.cli import build_parser, main
from tui.commands import common, kernel, sessions

SECRET = "sekret-of-harry-1"
Run = Callable[..., tuple[int, str, str]]


class Clock:
    """Time that passes where somebody sleeps, and at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


class Host:
    """A host in a folder, with the commands set upon it."""

    def __init__(self, tree: KernelTree, tool: FakeIscsiadm, capsys: pytest.CaptureFixture[str]) -> None:
        self.tree = tree
        self.tool = tool
        self._capsys = capsys

    def mooring(self, *words: str) -> tuple[int, str, str]:
        """One command: exit code, stdout, stderr."""
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        code, out, err = self.mooring(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def orders(self, word: str) -> list[list[str]]:
        return [call for call in self.tool.calls if word in call]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    tree = KernelTree(tmp_path / "host")
    tool, clock = FakeIscsiadm(tree), Clock()

    def orders() -> Iscsiadm:
        lock = tmp_path / "lock"
        return Iscsiadm(tree.root, tool, euid=0, sleep=clock.sleep, lock=lock, monotonic=clock.monotonic)

    monkeypatch.setattr(kernel, "Iscsiadm", orders)
    monkeypatch.setattr(kernel, "read_records", lambda: read_records(tree.root))
    monkeypatch.setattr(kernel, "SessionReader", lambda: SessionReader(tree.root))
    for module in (kernel, sessions):
        monkeypatch.setattr(module, "snapshot", lambda: inventory.read(tree.root))
    monkeypatch.setattr(kernel, "need_root", lambda what: None)
    monkeypatch.setattr(openiscsi, "why_not", lambda: "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sessions, "EngineClient", lambda: EngineClient(tmp_path / "engine"))
    return Host(tree, tool, capsys)


def test_discover_says_through_whom_and_what_is_new(host: Host) -> None:
    code, out, err = host.mooring("discover", "10.9.1.2")
    assert code == 0
    assert TARGET in out
    assert "10.9.1.2:3260, [fd09:1::2]:3260" in out
    assert "via the kernel's initiator (open-iscsi): open-iscsi is here" in err
    assert "2 new node records, start-up manual" in err
    again = host.json("discover", "10.9.1.2")
    assert (again["schema"], again["via"], again["new_records"]) == (1, "kernel", [])
    assert again["targets"] == [{"name": TARGET, "portals": ["10.9.1.2:3260", "[fd09:1::2]:3260"]}]


def test_login_without_a_portal_takes_the_records(host: Host) -> None:
    code, out, err = host.mooring("login", TARGET)
    assert (code, host.tool.calls) == (2, [])
    assert "no node record" in err
    host.tree.record(TARGET, "10.9.1.2,3260,1")
    code, out, err = host.mooring("login", TARGET)
    assert code == 0
    assert f"logged in to {TARGET} at 10.9.1.2:3260 (session 7)" in err
    assert f"Disks of {TARGET}" in out
    assert len(host.orders("--login")) == 1


def test_login_tells_new_sessions_from_old(host: Host) -> None:
    first = host.json("login", TARGET, "--portal", "10.9.1.2")
    assert first["sessions"] == [{"session": "kernel:s:7", "portal": "10.9.1.2:3260", "new": True}]
    host.tool.works, host.tool.code = False, 15
    code, _, err = host.mooring("login", TARGET, "--portal", "10.9.1.2")
    assert code == 0
    assert "logged in already" in err


def test_one_portal_that_fails_does_not_hide_the_other(host: Host) -> None:
    code, out, err = host.mooring("login", TARGET, "--portal", "10.9.1.2", "--portal", "10.9.7.7", "--json")
    found = json.loads(out)
    assert code == 1
    assert [each["portal"] for each in found["sessions"]] == ["10.9.1.2:3260"]
    assert [each["what"] for each in found["failed"]] == ["10.9.7.7:3260"]
    assert "login to" in err


def test_a_hanging_login_is_an_unknown_outcome(host: Host) -> None:
    host.tree.record(TARGET, "10.9.1.2,3260,1")
    host.tool.stuck = True
    code, _, err = host.mooring("login", TARGET)
    assert code == 6
    assert "process 4711" in err
    assert "iscsid may still try" in err


def test_the_chap_secret_comes_from_a_private_file(host: Host, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o644)
    words = ("login", TARGET, "--portal", "10.9.1.2", "--chap-user", "harry", "--chap-secret-file", str(secret))
    code, out, err = host.mooring(*words)
    assert (code, host.tool.calls) == (2, [])
    assert "can be read by others" in err
    secret.chmod(0o600)
    code, out, err = host.mooring(*words)
    assert code == 0
    assert f"node.session.auth.password = {SECRET}" in (host.tree.root / RECORD).read_text()
    assert SECRET not in out + err + repr(host.tool.calls)
    host.tool.works, host.tool.code = False, 24
    host.tree.vanish_session(7)
    code, out, err = host.mooring(*words)
    assert code == 1
    assert "wrong CHAP user or secret" in err
    assert SECRET not in out + err


def test_mutual_chap_has_two_secrets(host: Host, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for file, secret in ((ours, SECRET), (theirs, SECRET)):
        file.write_text(f"{secret}\n")
        file.chmod(0o600)
    mutual = ("--chap-target-user", "tgt", "--chap-target-secret-file", str(theirs))
    words = ("login", TARGET, "--portal", "10.9.1.2")
    both = (*words, "--chap-user", "harry", "--chap-secret-file", str(ours), *mutual)
    hashes = (*both[:8], "--chap-algorithms", "sha256", "--via", "engine")  # without md5
    for refused in ((*words, *mutual), both, (*both, "--via", "engine"), hashes):
        assert host.mooring(*refused)[0] == 2
    assert host.tool.calls == []
    theirs.write_text("secret-of-the-target\n")
    assert host.mooring(*both)[0] == 0
    text = (host.tree.root / RECORD).read_text()
    assert "node.session.auth.username_in = tgt\n" in text
    assert "node.session.auth.password_in = secret-of-the-target\n" in text


def test_an_option_of_the_engine_goes_to_the_engine(host: Host) -> None:
    words = ("login", TARGET, "--portal", "10.9.1.2", "--dry-run")
    for option in (("--selector", "failover"), ("--digests", "required"), ("--chap-algorithms", "md5")):
        _, _, err = host.mooring(*words, *option)
        assert f"{option[0]} is for it alone" in err
        assert host.mooring(*words, *option, "--via", "kernel")[0] == 2
    for name in SELECTORS:
        assert build_parser().parse_args(["login", TARGET, "--selector", name]).selector == name


def test_a_session_that_carries_a_disk_is_not_logged_out_and_the_removal_is_named(host: Host) -> None:
    host.tree.session(7)
    host.tree.lun(7, 0, kname="sda")
    host.tree.session(8, address="10.9.2.2")
    code, _, err = host.mooring("logout", TARGET)
    assert (code, host.tool.calls) == (3, []), "not even the empty one: all or nothing"
    name = inventory.read(host.tree.root).disks[0].name
    assert "carries" in err
    assert "/dev/sda" in err
    assert f"-> mooring remove {name}" in err


def test_an_empty_session_is_logged_out(host: Host) -> None:
    host.tree.session(7)
    host.tree.lun(7, 0, kind=12)
    host.tree.record(TARGET, "10.9.1.2,3260,1", **{"node.startup": "automatic"})
    assert host.json("logout", "kernel:s:7", "--dry-run")["would"]
    assert host.tool.calls == []
    code, out, err = host.mooring("logout", "kernel:s:7", "--json")
    assert code == 0
    assert json.loads(out) == {"schema": 1, "logged_out": ["kernel:s:7"]}
    assert f"mooring startup {TARGET} 10.9.1.2:3260 manual" in err
    assert host.mooring("logout", "kernel:s:7")[0] == 2


def test_logout_of_the_other_kind_is_no_logout(host: Host) -> None:
    host.tree.session(7)
    code, _, err = host.mooring("logout", TARGET, "--via", "engine")
    assert (code, host.tool.calls) == (2, [])
    assert "no session of the engine" in err


@pytest.mark.parametrize("place", [[], ["10.9.1.2"], ["10.9.1.2:3260"]])
def test_startup_with_and_without_a_portal(host: Host, place: list[str]) -> None:
    record = host.tree.record(TARGET, "10.9.1.2,3260,1")
    words = ("startup", TARGET, *place, "automatic")
    assert host.json(*words, "--dry-run")["would"] == [
        f"set node.startup of {TARGET} at 10.9.1.2:3260: manual -> automatic"
    ]
    assert host.json(*words)["records"] == [{"portal": "10.9.1.2:3260", "before": "manual", "after": "automatic"}]
    assert "node.startup = automatic" in record.read_text()


def test_startup_of_what_is_not_there(host: Host) -> None:
    assert host.mooring("startup", TARGET, "10.9.9.9", "manual")[0] == 2
    assert host.mooring("startup", TARGET, "sometimes")[0] == 2
    host.tree.record(TARGET, "10.9.1.2,3260,1")
    host.tool.works = False
    code, _, err = host.mooring("startup", TARGET, "automatic")
    assert code == 1
    assert "node.startup" in err


def test_rescan_of_a_session_tells_what_came_and_what_grew(host: Host) -> None:
    host.tree.session(7)
    host.tree.lun(7, 0, kname="sda")
    assert host.mooring("rescan", "kernel:s:7", "--dry-run")[0] == 0
    assert host.tool.calls == []
    code, out, _ = host.mooring("rescan", TARGET)
    assert code == 0
    assert "7:0:0:5" in out
    assert "256 MiB -> 512 MiB" in out
    host.tool.works = False
    assert host.json("rescan", TARGET)["sessions"] == [
        {"session": "kernel:s:7", "appeared": [], "vanished": [], "resized": []}
    ]


def test_records_and_their_sessions(host: Host) -> None:
    host.tree.record(TARGET, "10.9.1.2,3260,1", **{"node.session.auth.username": "harry"})
    host.tree.record(TARGET, "10.9.2.2,3260,1")
    host.tree.session(7)
    found = host.json("records")["records"]
    assert [(each["portal"], each["session"], each["chap_user"]) for each in found] == [
        ("10.9.1.2:3260", "kernel:s:7", "harry"),
        ("10.9.2.2:3260", None, None),
    ]
    _, out, _ = host.mooring("records")
    assert "two@10.9.1.2:3260" in out


def test_the_engine_is_taken_where_the_kernel_cannot(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openiscsi, "why_not", lambda: "this kernel has no iSCSI")
    code, _, err = host.mooring("login", TARGET, "--portal", "10.9.1.2", "--dry-run")
    assert code == 0
    assert "via Mooring's own engine: this kernel has no iSCSI" in err
    assert host.mooring("login", TARGET)[0] == 2
    assert host.mooring("login", TARGET, "--via", "kernel")[0] == 1
    assert host.tool.calls == []


def test_only_root_gives_orders_to_the_kernel(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "need_root", common.need_root)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (("rescan", "x"), ("startup", TARGET, "manual"), ("login", TARGET, "--via", "kernel")):
        assert host.mooring(*words)[0] == 5
