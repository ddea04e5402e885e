"""Which initiator an order goes to."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from initiator.errors import MooringError
from initiator.model import Portal, Source
from tests.tui import samples
from tui.cli import main
from tui.exits import Exit
from tui.via import Facts, choose, held_by_engine

HERE = Facts("", root=True)


@pytest.mark.parametrize(
    ("asked", "facts", "source", "why"),
    [
        (None, HERE, Source.KERNEL, "open-iscsi is here"),
        (None, HERE._replace(kernel_why_not="this kernel has no iSCSI"), Source.ENGINE, "this kernel has no iSCSI"),
        (None, HERE._replace(root=False), Source.ENGINE, "only root"),
        (None, HERE._replace(held="a session with this target"), Source.ENGINE, "holds a session with this target"),
        (None, HERE._replace(only_engine="--initiator"), Source.ENGINE, "--initiator"),
        ("engine", HERE, Source.ENGINE, "as asked for"),
        ("kernel", HERE._replace(held="a session with this target", root=False), Source.KERNEL, "as asked for"),
    ],
)
def test_who_does_it(asked: str | None, facts: Facts, source: Source, why: str) -> None:
    choice = choose(asked, facts)
    assert choice.source is source
    assert why in str(choice)


@pytest.mark.parametrize(
    ("facts", "code"),
    [(Facts("no iscsiadm", root=True), "no-open-iscsi"), (HERE._replace(only_engine="--initiator"), "bad-input")],
)
def test_the_kernel_is_never_replaced_in_silence(facts: Facts, code: str) -> None:
    with pytest.raises(MooringError) as caught:
        choose("kernel", facts)
    assert caught.value.code == code


def test_what_the_engine_holds() -> None:
    sessions = samples.practice().sessions
    harbour, here = f"{samples.IQN}:harbour", Portal("127.0.0.1")
    assert held_by_engine(sessions, harbour, None)
    assert held_by_engine(sessions, None, here)
    assert not held_by_engine(sessions, f"{samples.IQN}:elsewhere", here)
    assert not held_by_engine(sessions, None, Portal("127.0.0.1", 3261))
    assert not held_by_engine([dataclasses.replace(each, source=Source.KERNEL) for each in sessions], harbour, None)


def test_an_isns_server_is_not_asked_dry_and_by_nobody_else(
    own_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        where = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["discover", "--isns", where, "--dry-run", "--json"]) == Exit.DONE
        would = [f"ask the iSNS server {where} for its targets; nothing is kept of the answer"]
        assert json.loads(capsys.readouterr().out) == {"schema": 1, "dry_run": True, "would": would}
        for via in ("kernel", "engine"):
            assert main(["discover", "--isns", where, "--via", via]) == Exit.USAGE
            assert "--via is for a portal" in capsys.readouterr().err
        with pytest.raises(BlockingIOError):
            server.accept()
    assert list((own_folders / "state").iterdir()) == []
