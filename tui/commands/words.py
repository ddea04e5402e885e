"""Commands that tell about Mooring itself: its words, its settings, and the completions of a shell."""

from __future__ import annotations

import argparse
import dataclasses
import difflib

from initiator.errors import BadInputError
from initiator.names import clean
from tui import config, glossary, policy
from tui.actions import BY_ID
from tui.commands.common import emit
from tui.exits import Exit, say
from tui.export import as_json
from tui.terms import Term


def explain(arguments: argparse.Namespace) -> int:
    """`mooring glossary [TERM]`."""
    terms = _terms(arguments.term) if arguments.term else sorted(glossary.TERMS, key=lambda term: term.name.casefold())
    if arguments.json:
        emit({"schema": 1, "terms": [term._asdict() for term in terms]})
    else:
        print("\n\n".join(_text(term) for term in terms))
    return Exit.DONE


def _terms(words: list[str]) -> list[Term]:
    """The term with this name, or all that speak of it."""
    name = " ".join(words)
    if found := glossary.find(name):
        return [found]
    within = [term for term in glossary.TERMS if name.casefold() in f"{term.name} {term.text}".casefold()]
    if within:
        return within
    near = difflib.get_close_matches(name, [term.name for term in glossary.TERMS], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "mooring glossary lists all words"
    raise BadInputError(f"{clean(name)!r} is not in the glossary", fix=hint)


def _text(term: Term) -> str:
    import textwrap

    return f"{term.name}\n{textwrap.indent(textwrap.fill(term.text, 76), '  ')}"


def check_config(arguments: argparse.Namespace) -> int:
    """`mooring config check`: exit code 0 if everything in the files is understood."""
    _, mistakes = config.load(actions=BY_ID)
    read = [path for path in config.files() if path.exists()]
    broken = policy.load().forbidden.get(policy.EVERYTHING, "")
    if arguments.json:
        found = [as_json(mistake) for mistake in mistakes]
        emit({"schema": 1, "files": [str(path) for path in read], "mistakes": found, "ok": not mistakes})
    else:
        for mistake in mistakes:
            print(clean(str(mistake), 400))
        if not mistakes:
            names = ", ".join(map(str, read))
            print(f"{names}: all of it is understood" if read else "there is no file of settings: the defaults hold")
            if not read:
                say(*(f"  looked for {path}" for path in config.files()))
    if broken:
        say(f"note: {policy.FILE} forbids everything that changes anything: {broken}")
    return Exit.ERROR if mistakes else Exit.DONE


def show_config(arguments: argparse.Namespace) -> int:
    """`mooring config show`: what holds, as a file that could be written."""
    found, mistakes = config.load(actions=BY_ID)
    for mistake in mistakes:
        say(f"mooring: {mistake}")
    if arguments.json:
        emit({"schema": 1, **dataclasses.asdict(found), "forbidden": dict(policy.load().forbidden)})
        return Exit.DONE
    for name, section in dataclasses.asdict(found).items():
        print(f"[{name}]")
        for key, value in section.items():
            print(f"{key} = {_toml(value)}")
        print()
    return Exit.DONE


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        import json

        return json.dumps(value)  # a JSON string is a TOML basic string
    return str(value)


def completion(arguments: argparse.Namespace) -> int:
    """`mooring completion SHELL`: a script for the shell's start file."""
    import shtab

    from tui.cli import build_parser

    print(shtab.complete(build_parser(), arguments.shell))
    return Exit.DONE
