"""Commands of a removal: plan, remove, drain, unmount, resume, undo, report."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from initiator.engine.client import EngineClient
from initiator.errors import BadInputError, MooringError
from initiator.model import Snapshot
from initiator.names import clean
from safety import journal, runner
from safety.findings import Finding, Level
from safety.journal import EXIT, Kind, Mark, Outcome, Record
from safety.past import SUFFIX, Past, Shelf
from safety.plan import Options, Plan, Step
from safety.prepare import prepare
from safety.report import make_report
from safety.scope import Reach, Scope
from safety.undoable import newest_done
from safety.work import Secrets
from tui import config
from tui.commands.common import ask, at_terminal, emit, need_root, secret_from
from tui.exits import Exit, let_go_of_pipes, say
from tui.find import find_drained, find_scope, find_volume
from tui.removalwords import verb

SCHEMA = 2
"""Of what `remove`, `drain`, `resume` and `undo` print."""
_SIGN = {Level.BLOCK: "NO", Level.WARN: "careful", Level.NOTE: "note"}


def plan(arguments: argparse.Namespace) -> int:
    """`mooring plan NAME...`; exit code 3 when a guard says no."""
    if arguments.unmount:
        if len(arguments.names) != 1:
            raise BadInputError("--unmount takes one volume", fix="mooring plan --unmount MOUNTPOINT")
        made = _make(lambda found: find_volume(found, arguments.names[0]), _options(arguments))
    else:
        made = _make(lambda found: find_scope(found, arguments.names), _options(arguments))
    return _show(made, as_object=arguments.json)


def remove(arguments: argparse.Namespace) -> int:
    """`mooring remove NAME... [--confirm NAME]`."""
    need_root("a removal")
    made = _make(lambda found: find_scope(found, arguments.names), _options(arguments))
    return _confirmed(made, arguments)


def drain(arguments: argparse.Namespace) -> int:
    """`mooring drain TARGET|LINK [--dry-run] [--confirm NAME]`."""
    if not arguments.dry_run:
        need_root("a removal")
    made = _make(lambda found: find_drained(found, arguments.name), _options(arguments))
    return _show(made, as_object=arguments.json) if arguments.dry_run else _confirmed(made, arguments)


def unmount(arguments: argparse.Namespace) -> int:
    """`mooring unmount VOLUME [--dry-run] [--confirm NAME]`."""
    if not arguments.dry_run:
        need_root("unmounting")
    made = _make(lambda found: find_volume(found, arguments.name), _options(arguments))
    return _show(made, as_object=arguments.json) if arguments.dry_run else _confirmed(made, arguments)


def _show(made: Plan, *, as_object: bool) -> int:
    if as_object:
        emit(made.to_json())
    else:
        print(describe(made))
    return Exit.REFUSED if made.blocked else Exit.DONE


def _confirmed(made: Plan, arguments: argparse.Namespace) -> int:
    """Carry a plan out once its name was typed, or given with --confirm."""
    name, words = made.name, made.words
    if made.blocked:
        say(describe(made))
        if arguments.json:
            emit({"schema": SCHEMA, "name": name, "outcome": Outcome.REFUSED, "plan": made.to_json()})
        return Exit.REFUSED
    if arguments.confirm is None:
        if not at_terminal():
            raise BadInputError(f"{_article(made)} has to be confirmed", fix=f"--confirm {clean(shlex.quote(words))}")
        say(describe(made), "")
        say(f"Type {_asked(made)} ({words}) to go on; anything else stops here.")
        if ask("> ") != words:
            say("nothing was done")
            return Exit.REFUSED
    elif arguments.confirm != words:
        text = f"--confirm {clean(arguments.confirm)!r} is not {_asked(made)}"
        raise BadInputError(text, fix=f"--confirm {clean(shlex.quote(words))}")
    return _carry_out(lambda: runner.start(made), made, as_object=arguments.json)


def _article(made: Plan) -> str:
    return "an unmounting" if made.scope.reach is Reach.VOLUME else "a removal"


def _asked(made: Plan) -> str:
    if made.lossy:
        return "these words"
    if made.scope.reach is Reach.VOLUME:
        return "the mount point"
    if made.scope.reach is not Reach.DISKS:
        return f"the {made.scope.reach}'s name"
    return "the disk's name" if len(made.members) == 1 else "the disks' names"


def remove_disks(names: Sequence[str]) -> int:
    """Plan and remove disks without asking, all in one: for a practice range that ends, whose disks it made itself."""
    made = _make(lambda found: find_scope(found, names), Options(watch_s=0.5))
    if made.blocked:
        say(describe(made))
        return Exit.REFUSED
    return _carry_out(lambda: runner.start(made), made, as_object=False)


def resume(arguments: argparse.Namespace) -> int:
    """`mooring resume [DISK]`."""
    need_root("resuming a removal")
    path = _journal(arguments.journal)
    told = len(journal.read(path))
    return _carry_out(lambda: runner.resume(path), _plan_of(path), as_object=arguments.json, told=told)


def undo(arguments: argparse.Namespace) -> int:
    """`mooring undo [DISK]`."""
    need_root("undoing a removal")
    path = _journal(arguments.journal, done=True)
    files = (arguments.chap_secret_file, arguments.chap_target_secret_file)
    secrets = Secrets(*(secret_from(Path(file)) if file else None for file in files))
    before = journal.read(path)
    told = len(before)
    if before and before[-1].outcome is Outcome.DONE:
        say(f"taking back what was done: {_plan_of(path).name}", f"  journal: {path}")
    return _carry_out(lambda: runner.undo(path, secrets), _plan_of(path), as_object=arguments.json, told=told)


def report(arguments: argparse.Namespace) -> int:
    """`mooring report [JOURNAL]`: what became of a removal; the newest one without a name."""
    made = make_report(journal.read(_any_journal(arguments.journal)))
    if arguments.json:
        emit(made.to_json())
    else:
        print("\n".join(made.lines()))
    return Exit.DONE


def _any_journal(text: str | None) -> Path:
    """The journal of this file name; else the newest one, of whatever has this name."""
    if text is not None and text.endswith(SUFFIX) and Path(text).is_file():
        return Path(text)
    for path in sorted(runner.journal_dir().glob(f"*{SUFFIX}"), reverse=True):
        if text is None or text == path.name or text == _name_in(path):
            return path
    raise BadInputError("there was no removal" if text is None else f"there was no removal of {clean(text)!r}")


def _name_in(path: Path) -> str | None:
    """What a journal's removal was called; None for one that cannot be read."""
    try:
        return _plan_of(path).name
    except (MooringError, IndexError, KeyError):
        return None


