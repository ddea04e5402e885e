"""The filter that `/` opens: words that must all fit, `field:value` for one field, `!word` for what must not fit.

`~word` fits nearly: its letters in their order, others between them. Where nothing fits exactly, every word is read so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

FIELDS = (
    *("kind", "name", "state", "target", "portal", "device", "wwid", "mount", "fs", "link", "source"),
    *("label", "disk", "lun", "serial", "alias", "chap", "access", "map", "text"),
)
"""What can stand before the colon."""


class Term(NamedTuple):
    """One word of a filter."""

    field: str | None
    value: str
    negated: bool
    nearly: bool = False

    def fits(self, fields: Mapping[str, str]) -> bool:
        """Whether a row with these fields (in lower case) satisfies this word."""
        texts = fields.values() if self.field is None else (fields.get(self.field, ""),)
        found = any(
            self.value in text or (self.nearly and _loose(self.value).search(text) is not None) for text in texts
        )
        return found is not self.negated


@functools.lru_cache(maxsize=64)
def _loose(letters: str) -> re.Pattern[str]:
    """The letters in their order, at most two others between each: more would fit every long iSCSI name."""
    return re.compile(".{0,2}?".join(map(re.escape, letters)))


Query = tuple[Term, ...]


def loosened(query: Query) -> Query:
    """The same words, each fitting nearly; what must not be there must not be there exactly."""
    return tuple(term if term.negated else term._replace(nearly=True) for term in query)


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
        nearly = wanted.startswith("~")
        wanted = wanted.removeprefix("~")
        if wanted:
            terms.append(Term(field if named else None, wanted, negated, nearly))
    return tuple(terms)


def fits(query: Query, fields: Mapping[str, str]) -> bool:
    """Whether every word fits."""
    return all(term.fits(fields) for term in query)
