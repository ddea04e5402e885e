"""What a login needs to know, and what it brings about (RFC 7143, 11.12 and 11.13)."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass, field

from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.errors import LocalProtocolError
from initiator.protocol.keys import CRC32C, Offer, Params

MAX_NAME = 223
"""Bytes of an iSCSI name (4.2.7.1)."""


@dataclass(frozen=True, slots=True)
class LoginConfig:
    """What a login needs to know.

    Attributes:
        initiator: Our iSCSI name.
        target: The target's iSCSI name; None makes a Discovery session.
        isid: Six bytes; the same at each reconnect, so that the target replaces the old session (6.3.5).
        tsih: 0 for a new session or to reinstate one; else the session that this connection joins.
        cid: Connection identifier.
        chap: Names and secrets, or None to log in without.
        chap_algorithms: What to offer, best first; 5 must be in it.
        require_auth: With `chap`: False lets the target go without authentication.
        offer: Operational keys.
        require_digests: True demands both digests, whatever the offer says.
        operational: False asks to skip the operational stage, which leaves every key at its default.
        cmd_sn: CmdSN of the first command of the session.
        exp_stat_sn: ExpStatSN of the first request; means something only when a connection is reinstated.
        initiator_alias: A name for people.
        portal_group_tag: The group in which the portal should be; a difference is noted in the result.
        entropy: `chap.ENTROPY_BYTES` fresh random bytes for mutual CHAP.
        issued_challenges: Challenges sent on other connections of this initiator; none may come back.

    Raises:
        LocalProtocolError: a name or the ISID cannot be used.
    """

    initiator: str
    target: str | None
    isid: bytes
    tsih: int = 0
    cid: int = 0
    chap: Chap | None = None
    chap_algorithms: tuple[int, ...] = DEFAULT_ORDER
    require_auth: bool = True
    offer: Offer = Offer()  # noqa: RUF009 - frozen
    require_digests: bool = False
    operational: bool = True
    cmd_sn: int = 1
    exp_stat_sn: int = 0
    initiator_alias: str | None = None
    portal_group_tag: int | None = None
    entropy: bytes = field(default=b"", repr=False)
    issued_challenges: Set[bytes] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        for name in (self.initiator, "-" if self.target is None else self.target):
            if not 0 < len(name.encode()) <= MAX_NAME or "\0" in name:
                raise LocalProtocolError(f"an iSCSI name has 1 to {MAX_NAME} bytes (RFC 7143, 4.2.7.1)")
        if len(self.isid) != 6 or self.isid[0] >> 6 == 3:
            raise LocalProtocolError("an ISID has six bytes and does not begin with the bits 11 (RFC 7143, 11.12.5)")

    @property
    def discovery(self) -> bool:
        """True for a Discovery session."""
        return self.target is None

    @property
    def wanted(self) -> Offer:
        """The offer with the policy on digests worked in."""
        if not self.require_digests:
            return self.offer
        return dataclasses.replace(self.offer, header_digest=(CRC32C,), data_digest=(CRC32C,))


@dataclass(frozen=True, slots=True)
class LoginResult:
    """What a login has brought about.

    Attributes:
        params: The negotiated parameters.
        tsih: The target's handle of the session.
        isid: Our half of the session's identity.
        cid: The connection.
        cmd_sn: CmdSN of the first non-immediate command (11.12.8).
        exp_stat_sn: The StatSN that the next response carries.
        exp_cmd_sn: The command the target expects next.
        max_cmd_sn: The last command that its window allows.
        target_portal_group_tag: The portal group, or None if the target did not tell.
        chap_algorithm: The CHAP algorithm used, or None.
        notes: Oddities of the target, in words.
    """

    params: Params
    tsih: int
    isid: bytes
    cid: int
    cmd_sn: int
    exp_stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    target_portal_group_tag: int | None = None
    chap_algorithm: int | None = None
    notes: tuple[str, ...] = ()


def random_isid(entropy: bytes, qualifier: int = 0) -> bytes:
    """An ISID of the random kind (11.12.5) from three stable bytes; the qualifier tells sessions apart."""
    if len(entropy) < 3 or not 0 <= qualifier <= 0xFFFF:
        raise LocalProtocolError("an ISID needs three bytes and a qualifier of 16 bits")
    return b"\x80" + entropy[:3] + qualifier.to_bytes(2, "big")
