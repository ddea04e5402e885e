"""The guided tour of the practice range: six lessons, each checked by what the person really did. No Textual here.

A lesson is a list of tasks; a task is done when what was seen since the lesson began says so. It comes from three
places: readings of the host (`saw_world`), what the person looked at (`saw_row`, `saw_plan`), and what the program
did for them (`Seen` fields that the dashboard sets). Nothing is believed because a key was pressed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from initiator.model import Disk, PathState, Snapshot
from tui.words import say

_WORKING = (PathState.ACTIVE, PathState.STANDBY)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What happened since a lesson began."""

    kinds: frozenset[str] = frozenset()
    """Kinds of thing whose details were on screen: `disk`, `path`, `link`, …"""
    helped: bool = False
    """The words were read."""
    first: Snapshot | None = None
    last: Snapshot | None = None
    """The first and the newest reading of the lesson."""
    survived: bool = False
    """At one moment a disk had a failed path and went on over another one."""
    failed_path: bool = False
    """The details of a failed path were on screen."""
    lost: tuple[int, int] | None = None
    """Bytes that a program had written, and how many of them the disk has: the disaster was made."""
    blocked: tuple[str, frozenset[str]] | None = None
    """The last plan that was refused: the disk, and the codes of what stands in its way."""
    unblocked: bool = False
    """A plan of a disk that was refused before was allowed."""
    planned: bool = False
    removed: frozenset[str] = frozenset()
    """Names of what was removed, each removal proved to its end: disks, or a whole target."""


