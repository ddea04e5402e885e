"""Writes the table in docs/checks.md from the catalogue: `python -m tests.safety.checks_page`."""

from __future__ import annotations

from pathlib import Path

from safety.advice.catalogue import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checks.md"
BEGIN = "<!-- rules, written by python -m tests.safety.checks_page -->"
FAMILIES = tuple(dict.fromkeys(rule.family for rule in RULES))


def tables() -> str:
    """A table for each family."""
    parts = []
    for family in FAMILIES:
        lines = [
            f"## {family}",
            "",
            "| rule | severity | fires when | why it matters | what to do |",
            "|---|---|---|---|---|",
        ]
        for rule in RULES:
            if rule.family == family:
                cells = (f"`{rule.id}`", rule.severity, rule.title, rule.reason, rule.fix)
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def filled(page: str) -> str:
    """The page with its tables as the catalogue has them."""
    return f"{page.partition(BEGIN)[0]}{BEGIN}\n\n{tables()}\n"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
