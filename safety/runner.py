"""Runs one removal in a process of its own, away from any terminal: `python -m safety.runner --journal PATH`.

Whoever starts it may die at any moment without harm; the journal says how far it is. The runner ends with the exit
code of its outcome (`safety.journal.EXIT`), or with 3 when another one holds the disk, or 4 when the journal cannot be
written any more.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from initiator.engine.client import EngineClient
from initiator.errors import MooringError, OutcomeUnknownError, RefusedError
from initiator.names import clean
from safety import journal as journal_
from safety.effects import Host
from safety.execute import Run
from safety.findings import blocks
from safety.journal import EXIT, FINAL, Journal, JournalError, Kind, Outcome, Record
from safety.places import DiskLock, journal_dir, new_journal
from safety.plan import Plan
from safety.scope import Reach
from safety.work import NO_SECRETS, Secrets
from safety.world import World

__all__ = ["journal_dir", "main", "resume", "start", "undo", "work"]

_STOPPED = EXIT[Outcome.STOPPED]
_REFUSED = EXIT[Outcome.REFUSED]
_START_S = 120.0
"""Seconds within which a runner has begun, on however slow a machine; one that ends before is told at once."""
_END_S = 5.0
_GLANCE_S = 0.5
_children: list[subprocess.Popen[bytes]] = []


def start(plan: Plan, *, folder: Path | None = None) -> Path:
    """Write the plan into a new journal and start a runner on it.

    Args:
        plan: A plan that the person has confirmed.
        folder: The folder of the journals; the usual one when None.

    Returns:
        The journal; follow it with `safety.journal.follow`.

    Raises:
        RefusedError: a guard forbids it, or another removal of the disk is under way.
        JournalError: the journal cannot be written; nothing was done.
    """
    found = blocks(plan.findings)
    if found:
        raise RefusedError(found[0].text, code=found[0].code, fix=found[0].fix)
    place = folder or journal_dir()
    _check_free(place, plan.keys)
    path = new_journal(place, plan.digest, time.time())
    with Journal.create(path, boot=journal_.boot_id()) as journal:
        write_plan(journal, plan)
    return _spawn(path, "run")


def write_plan(journal: Journal, plan: Plan) -> Record:
    """The first record of a journal: the plan, and which steps leave something to resume or undo."""
    data = {
        "plan": plan.to_json(),
        "keys": list(plan.keys),
        "changing": [step.id for step in plan.steps if step.changing],
    }
    verb = "Unmount" if plan.scope.reach is Reach.VOLUME else "Remove"
    return journal.append(Kind.PLAN, f"{verb} {clean(plan.name)}", data=data)


def resume(path: Path) -> Path:
    """Go on with a removal whose runner stopped or died.

    Returns:
        The journal.

    Raises:
        RefusedError: it is at its end, or a runner is at work on it.
        JournalError: the journal cannot be read.
    """
    records, plan = _open_plan(path)
    if records[-1].outcome in FINAL:
        raise RefusedError(f"This removal is at its end: {records[-1].text}", code="finished")
    _check_free(path.parent, plan.keys, records[-1])
    return _spawn(path, "resume")


def undo(path: Path, secrets: Secrets = NO_SECRETS) -> Path:
    """Take a removal back: attach and mount again, as far as it had come. Works on a completed one too.

    Args:
        path: The journal.
        secrets: For logging in again, where the target asks for CHAP; no journal holds them.

    Returns:
        The journal.

    Raises:
        RefusedError: nothing was done, or it was taken back already, or a runner is at work on it.
        JournalError: the journal cannot be read.
    """
    records, plan = _open_plan(path)
    if records[-1].outcome in (Outcome.REFUSED, Outcome.UNDONE):
        raise RefusedError(f"There is nothing to take back: {records[-1].text}", code="finished")
    _check_free(path.parent, plan.keys, records[-1])
    return _spawn(path, "undo", secrets)


def _open_plan(path: Path) -> tuple[tuple[Record, ...], Plan]:
    records = journal_.read(path)
    if not records or records[0].kind is not Kind.PLAN:
        raise JournalError(f"{path} holds no plan: nothing was begun.", fix=f"rm {path}")
    return records, Plan.from_json(records[0].data.get("plan", {}))


def _check_free(folder: Path, keys: Sequence[str], last: Record | None = None) -> None:
    """Say at once when another runner is at work; the runner itself makes sure of it.

    One that has written its last word (`last`) holds its locks for a moment more, until its process is gone.
    """
    with _locked(folder, keys, _END_S if last is not None and last.kind is Kind.END else 0.0):
        return


def _spawn(path: Path, mode: str, secrets: Secrets = NO_SECRETS) -> Path:
    """Start the runner in a session of its own and wait until it has written its first word.

    Raises:
        RefusedError: it ended before that.
        OutcomeUnknownError: it has not written it in time, and may still do so.
    """
    before = len(journal_.read(path))
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    given = secrets != NO_SECRETS
    argv = [sys.executable, "-m", "safety.runner", "--journal", str(path.resolve()), "--mode", mode]
    log_path = path.with_suffix(".log")
    with open(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as log:
        child = subprocess.Popen(
            [*argv, "--secrets-stdin"] if given else argv,
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            cwd="/",
            start_new_session=True,
        )
    if child.stdin is not None:
        child.stdin.write("".join(f"{secret or ''}\n" for secret in (secrets.own, secrets.target)).encode())
        child.stdin.close()
    _children[:] = [one for one in _children if one.poll() is None] + [child]
    end = time.monotonic() + _START_S
    while len(journal_.read(path)) == before:
        ended = child.poll()
        if ended is not None and len(journal_.read(path)) == before:
            said = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RefusedError(clean(said[-1], 500) if said else f"The runner ended with status {ended}.")
        if time.monotonic() > end:
            text = f"The runner (process {child.pid}) has written nothing for {_START_S:g} s; it may still begin."
            raise OutcomeUnknownError(text, fix=f"look at {log_path}; then: mooring watch")
        time.sleep(0.02)
    return path


def work(
    path: Path,
    mode: str,
    world: Callable[[Path], World],
    *,
    secrets: Secrets = NO_SECRETS,
    stop_asked: Callable[[], bool] = lambda: False,
    open_journal: Callable[[Path], Journal] = lambda path: Journal.open(path, boot=journal_.boot_id()),
) -> int:
    """Do what the journal at `path` says, in this process.

    Args:
        path: The journal, with its plan.
        mode: `run`, `resume` or `undo`.
        world: Makes the outside, given the journal's path.
        secrets: For logging in again.
        stop_asked: Asked before each step.
        open_journal: Opens the journal for appending.

    Returns:
        The exit code.

    Raises:
        RefusedError: another runner holds the disk; nothing was written.
        JournalError: the journal cannot be read or written; nothing was done after its last record.
    """
    _, plan = _open_plan(path)
    with _locked(path.parent, plan.keys), open_journal(path) as journal:
        last = journal.records[-1]
        if mode == "run" and last.kind is not Kind.PLAN:
            raise RefusedError("This journal was begun already; resume it, or undo it.", code="begun")
        if mode != "undo" and last.outcome in FINAL:
            raise RefusedError(f"This removal is at its end: {last.text}", code="finished")
        journal.append(
            Kind.RUN, mode, data={"pid": os.getpid(), "started": journal_.process_start(os.getpid()), "mode": mode}
        )
        run = Run(plan, journal, world(path), secrets=secrets, stop_asked=stop_asked)
        return EXIT[run.back() if mode == "undo" else run.forward()]


def _locked(folder: Path, keys: Sequence[str], patience: float = _GLANCE_S) -> contextlib.ExitStack:
    """The locks of everything that a plan removes, taken; somebody who only looks gets a moment to give them back.

    Raises:
        RefusedError: another runner holds one; none is held.
    """
    end = time.monotonic() + patience
    with contextlib.ExitStack() as taken:
        for key in keys:
            lock = DiskLock(folder, key)
            while True:
                try:
                    taken.enter_context(lock)
                except RefusedError:
                    if time.monotonic() >= end:
                        raise
                    time.sleep(0.02)
                else:
                    break
        return taken.pop_all()


def _line() -> str | None:
    return sys.stdin.readline().rstrip("\n") or None


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: takes the lock, does the work, and turns every known error into its exit code."""
    parser = argparse.ArgumentParser(prog="python -m safety.runner")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--mode", choices=("run", "resume", "undo"), default="run")
    parser.add_argument("--secrets-stdin", action="store_true")
    given = parser.parse_args(arguments)
    secrets = Secrets(*(_line() for _ in dataclasses.fields(Secrets))) if given.secrets_stdin else NO_SECRETS
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hosts: list[Host] = []

    def world(path: Path) -> World:
        hosts.append(Host(EngineClient(), path))
        return hosts[-1]

    try:
        return work(given.journal, given.mode, world, secrets=secrets, stop_asked=lambda: bool(asked))
    except RefusedError as error:
        print(clean(str(error)), file=sys.stderr)
        return _REFUSED
    except MooringError as error:
        print(clean(f"{error} {error.fix}".strip()), file=sys.stderr)
        return _STOPPED
    finally:
        for host in hosts:
            host.close()


if __name__ == "__main__":
    sys.exit(main())
