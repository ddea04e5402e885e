"""Advice as text for people: the findings by rule, each with its reason and its way out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from initiator.model import Severity
from initiator.names import clean
from safety.advice.catalogue import Advice, Blank, Finding
from safety.advice.rule import Rule
from tui.export import table

_INDENT = 6


def summary(advice: Advice) -> str:
    """How many of each, in one line."""
    counts = [
        (severity, sum(found.severity is severity for found in advice.findings)) for severity in reversed(Severity)
    ]
    told = ", ".join(f"{count} {severity}" for severity, count in counts if count) or "nothing found"
    blank = len(advice.unknown)
    return told + (f"; {blank} {'question' if blank == 1 else 'questions'} without an answer" if blank else "")


def findings_text(findings: Sequence[Finding], width: int) -> str:
    """Every finding; those of one rule together, its reason told once."""
    parts = ["\n".join(_group([*group], width)) for _, group in groupby(findings, key=lambda found: found.rule)]
    return "\n\n".join(parts)


def _group(findings: Sequence[Finding], width: int) -> Iterator[str]:
    first = findings[0]
    yield from _wrapped(f"{first.severity.upper():5} ", f"{first.title}  [{first.rule}]", width)
    for found in findings:
        yield from _wrapped(" " * _INDENT + "- ", f"{clean(found.subject)}: {clean(found.evidence, 300)}", width)
    yield from _wrapped(" " * _INDENT + "why: ", first.reason, width)
    for fix in dict.fromkeys(found.fix for found in findings):
        yield from _wrapped(" " * _INDENT + "fix: ", clean(fix), width)


def unknown_text(unknown: Iterable[Blank], width: int) -> str:
    """What could not be answered, and why."""
    lines: list[str] = []
    for rule, group in groupby(unknown, key=lambda blank: blank.rule):
        lines.append(f"?     {rule}")
        for blank in group:
            lines += _wrapped(" " * _INDENT + "- ", f"{clean(blank.subject)}: {clean(blank.reason, 300)}", width)
    return "\n".join(lines)


def rules_text(rules: Iterable[Rule]) -> str:
    """One line for each rule."""
    return table("Rules", ("RULE", "SEVERITY", "FIRES WHEN"), ((rule.id, rule.severity, rule.title) for rule in rules))


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """A paragraph that hangs under its head. Commands are never broken within a word, so that they can be copied."""
    return textwrap.wrap(
        head + text,
        width,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
