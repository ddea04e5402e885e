"""What the dashboard's reader makes of a reading, and how it gets to the screen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from initiator.alerts import Alert
from initiator.fabric import EMPTY, Fabric
from initiator.host.kmsg import Log, News
from initiator.judgement import Verdict
from initiator.model import PathState, Snapshot
from tests import wiring
from tui.config import Alerts, Config, Probes
from tui.feed import UNJUDGED, Judged, Mailbox
from tui.judging import FabricLater, Judge


def silent() -> News:
    """No log of a kernel."""

    def closed() -> Log:
        raise PermissionError(1, "Operation not permitted")

    return News(0.0, closed)


def failed(snapshot: Snapshot) -> Snapshot:
    return wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], state=PathState.FAILED))


def test_a_reading_is_judged_and_what_got_worse_is_an_alert_and_an_event() -> None:
    snapshot, fabric = wiring.two_links()
    steps = iter([snapshot, failed(snapshot)])
    settings = Config(alerts=Alerts(raise_s=0.000_001))
    judge = Judge(lambda: next(steps), settings, lambda _: fabric, silent())
    first, judged, events = judge.look()
    assert (first, judged.fabric, judged.alerts, events) == (snapshot, fabric, (), ())
    assert judged.health is not None
    assert judged.health.judgements["d1"].verdict is Verdict.OK
    judge._lookout._read = lambda: failed(snapshot)
    _, judged, events = judge.look()
    while not judged.alerts:  # the alert has to last for a microsecond
        _, judged, events = judge.look()
    assert [each.subject for each in judged.alerts] == ["d1"]
    assert [(each.kind, each.subject) for each in events] == [("alert", "d1")]
    judge.close()


def test_a_hook_that_cannot_be_run_is_an_event_and_the_rest_goes_on(tmp_path: Path) -> None:
    snapshot, _ = wiring.two_links()
    judge = Judge(lambda: snapshot, Config(alerts=Alerts(hook="page")), lambda _: EMPTY, silent())
    _, judged, events = judge.look()
    assert judged.health is not None
    assert len(events) == 1
    assert "full path" in events[0].text
    assert judge.look()[2] == (), "it is told once"


def test_without_probes_nothing_is_started() -> None:
    snapshot, _ = wiring.two_links()
    judge = Judge(lambda: snapshot, Config(probes=Probes(on=False)), lambda _: EMPTY, silent())
    judge.listen(pytest.fail)
    assert judge.wrong() == {}
    judge.close()


def test_the_fabric_of_the_first_reading_costs_nothing_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Reader:
        def __init__(self, **given: object) -> None:
            self.what = "cheap" if "ask_routes" in given else "whole"

        def read(self, _: Snapshot) -> Fabric:
            asked.append(self.what)
            return EMPTY

    monkeypatch.setattr("tui.judging.FabricReader", Reader)
    later = FabricLater()
    assert later(Snapshot("h", 0.0)) == EMPTY
    assert asked == []
    snapshot, _ = wiring.two_links()
    for _ in range(3):
        later(snapshot)
    assert asked == ["cheap", "whole", "whole"]


def test_the_mailbox_keeps_the_newest_verdicts_and_every_alert() -> None:
    snapshot, _ = wiring.two_links()
    alerts = [Alert(float(at), "disk", "d1", "d1", Verdict.DOWN, Verdict.OK, "x") for at in range(3)]
    mailbox = Mailbox(lambda: None)
    mailbox.put(snapshot, 1.0, (), judged=Judged(None, EMPTY, tuple(alerts[:2])))
    mailbox.put(snapshot, 2.0, (), judged=Judged(None, EMPTY, (alerts[2],)))
    assert mailbox.take().judged.alerts == tuple(alerts)
    assert mailbox.take().judged == UNJUDGED
