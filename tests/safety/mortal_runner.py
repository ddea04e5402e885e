"""The runner, but it is killed (SIGKILL, by itself) right before or after one record of its journal.

`python -m tests.safety.mortal_runner JOURNAL MODE STEP MARK before|after`
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from initiator.engine.client import EngineClient
from safety.effects import Host
from safety.journal import Journal, Kind, Record, boot_id
from safety.runner import work


class Mortal(Journal):
    step = ""
    mark = ""
    when = ""

    def append(self, kind: Kind, text: str = "", **more: Any) -> Record:
        due = more.get("step") == self.step and more.get("mark") == self.mark
        if due and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        record = super().append(kind, text, **more)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return record


if __name__ == "__main__":
    place, mode, Mortal.step, Mortal.mark, Mortal.when = sys.argv[1:]
    sys.exit(
        work(
            Path(place),
            mode,
            lambda journal: Host(EngineClient(), journal),
            open_journal=lambda journal: Mortal.open(journal, boot=boot_id()),
        )
    )
