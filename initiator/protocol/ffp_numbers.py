"""The counters of a session with one connection: CmdSN and StatSN windows (RFC 7143, 4.2.2).

All of them are 32 bit serial numbers: they wrap, and are compared by the rule of RFC 1982 with SERIAL_BITS = 32.
"""

from __future__ import annotations

from initiator.protocol.errors import RemoteProtocolError

MASK = 0xFFFFFFFF
HALF = 0x80000000


def at_most(first: int, second: int) -> bool:
    """True if `first` comes before `second` or equals it, in serial number arithmetic."""
    return (second - first) & MASK < HALF


class Numbers:
    """What may be sent next, and what has been received without a gap.

    Attributes:
        cmd_sn: CmdSN of the next command that is not immediate.
        exp_cmd_sn: The highest ExpCmdSN the target has told.
        max_cmd_sn: The last CmdSN that the target takes now.
        exp_stat_sn: The StatSN that has to come next; every PDU sent carries it as an acknowledgement.
    """

    __slots__ = ("cmd_sn", "exp_cmd_sn", "exp_stat_sn", "max_cmd_sn")

    def __init__(self, cmd_sn: int, exp_stat_sn: int, exp_cmd_sn: int, max_cmd_sn: int) -> None:
        self.cmd_sn = cmd_sn
        self.exp_stat_sn = exp_stat_sn
        self.exp_cmd_sn = exp_cmd_sn
        self.max_cmd_sn = max_cmd_sn

    @property
    def is_open(self) -> bool:
        """True if the target takes one more command that is not immediate."""
        return (self.max_cmd_sn - self.cmd_sn) & MASK < HALF

    def window(self, exp_cmd_sn: int, max_cmd_sn: int) -> None:
        """Take over what a PDU says about the command window; old and impossible values are ignored (4.2.2.1)."""
        if (max_cmd_sn - exp_cmd_sn + 1) & MASK >= HALF:
            return
        if (max_cmd_sn - self.max_cmd_sn) & MASK < HALF:
            self.max_cmd_sn = max_cmd_sn
        if (exp_cmd_sn - self.exp_cmd_sn) & MASK < HALF:
            self.exp_cmd_sn = exp_cmd_sn

    def status(self, stat_sn: int) -> bool:
        """Account for a PDU that carries a StatSN.

        Returns:
            False if this PDU was seen before and has to be discarded (4.2.2.2).

        Raises:
            RemoteProtocolError: a PDU before it is missing; at ErrorRecoveryLevel 0 only session recovery helps (7.9).
        """
        if stat_sn == self.exp_stat_sn:
            self.exp_stat_sn = (stat_sn + 1) & MASK
            return True
        if at_most(stat_sn, self.exp_stat_sn):
            return False
        raise RemoteProtocolError(
            f"StatSN {stat_sn} came where {self.exp_stat_sn} was due: a response is missing (RFC 7143, 7.9)"
        )
