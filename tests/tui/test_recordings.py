"""`mooring record` and `mooring replay`, and a recording as the dashboard's source."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from initiator.alerts import Alert
from initiator.errors import RefusedError
from initiator.fabric import EMPTY
from initiator.judgement import Verdict
from initiator.lookout import Lookout
from initiator.model import Event, PathState, Severity, Snapshot
from initiator.recording import Recorder, Recording, RecordingError
from tests import wiring
from tests.until import until
from tui import replaying
from tui.app import AppOptions, MooringApp
from tui.backends import Backends
from tui.cli import main
from tui.commands import recordings
from tui.replaying import Player, ReplaySource

BEGAN = 1_795_000_000.0


def host(at: float, state: PathState = PathState.ACTIVE) -> Snapshot:
    snapshot, _ = wiring.two_links()
    return dataclasses.replace(
        wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], state=state)), taken_at=at
    )


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """Twenty seconds in which a path fails at the fifth and comes back at the tenth."""
    path = tmp_path / "tape"
    with Recorder(path, "host", BEGAN) as recorder:
        for second in range(20):
            at = BEGAN + second
            failed = 5 <= second < 10
            events = (Event(at, "state", "p0", f"second {second}", Severity.BAD),) if second in (5, 10) else ()
            recorder.add(at, host(at, PathState.FAILED if failed else PathState.ACTIVE), EMPTY, events)
    return path


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORING_CONFIG_DIR", "/nonexistent")


def test_what_is_recorded_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshots = iter([host(BEGAN), host(BEGAN + 1, PathState.FAILED), host(BEGAN + 2, PathState.FAILED)])

    @contextmanager
    def looking(_: object) -> Iterator[tuple[Lookout, Callable[[], int]]]:
        yield Lookout(lambda: next(snapshots)), lambda: 0

    def three(lookout: Lookout, *_: object) -> Iterator[object]:
        for _number in range(3):
            yield lookout.look()

    monkeypatch.setattr(recordings, "host_lookout", looking)
    monkeypatch.setattr(recordings, "looks", three)
    file = tmp_path / "tape"
    assert main(["record", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "recording host" in said.err
    assert "recorded 3 looks" in said.err
    assert main(["replay", str(file), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["kind"], line["subject"]) for line in lines] == [("state", "p0"), ("alert", "d1")]
    assert main(["record", str(file)]) == 1, "a file that exists is not written over"


def test_a_replay_tells_what_watching_would_have_told(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tape)]) == 0
    said = capsys.readouterr()
    assert [line.split(None, 2)[1] for line in said.out.splitlines()] == ["BAD", "ALERT", "BAD"]
    assert "host, 20 looks from 20" in said.err


@pytest.mark.parametrize(("since", "looks"), [("15", 5), ("0", 20), ("19.5", 0)])
def test_a_replay_from_the_middle(tape: Path, capsys: pytest.CaptureFixture[str], since: str, looks: int) -> None:
    assert main(["replay", str(tape), "--from", since]) == 0
    assert f"{looks} looks" in capsys.readouterr().err


def test_times_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        began = 1_795_003_200.0  # 2026-11-18 12:00:00
        assert recordings._since("12:00:30", began) == began + 30
        assert recordings._since("13:00", began) == began + 3600
        assert recordings._since("11:00", began) == began + 23 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()
    assert main(["replay", "/nonexistent"]) == 2


def test_what_is_no_time_or_no_recording(tape: Path, tmp_path: Path) -> None:
    assert main(["replay", str(tape), "--from", "noon"]) == 2
    (tmp_path / "other").write_text("hello\n")
    assert main(["replay", str(tmp_path / "other")]) == 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_player_shows_each_frame_at_its_time(tape: Path) -> None:
    clock = Clock()
    source = ReplaySource(Player(Recording(tape), speed=2.0, clock=clock))
    assert source.read().snapshot.taken_at == BEGAN
    felt = source.pulse()
    clock.now = 0.4
    assert source.pulse() == felt
    clock.now = 2.6
    assert source.pulse() != felt
    reading = source.read()
    assert reading.snapshot.taken_at == BEGAN + 5
    assert [event.text for event in reading.events] == ["second 5"]
    assert reading.snapshot.paths[0].state is PathState.FAILED
    assert source.player.now() == BEGAN + 5.2
    clock.now = 100.0
    assert source.read().snapshot.taken_at == BEGAN + 19
    assert (source.player.ended, source.player.now(), source.player.count) == (True, BEGAN + 19, 20)
    assert [event.text for event in source.read().events] == ["second 5", "second 10"]


def test_nothing_of_a_recording_passes_before_its_first_frame_was_read(tape: Path) -> None:
    clock = Clock()
    source = ReplaySource(Player(Recording(tape), clock=clock))
    clock.now = 7.0  # the dashboard has started meanwhile
    felt = source.pulse()
    assert source.player.now() == BEGAN
    assert source.read().snapshot.taken_at == BEGAN
    assert source.pulse() == felt
    clock.now = 12.0
    reading = source.read()
    assert reading.snapshot.taken_at == BEGAN + 5
    assert [event.text for event in reading.events] == ["second 5"]


def test_the_player_begins_where_it_is_told(tape: Path) -> None:
    assert Player(Recording(tape), since=BEGAN + 7.5).current.at == BEGAN + 8
    with pytest.raises(RecordingError, match="ends before"):
        Player(Recording(tape), since=BEGAN + 99)


def test_an_empty_recording_has_nothing_to_show(tmp_path: Path) -> None:
    Recorder(tmp_path / "tape", "host", BEGAN).close()
    with pytest.raises(RecordingError, match="nothing in it"):
        Player(Recording(tmp_path / "tape"))


def test_nothing_can_be_changed_in_a_replay_and_nothing_of_now_is_shown(tape: Path) -> None:
    stand_in = replaying.backends(ReplaySource(Player(Recording(tape))))
    assert stand_in.remover.unfinished() == ()
    assert stand_in.kernel.idle() == ()
    orders: list[Callable[[], object]] = [
        lambda: stand_in.remover.plan(None),  # type: ignore[arg-type]
        lambda: stand_in.remover.start(None),  # type: ignore[arg-type]
        lambda: stand_in.remover.resume(tape),
        lambda: stand_in.remover.undo(tape),
        lambda: stand_in.kernel.login(None),  # type: ignore[arg-type]
        lambda: stand_in.kernel.logout(None),  # type: ignore[arg-type]
        lambda: stand_in.kernel.startup(None, "manual"),  # type: ignore[arg-type]
        lambda: stand_in.kernel.rescan(()),
    ]
    for order in orders:
        with pytest.raises(RefusedError, match="a replay"):
            order()


async def test_the_dashboard_shows_a_replay_as_one(tape: Path) -> None:
    clock = Clock()
    player = Player(Recording(tape), clock=clock)
    options = AppOptions(read_only=True, replay="what host was like on 2026-11-18")
    app = MooringApp(options, replaying.backends(ReplaySource(player)), wall=player.now, root=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.store.world is not None)
        await pilot.pause()
        assert "REPLAY" in screen_text(app)
        assert "live" not in screen_text(app)
        assert app.read_only.startswith("Replay: this is what host was like")
        clock.now = 6.0
        await until(lambda: app.store.world is not None and app.store.world.snapshot.taken_at == BEGAN + 6)
        assert app.store.world is not None
        assert app.store.world.snapshot.paths[0].state is PathState.FAILED


def screen_text(app: MooringApp) -> str:
    """What is on the screen, as plain text."""
    return "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())


@pytest.mark.parametrize(
    ("verdicts", "title", "bell"),
    [
        ([Verdict.AT_RISK], "Alert", True),
        ([Verdict.DEGRADED], "Alert", False),
        ([Verdict.OK], "Well again", False),
        ([Verdict.DOWN] * 5, "Alert", True),
    ],
)
async def test_alerts_are_a_toast_and_ring_when_it_is_bad(
    monkeypatch: pytest.MonkeyPatch, verdicts: list[Verdict], title: str, bell: bool
) -> None:
    app = MooringApp(AppOptions(), Backends(None, None, None, None))  # type: ignore[arg-type]
    told: list[tuple[str, str]] = []
    rung: list[None] = []
    monkeypatch.setattr(app, "notify", lambda text, title, **_: told.append((title, text)))
    monkeypatch.setattr(app, "bell", lambda: rung.append(None))
    app._tell([Alert(0.0, "disk", "d", f"d{n}", verdict, Verdict.OK, "x") for n, verdict in enumerate(verdicts)])
    assert [each[0] for each in told] == [title]
    assert bool(rung) == bell
    if len(verdicts) > 3:
        assert told[0][1].endswith("and 2 more: see the events")
    app._tell([])
    assert len(told) == 1
