"""Was the logical unit reset? What unit attentions 29h prove, path by path.

A real reset shows as a unit attention 29h on every nexus that was there (SPC-4, 5.14). But a new nexus may begin with
one of its own, so there it is no news; and it says nothing of a reset that came before it. So while there are unflushed
writes, a path that returns is not used before another path, one that was never gone, has answered TEST UNIT READY: if
that one has no 29h to report, nothing was reset. If no path was there all the time, every one that is back now must
say 29h/07h, and nothing worse, to prove that there was a nexus loss only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from initiator.engine.asker import Finish
from initiator.engine.ledger import Ledger
from initiator.engine.probe import LunInfo
from initiator.engine.selector import DevicePath
from initiator.errors import MooringError
from initiator.model import Severity
from initiator.protocol.errors import IscsiError

_RESETS = (0x2900, 0x2901, 0x2902, 0x2903, 0x2904)
_NEXUS_LOSS = 0x2907


class Prover:
    """Keeps the ledger informed of resets, and returning paths out until it is known what happened."""

    def __init__(
        self,
        paths: list[DevicePath],
        ledger: Ledger,
        *,
        ask: Callable[[DevicePath, Finish[None]], None],
        accept: Callable[[DevicePath, LunInfo], None],
        tell: Callable[[str, Severity], None],
    ) -> None:
        """`paths` is the keeper's own list; `ask` runs TEST UNIT READY; `accept` lets a path carry I/O."""
        self._paths = paths
        self._ledger = ledger
        self._ask = ask
        self._accept = accept
        self._tell = tell
        self._asking = False

    def attention(self, path: DevicePath, code: int) -> None:
        """A path reports a unit attention with ASC 29h."""
        if code == _NEXUS_LOSS:
            path.nexus_loss = True
        elif code not in _RESETS:
            return
        elif path.owes_reset:
            path.owes_reset = False
        elif path.fresh:
            path.reset = True
        else:
            self._reset("the logical unit reports a reset")
            for other in self._paths:
                if other is not path and other.up:
                    # It has the same attention waiting; fetched now, so that it is not taken for another reset later.
                    other.owes_reset = True
                    self._ask(other, partial(_asked, other))

    def _reset(self, reason: str) -> None:
        if self._ledger.reset():
            self._tell(f"{reason}; writes that it had acknowledged may be lost: the next flush fails", Severity.BAD)
        else:
            self._tell(f"{reason}; nothing was unflushed", Severity.NOTE)

    def returned(self, path: DevicePath, info: LunInfo) -> None:
        """A path has been examined and leads to the right unit: let it in, now or when the proof is there."""
        if path.fresh and self._ledger.exposed:
            path.proof = info
            self.proceed()
        else:
            self._accept(path, info)

    def proceed(self) -> None:
        """The paths have changed: go on with the proof if there is one to be made."""
        waiting = [path for path in self._paths if path.proof is not None]
        if not waiting or self._asking:
            return
        witnesses = sorted((path for path in self._paths if path.up), key=lambda path: path.session.suspect)
        if witnesses:
            self._ask_witness(witnesses[0])
        elif not any(path.fresh and path.connected and path.proof is None and not path.held for path in self._paths):
            if any(path.reset for path in self._paths) or not all(path.nexus_loss for path in waiting):
                self._reset("all paths were lost, and nothing proves that the logical unit was not reset")
                for path in self._paths:
                    path.reset = False
            self._let_in()

    def _ask_witness(self, witness: DevicePath) -> None:
        self._asking = True

        def heard(_: None, error: MooringError | None) -> None:
            self._asking = False
            if isinstance(error, IscsiError):
                self.proceed()
            else:
                self._let_in()

        self._ask(witness, heard)

    def _let_in(self) -> None:
        for path in list(self._paths):
            info, path.proof = path.proof, None
            if info is not None:
                self._accept(path, info)


def _asked(path: DevicePath, _: None, error: MooringError | None) -> None:
    # Whatever it had to report it has reported; the next attention is about another reset.
    path.owes_reset = False