def _options(arguments: argparse.Namespace) -> Options:
    settings = config.load()[0].removal
    chosen = {
        "abandon": arguments.abandon,
        "end_users": arguments.end_processes,
        "other_namespaces": arguments.other_namespaces,
    }
    if arguments.watch is None:
        return Options(watch_s=settings.watch_s, settle_s=settings.settle_s, **chosen)
    if not 0 <= arguments.watch <= 3600:
        raise BadInputError(f"--watch {arguments.watch:g} is not between 0 and 3600 seconds")
    return Options(watch_s=arguments.watch, settle_s=settings.settle_s, **chosen)


def _make(wanted: Callable[[Snapshot], Scope], options: Options) -> Plan:
    return prepare(wanted, EngineClient(), options)


def _plan_of(path: Path) -> Plan:
    first = journal.read(path)[0]
    return Plan.from_json(first.data["plan"])


def _journal(text: str | None, *, done: bool = False) -> Path:
    """The journal of this file name, else of the unfinished removal of this disk; without a name, the only one.

    Args:
        text: What a person typed, if anything.
        done: Take one that was done where nothing unfinished fits.
    """
    if text is not None and text.endswith(SUFFIX) and Path(text).is_file():
        if done:  # one that was overtaken is refused, however it is named
            newest_done(_past(), str(Path(text).absolute()))
        return Path(text)
    known = journal.unfinished(runner.journal_dir())
    fits = [item for item in known if text is None or text in (item.disk, *item.keys, str(item.path), item.path.name)]
    if len(fits) == 1:
        if fits[0].running:
            raise BadInputError(f"the removal of {clean(fits[0].disk)} is still running", fix="wait for its end")
        return fits[0].path
    if done and not fits and (newest := newest_done(_past(), text)) is not None:
        return newest.path
    if not known:
        raise BadInputError(f"no removal is unfinished{', and none was done that can be taken back' if done else ''}")
    listed = "; ".join(f"{clean(item.disk)}: {item.path}" for item in known)
    wanted = "name one" if text is None else f"none is called {clean(text)!r}"
    raise BadInputError(f"{len(known)} removals are unfinished; {wanted}", fix=listed)


