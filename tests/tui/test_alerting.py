"""Alerts on their way: to a real program, to the journal, and as lines of `mooring watch`."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.alerts import Alert
from initiator.errors import BadInputError
from initiator.host.run import CannotRun, Finished
from initiator.judgement import Judgement, Verdict
from initiator.lookout import Look, Lookout
from initiator.model import DiskState, PathState, Snapshot
from safety.places import journal_dir
from tests import wiring
from tests.tui import fakes, samples
from tests.until import until
from tui.alerting import WAITING, Sinks, alert_json, entry, hook_words, machine
from tui.commands import watching
from tui.commands.watching import looks
from tui.config import Alerts
from tui.judging import Leaving

ALERT = Alert(1_000.0, "disk", "d1", "da\x1b[1mta", Verdict.DOWN, Verdict.OK, "none of its paths works")


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that writes down what it gets."""
    place = tmp_path / "page"
    place.write_text(f'#!/bin/sh\n{{ echo "$1 $MOORING_ALERT"; cat; }} >> {tmp_path}/got\n')
    place.chmod(0o755)
    return place


def test_a_program_gets_the_alert(hook: Path, tmp_path: Path) -> None:
    wrong: list[str] = []
    sinks = Sinks(Alerts(hook=f"{hook} 'the team'"), wrong.append)
    sinks.tell([ALERT])
    sinks.close(patience=30.0)
    head, line = (tmp_path / "got").read_text().splitlines()
    assert head == "the team down"
    told = json.loads(line)
    assert (told["schema"], told["kind"], told["verdict"], told["was"], told["at"]) == (
        1,
        "alert",
        "down",
        "ok",
        1000.0,
    )
    assert wrong == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("page", "full path"),
        ("", "full path"),
        ("/no/such/program", "cannot be run"),
        ("/etc", "cannot be run"),
        ("/bin/sh 'unended", "is no command"),
    ],
)
def test_what_is_no_hook(command: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        hook_words(command)


def test_a_program_that_others_can_change_is_not_run(hook: Path) -> None:
    hook.chmod(0o777)
    with pytest.raises(BadInputError, match="written by others") as raised:
        Sinks(Alerts(hook=str(hook)), lambda _: None)
    assert "chmod go-w" in raised.value.fix


def test_a_program_that_fails_is_told(hook: Path) -> None:
    wrong: list[str] = []
    hook.write_text("#!/bin/sh\nexit 7\n")
    sinks = Sinks(Alerts(hook=str(hook)), wrong.append)
    sinks.tell([ALERT])
    sinks.close(patience=30.0)
    assert wrong == [f"the alert hook {hook} ended with 7"]


def test_a_program_that_cannot_start_does_not_end_the_rest(hook: Path) -> None:
    wrong: list[str] = []
    done: list[str] = []

    def run(argv: list[str], deadline: float, input: str, env: dict[str, str]) -> Finished:
        if not wrong:
            raise CannotRun("no such program")
        done.append(env["MOORING_ALERT"])
        return Finished(0, "", "", 0.0)

    sinks = Sinks(Alerts(hook=str(hook)), wrong.append, run)
    sinks.tell([ALERT, ALERT])
    sinks.close(patience=30.0)
    assert (wrong, done) == (["the alert hook: no such program"], ["down"])


def test_a_program_that_is_too_slow_loses_alerts_and_that_is_told(hook: Path) -> None:
    wrong: list[str] = []
    go = threading.Event()

    def run(*_: object, **__: object) -> Finished:
        go.wait(30)
        return Finished(0, "", "", 0.0)

    sinks = Sinks(Alerts(hook=str(hook)), wrong.append, run)
    sinks.tell([ALERT] * (WAITING + 2))
    assert wrong
    assert "too slow" in wrong[0]
    go.set()


def test_a_line_in_the_journal() -> None:
    wrong: list[str] = []
    written: list[dict[str, str]] = []
    Sinks(Alerts(journal=True), wrong.append, journal=written.append).tell([ALERT])
    assert written == [entry(ALERT)]
    assert (written[0]["PRIORITY"], written[0]["MOORING_VERDICT"]) == ("2", "down")
    assert "\x1b" not in written[0]["MESSAGE"]

    def refuses(_: dict[str, str]) -> None:
        raise OSError(2, "No such file or directory")

    Sinks(Alerts(journal=True), wrong.append, journal=refuses).tell([ALERT])
    assert wrong == ["the journal does not take an alert: No such file or directory"]


def test_without_settings_nothing_happens() -> None:
    wrong: list[str] = []
    written: list[dict[str, str]] = []
    ran: list[object] = []

    def run(*words: object, **_: object) -> Finished:
        ran.append(words)
        return Finished(0, "", "", 0.0)

    sinks = Sinks(Alerts(), wrong.append, run, written.append)
    sinks.tell([ALERT])
    sinks.close(patience=30.0)
    assert (wrong, written, ran) == ([], [], [])


def test_the_settings_make_the_machine() -> None:
    alerts = machine(Alerts(least="down", paths=True, raise_s=5.0), lambda: 0.0)
    seen = [Judgement("path", "p0", "p", Verdict.AT_RISK, "x"), Judgement("path", "p1", "q", Verdict.DOWN, "x")]
    assert [each.subject for each in alerts.see(seen, 0.0)] == ["p1"]
    assert machine(Alerts(), lambda: 0.0).see(seen, 0.0) == ()
    assert alert_json(ALERT)["reason"] == "none of its paths works"


# --- mooring watch ---


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def lookout(states: Iterator[PathState], clock: Callable[[], float]) -> Lookout:
    snapshot, _ = wiring.two_links()

    def read() -> Snapshot:
        return wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], state=next(states)))

    return Lookout(read, alerts=machine(Alerts(), lambda: 0.0), monotonic=clock)


