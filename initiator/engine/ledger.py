"""The book of acknowledged writes: what a volatile cache may have lost, told to the next flush exactly once.

A target with a write cache may answer a write before the data are safe; only SYNCHRONIZE CACHE makes them safe. If the
logical unit was reset or restarted in between, the data are gone although every command said GOOD. The kernel keeps
the same promise for its own page cache: an fsync after such a loss fails, once.
"""

from __future__ import annotations


class Ledger:
    """Counts acknowledged writes, the flushes that cover them, and the events that may have lost them.

    Attributes:
        volatile: False only if the target says that it has no volatile write cache.
        acknowledged: Writes answered with success since the start.
        in_flight: Writes that were begun and not answered yet.
        losses: How often acknowledged writes may have been lost.
    """

    __slots__ = ("_covered", "_reported", "acknowledged", "in_flight", "losses", "volatile")

    def __init__(self, volatile: bool) -> None:
        self.volatile = volatile
        self.acknowledged = 0
        self.in_flight = 0
        self.losses = 0
        self._covered = 0
        self._reported = 0

    @property
    def unflushed(self) -> bool:
        """True while a write is acknowledged that no successful flush has covered."""
        return self.acknowledged > self._covered

    @property
    def exposed(self) -> bool:
        """True if a reset of the logical unit now could lose an acknowledged write.

        Writes in flight count: their answer may already be under way from a time before the reset.
        """
        return self.volatile and (self.unflushed or self.in_flight > 0)

    @property
    def unreported(self) -> bool:
        """True if a loss waits for a flush that fails."""
        return self.losses > self._reported

    def lost(self) -> bool:
        """The logical unit was, or may have been, reset. Returns True if that may have cost data."""
        if not self.exposed:
            return False
        self.losses += 1
        return True

    def deferred(self) -> None:
        """The target says that an earlier, acknowledged command has failed (deferred sense): a loss for certain."""
        self.losses += 1

    def begin_flush(self) -> tuple[int, int]:
        """What a flush that starts now covers; to be handed to `end_flush`."""
        return self.acknowledged, self._reported

    def end_flush(self, begun: tuple[int, int]) -> bool:
        """The target has answered the flush with success. Returns False if it must fail all the same.

        Every flush that was begun before the loss was told fails, so that no concurrent fsync reports success for data
        that the other one was told to be lost.
        """
        covered, reported = begun
        self._covered = max(self._covered, covered)
        if self.losses == reported:
            return True
        self._reported = self.losses
        return False