def _past() -> list[Past]:
    """Every removal, newest first, but those from a practice range that has ended: its disks are gone for good."""
    from initiator.practice import config as practice
    from initiator.practice import range as ranges

    current = ranges.current()
    there = {disk.wwid for disk in current.disks} if current is not None else set()

    def is_over(past: Past) -> bool:
        disks = past.records[0].data.get("plan", {}).get("disks", ()) if past.records else ()
        targets = {disk.get("identity", {}).get("target") for disk in disks}
        return not targets.isdisjoint((practice.HARBOUR, practice.LIGHTHOUSE)) and not there.issuperset(
            past.wwid.split()
        )

    return [past for past in Shelf(runner.journal_dir()).look() if not is_over(past)]


def describe(made: Plan) -> str:
    """A plan for a person: what speaks against it, then each step with what it does, proves and undoes."""
    lines = [_heading(made), *_reach_lines(made), ""]
    lines += [line for finding in made.findings for line in _finding_lines(finding)]
    if made.blocked:
        what = "This disk" if made.scope.reach is Reach.DISKS and len(made.members) == 1 else "This"
        done = verb(made.scope.reach).done
        return "\n".join([*lines, "", f"{what} cannot be {done} now. Nothing was changed."])
    lines += ["", f"Steps (about {made.expected_s:.0f} s):"]
    for number, step in enumerate(made.steps, 1):
        lines.append(f"{number:3}. {clean(step.title)}")
        lines.append(f"       does:   {clean(step.command)}")
        lines.append(f"       proof:  {clean(step.proof)}")
        if step.undo:
            lines.append(f"       undo:   {clean(step.undo)}")
        lines.append(f"       time:   {_time(step)}")
    return "\n".join(lines)


def _time(step: Step) -> str:
    return f"about {max(step.expected_s, 0.1):.1f} s, stopped after {step.deadline_s:.0f} s"


def _heading(made: Plan) -> str:
    if made.scope.reach is Reach.DISKS and len(made.members) == 1:
        (disk,) = (member.identity for member in made.members)
        return f"Removing {clean(disk.name)} ({clean(disk.device or 'no device')}, {clean(disk.wwid or 'no WWID')})"
    what = "" if made.scope.reach is Reach.DISKS else f"the {made.scope.reach} "
    return f"{verb(made.scope.reach).doing.capitalize()} {what}{clean(made.name)}"


def _reach_lines(made: Plan) -> list[str]:
    """How far it reaches: disks that go or stay, and sessions by their number."""
    lines = []
    for member in made.members:
        disk = member.identity
        fate = "leaves this host" if member.whole else _stays(made)
        lines.append(f"  disk {clean(disk.name)} ({clean(disk.device or 'no device')}): {fate}")
    for each in made.touched:
        over = f" over {clean(each.link)}" if each.link else ""
        why = f"stays, for {clean(', '.join(each.stays_for))}" if each.stays_for else "stays"
        fate = "is logged out" if each.ends else why
        lines.append(f"  session {each.number} ({clean(each.target)} at {clean(each.portal)}{over}): {fate}")
    return lines


def _stays(made: Plan) -> str:
    return "stays attached" if made.scope.reach is Reach.VOLUME else "stays, over its other paths"


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"  {_SIGN[finding.level]}: {clean(finding.text)}  [{finding.code}]"]
    lines += [
        f"      {word} {clean(text)}" for word, text in (("seen:", finding.evidence), ("->", finding.fix)) if text
    ]
    return lines


