"""Commands that look again and again: watch."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Hashable, Iterator
from datetime import datetime
from typing import Any

from initiator.errors import BadInputError, MooringError
from initiator.lookout import Look, Lookout
from initiator.model import Event, Severity
from initiator.names import clean
from tui import config
from tui.alerting import Sinks, alert_json, machine
from tui.exits import Exit, say
from tui.export import as_json

PULSE = 0.25
"""Seconds from one cheap look at the sessions' states to the next: what it sees brings the next look forward."""


def watch(arguments: argparse.Namespace) -> int:
    """`mooring watch`: one line for each change and each alert, until interrupted."""
    settings = _settings()
    sinks = Sinks(settings.alerts, lambda text: say(f"mooring: {text}"))
    try:
        with host_lookout(settings) as (lookout, pulse), contextlib.suppress(KeyboardInterrupt):
            for look in looks(lookout, pulse, arguments.interval, arguments.seconds):
                for event in look.events:
                    _print(event, as_json(event), as_lines=arguments.json)
                for alert in look.alerts:
                    _print(alert.event(), alert_json(alert), as_lines=arguments.json)
                sinks.tell(look.alerts)
    finally:
        sinks.close(patience=2.0)
    return Exit.DONE


def _settings() -> config.Config:
    """The settings that hold; what is not understood in their files is told, and its default holds."""
    from tui.actions import BY_ID

    found, mistakes = config.load(actions=BY_ID)
    for mistake in mistakes:
        say(f"mooring: {mistake}")
    return found


@contextlib.contextmanager
def host_lookout(settings: config.Config) -> Iterator[tuple[Lookout, Callable[[], Hashable]]]:
    """A lookout on this host, and something cheap that differs when states have changed."""
    from initiator.engine.client import EngineClient
    from initiator.host.fabric import FabricReader
    from initiator.host.pulse import SessionPulse
    from initiator.host.sockets import kernel_connections
    from initiator.inventory import Inventory

    with Inventory(engine=EngineClient(), tcp=kernel_connections) as inventory:
        alerts = machine(settings.alerts, time.time)
        yield (
            Lookout(inventory.read, FabricReader().read, alerts, settle_s=settings.removal.settle_s),
            SessionPulse().look,
        )


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


def _print(event: Event, line: dict[str, Any], *, as_lines: bool) -> None:
    if as_lines:
        print(json.dumps({"schema": 1, **line}), flush=True)
        return
    moment = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
    word = {Severity.BAD: "ALERT", Severity.WARN: "ALERT"}.get(event.severity, "CLEAR")
    head = word if event.kind == "alert" else f"{event.severity.upper():5}"
    print(f"{moment}  {head}  {clean(event.text)}", flush=True)
