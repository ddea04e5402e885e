"""Random bytes for CHAP, and the memory of the challenges that were made of them (RFC 7143, 9.2.1).

A false target could pass our challenge of one connection on to us in another one, to have us compute the answer. So
every login of this process knows the challenges of all the others, also of those that began later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Set

from initiator.protocol.chap import ENTROPY_BYTES, Chap

MOST_REMEMBERED = 4096
"""Challenges kept. A connection that waits for its answer while more than these go out has timed out long before."""


class Challenges:
    """Draws random bytes for logins.

    Attributes:
        issued: The challenges that went out; a view that shows those of later logins too.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._sent: dict[bytes, None] = {}
        self.issued: Set[bytes] = self._sent.keys()

    def draw(self, chap: Chap | None) -> bytes:
        """Fresh random bytes for one login; a challenge is remembered if this login will send one."""
        entropy = self._random(ENTROPY_BYTES)
        if chap is not None and chap.mutual:
            while len(self._sent) >= MOST_REMEMBERED:
                del self._sent[next(iter(self._sent))]
            self._sent[entropy[1:]] = None
        return entropy


CHALLENGES = Challenges()
"""Those of this process."""
