"""Not everything that a target sets off is told: what is told stays in memory, in the log and in the list of events."""

from __future__ import annotations

from collections.abc import Callable


class Throttle:
    """Lets some messages through at once, then one in a while, and counts the others.

    Args:
        burst: How many may come at once.
        interval: Seconds after which one more may come.
        clock: Tells the time in seconds.
    """

    def __init__(self, burst: int, interval: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._interval = interval
        self._clock = clock
        self._left = float(burst)
        self._looked = clock()
        self._confessed = float("-inf")
        self._left_out = 0

    def admits(self) -> bool:
        """True if a message may be told; else it counts as left out."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._looked) / self._interval)
        self._looked = now
        if self._left < 1:
            self._left_out += 1
            return False
        self._left -= 1
        return True

    def left_out(self) -> int:
        """How many were left out since the last time that this was said, if it is time to say so again; else 0."""
        if not self._left_out:
            return 0
        now = self._clock()
        if now - self._confessed < self._interval:
            return 0
        self._confessed = now
        count, self._left_out = self._left_out, 0
        return count
