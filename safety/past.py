"""The removals of this host so far, as their journals tell: what was removed, when, and how that ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from safety.journal import JournalError, Kind, Mark, Outcome, Record, read, runner_alive

SUFFIX = ".jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """One removal, over or not."""

    id: str
    """`removal:` and the name of its journal."""
    path: Path
    name: str
    """What was removed, as the person knew it; the journal's own name where it cannot say."""
    host: str
    wwid: str
    """The identities of its disks, with a space between them."""
    began: float
    """Unix time of the first record; 0 where the journal cannot be read."""
    ended: float | None
    """Unix time of the last record of a runner that ended; None while it runs, or where it died."""
    outcome: Outcome | None
    """How the last runner ended; None where none did."""
    running: bool
    said: str
    """The runner's last word, or why there is none."""
    proven: int
    """Steps whose last mark says that they were verified."""
    steps: int
    records: tuple[Record, ...] = dataclasses.field(repr=False, default=())


def leaving(removals: Iterable[Past]) -> frozenset[str]:
    """The identities of the disks that a runner is busy with now."""
    return frozenset(wwid for past in removals if past.running for wwid in past.wwid.split())


class Shelf:
    """Reads the journals of a folder; those that did not change since the last look are not read again.

    Args:
        folder: Where the journals are.
        alive: Says of a `run` record whether that runner still lives.
    """

    def __init__(self, folder: Path, alive: Callable[[Record], bool] = runner_alive) -> None:
        self._folder = folder
        self._alive = alive
        self._known: dict[Path, tuple[tuple[int, int], Past]] = {}

    def look(self) -> tuple[Past, ...]:
        """All removals, newest first. A journal that cannot be read is listed with the reason."""
        known: dict[Path, tuple[tuple[int, int], Past]] = {}
        for path in self._folder.glob(f"*{SUFFIX}"):
            try:
                found = path.stat()
            except OSError:  # taken away between the listing and now
                continue
            stamp = (found.st_mtime_ns, found.st_size)
            before = self._known.get(path)
            if before is not None and before[0] == stamp and not before[1].running:
                known[path] = before
            else:
                known[path] = (stamp, self._read(path))
        self._known = known
        return tuple(sorted((past for _, past in known.values()), key=lambda past: (-past.began, past.id)))

    def _read(self, path: Path) -> Past:
        try:
            records = read(path)
        except JournalError as error:
            return _unreadable(path, f"The journal cannot be read: {error}")
        if not records:
            return _unreadable(path, "The journal is empty: nothing was begun.")
        return _past(path, records, self._alive)


def _unreadable(path: Path, reason: str) -> Past:
    return Past(f"removal:{path.stem}", path, path.stem, "", "", 0.0, None, None, False, reason, 0, 0)


def _past(path: Path, records: tuple[Record, ...], alive: Callable[[Record], bool]) -> Past:
    last = records[-1]
    runs = [record for record in records if record.kind is Kind.RUN]
    over = last.kind is Kind.END
    running = bool(runs) and not over and alive(runs[-1])
    plan = records[0].data.get("plan", {})
    identities = [disk.get("identity", {}).get("wwid") for disk in plan.get("disks", ())]
    marks = {record.step: record.mark for record in records if record.kind is Kind.STEP}
    said = last.text if over else "It is under way." if running else "Its runner died."
    return Past(
        id=f"removal:{path.stem}",
        path=path,
        name=str(plan.get("name") or path.stem),
        host=str(plan.get("host", "")),
        wwid=" ".join(str(wwid) for wwid in identities if wwid),
        began=records[0].at,
        ended=last.at if over else None,
        outcome=last.outcome,
        running=running,
        said=said,
        proven=sum(mark is Mark.VERIFIED for mark in marks.values()),
        steps=len(plan.get("steps", ())),
        records=records,
    )
