"""The engine's part of the model goes through JSON without loss, and nothing unsound comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from initiator.engine import report
from initiator.engine.attached import Attachment, Route, Unit, WorkerConfig
from initiator.engine.report import EngineReport, ReportError
from initiator.model import (
    Connection,
    Disk,
    DiskState,
    Event,
    Map,
    MapState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Severity,
    Source,
    TcpInfo,
)


def full() -> EngineReport:
    connection = Connection("engine:c:1", "a - b", "up", 0, "::1", 4000, "::1", 3260, "CRC32C", "None", TcpInfo("x", 5))
    session = Session(
        "engine:s:1",
        "t@[::1]:3260",
        SessionState.LOGGED_IN,
        Source.ENGINE,
        "iqn.2026-11.io.mooring:t",
        Portal("::1", 3260, 1),
        connections=(connection,),
        negotiated={"MaxBurstLength": "262144"},
        luns=(0, 1),
    )
    disk = Disk("engine:d:1", "t", DiskState.DEGRADED, Source.ENGINE, None, 1 << 40, paths=("engine:p:1:0",), lun=0)
    path = Path("engine:p:1:0", "p", PathState.STANDBY, disk.id, session.id, latency_us=3.5, since=1.0)
    joined = Map("engine:m:1", "t", MapState.OK, Source.ENGINE, None, "/dev/loop0", disk.id, (path.id,), 1, 1)
    return EngineReport(5.0, (session,), (disk,), (path,), (joined,), (Event(1.0, "engine", "x", "y", Severity.BAD),))


def test_a_report_comes_back_as_it_was() -> None:
    assert report.from_json(EngineReport, json.loads(json.dumps(report.to_json(full())))) == full()


def test_a_configuration_comes_back_but_its_secret_is_not_shown() -> None:
    route = Route(3, Portal("192.0.2.1"), "80aabbcc0003")
    config = WorkerConfig(
        1, "iqn.2026-11.io.mooring:t", "iqn.x:y", (route,), "me", "a secret of 16 b", {"digests": "none"}
    )
    assert report.from_json(WorkerConfig, json.loads(json.dumps(report.to_json(config)))) == config
    assert "a secret" not in repr(config)


def test_an_attachment_comes_back() -> None:
    unit = Unit(0, "naa.6", ("naa.6", "t10.x"), 1 << 30, 4096, True, None, False, "V", "P", "1", "s")
    attachment = Attachment("engine:d:naa.6", "data", "iqn.x:y", unit, "/run/x", "/run/x/data", "0:44", worker=7)
    assert report.from_json(Attachment, json.loads(json.dumps(report.to_json(attachment)))) == attachment


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"disks": 5}, "disks is not a list"),
        ({"disks": [5]}, "disks is not an object"),
        ({"disks": [{}]}, "missing"),
        ({"taken_at": "now"}, "taken_at is not a float"),
        ({"taken_at": True}, "taken_at is not a float"),
        ({"sessions": [{"state": "happy"}]}, "no SessionState"),
        ({"sessions": [{"negotiated": []}]}, "negotiated is not an object"),
        ({"sessions": [{"tsih": "1"}]}, "tsih is not a int"),
    ],
)
def test_what_is_unsound_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ReportError, match=named):
        report.from_json(EngineReport, {"taken_at": 1.0, **change})


def test_keys_of_a_newer_engine_are_ignored() -> None:
    assert report.from_json(EngineReport, {"taken_at": 1, "weather": "fine"}) == EngineReport(1.0)
