"""Commands that look again and again: watch, probe."""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import datetime
from typing import Any

from initiator.engine.client import EngineClient
from initiator.engine.prober import Found
from initiator.errors import BadInputError, MooringError, NotPermittedError
from initiator.lookout import Look, Lookout
from initiator.model import Event, Session, Severity
from initiator.names import clean
from initiator.probing import Probes, wanted
from tui import config, policy, spoken
from tui.alerting import Sinks, alert_json, machine
from tui.commands.common import snapshot
from tui.exits import Exit, say
from tui.export import as_json, human_latency
from tui.find import find_probed

PULSE = 0.25
"""Seconds from one cheap look at the sessions' states to the next: what it sees brings the next look forward."""


def watch(arguments: argparse.Namespace) -> int:
    """`mooring watch`: one line for each change and each alert, until interrupted."""
    settings = settings_in_force()
    sinks = Sinks(settings.alerts, lambda text: say(f"mooring: {text}"))
    try:
        with (
            _probes(settings, asked=arguments.probes, read_only=arguments.read_only) as probes,
            host_lookout(settings, probes) as (lookout, pulse),
            contextlib.suppress(KeyboardInterrupt),
        ):
            greeted = not arguments.plain
            for look in looks(lookout, pulse, arguments.interval, arguments.seconds):
                if probes is not None:
                    probes.want(wanted(look.snapshot))
                if not greeted:
                    print("\n".join(spoken.opening(look.snapshot)), flush=True)
                    greeted = True
                told = [(event, as_json(event)) for event in look.events]
                told += [(alert.event(), alert_json(alert)) for alert in look.alerts]
                for event, line in told:
                    if arguments.plain:
                        print(spoken.sentence(event), flush=True)
                    else:
                        print_event(event, line, as_lines=arguments.json)
                sinks.tell(look.alerts)
    finally:
        sinks.close(patience=2.0)
    return Exit.DONE


def probe(arguments: argparse.Namespace) -> int:
    """`mooring probe [NAME] [PORTAL]`: one line for each measurement until interrupted."""
    found = snapshot()
    chosen = {each.id for each in find_probed(found, arguments.name, arguments.portal)} if arguments.name else None
    device = arguments.link
    if device is not None and device not in {link.name for link in found.links}:
        raise BadInputError(f"there is no link {clean(device)!r}", fix="mooring list links")
    asked = tuple(each for each in wanted(found, device=device) if chosen is None or each.session in chosen)
    if not asked:
        raise BadInputError(
            "there is no session of the kernel over TCP to probe", fix="the engine's own sessions ping by themselves"
        )
    sessions = {session.id: session for session in found.sessions}
    interval = arguments.interval or settings_in_force().probes.interval_s
    told: queue.Queue[Found] = queue.Queue()
    end = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    with Probes(heard=told.put, interval=interval) as probes, contextlib.suppress(KeyboardInterrupt):
        probes.want(asked)
        while end is None or time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                _print_found(told.get(timeout=PULSE), sessions, as_lines=arguments.json)
    return Exit.DONE


def _print_found(found: Found, sessions: Mapping[str, Session], *, as_lines: bool) -> None:
    session = sessions.get(found.session)
    if as_lines:
        target = session.target if session is not None else None
        print(json.dumps({"schema": 1, "target": target, **as_json(found)}), flush=True)
        return
    parts = [
        found.reason,
        f"round trip {human_latency(found.rtt_us)}" if found.rtt_us is not None else None,
        f"ready after {human_latency(found.ready_us)}" if found.ready_us is not None else None,
        found.access,
    ]
    name = clean(session.name if session is not None else found.session)
    print(f"{_clock(found.at)}  {found.state:9}  {name}  {clean(', '.join(filter(None, parts)), 300)}", flush=True)


