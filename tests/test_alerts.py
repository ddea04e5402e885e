"""Alerts: told once, at once when it is bad, and not again for what comes and goes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from initiator.alerts import CLEAR_S, RAISE_S, TABLE, TOLD_S, UNTOLD_S, Alert, Alerts, Seen, State
from initiator.judgement import RANK, Judgement, Verdict
from initiator.model import Severity


def judged(verdict: Verdict, kind: str = "disk", subject: str = "d1") -> Judgement:
    return Judgement(kind, subject, "data", verdict, f"because it is {verdict}")


def told(alerts: Alerts, verdict: Verdict, at: float) -> list[Verdict]:
    return [each.verdict for each in alerts.see([judged(verdict)], at)]


@pytest.fixture
def alerts() -> Alerts:
    return Alerts(lambda: 1_000.0)


def test_what_is_down_is_told_at_once_and_only_once(alerts: Alerts) -> None:
    assert told(alerts, Verdict.OK, 0) == []
    assert told(alerts, Verdict.DOWN, 1) == [Verdict.DOWN]
    assert told(alerts, Verdict.DOWN, 2) == []


def test_what_is_degraded_has_to_last(alerts: Alerts) -> None:
    assert told(alerts, Verdict.OK, -1) == []
    assert told(alerts, Verdict.DEGRADED, 0) == []
    assert told(alerts, Verdict.OK, 0.5) == []
    assert told(alerts, Verdict.DEGRADED, 1) == []
    assert told(alerts, Verdict.DEGRADED, 1 + RAISE_S) == [Verdict.DEGRADED]


def test_what_flaps_is_told_once(alerts: Alerts) -> None:
    said = [
        verdict
        for second in range(60)
        for verdict in told(alerts, Verdict.DOWN if second % 2 else Verdict.OK, float(second))
    ]
    assert said == [Verdict.DOWN]
    assert told(alerts, Verdict.OK, 60) == []
    assert told(alerts, Verdict.OK, 60 + CLEAR_S) == [Verdict.OK]


def test_how_it_is_at_first_is_no_alert_unless_it_is_down(alerts: Alerts) -> None:
    assert told(alerts, Verdict.AT_RISK, 0) == []
    assert told(alerts, Verdict.AT_RISK, 100) == []
    assert told(alerts, Verdict.OK, 101) == []
    assert told(alerts, Verdict.OK, 101 + CLEAR_S) == [], "nobody was told that it was not"
    assert told(alerts, Verdict.AT_RISK, 200) == []
    assert told(alerts, Verdict.AT_RISK, 200 + RAISE_S) == [Verdict.AT_RISK]


def test_getting_worse_is_told_again_and_a_half_recovery_too(alerts: Alerts) -> None:
    told(alerts, Verdict.OK, -1)
    told(alerts, Verdict.AT_RISK, 0)
    assert told(alerts, Verdict.AT_RISK, RAISE_S) == [Verdict.AT_RISK]
    assert told(alerts, Verdict.DOWN, 2) == [Verdict.DOWN]
    assert told(alerts, Verdict.DEGRADED, 3) == []
    assert told(alerts, Verdict.DEGRADED, 3 + CLEAR_S) == [Verdict.DEGRADED]


def test_the_words_of_an_alert(alerts: Alerts) -> None:
    (alert,) = alerts.see([judged(Verdict.DOWN)], 0)
    assert alert == Alert(1_000.0, "disk", "d1", "data", Verdict.DOWN, Verdict.OK, "because it is down")
    assert (alert.text, alert.severity) == ("Disk data is down: because it is down.", Severity.BAD)
    event = alert.event()
    assert (event.at, event.kind, event.subject, event.text, event.severity) == (
        1_000.0, "alert", "d1", alert.text, Severity.BAD,
    )  # fmt: skip
    alerts.see([judged(Verdict.OK)], 1)
    (again,) = alerts.see([judged(Verdict.OK)], 1 + CLEAR_S)
    assert (again.severity, again.was) == (Severity.NOTE, Verdict.DOWN)
    assert again.text.startswith("Disk data is well again")


def test_an_alert_ends_under_the_name_that_it_had(alerts: Alerts) -> None:
    """A disk goes by its volume's name as long as that is mounted."""
    alerts.see([judged(Verdict.DOWN)], 0)
    unmounted = dataclasses.replace(judged(Verdict.OK), name="LUN 1")
    alerts.see([unmounted], 1)
    (end,) = alerts.see([unmounted], 1 + CLEAR_S)
    assert end.text.startswith("Disk data is well again")
    (anew,) = alerts.see([dataclasses.replace(unmounted, verdict=Verdict.DOWN)], 20)
    assert anew.text.startswith("Disk LUN 1 is down")


