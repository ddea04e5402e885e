"""Commands about recordings: record, replay."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from datetime import datetime
from pathlib import Path

from initiator.errors import BadInputError
from initiator.lookout import Lookout
from initiator.names import clean
from initiator.recording import Moment, Recorder, Recording
from tui.alerting import alert_json, machine
from tui.commands.watching import host_lookout, looks, print_event, settings_in_force
from tui.exits import Exit, say
from tui.export import as_json, human_size


def record(arguments: argparse.Namespace) -> int:
    """`mooring record FILE`: until interrupted, or for some seconds."""
    path = Path(arguments.file)
    with host_lookout(settings_in_force()) as (lookout, pulse), contextlib.ExitStack() as stack:
        recorder: Recorder | None = None
        with contextlib.suppress(KeyboardInterrupt):
            for look in looks(lookout, pulse, arguments.interval, arguments.seconds):
                at = look.snapshot.taken_at
                if recorder is None:
                    recorder = stack.enter_context(Recorder(path, look.snapshot.host, at))
                    say(f"recording {look.snapshot.host} to {path}; Ctrl+C ends it")
                recorder.add(at, look.snapshot, look.fabric, look.events)
    if recorder is not None:
        say(f"recorded {recorder.frames} looks in {human_size(path.stat().st_size)}")
    return Exit.DONE


def replay(arguments: argparse.Namespace) -> int:
    """`mooring replay FILE`: on the dashboard; or, as lines, what `mooring watch` would have told."""
    if arguments.speed <= 0:
        raise BadInputError(f"--speed {arguments.speed:g} is not above zero")
    recording = Recording(Path(arguments.file))
    since = _since(arguments.since, recording.head.began) if arguments.since else None
    if arguments.json or arguments.lines or not sys.stdout.isatty():
        return _lines(arguments, recording, since)
    return _dashboard(arguments, recording, since)


def _dashboard(arguments: argparse.Namespace, recording: Recording, since: float | None) -> int:
    from tui.app import AppOptions, run
    from tui.replaying import Player, ReplaySource, backends

    settings = settings_in_force()
    player = Player(recording, arguments.speed, since)
    source = ReplaySource(player, settings.removal.settle_s)
    day = datetime.fromtimestamp(recording.head.began).astimezone()
    title = f"what {clean(recording.head.host)} was like on {day:%Y-%m-%d}"
    quiet = dataclasses.replace(settings.alerts, toast=False, bell=False)
    options = AppOptions(read_only=True, replay=title, config=dataclasses.replace(settings, alerts=quiet))
    return run(options, backends(source), player.now)


def _lines(arguments: argparse.Namespace, recording: Recording, since: float | None) -> int:
    settings = settings_in_force()
    moment: Moment | None = None
    at = 0.0

    def shown() -> Moment:
        assert moment is not None
        return moment

    lookout = Lookout(
        lambda: shown().snapshot,
        lambda _: shown().fabric,
        machine(settings.alerts, lambda: at),
        settle_s=settings.removal.settle_s,
        monotonic=lambda: at,
    )
    count = 0
    for moment in recording.moments(since):
        at = moment.at
        look = lookout.look()
        count += 1
        for event in moment.events:
            print_event(event, as_json(event), as_lines=arguments.json)
        for alert in look.alerts:
            print_event(alert.event(), alert_json(alert), as_lines=arguments.json)
    head = recording.head
    say(f"{head.host}, {count} looks from {datetime.fromtimestamp(head.began).astimezone():%Y-%m-%d %H:%M:%S}")
    if recording.cut:
        say(f"mooring: {arguments.file}: {recording.cut}")
    return Exit.DONE


def _since(text: str, began: float) -> float:
    """`HH:MM:SS` of the day on which the recording began, or seconds after its beginning."""
    with contextlib.suppress(ValueError):
        return began + float(text)
    for form in ("%H:%M:%S", "%H:%M"):
        with contextlib.suppress(ValueError):
            wanted = datetime.strptime(text, form)
            day = datetime.fromtimestamp(began).astimezone()
            found = day.replace(hour=wanted.hour, minute=wanted.minute, second=wanted.second, microsecond=0).timestamp()
            return found if found >= began - 1 else found + 86_400
    raise BadInputError(f"--from {clean(text)!r} is no time", fix="HH:MM:SS, or seconds from the beginning")
