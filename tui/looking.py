"""Looks into a volume for the dashboard, by the command line in a process of its own: this one touches no volume."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from initiator.errors import MooringError, OutcomeUnknownError, RefusedError
from tui.exits import Exit

if TYPE_CHECKING:
    from initiator.host.run import Finished

_SECONDS = 180.0


class Looker(Protocol):
    """Mounts a volume read-only, to look into it."""

    def look(self, name: str) -> str:
        """Mount what has this name or device; tells where it is.

        Raises:
            MooringError: it is not mounted; with the reasons.
        """


class HostLooker:
    """Volumes of this host, by `mooring mount`."""

    def look(self, name: str) -> str:
        """Run the command and read its answer."""
        from initiator.host.run import run

        ours = {key: value for key, value in os.environ.items() if key.startswith("MOORING_")}
        argv = [sys.executable, "-m", "tui.cli", "mount", "--read-only", "--json", "--", name]
        return told(run(argv, _SECONDS, env=ours))


def told(done: Finished) -> str:
    """What the command said, as one sentence.

    Raises:
        MooringError: it did not mount it; with what it says.
    """
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode == Exit.DONE:
        return f"It is mounted read-only at {answer['folder']}. When you have looked: U on its row in view 7."
    findings = answer.get("findings", ())
    if findings:
        raise RefusedError(" ".join(each["text"] for each in findings), fix=findings[0]["fix"])
    said, _, fix = done.stderr.removeprefix("mooring: ").partition("\n  -> ")
    kind = OutcomeUnknownError if done.returncode == Exit.UNKNOWN else MooringError
    raise kind(" ".join(said.split()) or f"mooring mount ended with {done.returncode}", fix=" ".join(fix.split()))
