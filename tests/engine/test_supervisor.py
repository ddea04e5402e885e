"""The engine as a whole: its life, its refusals, and that nothing of it is lost when its first process is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from initiator.engine import attach, attached
from initiator.engine.client import EngineError, EngineReport
from initiator.engine.report import from_json
from initiator.engine.rpc import SOCKET_NAME
from initiator.scsi.reservations import Claims
from tests.engine.engines import TARGET, Engine, engine, kept, let_go, wait_for
from tests.engine.test_worker import line_of, result_of, writer

__all__ = ["engine"]

SECRET = "a secret of sixteen"


def login(engine: Engine, *portals: str, **more: Any) -> Any:
    engine.client.ensure()
    options = {"medium": str(engine.medium), **more.pop("options", {})}
    return engine.call("login", target=more.pop("target", TARGET), portals=list(portals), options=options, **more)


def refused(engine: Engine, method: str, **params: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        engine.call(method, **params)
    return caught.value


def test_an_engine_comes_when_it_is_needed_and_goes_when_it_is_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORING_ENGINE_IDLE", "1.0")
    assert not engine.client.running()
    with kept(engine):
        first = engine.pid()
        engine.client.ensure()
        assert engine.pid() == first
    wait_for(lambda: not engine.client.running(), what="the idle engine ends")
    wait_for(lambda: not engine.processes())
    assert not (engine.runtime / SOCKET_NAME).exists()


def test_there_is_one_engine_in_a_folder(engine: Engine) -> None:
    engine.client.ensure()
    env = {**os.environ, "MOORING_RUNTIME_DIR": str(engine.runtime)}
    argv = [sys.executable, "-m", "initiator.engine.supervisor"]
    second = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20)
    assert second.returncode == 75
    assert "runs in this folder already" in second.stderr
    assert subprocess.run([*argv, "--detach"], env=env, capture_output=True, timeout=20).returncode == 0


def test_the_socket_is_for_its_owner_only(engine: Engine) -> None:
    engine.client.ensure()
    assert stat.S_IMODE(engine.client.socket_path.stat().st_mode) == 0o600


def test_garbage_ends_a_connection_and_not_the_engine(engine: Engine) -> None:
    engine.client.ensure()
    for garbage in (
        b"hello\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[1]\n",
        b'{"method":5,"id":1}\n',
        b'{"method":"x","fds":3}\n',
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5.0)
            connection.connect(str(engine.client.socket_path))
            connection.sendall(garbage)
            assert connection.recv(100) == b""
    assert engine.call("hello")


BAD_REQUESTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("weather", {}, "unknown-method"),
    ("login", {}, "bad-input"),
    ("login", {"target": "not a name", "portals": ["127.0.0.1"]}, "bad-input"),
    ("login", {"target": TARGET, "portals": ["1.2.3.400"]}, "bad-input"),
    ("login", {"target": TARGET, "portals": "127.0.0.1"}, "bad-input"),
    ("login", {"target": TARGET}, "bad-input"),
    ("login", {"target": TARGET, "portals": ["127.0.0.1"], "chap_user": "me"}, "chap"),
    ("login", {"target": TARGET, "portals": ["127.0.0.1"], "options": []}, "bad-input"),
    ("attach", {"target": TARGET, "lun": "0"}, "bad-input"),
    ("attach", {"target": TARGET, "lun": -1}, "bad-input"),
    ("attach", {"target": TARGET, "lun": True}, "bad-input"),
    ("attach", {"target": TARGET, "lun": 0}, "bad-input"),
    ("logout", {"session": "engine:s:99"}, "not-found"),
    ("logout", {}, "bad-input"),
    ("offline", {"disk": "none"}, "not-found"),
    ("cleanup", {"disk": "none"}, "not-found"),
    ("discover", {"portal": "127.0.0.1:1"}, None),
    ("adopt", {}, None),
]


def test_what_cannot_be_is_refused_with_a_reason(engine: Engine) -> None:
    engine.client.ensure()
    for method, params, code in BAD_REQUESTS:
        error = refused(engine, method, **params)
        assert code in (None, error.code), (method, params, str(error))
        assert str(error)
    assert engine.call("hello")


def test_sessions_come_and_go(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORING_ENGINE_IDLE", "1.0")
    with kept(engine):
        answer = login(engine, "127.0.0.1", "127.0.0.2:1")
        assert [each["portal"]["host"] for each in answer["sessions"]] == ["127.0.0.1"]
        assert [each["portal"]["host"] for each in answer["failed"]] == ["127.0.0.2"]
        again = login(engine, "127.0.0.1", "127.0.0.3")
        assert len({each["id"] for each in again["sessions"]}) == 2
        shown = engine.client.snapshot()
        assert len({each.isid for each in shown.sessions}) == 2
        assert [disk.state.value for disk in shown.disks] == ["available"]
        assert len(shown.disks[0].paths) == 2
        for session in shown.sessions:
            assert engine.call("logout", session=session.id)["state"] == "logged-out"
        assert engine.client.snapshot().disks == ()
    wait_for(lambda: not engine.client.running())


def test_who_else_has_a_disk_in_use_is_told(engine: Engine) -> None:
    login(engine, "127.0.0.1")
    disk = engine.client.snapshot().disks[0]
    answer = engine.call("claims", disk=disk.name)
    claims = from_json(Claims, answer["claims"])
    assert [each.key for each in claims.others(answer["initiator"])] == [0xA]
    assert refused(engine, "claims", disk="engine:d:nowhere").code == "not-found"


def test_no_portal_no_session(engine: Engine) -> None:
    engine.client.ensure()
    assert "no portal answers" in str(refused(engine, "login", target=TARGET, portals=["127.0.0.1:1"]))
    assert engine.call("status")["workers"] == []


@pytest.mark.check(18)
def test_a_worker_without_a_disk_is_replaced_too(engine: Engine) -> None:
    login(engine, "127.0.0.1")
    before = engine.client.snapshot().sessions
    os.kill(engine.worker()["pid"], signal.SIGKILL)
    wait_for(lambda: engine.worker().get("replaced") == 1)
    after = engine.client.snapshot().sessions
    assert [(each.id, each.isid) for each in before] == [(each.id, each.isid) for each in after]


@pytest.mark.check(86)
def test_secrets_stay_inside(engine: Engine) -> None:
    login(engine, "127.0.0.1", chap_user="me", chap_secret=SECRET)
    everything = [json.dumps(engine.call("status")), repr(engine.client.snapshot()), engine.log()]
    for process in engine.processes():
        everything.append(Path(f"/proc/{process}/cmdline").read_text())
        everything.append(Path(f"/proc/{process}/environ").read_text())
    for file in engine.runtime.iterdir():
        if file.is_file():
            everything.append(file.read_text())
    assert not any(SECRET in each for each in everything)


def test_stopping_logs_out_of_everything(engine: Engine) -> None:
    login(engine, "127.0.0.1")
    assert engine.call("stop") == {"stopping": True}
    wait_for(lambda: not engine.processes())


def test_a_signal_ends_an_engine_that_carries_no_disk(engine: Engine) -> None:
    login(engine, "127.0.0.1")
    os.kill(engine.pid(), signal.SIGTERM)
    wait_for(lambda: not engine.processes())


def test_a_socket_that_somebody_removed_comes_back(engine: Engine) -> None:
    login(engine, "127.0.0.1")
    before = engine.pid()
    (engine.runtime / SOCKET_NAME).unlink()
    wait_for(lambda: engine.pid() == before)
    assert "is there again" in engine.events()


# With a disk.


def identity(shown: EngineReport) -> Any:
    disks = [(disk.id, disk.name, disk.state, disk.device, disk.diskseq) for disk in shown.disks]
    return disks, [(session.id, session.isid) for session in shown.sessions]


@pytest.mark.root
def test_an_attached_disk_is_neither_stopped_nor_logged_out_nor_ended_by_a_signal(engine: Engine) -> None:
    device = engine.attach()
    session = engine.client.snapshot().sessions[0].id
    assert refused(engine, "stop").code == "attached"
    error = refused(engine, "logout", session=session)
    assert (error.code, error.fix) == ("attached", "mooring remove disk")
    error = refused(engine, "offline", disk="disk")
    assert (error.code, error.fix) == ("attached", "mooring remove disk")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for process in engine.processes():
            os.kill(process, number)
    wait_for(lambda: "SIGTERM is ignored: disk is attached" in engine.events())
    assert engine.worker()["replaced"] == 0
    assert Path(device).read_bytes() == engine.medium.read_bytes()


@pytest.mark.root
def test_one_disk_is_attached_once_and_names_are_unique(engine: Engine, tmp_path: Path) -> None:
    engine.attach("one")
    other = {"medium": str(tmp_path / "other"), "wwid": "naa.6000000000000001"}
    with_portal = {"target": TARGET, "lun": 0, "portals": ["127.0.0.9"]}
    assert refused(engine, "attach", **with_portal, name="two").code == "attached"
    assert refused(engine, "attach", **with_portal, name="one", options=other).code == "name-taken"
    assert refused(engine, "attach", **with_portal, name="a/b", options=other).code == "bad-input"
    assert refused(engine, "attach", **{**with_portal, "lun": 7}, options=other).code == "not-found"
    assert len(engine.call("status")["workers"]) == 1, "what was begun for a refused disk is taken back"
    second = engine.call("attach", **with_portal, options=other)
    assert second["name"] == "memory-lun0"
    assert [disk.state.value for disk in engine.client.snapshot().disks] == ["attached", "attached"]
    assert len({session.isid for session in engine.client.snapshot().sessions}) == 2


@pytest.mark.root
def test_offline_online_and_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORING_ENGINE_IDLE", "1.0")
    device = engine.attach()
    disk = engine.disk()
    assert disk is not None
    Path(device).write_bytes(b"kept" * 1024)
    let_go(device)
    evidence = engine.call("offline", disk=disk.id)["evidence"]
    assert any("not mounted" in line for line in evidence)
    assert any("SYNCHRONIZE CACHE: GOOD" in line for line in evidence)
    assert engine.state() == "offline"
    assert refused(engine, "stop").code == "attached"
    assert engine.call("offline", disk=disk.id)["evidence"] == ["disk is offline already"]
    again = engine.call("online", disk=disk.id)
    assert (again["id"], again["state"], again["name"]) == (disk.id, "attached", "disk")
    assert Path(again["device"]).read_bytes()[:4096] == b"kept" * 1024
    let_go(again["device"])
    engine.call("offline", disk="disk")
    with kept(engine):
        engine.call("logout", session=engine.client.snapshot().sessions[0].id)
        assert engine.client.snapshot().disks == ()
    wait_for(lambda: not engine.client.running())
    assert list((engine.runtime / "disks").iterdir()) == []


@pytest.mark.root
def test_an_offline_disk_stays_offline_when_its_worker_is_replaced(engine: Engine) -> None:
    device = engine.attach()
    let_go(device)
    engine.call("offline", disk="disk")
    os.kill(engine.worker()["pid"], signal.SIGKILL)
    wait_for(lambda: engine.worker().get("replaced") == 1)
    assert engine.state() == "offline"
    assert engine.call("online", disk="disk")["state"] == "attached"


@pytest.mark.root
def test_offline_refuses_while_the_file_is_open(engine: Engine) -> None:
    device = engine.attach()
    file = attached.backing_file(device)
    assert file is not None
    let_go(device)
    with open(file, "rb"):
        assert refused(engine, "offline", disk="disk").code == "busy"
        assert engine.state() == "attached"
    engine.call("offline", disk="disk")
    assert engine.state() == "offline"


@pytest.mark.root
def test_a_killed_supervisor_comes_back_and_no_byte_is_lost(engine: Engine) -> None:
    device = engine.attach(delay=0.0005)
    work = writer(device, 1024)
    line_of(work)
    before, worker = engine.client.snapshot(), engine.worker()["pid"]
    old = engine.pid()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: engine.pid() != old and engine.worker())
    assert engine.worker()["pid"] == worker, "the worker went on"
    wait_for(lambda: identity(engine.client.snapshot()) == identity(before), what="what the worker says of itself")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: engine.worker().get("replaced") == 1, what="the new supervisor can replace the worker")
    assert result_of(work) == (0, "same", "")
    assert refused(engine, "stop").code == "attached"


@pytest.mark.root
def test_what_a_dead_engine_left_is_recognised_and_taken_away(engine: Engine, tmp_path: Path) -> None:
    device = engine.attach()
    subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)
    where = tmp_path / "mnt"
    where.mkdir()
    subprocess.run(["mount", device, str(where)], check=True)
    for process in sorted(engine.processes()):
        os.kill(process, signal.SIGSTOP)
    for process in sorted(engine.processes()):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: not engine.processes())
    engine.client.ensure()
    dead = engine.disk()
    assert dead is not None
    assert (dead.state.value, dead.device, dead.target, dead.lun) == ("dead", device, TARGET, 0)
    assert refused(engine, "cleanup", disk="disk").code == "busy", "it is mounted still"
    assert engine.state() == "dead"
    subprocess.run(["umount", str(where)], check=True)
    evidence = engine.call("cleanup", disk="disk")["evidence"]
    assert any("no longer stands on" in line for line in evidence)
    assert engine.disk() is None
    assert attach.loops_of(str(engine.runtime / "disks/disk/disk")) == []
    assert engine.attach() != ""


@pytest.mark.root
def test_leftovers_without_a_list_are_found(engine: Engine) -> None:
    device = engine.attach()
    file = attached.backing_file(device)
    for process in sorted(engine.processes()):
        os.kill(process, signal.SIGSTOP)
    for process in sorted(engine.processes()):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: not engine.processes())
    (engine.runtime / attached.FILE_NAME).unlink()
    engine.client.ensure()
    dead = engine.disk()
    assert dead is not None
    assert (dead.state.value, dead.device) == ("dead", device)
    engine.call("cleanup", disk="disk")
    assert attached.backing_file(device) != file
    assert not (engine.runtime / "disks/disk").exists()


@pytest.mark.root
def test_a_frozen_worker_of_a_dead_engine_holds_nobody_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORING_ENGINE_ADOPTION", "0.5")
    engine.attach()
    worker, supervisor = engine.worker()["pid"], engine.pid()
    os.kill(worker, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not engine.client.running())
    engine.client.ensure()
    assert engine.state() in ("unknown", "dead")
    wait_for(lambda: engine.state() == "dead")
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    engine.client.ensure()
    engine.call("cleanup", disk="disk")
    assert engine.disk() is None
