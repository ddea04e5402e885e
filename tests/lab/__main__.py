"""`make lab-shell`: boot the guest and give a shell in it on the console of this terminal."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.lab.machine import Machine


def main() -> int:
    """Line by line: what is typed runs in the guest, what it prints comes back; an empty line ends."""
    with tempfile.TemporaryDirectory(prefix="mooring-lab-") as folder:
        print("booting (about a minute under emulation)…", file=sys.stderr)
        machine = Machine(Path(folder))
        try:
            while line := input("lab# ").strip():
                ran = machine.run(line, seconds=600, check=False)
                print(ran.out, end="")
                print(ran.err, end="", file=sys.stderr)
        except (EOFError, KeyboardInterrupt):
            print()
        finally:
            machine.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
