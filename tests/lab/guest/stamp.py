"""Puts the time before each line: `mooring watch --json | stamp.py FILE`."""

from __future__ import annotations

import sys
import time

with open(sys.argv[1], "a", encoding="utf-8") as out:
    for line in sys.stdin:
        out.write(f"{time.time():.3f} {line}")
        out.flush()
