"""Where alerts go besides the screen: a program of the person's, and the system's journal."""

from __future__ import annotations

import json
import os
import queue
import shlex
import threading
from collections.abc import Callable, Sequence
from typing import Any

from initiator.alerts import Alert
from initiator.alerts import Alerts as Machine
from initiator.errors import BadInputError, MooringError
from initiator.host import journald
from initiator.host.run import Finished, run
from initiator.judgement import Verdict
from initiator.model import Severity
from initiator.names import clean
from tui.config import Alerts
from tui.export import as_json

HOOK_SECONDS = 10.0
WAITING = 100
"""Alerts that wait for a hook that is slower than they come; more are dropped, and that is told."""
_PRIORITY = {Severity.NOTE: "5", Severity.WARN: "4", Severity.BAD: "2"}
"""syslog's: notice, warning, critical."""

Complain = Callable[[str], None]


def machine(settings: Alerts, wall: Callable[[], float]) -> Machine:
    """The state machine with these settings."""
    kinds = ("disk", "link", "path") if settings.paths else ("disk", "link")
    return Machine(wall, settings.raise_s, settings.clear_s, Verdict(settings.least), kinds)


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert as `mooring watch --json` prints it and a hook gets it."""
    return {"schema": 1, **as_json(alert.event()), "verdict": alert.verdict.value, "was": alert.was.value,
            "name": alert.name, "reason": alert.reason}  # fmt: skip


def hook_words(command: str) -> list[str]:
    """The program and its arguments.

    Raises:
        BadInputError: it is not one that may be run: it can be replaced by others, or is none.
    """
    where = "alerts.hook in the settings"
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInputError(f"{where}: {clean(command, 80)!r} is no command: {error}") from error
    if not words or not os.path.isabs(words[0]):
        raise BadInputError(f"{where} has to begin with the full path of a program", fix='hook = "/usr/local/bin/page"')
    if not os.access(words[0], os.X_OK) or os.path.isdir(words[0]):
        raise BadInputError(f"{where}: {clean(words[0], 200)} cannot be run", fix="check the path and its mode")
    found = os.stat(words[0])
    if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        reason = "can be written by others" if found.st_mode & 0o022 else "belongs to somebody else"
        raise BadInputError(f"{where}: {clean(words[0], 200)} {reason}", fix=f"chmod go-w {shlex.quote(words[0])}")
    return words


class Sinks:
    """Takes alerts and passes them on; never blocks whoever watches.

    Args:
        settings: What is wanted.
        complain: Hears what did not work, in a sentence.
        run_: Runs a program with a deadline and standard input.
        journal: Writes an entry.

    Raises:
        BadInputError: the hook is not one that may be run.
    """

    def __init__(
        self,
        settings: Alerts,
        complain: Complain,
        run_: Callable[..., Finished] = run,
        journal: Callable[[dict[str, str]], None] = journald.send,
    ) -> None:
        self._hook = hook_words(settings.hook) if settings.hook else []
        self._journal = journal if settings.journal else None
        self._complain = complain
        self._run = run_
        self._waiting: queue.Queue[Alert | None] = queue.Queue(WAITING)
        self._worker: threading.Thread | None = None

    def tell(self, alerts: Sequence[Alert]) -> None:
        """Passes alerts on."""
        for alert in alerts:
            if self._journal is not None:
                try:
                    self._journal(entry(alert))
                except OSError as error:
                    self._complain(f"the journal does not take an alert: {error.strerror or error}")
            if self._hook:
                self._start()
                try:
                    self._waiting.put_nowait(alert)
                except queue.Full:
                    self._complain(f"{self._hook[0]} is too slow: an alert of {alert.name} was not passed on")

    def close(self, patience: float = 0.0) -> None:
        """Lets the hook finish what waits, for `patience` seconds."""
        if self._worker is not None:
            with_room = not self._waiting.full()
            if with_room:
                self._waiting.put_nowait(None)
            self._worker.join(patience)

    def _start(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="alert-hook", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while (alert := self._waiting.get()) is not None:
            env = {"MOORING_ALERT": alert.verdict.value, "MOORING_SUBJECT": clean(alert.name, 200)}
            try:
                done = self._run(self._hook, HOOK_SECONDS, input=json.dumps(alert_json(alert)) + "\n", env=env)
            except MooringError as error:
                self._complain(f"the alert hook: {error}")
                continue
            if done.returncode != 0:
                self._complain(f"the alert hook {self._hook[0]} ended with {done.returncode}")


def entry(alert: Alert) -> dict[str, str]:
    """An alert as an entry of the journal."""
    return {
        "MESSAGE": clean(alert.text, 1000),
        "PRIORITY": _PRIORITY[alert.severity],
        "SYSLOG_IDENTIFIER": "mooring",
        "MOORING_KIND": alert.kind,
        "MOORING_SUBJECT": clean(alert.subject, 200),
        "MOORING_VERDICT": alert.verdict.value,
        "MOORING_WAS": alert.was.value,
    }