@contextlib.contextmanager
def _probes(settings: config.Config, *, asked: bool, read_only: bool) -> Iterator[Probes | None]:
    """The probes, where they are on.

    Raises:
        NotPermittedError: they were asked for and may not be. Where only the settings want them, watching goes on.
    """
    if not (asked or settings.probes.on):
        yield None
        return
    try:
        policy.load().check("probe")
        if read_only:
            raise NotPermittedError("probes log in to targets", fix="leave --read-only out")
    except NotPermittedError as error:
        if asked:
            raise
        say(f"mooring: the settings want probes, but: {error}")
        yield None
        return
    with Probes(interval=settings.probes.interval_s) as probes:
        yield probes


def settings_in_force() -> config.Config:
    """The settings that hold; what is not understood in their files is told, and its default holds."""
    from tui.actions import BY_ID

    found, mistakes = config.load(actions=BY_ID)
    for mistake in mistakes:
        say(f"mooring: {mistake}")
    return found


@contextlib.contextmanager
def host_lookout(
    settings: config.Config, probes: Probes | None = None
) -> Iterator[tuple[Lookout, Callable[[], Hashable]]]:
    """A lookout on this host, and something cheap that differs when states have changed."""
    from initiator.host import udev
    from initiator.host.fabric import FabricReader
    from initiator.host.kmsg import News
    from initiator.host.pulse import SessionPulse
    from initiator.host.sockets import SparingConnections
    from initiator.inventory import Inventory
    from tui.judging import Leaving

    with contextlib.ExitStack() as stack:
        inventory = stack.enter_context(Inventory(engine=EngineClient(), tcp=SparingConnections()))
        kernel, news, engine = SessionPulse(), News(time.time()), EngineClient()
        stirred: list[None] = []

        def happened(subsystems: frozenset[str]) -> None:
            if "block" in subsystems:
                inventory.stir()
            stirred.append(None)

        def pulse() -> Hashable:
            found = tuple(probes.wrong()) if probes is not None else ()
            return kernel.look(), _engine_states(engine), len(stirred), found

        with contextlib.suppress(OSError):  # where that is not allowed, looking has to do
            stack.enter_context(udev.Watch(happened))
        lookout = Lookout(
            inventory.read,
            FabricReader().read,
            machine(settings.alerts, time.time),
            probes.wrong if probes is not None else None,
            settings.removal.settle_s,
            news=news,
            leaving=Leaving(),
        )
        yield lookout, pulse
        news.close()


def _engine_states(engine: EngineClient) -> Hashable:
    """The states of the engine's sessions and paths; its own silence is one, too."""
    try:
        report = engine.snapshot()
    except MooringError as error:
        return error.code
    sessions = tuple((session.id, session.state) for session in report.sessions)
    return sessions, tuple((path.id, path.state) for path in report.paths)


def looks(
    lookout: Lookout,
    pulse: Callable[[], Hashable],
    interval: float,
    seconds: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Look]:
    """One look every `interval` seconds, and sooner when a state has changed; for `seconds`, or for ever.

    A reading that fails is told, and the next one is tried.

    Raises:
        BadInputError: the interval is not above zero.
    """
    if interval <= 0:
        raise BadInputError(f"--interval {interval} is not above zero")
    end = clock() + seconds if seconds is not None else None
    while True:
        began, felt = clock(), pulse()
        try:
            yield lookout.look()
        except MooringError as error:
            say(f"mooring: {error}")
        while (now := clock()) < began + interval and pulse() == felt:
            if end is not None and now >= end:
                return
            sleep(max(0.0, min(PULSE, began + interval - now, (end - now) if end is not None else PULSE)))
        if end is not None and clock() >= end:
            return


def print_event(event: Event, line: dict[str, Any], *, as_lines: bool) -> None:
    """One line: for a person, or (`as_lines`) `line` as JSON."""
    if as_lines:
        print(json.dumps({"schema": 1, **line}), flush=True)
        return
    word = {Severity.BAD: "ALERT", Severity.WARN: "ALERT"}.get(event.severity, "CLEAR")
    head = word if event.kind == "alert" else f"{event.severity.upper():5}"
    print(f"{_clock(event.at)}  {head}  {clean(event.text)}", flush=True)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
