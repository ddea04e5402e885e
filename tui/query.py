"""The filter that `/` opens: words that must all fit, `field:value` for one field, `!word` for what must not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FIELDS = ("kind", "name", "state", "target", "portal", "device", "wwid", "mount", "fs", "link", "source")
"""What can stand before the colon."""


class Term(NamedTuple):
    """One word of a filter."""

    field: str | None
    value: str
    negated: bool

    def fits(self, fields: Mapping[str, str]) -> bool:
        """Whether a row with these fields (in lower case) satisfies this word."""
        if self.field is None:
            found = any(self.value in text for text in fields.values())
        else:
            found = self.value in fields.get(self.field, "")
        return found is not self.negated


Query = tuple[Term, ...]


def parse(text: str) -> Query:
    """The words of a filter.

    A colon makes a field only after one of `FIELDS`, so that an address such as `[fe80::1]:3260` or a name such as
    `iqn.2003-01.org:disk` is an ordinary word. A lone `!` or `field:` is still being typed and means nothing yet.
    """
    terms = []
    for word in text.casefold().split():
        negated = word.startswith("!")
        value = word[1:] if negated else word
        field, colon, rest = value.partition(":")
        named = colon and field in FIELDS
        wanted = rest if named else value
        if wanted:
            terms.append(Term(field if named else None, wanted, negated))
    return tuple(terms)


def fits(query: Query, fields: Mapping[str, str]) -> bool:
    """Whether every word fits."""
    return all(term.fits(fields) for term in query)
