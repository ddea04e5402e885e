"""systemd's units as `systemctl show` prints them, and sockets that really listen."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from initiator.host import services
from initiator.host.run import Finished
from initiator.host.services import Listener, ServicesError

UNITS = """Id=open-iscsi.service
Before=shutdown.target remote-fs-pre.target
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Id=iscsi.service
LoadState=not-found
ActiveState=inactive
UnitFileState=

Id=multipathd.service
Before=
LoadState=loaded
ActiveState=active
UnitFileState=disabled
"""
MOUNTS = """Where=/mnt/data
After=system.slice remote-fs-pre.target

Where=/
After=
"""


def systemctl(answers: dict[str, Finished]) -> Callable[..., Finished]:
    def run(argv: Sequence[str], deadline: float) -> Finished:
        assert argv[:2] == ["systemctl", "show"]
        assert deadline <= 10
        return answers["mounts" if "*.mount" in argv else "units"]

    return run


def test_units_and_what_mounts_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"units": Finished(0, UNITS, "", 0.1), "mounts": Finished(0, MOUNTS, "", 0.1)}
    monkeypatch.setattr(services, "run", systemctl(answers))
    units, after = services.read_units()
    assert {name: unit.enabled for name, unit in units.items()} == {
        "open-iscsi.service": "enabled",
        "multipathd.service": "disabled",
    }
    assert "remote-fs-pre.target" in units["open-iscsi.service"].before
    assert after == {"/mnt/data": frozenset({"system.slice", "remote-fs-pre.target"}), "/": frozenset()}


def test_a_host_without_systemd_is_not_a_host_without_units(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Finished(1, "", "System has not been booted with systemd\n", 0.1)
    monkeypatch.setattr(services, "run", systemctl({"units": refusal}))
    with pytest.raises(ServicesError, match="not been booted with systemd"):
        services.read_units()


def test_a_socket_that_listens_and_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port, silent = server.getsockname()[1], bound.getsockname()[1]
        found = services.read_listeners()
    mine = next(each for each in found if each.port == port)
    assert mine == Listener("127.0.0.1", port, mine.program)
    assert mine.program is None or mine.program in Path(f"/proc/{os.getpid()}/comm").read_text()
    assert silent not in {each.port for each in found}