def test_only_what_is_wanted() -> None:
    quiet = Alerts(lambda: 0.0, least=Verdict.AT_RISK, kinds=("link",))
    quiet.see([judged(Verdict.OK), judged(Verdict.OK, "link", "l1")], -1)
    assert quiet.see([judged(Verdict.DOWN), judged(Verdict.DEGRADED, "link", "l1")], 0) == ()
    assert quiet.see([judged(Verdict.DEGRADED, "link", "l1")], 100) == ()
    assert [each.subject for each in quiet.see([judged(Verdict.DOWN, "link", "l1")], 101)] == ["l1"]


def test_what_is_gone_for_a_look_is_the_same_when_it_is_back(alerts: Alerts) -> None:
    """A dead disk is repaired by a logout and a login; an engine that answers late has no disks for one look."""
    assert told(alerts, Verdict.DOWN, 0) == [Verdict.DOWN]
    assert alerts.see([], 1) == ()
    assert told(alerts, Verdict.DOWN, 2) == []
    assert alerts.see([], 3) == ()
    assert told(alerts, Verdict.OK, 4) == []
    assert told(alerts, Verdict.OK, 4 + CLEAR_S) == [Verdict.OK]


def test_what_stays_away_is_forgotten(alerts: Alerts) -> None:
    assert told(alerts, Verdict.DOWN, 0) == [Verdict.DOWN]
    assert alerts.see([], 2 + TOLD_S) == ()
    assert told(alerts, Verdict.DOWN, 3 + TOLD_S) == [Verdict.DOWN]
    assert alerts.see([judged(Verdict.AT_RISK, subject="d2")], 4 + TOLD_S) == ()
    assert alerts.see([], 5 + TOLD_S + UNTOLD_S) == ()
    late = judged(Verdict.DOWN, subject="d2")
    assert [each.subject for each in alerts.see([late], 6 + TOLD_S + UNTOLD_S)] == ["d2"]


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(state, seen) for state in State for seen in Seen}


@given(st.lists(st.tuples(st.sampled_from(Verdict), st.floats(0.0, 5.0)), min_size=1, max_size=60))
def test_two_alerts_of_one_thing_differ_and_recoveries_are_apart(
    steps: list[tuple[Verdict, float]],
) -> None:
    alerts = Alerts(lambda: 0.0)
    at = 0.0
    said: list[tuple[float, Alert]] = []
    for verdict, passed in steps:
        at += passed
        said += [(at, each) for each in alerts.see([judged(verdict)], at)]
    before: Verdict = Verdict(Verdict.OK if steps[0][0] is Verdict.DOWN else steps[0][0])
    last = 0.0
    for when, alert in said:
        assert alert.was is before or (before is steps[0][0] and alert.was is Verdict.OK)
        assert alert.verdict is not alert.was
        before = alert.was
        if RANK.index(alert.verdict) < RANK.index(before):
            assert when - last >= CLEAR_S
        before, last = alert.verdict, when


class Following(RuleBasedStateMachine):
    """What was told last follows what is, after its time."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts = Alerts(lambda: 0.0)
        self.at = 0.0
        self.now = Verdict.OK
        self.told = Verdict.OK
        self.since = 0.0
        self.alerts.see([judged(Verdict.OK)], 0.0)

    @rule(verdict=st.sampled_from(Verdict), passed=st.floats(0.01, 20.0))
    def see(self, verdict: Verdict, passed: float) -> None:
        self.at += passed
        if verdict is not self.now:
            self.now, self.since = verdict, self.at
        for alert in self.alerts.see([judged(verdict)], self.at):
            self.told = alert.verdict

    @invariant()
    def what_lasts_is_told(self) -> None:
        if self.at - self.since >= CLEAR_S:
            assert self.told is self.now
        if self.now is Verdict.DOWN:
            assert self.told is Verdict.DOWN


TestFollowing = Following.TestCase
