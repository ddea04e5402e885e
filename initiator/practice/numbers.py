"""Command numbers: the window and serial number arithmetic (RFC 7143, 4.2.2.1; RFC 1982)."""

WINDOW = 128
"""How many commands an initiator may have under way: MaxCmdSN - ExpCmdSN + 1."""

_HALF = 1 << 31


def after(one: int, other: int) -> int:
    """How far `one` is after `other` in 32-bit serial number arithmetic; negative when it is before."""
    return (one - other + _HALF) % (2 * _HALF) - _HALF
