"""An engine whose workers have memory instead of a target. `python -m` this runs one."""

from __future__ import annotations

import sys

from initiator.engine.supervisor import main

MODULE = "tests.engine.memory_supervisor"

if __name__ == "__main__":
    sys.exit(main("tests.engine.memory_stack", MODULE))
