"""What is probed of a host, what a measurement means, and the process that measures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from initiator.engine.prober import Found
from initiator.host.chaprecord import read_node
from initiator.model import Link, LinkState, Portal, Session, SessionState, Source
from initiator.probing import FRESH, KEPT, Probes, wanted, wrong
from tests import wiring
from tests.tgtd import Tgtd, needs_tgtd
from tests.until import until
from tests.wiring import link, session


def kernel(number: int, over: str | None, **more: object) -> Session:
    base = session(number, over, f"10.9.{number}.1", f"10.9.{number}.2")
    return dataclasses.replace(base, id=f"kernel:s:{number}", initiator="iqn.x:i", luns=(3, 1), **more)  # type: ignore[arg-type]


def test_each_session_of_the_kernel_is_probed_over_its_own_link() -> None:
    engine = dataclasses.replace(kernel(3, "eth1"), source=Source.ENGINE, id="engine:s:3")
    card = kernel(4, "eth1", details={"transport": "qla4xxx"})
    out = kernel(5, "eth1", state=SessionState.LOGGED_OUT)
    nameless = dataclasses.replace(kernel(6, "eth1"), initiator=None)
    local = kernel(
        7, "lo", details={"record": "/etc/iscsi/nodes/a, /var/lib/iscsi/nodes/a"}, portal=Portal("127.0.0.1", 3260, 1)
    )
    links = (link("eth1"), Link("link:lo", "lo", LinkState.UP, "loopback"))
    snapshot = wiring.host(links, (kernel(1, "eth1"), engine, card, out, nameless, local), ())
    one, lo = wanted(snapshot, Path("/host"))
    assert (one.session, one.portal, one.local, one.device, one.lun) == (
        "kernel:s:1",
        "10.9.1.2:3260",
        "10.9.1.1",
        "eth1",
        1,
    )
    assert one.state == "/host/sys/class/iscsi_session/session1/state"
    assert (lo.device, lo.portal, lo.record) == (None, "127.0.0.1:3260", "/etc/iscsi/nodes/a")
    (other, _) = wanted(snapshot, device="eth9")
    assert (other.device, other.local) == ("eth9", None)


@pytest.mark.parametrize(
    ("state", "reason", "age", "says"),
    [
        ("ok", None, 0.1, None),
        ("waiting", "x", 0.1, None),
        ("refused", "x", 0.1, None),
        ("silent", "for 0.6 s", 0.1, "a probe gets no answer: for 0.6 s"),
        ("silent", None, 0.1, "a probe gets no answer"),
        ("lost", "reset", 0.1, "a probe has lost the target: reset"),
        ("not-ready", "busy", 0.1, "not ready: busy"),
        ("lost", "reset", FRESH, None),
    ],
)
def test_what_a_measurement_finds_wrong(state: str, reason: str | None, age: float, says: str | None) -> None:
    found = {"kernel:s:1": Found(100.0 - age, "kernel:s:1", "p", state, reason)}
    assert wrong(found, 100.0) == ({"kernel:s:1": says} if says else {})


def test_credentials_of_a_record(tmp_path: Path) -> None:
    record = tmp_path / "default"
    assert read_node(str(record)) is None
    prefix = "node.session.auth"
    record.write_text(f"# BEGIN\n{prefix}.authmethod = None\n{prefix}.username = a\n{prefix}.password = b = c\n")
    assert read_node(str(record)) is None
    record.write_text(record.read_text().replace("None", "CHAP"))
    found = read_node(str(record))
    assert found is not None
    assert (found.user, found.secret, found.target_user) == ("a", "b = c", None)
    assert "b = c" not in repr(found)
    record.write_text(record.read_text() + f"{prefix}.username_in = t\n{prefix}.password_in = s\n")
    found = read_node(str(record))
    assert found is not None
    assert (found.target_user, found.target_secret) == ("t", "s")


@pytest.mark.root
@needs_tgtd
async def test_the_process_measures_until_it_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("LOGGED_IN\n")
    changes: list[int] = []
    heard: list[Found] = []
    with Tgtd(tmp_path) as tgtd:
        tgtd.add_lun(tgtd.add_target("iqn.x:y"), 1)
        over = kernel(1, None, portal=tgtd.portal, target="iqn.x:y")
        (asked,) = wanted(wiring.host((), (dataclasses.replace(over, connections=()),), ()))
        probes = Probes(lambda: changes.append(1), heard.append, interval=0.05)
        with probes:
            probes.want((dataclasses.replace(asked, state=str(state)),))
            await until(lambda: any(each.state == "ok" and each.rtt_us for each in heard), seconds=30)
            assert probes.found()["kernel:s:1"].state == "ok"
            assert probes.wrong() == {}
            count = len(changes)
            tgtd.stop()
            await until(lambda: probes.wrong() != {}, seconds=30)
            await until(lambda: len(changes) > count, what="the word that something changed")
            assert probes.wrong()["kernel:s:1"].startswith("a probe has lost the target")
            twin = dataclasses.replace(asked, state=str(state), session="kernel:s:2")
            probes.want((dataclasses.replace(asked, state=str(state)), twin))
            assert probes.recent()["kernel:s:2"] == ()
            before = len(probes.recent()["kernel:s:1"])
            assert 0 < before <= KEPT
            await until(lambda: bool(probes.recent()["kernel:s:2"]), seconds=30)
            (mine, *_) = probes.recent()["kernel:s:2"]
            assert (mine.session, mine.state) == ("kernel:s:2", probes.recent()["kernel:s:1"][-1].state)
            await until(lambda: set(probes.wrong()) == {"kernel:s:1", "kernel:s:2"}, seconds=30)
            probes.want(())
            assert probes.found() == {}
            assert probes.recent() == {}
        assert not os.path.exists(f"/proc/{probes._child.pid}")
