"""Questions to a logical unit over one path, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from initiator.engine.errand import Clock, Errand, Schedule
from initiator.engine.probe import Script
from initiator.engine.selector import DevicePath
from initiator.errors import MooringError
from initiator.protocol.errors import ConnectionLost

T = TypeVar("T")
Finish = Callable[[T | None, MooringError | None], None]
"""Gets the result, or the error; an IscsiError means that there was no answer."""


class Asker:
    """Runs scripts over the paths of a disk; each path answers one script at a time."""

    def __init__(self, *, clock: Clock, schedule: Schedule, patience: float) -> None:
        """`patience`: seconds for each command."""
        self._clock = clock
        self._schedule = schedule
        self._patience = patience
        self._closed = False

    def ask(self, path: DevicePath, script: Script[T], finish: Finish[T]) -> None:
        """Ask something, after what is being asked there already. `finish` is called once, but not after `close`."""
        if self._closed:
            script.close()
        elif path.errand is not None:
            path.todo.append(lambda: self._begin(path, script, finish))
        else:
            self._begin(path, script, finish)

    def _begin(self, path: DevicePath, script: Script[T], finish: Finish[T]) -> None:
        def ended(result: T | None, error: MooringError | None) -> None:
            path.errand = None
            finish(result, error)
            if path.todo and not path.errand:
                path.todo.popleft()()

        if not path.connected:
            script.close()
            ended(None, ConnectionLost("the path was lost"))
            return
        path.errand = Errand(
            path.session,
            path.lun,
            script,
            ended,
            clock=self._clock,
            schedule=self._schedule,
            patience=self._patience,
        )
        path.errand.start()

    def lost(self, path: DevicePath) -> None:
        """A path is gone: each question that was asked or waits there ends with an error."""
        if path.errand is not None:
            path.errand.abort(ConnectionLost("the path was lost"))

    def close(self, path: DevicePath) -> None:
        """Ask nothing any more; questions that are under way are forgotten."""
        self._closed = True
        path.todo.clear()
        if path.errand is not None:
            path.errand.cancel()