Check = Callable[[Seen], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One thing to do."""

    text: str
    done: Check


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """One lesson."""

    id: str
    title: str
    why: str
    """What it is about, in plain words."""
    tasks: tuple[Task, ...]
    learnt: Callable[[Seen], str]
    """What there was to see, once all is done."""


def saw_world(seen: Seen, snapshot: Snapshot) -> Seen:
    """Take up a reading of the host."""
    survived = seen.survived or any(_is_surviving(disk, snapshot) for disk in snapshot.disks)
    return dataclasses.replace(seen, first=seen.first or snapshot, last=snapshot, survived=survived)


def saw_row(seen: Seen, kind: str, state: object = None) -> Seen:
    """Take up that the details of a thing were looked at."""
    failed = seen.failed_path or (kind == "path" and state is PathState.FAILED)
    return dataclasses.replace(seen, kinds=seen.kinds | {kind}, failed_path=failed)


def saw_plan(seen: Seen, disk: str, blocks: Iterable[str]) -> Seen:
    """Take up that a plan of a removal was read; `blocks` are the codes of the findings that forbid it."""
    codes = frozenset(blocks)
    if codes:
        return dataclasses.replace(seen, blocked=(disk, codes))
    freed = seen.blocked is not None and seen.blocked[0] == disk
    return dataclasses.replace(seen, planned=True, unblocked=seen.unblocked or freed)


def _is_surviving(disk: Disk, snapshot: Snapshot) -> bool:
    states = [path.state for path in snapshot.paths if path.disk == disk.id]
    return PathState.FAILED in states and any(state in _WORKING for state in states)


def _all_work(seen: Seen) -> bool:
    paths = seen.last.paths if seen.last else ()
    return bool(paths) and all(path.state in _WORKING for path in paths)


def _lost(seen: Seen) -> str:
    written, arrived = seen.lost or (0, 0)
    return (
        f"A program had written {written} bytes and was told “done”; {arrived} of them are on the disk. Nobody was"
        " warned, and no error came until it was too late. That is why Mooring unmounts first and logs out last."
    )


def _target_left(seen: Seen) -> bool:
    """Whether a target that had sessions when the lesson began has none any more, and its disks were removed."""
    if seen.first is None or seen.last is None:
        return False
    now = {session.target for session in seen.last.sessions}
    gone = {session.target for session in seen.first.sessions} - now
    return any(target in seen.removed or _was_removed(_attached(seen.first, target), seen) for target in gone)


def _was_removed(names: set[str], seen: Seen) -> bool:
    return bool(names) and names <= seen.removed


def _attached(snapshot: Snapshot, target: str) -> set[str]:
    return {disk.name for disk in snapshot.disks if disk.target == target and disk.device}


def _told(text: str) -> Callable[[Seen], str]:
    return lambda _: text


LESSONS: tuple[Lesson, ...] = (
    Lesson(
        "look",
        "Look around",
        "An iSCSI disk is an internal drive whose cable is a network. Each disk here is reached over two paths: two"
        " sessions, to two portals, as over two cables.",
        (
            Task(
                "Move from disk to disk with the arrow keys, and read what one is made of.", lambda s: "disk" in s.kinds
            ),
            Task(
                "Press 5 for the paths, and move to one: which session, portal and link does it use?",
                lambda s: "path" in s.kinds,
            ),
            Task("Press ? and find out what a WWID is. Esc brings you back.", lambda s: s.helped),
        ),
        _told("A disk is what its WWID says. The paths are only ways to get there: names and numbers may change."),
    ),
    Lesson(
        "cable",
        "Pull a cable",
        "With two paths a pulled cable costs speed; with one it costs the disk. See what it looks like while nothing"
        " depends on it.",
        (
            Task("Ctrl+P, type “pull”, and pull the cable of one portal.", lambda s: s.survived),
            Task(
                "Press 5 and move to a path that failed: why did it? Press n to go from problem to problem.",
                lambda s: s.failed_path,
            ),
            Task("Ctrl+P, type “plug”, and wait until every path works.", lambda s: s.survived and _all_work(s)),
        ),
        _told(
            "The disks were degraded, not lost: I/O went on over the other path. Never pull the second cable before the"
            " first path has come back and settled."
        ),
    ),
    Lesson(
        "disaster",
        "Why not just log out?",
        "What a program writes waits in memory for a while. Logging out under a mounted volume is pulling the plug of a"
        " drive: what waits is lost. Do it once, here, on the practice disk “logs”.",
        (Task("Ctrl+P, type “disaster”, and let it happen.", lambda s: s.lost is not None),),
        _lost,
    ),
    Lesson(
        "remove",
        "Remove a disk safely",
        "Dismount, then offline, then logout: each step is proved from the kernel's own state before the next begins.",
        (
            Task(
                "Press 4, move to the disk “vault”, press r. Read the plan: what proves each step?", lambda s: s.planned
            ),
            Task("Go on, type its name, and watch it until it is safe to pull.", lambda s: bool(s.removed)),
        ),
        _told(
            "Every byte is with the target now, and nothing brings the disk back but you: `mooring undo`, with the CHAP"
            " secret of this target."
        ),
    ),
    Lesson(
        "blocked",
        "A removal that is refused",
        "There is no --force. What stands in the way is named, with its evidence and the way out.",
        (
            Task(
                "Ctrl+P, type “sit”, and let a program sit in the volume of “data”. Then press r on that disk.",
                lambda s: s.blocked is not None and "open" in s.blocked[1],
            ),
            Task(
                "Follow the advice: Ctrl+P, “end the program”. Press r again: nothing stands in the way now.",
                lambda s: s.unblocked,
            ),
        ),
        _told("On a real host you would have stopped the program. Mooring names it, and ends it only if told to."),
    ),
    Lesson(
        "drain",
        "Empty a target before its reboot",
        "Before a storage array is restarted, every disk of it has to be taken away from this host, each in the same"
        " order, and then no session to it may remain.",
        (
            Task(
                "Remove every disk of the target “harbour”, or drain the target as a whole, until it has no session.",
                _target_left,
            ),
        ),
        _told("No session of this host to that target remains: it can be restarted, and nobody here will notice."),
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Tour:
    """Where a person is."""

    number: int = 0
    """Of the lesson, from 0; the number of lessons when the tour is over."""
    seen: Seen = dataclasses.field(default_factory=Seen)
    reached: int = 0
    """How many tasks of the lesson are done: they have to be done in their order."""

    @property
    def lesson(self) -> Lesson | None:
        """The lesson of now; None when all are over."""
        return LESSONS[self.number] if self.number < len(LESSONS) else None

    @property
    def passed(self) -> bool:
        """Whether every task of the lesson is done."""
        return self.lesson is not None and self.reached == len(self.lesson.tasks)

    @property
    def task(self) -> Task | None:
        """What is to be done now."""
        return None if self.lesson is None or self.passed else self.lesson.tasks[self.reached]

    def take(self, seen: Seen) -> Tour:
        """The tour after something was seen."""
        lesson, reached = self.lesson, self.reached
        while lesson is not None and reached < len(lesson.tasks) and lesson.tasks[reached].done(seen):
            reached += 1
        return dataclasses.replace(self, seen=seen, reached=reached)

    def move(self, by: int) -> Tour:
        """Another lesson, from its beginning."""
        return Tour(min(max(self.number + by, 0), len(LESSONS)))

    def headline(self) -> str:
        """Which lesson it is."""
        if self.lesson is None:
            return "The tour is over"
        return f"Lesson {self.number + 1} of {len(LESSONS)}: {self.lesson.title}"

    def about(self) -> str:
        """What the lesson is about, at its beginning; then an empty string."""
        return self.lesson.why if self.lesson is not None and self.reached == 0 else ""

    def text(self) -> str:
        """What to do now, or what was learnt."""
        if self.lesson is None:
            return "You have seen all of it. `mooring glossary` has the words; the range is yours until you leave."
        if self.task is None:
            return say(self.lesson.learnt(self.seen))
        return f"{self.reached + 1}/{len(self.lesson.tasks)} {self.task.text}"