def test_a_look_every_second_until_the_time_is_over() -> None:
    clock = Time()
    found: list[tuple[float, Look]] = []
    for look in looks(lookout(iter([PathState.ACTIVE] * 9), clock), lambda: 0, 1.0, 3.2, clock, clock.sleep):
        found.append((clock.now, look))
    assert [at for at, _ in found] == [0.0, 1.0, 2.0, 3.0]
    assert clock.now == pytest.approx(3.2)


def test_what_becomes_of_a_disk_that_is_removed_is_meant_until_its_runner_is_gone() -> None:
    snapshot, _ = wiring.two_links()
    (disk,) = snapshot.disks
    states = iter([disk.state, *[DiskState.OFFLINE] * 3, disk.state, DiskState.OFFLINE])
    leaving = {f"{disk.wwid}"}

    def read() -> Snapshot:
        return wiring.changed(snapshot, dataclasses.replace(disk, state=next(states)))

    clock = Time()
    out = Lookout(read, alerts=machine(Alerts(), lambda: 0.0), monotonic=clock, leaving=lambda: leaving)

    def told() -> list[str]:
        clock.now += 60.0
        return [alert.reason for alert in out.look().alerts]

    assert [told(), told(), told()] == [[], [], []]
    leaving.clear()  # it stopped, or died, and left the disk as it is
    assert told() == ["it is offline for a removal"]
    leaving.add(f"{disk.wwid}")
    assert [told(), told()] == [[], []]


def test_where_no_journals_can_be_nothing_is_kept_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "state"
    place.write_text("no folder")
    monkeypatch.setenv("MOORING_STATE_DIR", str(place))
    leaving = Leaving()
    assert set(leaving()) == set()
    place.unlink()
    place.mkdir(mode=0o700)
    plan = fakes.plan(samples.practice())
    with fakes.begin(journal_dir() / "1.jsonl", plan) as journal:
        fakes.run_by(journal, os.getpid())
        assert set(leaving()) == {member.identity.wwid for member in plan.members}


def test_a_changed_state_brings_the_next_look_forward() -> None:
    clock = Time()
    at = [
        clock.now
        for _ in looks(
            lookout(iter([PathState.ACTIVE] * 9), clock), lambda: clock.now >= 0.5, 10.0, 1.0, clock, clock.sleep
        )
    ]
    assert at == [0.0, 0.5]


def test_an_interval_has_to_be_above_zero() -> None:
    clock = Time()
    with pytest.raises(BadInputError, match="not above zero"):
        next(looks(lookout(iter([]), clock), lambda: 0, 0.0, None, clock, clock.sleep))


def test_watch_prints_changes_and_alerts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import contextlib

    from tui.cli import main

    clock = Time()
    states = [PathState.ACTIVE, *[PathState.FAILED] * 8]

    @contextlib.contextmanager
    def host(*_: object) -> Iterator[tuple[Lookout, Callable[[], int]]]:
        yield lookout(iter(states), clock), lambda: 0

    real = watching.looks
    monkeypatch.setattr(watching, "host_lookout", host)
    monkeypatch.setattr(
        watching, "looks", lambda out, pulse, every, end: real(out, pulse, every, end, clock, clock.sleep)
    )
    monkeypatch.setenv("MOORING_CONFIG_DIR", "/nonexistent")
    assert main(["watch", "--for", "3", "--json"]) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["kind"], line["subject"]) for line in lines] == [("state", "p0"), ("alert", "d1")]
    assert (lines[1]["verdict"], lines[1]["schema"]) == ("at-risk", 1)
    clock.now = 0.0
    assert main(["watch", "--for", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[1:3] == ["BAD", "Path"]
    assert out[1].split()[1] == "ALERT"
    assert out[1].endswith("only one of its 2 paths works.")


async def test_without_closing_the_alert_is_passed_on_too(hook: Path, tmp_path: Path) -> None:
    sinks = Sinks(Alerts(hook=str(hook)), pytest.fail)
    sinks.tell([ALERT])
    await until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").read_text().count("\n") == 2)
