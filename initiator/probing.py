"""Probes as seen by whoever wants them: what to probe of a snapshot, and a process that does it (`engine.prober`)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

from initiator.engine.prober import INTERVAL, Found, Wanted, one_each
from initiator.model import Session, Snapshot
from initiator.ways import BAD, Way, way_of, why_no_probe

FRESH = 3.0
"""Seconds after which a measurement says nothing of now."""
KEPT = 60
"""So many measurements of each session are kept."""


def wanted(
    snapshot: Snapshot, root: Path = Path("/"), device: str | None = None, only: Collection[Way] | None = None
) -> tuple[Wanted, ...]:
    """What to probe: each session of the kernel over TCP, by the link that it takes itself.

    Engine sessions are left out: they ping several times a second themselves.

    Args:
        snapshot: What there is.
        root: Where `sys` is.
        device: Another interface to leave through.
        only: The ways that are probed; None for every one.
    """
    links = {link.id: link for link in snapshot.links}
    found = []
    for session in snapshot.sessions:
        if why_no_probe(session) or session.initiator is None or (only is not None and way_of(session) not in only):
            continue
        link = links.get(session.link or "")
        cable = link.name if link is not None and link.kind != "loopback" else None
        found.append(
            Wanted(
                session=session.id,
                target=session.target,
                portal=str(dataclasses.replace(session.portal, group_tag=None)),
                initiator=session.initiator,
                local=None if device is not None else _local(session),
                device=device or cable,
                lun=min(session.luns, default=None),
                record=session.details.get("record", "").split(", ")[0] or None,
                state=f"{str(root).rstrip('/')}/sys/class/iscsi_session/session{session.id.rpartition(':')[2]}/state",
            )
        )
    return tuple(found)


def _local(session: Session) -> str | None:
    return session.connections[0].local_host if session.connections else None


def wrong(found: Mapping[str, Found], now: float) -> dict[str, str]:
    """What the newest measurements found wrong, in a sentence, by session id.

    Args:
        found: The newest of each session.
        now: Unix time. A measurement that is too old says nothing.
    """
    words = {"silent": "a probe gets no answer", "lost": "a probe has lost the target", "not-ready": "not ready"}
    return {
        key: f"{words[each.state]}: {each.reason}" if each.reason else words[each.state]
        for key, each in found.items()
        if each.state in BAD and now - each.at < FRESH
    }


class Probes:
    """A process that probes, for as long as this object is open.

    Args:
        changed: Called, from another thread, when a measurement says something else than the one before.
        heard: Called, from another thread, with each measurement.
        interval: Seconds from one measurement to the next.
    """

    def __init__(
        self,
        changed: Callable[[], None] = lambda: None,
        heard: Callable[[Found], None] = lambda _: None,
        interval: float = INTERVAL,
    ) -> None:
        self._changed = changed
        self._heard = heard
        self._lock = threading.Lock()
        self._found: dict[str, deque[Found]] = {}
        self._twins: dict[str, list[str]] = {}
        self._asked: tuple[Wanted, ...] = ()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "initiator.engine.prober", str(interval)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl+C at the terminal is for us; it ends with its input
        )
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), name="probes", daemon=True)
        self._reader.start()

    def want(self, asked: tuple[Wanted, ...]) -> None:
        """From now on these are probed."""
        if asked == self._asked or self._child.stdin is None:
            return
        self._asked = asked
        twins: dict[str, list[str]] = {}
        asking = one_each(asked)
        for each in asked:
            twins.setdefault(asking[each.way].session, []).append(each.session)
        with self._lock:
            self._found = {each.session: self._found.get(each.session, deque(maxlen=KEPT)) for each in asked}
            self._twins = twins
        with contextlib.suppress(BrokenPipeError):  # it has died: then nothing is measured, and nothing is claimed
            self._child.stdin.write(json.dumps([dataclasses.asdict(each) for each in asked]).encode() + b"\n")
            self._child.stdin.flush()

    def found(self) -> dict[str, Found]:
        """The newest measurement of each session."""
        with self._lock:
            return {key: ring[-1] for key, ring in self._found.items() if ring}

    def recent(self) -> dict[str, tuple[Found, ...]]:
        """The newest `KEPT` measurements of each session that is probed, oldest first; none before the first."""
        with self._lock:
            return {key: tuple(ring) for key, ring in self._found.items()}

    def wrong(self) -> dict[str, str]:
        """What is wrong now, by session id."""
        return wrong(self.found(), time.time())

    def close(self) -> None:
        """Ends the probes; their sessions are logged out, for which they get some seconds."""
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        try:
            self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join(1.0)
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _read(self, lines: IO[bytes] | None) -> None:
        for line in lines or ():
            told: dict[str, Any] = json.loads(line)
            found = Found(**told)
            with self._lock:
                known = self._found.get(found.session)
                changed = not known or known[-1].state != found.state
                for key in self._twins.get(found.session, ()):  # one is asked for all that go the same way
                    self._found[key].append(dataclasses.replace(found, session=key))
            self._heard(found)
            if changed:
                self._changed()

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