def _carry_out(begin: Callable[[], Path], made: Plan, *, as_object: bool, told: int = 0) -> int:
    """Have a runner begin, and follow it; `told` is as in `_follow`."""
    try:
        path = begin()
    except KeyboardInterrupt:
        with _undisturbed():
            say("interrupted while the runner was started: it may begin, and then goes on by itself")
            say(f"  -> how it stands: mooring report {shlex.quote(made.name)}")
        return Exit.UNKNOWN
    return _follow(path, made, as_object=as_object, told=told)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """For the last words, which take no time: whoever presses Ctrl+C again is still to know how it stands."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(path: Path, made: Plan, *, as_object: bool, told: int = 0) -> int:
    """Narrate a runner's journal until it ends; returns the exit code that its outcome stands for.

    Args:
        path: The journal.
        made: Its plan.
        as_object: Whether to print the end as JSON.
        told: How many records earlier runs have written, which nobody wants to read again.
    """
    last: Record | None = None
    number, left = -1, False
    begun: dict[str, float] = {}
    steps = {step.id: step for step in made.steps}
    try:
        for number, record in enumerate(journal.follow(path)):
            last = record
            if number >= told:
                _narrate(record, steps, begun)
    except (KeyboardInterrupt, BrokenPipeError):
        left = True
    with _undisturbed():
        if left:
            if last is None or last.outcome is None or number < told:
                return _not_followed(path, made, as_object=as_object)
            let_go_of_pipes()  # it has ended all the same
        return _ended(path, made, last, as_object=as_object)


def _ended(path: Path, made: Plan, last: Record | None, *, as_object: bool) -> int:
    """Tell how to go on after a journal's last record; gives the exit code."""
    outcome = last.outcome if last is not None else None
    if outcome is None:
        say("the runner died; the journal is kept", f"  -> mooring resume {shlex.quote(made.name)}, or: mooring undo")
    elif outcome in (Outcome.STOPPED, Outcome.UNKNOWN):
        name = shlex.quote(made.name)
        say(f"  -> mooring resume {name}, or: mooring undo {name}", f"  journal: {path}")
    elif outcome is Outcome.DONE:
        say(f"  journal: {path}")
    if as_object:
        _emit_end(path, made, outcome, last.text if last else "")
    return EXIT[outcome] if outcome is not None else int(Exit.STOPPED)


def _not_followed(path: Path, made: Plan, *, as_object: bool) -> int:
    """The person or the reader of the narration went away; the runner has a session of its own and does not notice."""
    reason = "not followed to its end; the runner goes on by itself"
    with contextlib.suppress(BrokenPipeError):
        say(reason, f"  -> how it stands: mooring report {shlex.quote(made.name)}", f"  journal: {path}")
    with contextlib.suppress(BrokenPipeError):
        if as_object:
            _emit_end(path, made, None, reason)
    let_go_of_pipes()
    return Exit.UNKNOWN


def _emit_end(path: Path, made: Plan, outcome: Outcome | None, reason: str) -> None:
    emit(
        {
            "schema": SCHEMA,
            "name": made.name,
            "outcome": outcome,
            "reason": reason,
            "journal": str(path),
            "steps": [
                {"id": item.step, "mark": item.mark, "at": item.at, "evidence": item.text}
                for item in journal.read(path)
                if item.kind is Kind.STEP
            ],
        }
    )


def _narrate(record: Record, steps: dict[str, Step], begun: dict[str, float]) -> None:
    if record.kind is Kind.END:
        say(f"{(record.outcome or '').upper()}: {record.text}")
    elif record.kind is Kind.NOTE:
        say(f"      {record.text}")
    elif record.kind is Kind.STEP and record.step is not None:
        title = steps[record.step].title if record.step in steps else record.step
        if record.mark in (Mark.STARTED, Mark.UNDOING):
            begun[record.step] = record.at
        else:
            took = record.at - begun.get(record.step, record.at)
            say(f"  {record.mark}: {title} ({took:.1f} s)" + (f" - {record.text}" if record.text else ""))
