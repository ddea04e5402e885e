"""All rules, and the one function that asks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from initiator.model import SCHEMA, Severity, Snapshot
from safety.advice import boot, data, leftovers, multipath, naming, network, security, traffic
from safety.advice.facts import Facts
from safety.advice.rule import Hit, Host, Rule

RULES: tuple[Rule, ...] = (
    *data.FAMILY,
    *multipath.FAMILY,
    *network.FAMILY,
    *traffic.FAMILY,
    *boot.FAMILY,
    *security.FAMILY,
    *naming.FAMILY,
    *leftovers.FAMILY,
)
_RANK = {Severity.BAD: 0, Severity.WARN: 1, Severity.NOTE: 2}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fires for one thing. The texts may hold strings of targets and files: they are plain text."""

    rule: str
    family: str
    severity: Severity
    title: str
    subject: str
    about: str
    """The id of what it is about, if that is something of the snapshot; else empty."""
    evidence: str
    reason: str
    fix: str


@dataclasses.dataclass(frozen=True, slots=True)
class Blank:
    """A rule that cannot know about one thing."""

    rule: str
    title: str
    subject: str
    reason: str


class Advice(NamedTuple):
    """What the rules say of one host."""

    findings: tuple[Finding, ...]
    """The worst first; among equals, in the order of `RULES`."""
    unknown: tuple[Blank, ...]
    read_at: float
    """Unix time of the facts."""
    schema: int = SCHEMA


def advise(snapshot: Snapshot, facts: Facts, rules: Iterable[Rule] = RULES) -> Advice:
    """Asks every rule. Pure: the same snapshot and facts give the same advice."""
    host = Host(snapshot, facts)
    findings, unknown = [], []
    for rule in rules:
        for answer in dict.fromkeys(rule.check(host)):
            if isinstance(answer, Hit):
                findings.append(_finding(rule, answer))
            else:
                unknown.append(Blank(rule.id, rule.title, answer.subject, answer.reason))
    findings.sort(key=lambda finding: _RANK[finding.severity])
    return Advice(tuple(findings), tuple(unknown), facts.read_at)


def _finding(rule: Rule, hit: Hit) -> Finding:
    return Finding(
        rule.id,
        rule.family,
        rule.severity,
        rule.title,
        hit.subject,
        hit.about,
        hit.evidence,
        rule.reason,
        hit.fix or rule.fix,
    )


def at_least(findings: Iterable[Finding], severity: Severity) -> bool:
    """Whether one of them is as bad as `severity`, or worse."""
    return any(_RANK[finding.severity] <= _RANK[severity] for finding in findings)
