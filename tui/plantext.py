"""A removal plan as text: what stands against it, with evidence and a way out, and every step exactly. No Textual."""

from __future__ import annotations

from safety.changes import changes
from safety.findings import Finding, Level
from safety.plan import Member, Plan, Step
from safety.scope import Reach
from safety.touched import TouchedSession
from tui.layout import labelled, paragraph
from tui.removalwords import verb
from tui.words import Glyphs, Line, Piece, count, say, size, span

_SIGNS = {Level.BLOCK: ("bad", "bad"), Level.WARN: ("warn", "warn"), Level.NOTE: ("dot", "calm")}


def plan_lines(plan: Plan, width: int, glyphs: Glyphs) -> list[Line]:
    """The whole plan; where something forbids it, that and the way out come first."""
    what, found = _scope(plan, width, glyphs), _findings(plan, width, glyphs)
    lines = [*_summary(plan, width, glyphs), *(found + what if plan.blocked else what + found)]
    title = f"Steps {len(plan.steps)}, about {span(max(1, plan.expected_s))}"
    lines += [(), _heading(title, width, glyphs)]
    for number, step in enumerate(plan.steps, 1):
        lines += _step(number, step, width, glyphs)
    return lines


def what_changed(read: Plan, now: Plan) -> str:
    """Why a plan that somebody has read does not hold any more."""
    told = ["Something changed since you read the plan. Nothing was done.", *changes(read, now)]
    return " ".join([*told, "This is the plan as it is now:"])


def _summary(plan: Plan, width: int, glyphs: Glyphs) -> list[Line]:
    against = sum(finding.level is Level.BLOCK for finding in plan.findings)
    name, words = say(plan.name), verb(plan.scope.reach)
    if against:
        text = f"{glyphs.bad} {name} cannot be {words.done} now: {count(against, 'reason')}. Nothing was changed."
        return paragraph(text, width, "bad")
    text = f"{glyphs.good} Nothing stands against {words.doing} {name}. Nothing has been changed yet."
    return paragraph(text, width, "good")


def _scope(plan: Plan, width: int, glyphs: Glyphs) -> list[Line]:
    """The disks, and what becomes of the sessions."""
    lines: list[Line] = []
    for member in plan.members:
        lines += [(), *labelled(_disk(member, plan.scope.reach), width)]
    if plan.touched:
        lines += [(), _heading(f"Touches {count(len(plan.touched), 'session')}", width, glyphs)]
    for each in plan.touched:
        lines += _touched(each, width, glyphs)
    return lines


def _findings(plan: Plan, width: int, glyphs: Glyphs) -> list[Line]:
    lines: list[Line] = [(), _heading("Findings", width, glyphs)] if plan.findings else []
    for finding in plan.findings:
        lines += _finding(finding, width, glyphs)
    return lines


def _disk(member: Member, reach: Reach) -> list[tuple[str, str | Line]]:
    who = member.identity
    fate = ", which stays" if reach is Reach.VOLUME else "" if member.whole else ", which stays and loses paths"
    return [
        ("Disk", say(who.name) + fate),
        ("Target", say(who.target or "")),
        ("LUN", "" if who.lun is None else str(who.lun)),
        ("WWID", say(who.wwid or "none")),
        ("Size", size(who.size_bytes)),
        ("Device", say(who.device or "none")),
    ]


def _touched(each: TouchedSession, width: int, glyphs: Glyphs) -> list[Line]:
    """One session, by its number: whether it ends, and what it stays for."""
    over = f" over {say(each.link)}" if each.link else ""
    why = f"stays, for {', '.join(map(say, each.stays_for))}" if each.stays_for else "stays"
    fate = "is logged out" if each.ends else why
    text = f"{say(each.number)} {say(each.target)} at {say(each.portal)}{over}: {fate}"
    return _hanging(f"{glyphs.dot} ", text, width, "")


def _finding(finding: Finding, width: int, glyphs: Glyphs) -> list[Line]:
    shape, role = _SIGNS[finding.level]
    sign = getattr(glyphs, shape)
    lines = _hanging(f"{sign} ", say(finding.text), width, role)
    if finding.evidence:
        lines += _hanging("  seen: ", say(finding.evidence), width, "dim")
    if finding.fix:
        lines += _hanging(f"  {glyphs.arrow} ", say(finding.fix), width, "")
    return lines


def _step(number: int, step: Step, width: int, glyphs: Glyphs) -> list[Line]:
    return [
        *_hanging(f"{number:2} ", f"{say(step.title)} (at most {span(step.deadline_s)})", width, "strong"),
        *_hanging("   does:  ", say(step.command), width, "dim"),
        *_hanging("   proof: ", say(step.proof), width, "dim"),
        *(_hanging("   undo:  ", say(step.undo), width, "dim") if step.undo else []),
    ]


def _hanging(label: str, text: str, width: int, role: str) -> list[Line]:
    """A label and a text that is continued below itself."""
    first, *more = paragraph(text, width - len(label), role)
    return [(Piece(label, role), *first), *((Piece(" " * len(label)), *line) for line in more)]


def _heading(text: str, width: int, glyphs: Glyphs) -> Line:
    return (Piece(f"{text} ", "heading"), Piece(glyphs.rule * max(0, width - len(text) - 1), "rule"))
