"""The whole engine against Debian's tgtd: real sessions, a real block device, a real file system."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.engine.client import EngineError
from initiator.model import Disk
from tests.engine.engines import Engine, let_go, real_engine, wait_for
from tests.engine.test_worker import line_of, result_of, writer
from tests.tgtd import Tgtd, needs_tgtd

__all__ = ["real_engine"]
pytestmark = [pytest.mark.root, needs_tgtd]

TARGET = "iqn.2026-11.io.mooring.test:tgt"
SIZE = 32 << 20
FIO = ["fio", "--name=x", "--rw=randwrite", "--bs=16k", "--iodepth=8", "--size=8m", "--ioengine=libaio"]
VERIFY = ["--direct=1", "--loops=20", "--verify=crc32c", "--do_verify=1", "--verify_state_save=0", "--minimal"]
USER, SECRET = "mooring", "a secret of sixteen"


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    with Tgtd(tmp_path, hosts=("127.0.0.1", "127.0.0.2")) as found:
        yield found


def attach(engine: Engine, tgtd: Tgtd, name: str = "data", lun: int = 1, **more: Any) -> Disk:
    engine.client.ensure()
    portals = [str(portal) for portal in tgtd.portals]
    engine.call("attach", target=TARGET, lun=lun, portals=portals, name=name, **more)
    wait_for(lambda: engine.state(name) == "attached")
    found = engine.disk(name)
    assert found is not None
    return found


def states(engine: Engine) -> dict[str, tuple[str, int]]:
    """The disks by name. One is without a path for as long as its target does not answer in time."""
    return {disk.name: (disk.state.value, len(disk.paths)) for disk in engine.client.snapshot().disks}


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, (argv, done.stderr)


def test_from_discovery_to_the_last_byte_in_the_backing_file(real_engine: Engine, tgtd: Tgtd, tmp_path: Path) -> None:
    engine = real_engine
    tid = tgtd.add_target(TARGET, HeaderDigest="CRC32C", DataDigest="CRC32C")
    backing = tgtd.add_lun(tid, size=SIZE)
    tgtd.add_account(tid, USER, SECRET)
    chap: dict[str, Any] = {"chap_user": USER, "chap_secret": SECRET, "options": {"chap_algorithms": [5]}}
    engine.client.ensure()
    found = engine.call("discover", portal=str(tgtd.portal))
    assert [target["name"] for target in found["targets"]] == [TARGET]
    with pytest.raises(EngineError) as caught:
        engine.call("login", target=TARGET, portals=[str(tgtd.portal)], chap_user=USER, chap_secret="x" * 16)
    assert caught.value.code not in ("engine", "error")

    disk = attach(engine, tgtd, **chap)
    shown = engine.client.snapshot()
    assert (disk.size_bytes, disk.lun, disk.target, len(disk.paths)) == (SIZE, 1, TARGET, 2)
    assert all(session.negotiated["DataDigest"] == "CRC32C" for session in shown.sessions)
    assert all(session.chap_user == USER for session in shown.sessions)
    tcp = shown.sessions[0].connections[0].tcp
    assert tcp is not None
    assert tcp.state == "established"
    assert [(each.state.value, each.active, each.total) for each in shown.maps] == [("ok", 2, 2)]

    device, where = str(disk.device), tmp_path / "mnt"
    where.mkdir()
    run("mkfs.ext4", "-q", "-F", device)
    run("mount", device, str(where))
    data = os.urandom(5 << 20)
    try:
        (where / "data").write_bytes(data)
        run("sync", "-f", str(where / "data"))
        for session in shown.sessions:
            with pytest.raises(EngineError) as caught:
                engine.call("logout", session=session.id)
            assert caught.value.code == "attached"
    finally:
        run("umount", str(where))
    assert engine.call("flush", disk="data")["status"] == 0
    let_go(device)
    engine.call("offline", disk="data")
    for session in shown.sessions:
        engine.call("logout", session=session.id)
    assert tgtd.sessions(tid) == 0
    run("fsck.ext4", "-fn", str(backing))
    dumped = subprocess.run(["debugfs", "-R", "cat data", str(backing)], capture_output=True)
    assert hashlib.sha256(dumped.stdout).digest() == hashlib.sha256(data).digest()


def test_the_target_has_to_prove_itself_when_it_is_asked_to(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tid = tgtd.add_target(TARGET)
    tgtd.add_lun(tid, size=SIZE)
    tgtd.add_account(tid, USER, SECRET)
    tgtd.add_account(tid, "harbour", "a secret of the target", outgoing=True)
    engine.client.ensure()
    login: dict[str, Any] = {
        "target": TARGET,
        "portals": [str(tgtd.portal)],
        "chap_user": USER,
        "chap_secret": SECRET,
        "chap_target_user": "harbour",
        "options": {"chap_algorithms": [5]},
    }
    for bad, code in (({"chap_target_secret": "somebody else's one"}, "target-authentication"), ({}, "chap")):
        with pytest.raises(EngineError) as caught:
            engine.call("login", **login, **bad)
        assert caught.value.code == code
    found = engine.call("login", **login, chap_target_secret="a secret of the target")
    assert [session["state"] for session in found["sessions"]] == ["logged-in"]
    (session,) = engine.client.snapshot().sessions
    assert (session.chap_user, session.details["chap_user_in"]) == (USER, "harbour")
    log = (engine.client.runtime / "engine.log").read_text()
    assert "CHAP_N=harbour" in log
    assert "a secret" not in log


def test_a_session_of_a_worker_is_traced_while_its_disk_is_in_use(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    session = engine.client.snapshot().sessions[0]
    reader, pipe = os.pipe()
    try:
        engine.client.trace(session.id, pipe, 0.5, 1 << 30)
        with pytest.raises(EngineError, match="already"):
            engine.client.trace(session.id, pipe, 0.5, 1 << 30)
    finally:
        os.close(pipe)
    run("dd", f"of={disk.device}", "if=/dev/urandom", "bs=64k", "count=16", "oflag=direct", "status=none")
    with open(reader, "rb") as file:  # until the worker has closed its end
        data = file.read()
    assert data.startswith(b"\x0a\x0d\x0d\x0a")
    assert session.portal.port.to_bytes(2, "big") in data
    with pytest.raises(EngineError):
        engine.client.trace("engine:s:99", 0, 1.0, 1)
    assert all(each.reconnects == 0 for each in engine.client.snapshot().sessions)
    let_go(str(disk.device))


@pytest.mark.check(18)
def test_a_killed_worker_logs_in_again_with_the_same_isids(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tid = tgtd.add_target(TARGET)
    tgtd.add_lun(tid, size=SIZE)
    disk = attach(engine, tgtd)
    before = engine.client.snapshot()
    work = subprocess.Popen(
        [*FIO, *VERIFY, f"--filename={disk.device}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    stat = Path("/sys/block", os.path.basename(str(disk.device)), "stat")
    wait_for(lambda: int(stat.read_text().split()[4]) > 200, what="some writes")
    os.kill(engine.worker()["pid"], signal.SIGKILL)
    wait_for(lambda: engine.worker().get("replaced") == 1)
    _, err = work.communicate(timeout=45)
    assert (work.returncode, err) == (0, "")
    after = engine.client.snapshot()
    assert [each.isid for each in after.sessions] == [each.isid for each in before.sessions]
    wait_for(lambda: engine.state("data") == "attached", what="the second session leads to the disk again, too")
    assert tgtd.sessions(tid) == 2, "the old sessions were reinstated, not left behind"


def test_after_a_takeover_a_flush_admits_that_it_cannot_know(real_engine: Engine, tgtd: Tgtd) -> None:
    """tgt has a volatile cache and says "power on" to every new session: it may or may not have been restarted."""
    engine = real_engine
    tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    with open(str(disk.device), "r+b", buffering=0) as handle:
        os.pwrite(handle.fileno(), bytes(4096), 0)
        os.fsync(handle.fileno())
        os.pwrite(handle.fileno(), b"x" * 4096, 0)
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk.device}", "bs=4k", "count=4", "oflag=direct"], check=True)
        wait_for(lambda: (engine.disk("data") or disk).unflushed)
        os.kill(engine.worker()["pid"], signal.SIGKILL)
        wait_for(lambda: engine.worker().get("replaced") == 1)
        with pytest.raises(OSError, match="Input/output error"):
            os.fsync(handle.fileno())
        assert "may have lost writes" in engine.events()
        os.pwrite(handle.fileno(), b"y" * 4096, 0)
        os.fsync(handle.fileno())


def test_what_was_flushed_before_a_takeover_is_not_in_doubt(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    with open(str(disk.device), "r+b", buffering=0) as handle:
        os.pwrite(handle.fileno(), b"x" * 4096, 0)
        os.fsync(handle.fileno())
        os.kill(engine.worker()["pid"], signal.SIGKILL)
        wait_for(lambda: engine.worker().get("replaced") == 1)
        os.pwrite(handle.fileno(), b"y" * 4096, 0)
        os.fsync(handle.fileno())
    assert "may have lost writes" not in engine.events()


def test_a_target_that_restarts_under_a_disk_is_waited_for(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    backing = tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    tgtd.stop()
    wait_for(lambda: engine.state("data") == "no-path")
    read = subprocess.Popen(["dd", f"if={disk.device}", "of=/dev/null", "bs=64k", "count=4", "iflag=direct"], stderr=-3)
    tgtd.start()
    tgtd.add_lun(tgtd.add_target(TARGET), path=backing)
    assert read.wait(timeout=40) == 0
    wait_for(lambda: engine.state("data") == "attached")


def test_a_worker_is_replaced_while_the_target_restarts_and_does_not_know_itself_yet(
    real_engine: Engine, tgtd: Tgtd
) -> None:
    engine = real_engine
    backing = tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    tgtd.stop()
    tgtd.start()
    os.kill(engine.worker()["pid"], signal.SIGKILL)
    wait_for(lambda: "no session over" in engine.events(), what="a refusal")
    tgtd.add_lun(tgtd.add_target(TARGET), path=backing)
    wait_for(lambda: engine.worker().get("replaced") == 1, timeout=40.0)
    run("dd", f"if={disk.device}", "of=/dev/null", "bs=64k", "count=4", "iflag=direct", "status=none")
    assert engine.state("data") in ("attached", "degraded")


def test_two_disks_of_one_target_have_sessions_of_their_own(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tid = tgtd.add_target(TARGET)
    tgtd.add_lun(tid, 1, SIZE)
    tgtd.add_lun(tid, 2, SIZE)
    engine.client.ensure()
    portals = [str(portal) for portal in tgtd.portals]
    engine.call("login", target=TARGET, portals=portals)
    shown = engine.client.snapshot()
    assert [(disk.state.value, len(disk.paths)) for disk in shown.disks] == [("available", 2)] * 2
    engine.call("attach", target=TARGET, lun=1, name="one")
    wait_for(lambda: states(engine) == {"one": ("attached", 2), "tgt-lun2": ("available", 2)})
    engine.call("attach", target=TARGET, lun=2, name="two")
    wait_for(lambda: states(engine) == {"one": ("attached", 2), "two": ("attached", 2)})
    shown = engine.client.snapshot()
    assert len(shown.sessions) == 4
    assert len({session.isid for session in shown.sessions}) == 4
    assert len(shown.paths) == 4
    assert tgtd.sessions(tid) == 4


def test_a_read_only_attachment_cannot_be_written(real_engine: Engine, tgtd: Tgtd) -> None:
    backing = tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(real_engine, tgtd, read_only=True)
    assert disk.read_only
    with pytest.raises(OSError, match=r"Operation not permitted|Read-only"):
        Path(str(disk.device)).write_bytes(b"x" * 4096)
    assert not any(backing.read_bytes())


def test_a_lun_that_is_not_there_is_refused(real_engine: Engine, tgtd: Tgtd) -> None:
    tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    with pytest.raises(EngineError) as caught:
        attach(real_engine, tgtd, lun=9)
    assert caught.value.code not in ("engine", "outcome-unknown")
    assert real_engine.call("status")["workers"] == []
    assert list((real_engine.runtime / "disks").glob("*")) == []


def test_a_writer_never_notices_a_supervisor_or_a_path_that_went(real_engine: Engine, tgtd: Tgtd) -> None:
    engine = real_engine
    tgtd.add_lun(tgtd.add_target(TARGET), size=SIZE)
    disk = attach(engine, tgtd)
    work = writer(str(disk.device), 1024)
    line_of(work)
    old = engine.pid()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: engine.pid() != old and engine.worker())
    engine_session = engine.client.snapshot().sessions[0]
    peer = engine_session.connections[0]
    run("ss", "-K", "dst", str(peer.peer_host), "dport", "=", str(peer.peer_port), "sport", "=", str(peer.local_port))
    assert result_of(work) == (0, "same", "")
