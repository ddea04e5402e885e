"""`make lab-shell`: boot the guest and give a shell in it, on this terminal. `build` only makes the image."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.lab.image import ImageError, image
from tests.lab.machine import Machine


def shell() -> None:
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


def main(words: list[str]) -> int:
    """Runs one of the commands."""
    try:
        if words == ["build"]:
            print(f"the lab's guest is in {image()}")
        elif words == ["shell"]:
            shell()
        else:
            print("python -m tests.lab build | shell", file=sys.stderr)
            return 2
    except ImageError as error:
        print(f"the lab cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
