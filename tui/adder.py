"""How a command gets its parser: one line each, and nothing of the command itself is imported for it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

Command = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction


def lazy(module: str, function: str) -> Command:
    """A command whose module is only imported when it runs."""

    def run(arguments: argparse.Namespace) -> int:
        command: Command = getattr(importlib.import_module(module), function)
        return command(arguments)

    return run


class Adder:
    """Adds one command to a group of sub-commands."""

    def __init__(self, commands: Commands[argparse.ArgumentParser], module: str) -> None:
        self._commands = commands
        self._module = f"tui.commands.{module}"

    def add(
        self, name: str, function: str, text: str, *, json: bool = False, changes: str | None = None
    ) -> argparse.ArgumentParser:
        """One command; `changes` is what `tui.policy` calls it, if it changes something."""
        parser = self._commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        parser.set_defaults(run=lazy(self._module, function), changes=changes, shows=False)
        if json:
            parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        return parser
