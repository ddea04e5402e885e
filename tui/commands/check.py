"""`mooring check`: what this host is set up to suffer from one day."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Sequence

from initiator.errors import BadInputError
from initiator.model import SCHEMA, Severity
from initiator.names import clean
from safety.advice.catalogue import RULES, advise, at_least
from safety.advice.reading import FactsReader
from safety.advice.rule import Rule
from tui.checktext import findings_text, rules_text, summary, unknown_text
from tui.commands.common import emit, snapshot
from tui.exits import Exit, say
from tui.export import as_json


def check(arguments: argparse.Namespace) -> int:
    """`mooring check [RULE…]`."""
    rules = chosen(arguments.rule, arguments.ignore)
    if arguments.list:
        return _list(rules, as_document=arguments.json)
    found = snapshot()
    advice = advise(found, FactsReader().read(found), rules)
    if arguments.json:
        emit({"schema": SCHEMA, "host": found.host, **as_json(advice._asdict())})
    else:
        width = min(max(shutil.get_terminal_size().columns, 60), 120)
        if advice.findings:
            print(findings_text(advice.findings, width))
        if arguments.unknown and advice.unknown:
            print(("\n" if advice.findings else "") + unknown_text(advice.unknown, width))
        say(f"{len(rules)} rules: {summary(advice)}")
        if advice.unknown and not arguments.unknown:
            say("  -> see them with: mooring check --unknown")
    failed = arguments.fail_on is not None and at_least(advice.findings, Severity(arguments.fail_on))
    return Exit.ERROR if failed else Exit.DONE


def _list(rules: Sequence[Rule], *, as_document: bool) -> int:
    if as_document:
        names = ("id", "family", "severity", "title", "reason", "fix")
        emit({"schema": SCHEMA, "rules": [{name: getattr(rule, name) for name in names} for rule in rules]})
    else:
        print(rules_text(rules))
    return Exit.DONE


def chosen(wanted: Sequence[str], ignored: Sequence[str]) -> list[Rule]:
    """The rules that are named, by id or family (all without a name), but for the ignored ones.

    Raises:
        BadInputError: there is no such rule.
    """
    names = {name for rule in RULES for name in (rule.id, rule.family)}
    for name in (*wanted, *ignored):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "mooring check --list names them all"
            raise BadInputError(f"there is no rule {clean(name)!r}", fix=hint)
    return [
        rule
        for rule in RULES
        if (not wanted or {rule.id, rule.family}.intersection(wanted))
        and not {rule.id, rule.family}.intersection(ignored)
    ]
