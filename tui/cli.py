"""The command `mooring`: reads arguments, runs one command, turns every outcome into an exit code.

Start-up time is part of the interface (scripts call it in loops), so each command imports what it needs only when it
runs, and nothing here imports Textual.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from initiator.errors import MooringError
from initiator.quick import unsearched
from tui.adder import Adder, Commands, lazy
from tui.exits import Exit, exit_for, let_go_of_pipes, say, say_error

KINDS = ("disks", "sessions", "paths", "volumes", "links")
"""What `list` can be told to show alone."""
READING = ("list", "show")
"""What programs run again and again: for these most other parsers are not made, and nobody searches for garbage."""

EPILOG = """exit codes: 0 done, 1 error, 2 usage, 3 refused by a guard, 4 stopped part-way (a removal
keeps its journal), 5 not permitted, 6 outcome unknown"""

VIEW_NAMES = (*("overview", "tree", "sessions", "disks", "paths", "links", "volumes", "checks", "events", "removals"),)
"""The views of the dashboard by name. Written down here too: the command line does not load the dashboard."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""
    words = sys.argv[1:] if argv is None else argv
    reading = bool(words) and words[0] in READING
    with unsearched() if reading else contextlib.nullcontext():
        return _run(build_parser(reading).parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.changes and not getattr(arguments, "dry_run", False):
            _may_change(arguments)
        return int(arguments.run(arguments))
    except MooringError as error:
        say_error(error)
        return exit_for(error)
    except BrokenPipeError:
        let_go_of_pipes()  # the reader of our output went away; there is nobody to tell
        return Exit.ERROR
    except KeyboardInterrupt:
        say("mooring: interrupted")
        return 130
    except Exception as error:
        if os.environ.get("MOORING_DEBUG"):
            raise
        say(f"mooring: internal error: {type(error).__name__}: {error}", "  -> set MOORING_DEBUG=1 to see where")
        return Exit.ERROR


def _may_change(arguments: argparse.Namespace) -> None:
    """Let a command through that changes something, unless `--read-only` or the policy of this host forbids it.

    The dashboard of a practice range is let through: it is that which is read-only then.

    Raises:
        NotPermittedError: one of them does.
    """
    from tui import policy

    policy.load().check(arguments.changes)
    if arguments.read_only and not (arguments.shows and not arguments.headless):
        from initiator.errors import NotPermittedError

        raise NotPermittedError(f"“{arguments.changes}” changes something", fix="leave --read-only out")


def build_parser(reading: bool = False) -> argparse.ArgumentParser:
    """Every command and option of `mooring`.

    Args:
        reading: Leave out what `READING` can do without.
    """
    parser = argparse.ArgumentParser(
        prog="mooring",
        description="See iSCSI sessions, their paths and volumes on one screen, and take a disk away safely.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and leave")
    parser.add_argument("--read-only", action="store_true", help="show everything, change nothing")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    parser.add_argument("--screenshot", metavar="FILE", help="save the first full screen as SVG and leave")
    parser.add_argument("--view", choices=VIEW_NAMES, default=VIEW_NAMES[0], help="the view that is shown first")
    parser.set_defaults(run=lazy("tui.commands.dashboard", "dashboard"), changes=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_reading(commands)
    if not reading:
        from tui.parsers import add_all

        add_all(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that import costs a quarter of a listing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print(f"mooring {importlib.metadata.version('mooring')}")
        parser.exit()


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(KINDS)}")
    return text


def _add_reading(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "reading")
    listing = group.add(
        "list", "list_all", "everything at once: sessions, disks, paths, maps, volumes, links", json=True
    )
    listing.add_argument("kind", nargs="*", type=_kind, metavar="KIND", help=f"only {', '.join(KINDS)}")
    listing.add_argument("--csv", action="store_true", help="print one kind as comma-separated values")
    show = group.add("show", "show", "every detail of one thing", json=True)
    show.add_argument("name", help="name or id; a disk also by WWID, device or mount point")
    group = Adder(commands, "watching")
    watch = group.add("watch", "watch", "print changes and alerts as they happen, one line each", json=True)
    watch.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="time between two looks (1)")
    watch.add_argument("--plain", action="store_true", help="whole sentences, and how the host is to begin with")
    watch.add_argument("--probes", action="store_true", help="probe each kernel session by one beside it, too")
    watch.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after this long")


if __name__ == "__main__":
    sys.exit(main())
