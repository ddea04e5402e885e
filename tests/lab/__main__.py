"""The lab by hand: `build` makes the guest's image, `shell` gives a shell in it, `bench` measures in it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.lab import bench
from tests.lab.image import ImageError, image
from tests.lab.machine import Machine


def shell(machine: Machine) -> bool:
    """Line by line: what is typed runs in the guest, what it prints comes back; an empty line ends."""
    try:
        while line := input("lab# ").strip():
            ran = machine.run(line, seconds=600, check=False)
            print(ran.out, end="")
            print(ran.err, end="", file=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        print()
    return True


WITH_GUEST = {"shell": shell, "bench": bench.main}


def main(words: list[str]) -> int:
    """Runs one of the commands."""
    if words not in (["build"], *([name] for name in WITH_GUEST)):
        print(f"python -m tests.lab build | {' | '.join(WITH_GUEST)}", file=sys.stderr)
        return 2
    try:
        built = image()
    except ImageError as error:
        print(f"the lab cannot run: {error}", file=sys.stderr)
        return 1
    if words == ["build"]:
        print(f"the lab's guest is in {built}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mooring-lab-") as folder:
        print("booting (about a minute under emulation)…", file=sys.stderr)
        machine = Machine(Path(folder))
        try:
            return 0 if WITH_GUEST[words[0]](machine) else 1
        finally:
            machine.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
