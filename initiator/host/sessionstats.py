"""What the kernel counts for each of its sessions and tells only through iscsiadm: aborts, digest errors, PDUs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from initiator.errors import MooringError
from initiator.host.run import Finished, run

SECONDS = 3.0
_LINE = re.compile(r"^\s+(\w+):\s+(\d+)\s*$")
_NAMES = {"eh_abort_cnt": "aborts", "tmfcmd_pdus": "management", "digest_err": "digest_errors", "rjt_pdus": "rejects"}


def read_stats(
    sid: int, run_: Callable[[Sequence[str], float], Finished] = lambda argv, deadline: run(argv, deadline)
) -> dict[str, int]:
    """The counters of one session since it was made: `aborts`, `management`, `digest_errors`, `rejects`.

    iscsid asks the kernel for them, so this needs root and a running iscsid, and takes some milliseconds.

    Returns:
        Empty where nobody answers.
    """
    try:
        done = run_(["iscsiadm", "-m", "session", "-r", str(sid), "-s"], SECONDS)
    except MooringError:
        return {}
    return parse_stats(done.stdout) if done.returncode == 0 else {}


def parse_stats(text: str) -> dict[str, int]:
    """The output of `iscsiadm -m session -r SID -s`."""
    found = (_LINE.match(line) for line in text.splitlines())
    return {_NAMES[line[1]]: int(line[2]) for line in found if line is not None and line[1] in _NAMES}
