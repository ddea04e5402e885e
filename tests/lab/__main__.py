"""The lab by hand: `python -m tests.lab build | shell | bench | detect | long | figures`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import bench, detect, long, stacks
from tests.lab.image import ImageError, image
from tests.lab.machine import Machine
from tests.lab.shell import shell


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="make the guest's image, if need be")
    commands.add_parser("shell", help="a shell in the guest")
    commands.add_parser("bench", help="one snapshot beside the commands that tell the same")
    commands.add_parser("detect", help="how soon each one notices a fault")
    trial = commands.add_parser("long", help="killed and raced removals; results are appended to a file")
    trial.add_argument("--seed", type=int, default=long.SEED, help="of every choice")
    trial.add_argument("--minutes", type=float, default=120.0, help="after which no other stack is begun")
    trial.add_argument("stack", nargs="*", help=f"only these: {', '.join(each.name for each in stacks.EVERY)}")
    commands.add_parser("figures", help="what the results of `long` add up to")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Runs one of the commands."""
    given = _arguments(words)
    if given.command == "figures":
        print(long.figures())
        return 0
    try:
        built = image()
    except ImageError as error:
        print(f"the lab cannot run: {error}", file=sys.stderr)
        return 1
    if given.command == "build":
        print(f"the lab's guest is in {built}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mooring-lab-") as folder:
        print("booting (about a minute under emulation)…", file=sys.stderr)
        machine = Machine(Path(folder), 2)
        try:
            return 0 if _run(machine, given) else 1
        finally:
            machine.stop()


def _run(machine: Machine, given: argparse.Namespace) -> bool:
    if given.command == "long":
        return long.main(machine, given.seed, given.minutes, given.stack)
    return {"shell": shell, "bench": bench.main, "detect": detect.main}[given.command](machine)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
