"""What a person calls the carrying out of a plan: a removal, or, where a volume alone is dismounted, its unmounting."""

from __future__ import annotations

import dataclasses

from safety.scope import Reach


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """One verb in the forms that sentences need."""

    do: str
    doing: str
    done: str
    noun: str


REMOVE = Verb("remove", "removing", "removed", "removal")
UNMOUNT = Verb("unmount", "unmounting", "unmounted", "unmounting")


def verb(reach: Reach | None) -> Verb:
    """That of a plan with this reach."""
    return UNMOUNT if reach is Reach.VOLUME else REMOVE
