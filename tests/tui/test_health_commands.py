"""`mooring path`, `mooring lose` and the health that `list` and `show` tell: lines and JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from initiator.chain import chain_of
from initiator.errors import BadInputError
from initiator.fabric import Fabric, Neighbour, Route, TargetPort
from initiator.health import assess
from initiator.losses import losses
from initiator.model import Path, PathState, Snapshot, TcpInfo
from tests import wiring
from tests.wiring import session
from tui.cli import main
from tui.commands import health as commands
from tui.commands import reading
from tui.exits import Exit
from tui.healthtext import Rates, chain_json, chain_lines, health_json, health_lines, rates, ways_line


def whole() -> tuple[Snapshot, Fabric]:
    """A host of which everything is known."""
    snapshot, fabric = wiring.two_links()
    tcp = TcpInfo("established", 210, 40, 204_000, 3, 0, 120, 900_000_000, 10, 0)
    counted = dataclasses.replace(
        snapshot.paths[0], reads=10, writes=5, read_bytes=40_960, write_bytes=20_480, errors=1, timeouts=0, in_flight=2,
        latency_us=420.0, group=1, priority=50,
    )  # fmt: skip
    snapshot = wiring.changed(snapshot, session(1, "eth1", "10.9.1.1", "10.9.1.2", tcp=tcp), counted)
    fabric = dataclasses.replace(
        fabric,
        routes={("10.9.1.1", "10.9.1.2"): Route("eth1", None, "10.9.1.1")},
        neighbours={"eth1": Neighbour("02:01", "left", "Gi0/1")},
        ports={"p0": TargetPort(1, 3)},
    )
    return snapshot, fabric


def test_a_chain_for_a_person_names_every_link_of_it() -> None:
    snapshot, fabric = whole()
    chain = chain_of(snapshot.paths[0], snapshot, fabric)
    judgement = assess(snapshot, fabric).judgements["p0"]
    done = Rates(2.0, 100.0, 50.0, 409_600.0, 204_800.0, 420.0)
    lines = chain_lines(chain, judgement, done, {"aborts": 2})
    text = "\n".join(lines)
    assert lines[0] == "Path two@10.9.1.2 lun 0: ok, it works"
    for word in (
        "map       d1", "service-time 0", "priority 50", "target port group 1, port 3", "/dev/sda",
        "100 reads/s 400 KiB/s", "50 writes/s 200 KiB/s", "420 us", "2 in flight", "1 errors", "2 aborts",
        "session   two@10.9.1.2", "round trip 210 us (varies by 40 us)", "3 segments sent again",
        "last received 120 ms ago", "link      eth1, up", "10000 Mb/s", "full duplex", "MTU 9000",
        "route     through eth1, direct, 10.9.1.1, 10.9.1.0/24", "switch    left, Gi0/1",
    ):  # fmt: skip
        assert word in text, word


def test_what_is_not_known_is_named_and_a_stray_path_still_told() -> None:
    snapshot, _ = wiring.two_links()
    bare = chain_lines(chain_of(snapshot.paths[0], snapshot), None, None, {})
    assert bare[0].endswith(": not judged")
    assert bare[-1] == "  not known network, switch"
    stray = dataclasses.replace(snapshot.paths[0], session="gone")
    assert "  session   not known" in chain_lines(chain_of(stray, snapshot), None, None, {})


def test_a_chain_for_a_program() -> None:
    snapshot, fabric = whole()
    chain = chain_of(snapshot.paths[0], snapshot, fabric)
    told = json.loads(json.dumps(chain_json(chain, assess(snapshot, fabric).judgements["p0"], {"rates": None})))
    assert told["lane"]["tcp"]["rtt_us"] == 210
    assert told["lane"]["way"][0]["name"] == "eth1"
    assert told["lane"]["footings"][0] == ["portal", "10.9.1.2:3260"]
    assert (told["health"]["verdict"], told["rates"]) == ("ok", None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reads": 30, "read_bytes": 122_880}, (10.0, 0.0, 40_960.0, 0.0)),
        ({"reads": 3}, None),
        ({"reads": None}, None),
    ],
)
def test_rates_of_two_readings(change: dict[str, int], expected: tuple[float, ...] | None) -> None:
    before = whole()[0].paths[0]
    after: Path = dataclasses.replace(before, **change)  # type: ignore[arg-type]
    done = rates(before, after, 2.0)
    assert (None if done is None else (done.reads_s, done.writes_s, done.read_bytes_s, done.write_bytes_s)) == expected
    assert rates(before, before, 0.0) is None


def test_health_for_a_person_tells_the_worst_first() -> None:
    snapshot, fabric = whole()
    assert health_lines(assess(snapshot, fabric)) == ["Health: everything that was judged is ok"]
    broken = wiring.changed(snapshot, dataclasses.replace(snapshot.paths[1], state=PathState.FAILED))
    lines = health_lines(assess(broken, fabric))
    assert lines[0] == "Health: 2 not ok"
    assert lines[1].split() == ["down", "path", "two@10.9.2.2", "lun", "0:", "it", "is", "failed"]
    assert "disk d1: only one of its 2 paths works" in lines[2]
    assert ways_line(assess(broken, fabric).ways["d1"]) == ("1 of 2 paths work, 1 independent")


def test_health_for_a_program_has_every_verdict_and_every_loss() -> None:
    snapshot, fabric = whole()
    told = json.loads(json.dumps(health_json(assess(snapshot, fabric), losses(snapshot, fabric))))
    assert {each["subject"] for each in told["judgements"]} == {"p0", "p1", "d1", "md1", "link:eth1", "link:eth2"}
    assert told["ways"]["d1"]["independent"] == 2
    assert any(
        each["text"] == "If link eth1 is lost, you lose no disk; d1 keeps 1 of 2 paths." for each in told["losses"]
    )


# --- the commands ---


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """The commands read this host instead of the real one."""
    snapshot, fabric = whole()
    monkeypatch.setattr(commands, "_look_twice", lambda interval: (snapshot, snapshot, fabric, interval))
    monkeypatch.setattr(commands, "_counts", lambda session: {"aborts": 0})
    monkeypatch.setattr(reading, "snapshot", lambda: snapshot)
    monkeypatch.setattr(reading, "_fabric", lambda found: fabric)
    return snapshot


@pytest.mark.parametrize("name", ["p0", "/dev/sda", "sda", "two@10.9.1.2 lun 0"])
def test_a_path_by_any_of_its_names(known: Snapshot, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["path", name]) == Exit.DONE
    out = capsys.readouterr().out
    assert out.count("Path ") == 1
    assert "Disk d1: ok, 2 of 2 paths work, 2 independent; not known: switch" in out


@pytest.mark.parametrize("name", ["d1", "md1", "two", wiring.TARGET])
def test_all_paths_of_a_disk_or_target(known: Snapshot, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["path", name, "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert [each["path"]["id"] for each in told["paths"]] == ["p0", "p1"]
    assert (told["schema"], told["paths"][0]["session_counters"]) == (1, {"aborts": 0})
    assert told["paths"][0]["rates"]["reads_s"] == 0.0


def test_names_of_nothing_and_wrong_times(known: Snapshot) -> None:
    assert main(["path", "d7"]) == Exit.USAGE
    assert main(["path", "d1", "--interval", "-1"]) == Exit.USAGE
    assert main(["lose", "eth9"]) == Exit.USAGE
    with pytest.raises(BadInputError) as raised:
        commands._named(losses(known), "eth9")
    assert "eth1" in raised.value.fix
    with pytest.raises(BadInputError, match="nobody knows through which link these go: two"):
        commands._named(losses(known), "eth9", ("two@10.9.1.9",))


def test_what_is_lost_with_one_thing_and_with_each(known: Snapshot, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lose", "eth1"]) == Exit.DONE
    assert capsys.readouterr().out == "If link eth1 is lost, you lose no disk; d1 keeps 1 of 2 paths.\n"
    assert main(["lose", "left"]) == Exit.DONE
    assert capsys.readouterr().out == "If switch left (02:01) is lost, you lose no disk; d1 keeps 1 of 2 paths.\n"
    assert main(["lose", "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert {(each["kind"], each["name"]) for each in told["losses"]} >= {
        ("link", "eth1"), ("link", "eth2"), ("portal", "10.9.1.2:3260"),
    }  # fmt: skip


def test_list_and_show_tell_health_too(known: Snapshot, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == Exit.DONE
    assert json.loads(capsys.readouterr().out)["health"]["ways"]["d1"]["independent"] == 2
    assert main(["list"]) == Exit.DONE
    assert capsys.readouterr().out.endswith("Health: everything that was judged is ok\n")
    assert main(["show", "eth1", "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["health"]["verdict"] == "ok"
    assert told["if_lost"] == ["If link eth1 is lost, you lose no disk; d1 keeps 1 of 2 paths."]
    assert main(["show", "d1"]) == Exit.DONE
    assert "independent: 2" in capsys.readouterr().out
