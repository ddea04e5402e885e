"""A runner that is killed (SIGKILL, by itself) before or after one record of its journal.

`mortal.py DISK STEP MARK before|after`: plans the removal of a disk, and dies in it. Prints the journal's path.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from initiator.engine.client import EngineClient
from safety import journal as journal_
from safety.effects import Host
from safety.journal import Journal, Kind, Record
from safety.places import journal_dir, new_journal
from safety.plan import Options
from safety.prepare import prepare
from safety.runner import work, write_plan
from tui.find import find_scope


class Mortal(Journal):
    """Dies at its record."""

    def append(self, kind: Kind, text: str = "", **more: Any) -> Record:
        """As the journal does, until it is time."""
        due = [more.get("step"), str(more.get("mark"))] == sys.argv[2:4]
        if due and sys.argv[4] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        record = super().append(kind, text, **more)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return record


def main() -> int:
    """Exit code of the runner, if it lives."""
    plan = prepare(lambda found: find_scope(found, sys.argv[1].split()), EngineClient(), Options(watch_s=1.0))
    if plan.blocked:
        print([finding.text for finding in plan.findings], file=sys.stderr)
        return 3
    path = new_journal(journal_dir(), plan.digest, time.time())
    with Journal.create(path, boot=journal_.boot_id()) as made:
        write_plan(made, plan)
    print(path, flush=True)
    return work(
        path,
        "run",
        lambda place: Host(EngineClient(), place),
        open_journal=lambda place: Mortal.open(place, boot=journal_.boot_id()),
    )


if __name__ == "__main__":
    sys.exit(main())
