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
        resets: How often the logical unit was, or may have been, reset. A write that was sent before the last of them
            and answered after it may have been carried out before it: it has to be sent again.
        losses: How often that, or something else, may have lost acknowledged writes.
    """

    __slots__ = ("_covered", "_mark", "_reported", "acknowledged", "losses", "resets", "volatile")

    def __init__(self, volatile: bool) -> None:
        self.volatile = volatile
        self.acknowledged = 0
        self.resets = 0
        self.losses = 0
        self._covered = 0
        self._mark = 0
        self._reported = 0

    @property
    def unflushed(self) -> bool:
        """True while a write is acknowledged that no successful flush has covered."""
        return self.acknowledged > self._covered

    @property
    def exposed(self) -> bool:
        """True if a reset of the logical unit now could lose an acknowledged write."""
        return self.volatile and self.unflushed

    def reset(self) -> bool:
        """The logical unit was, or may have been, reset. Returns True if that may have cost acknowledged writes."""
        self.resets += 1
        if self.exposed:
            self.lost()
            return True
        return False

    def lost(self) -> None:
        """Acknowledged writes were lost, or may have been."""
        self.losses += 1
        self._mark = self.acknowledged

    def begin_flush(self) -> tuple[int, int]:
        """What a flush that starts now covers, and what was told so far; to be handed to `end_flush`."""
        return self.acknowledged, self._reported

    def end_flush(self, begun: tuple[int, int]) -> bool:
        """The target has answered the flush with success. Returns False if it must fail all the same.

        Every flush that was begun before a loss was told fails. The loss counts as told only when a flush fails that
        covers all that was lost: whoever wrote after an earlier flush had begun must hear of it, too.
        """
        covered, reported = begun
        self._covered = max(self._covered, covered)
        if self.losses == reported:
            return True
        if covered >= self._mark:
            self._reported = self.losses
        return False
