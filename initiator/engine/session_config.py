"""What a session is told when it is made, and what a command gives back."""

from __future__ import annotations

import dataclasses
import os

from initiator.engine.challenges import CHALLENGES
from initiator.model import Portal
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.keys import Offer
from initiator.protocol.login import LoginConfig, random_isid

OFFER = Offer(max_recv_data_segment_length=1 << 20)
"""The operational keys of a fast session: a read of 1 MiB may come in one PDU, and then costs the least to receive."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a session needs to know. Times are in seconds.

    Attributes:
        target: The target's iSCSI name.
        portal: Where to log in.
        initiator: Our iSCSI name.
        isid: Six bytes that must stay the same for the life of the session; by default random.
        chap: Names and secrets, or None.
        chap_algorithms: CHAP algorithms to offer, best first.
        offer: Operational keys.
        require_digests: True demands both digests.
        portal_group_tag: The portal group the portal should be in.
        ping_interval: Silence after which the target is pinged.
        suspect_after: Silence after which the session counts as suspect, if an answer is due.
        lost_after: Silence after which the connection is given up, if an answer is due.
        login_timeout: For TCP connect and login together.
        task_timeout: For a command that brings no deadline.
        management_timeout: For a task management request.
        replacement_timeout: How long commands wait for a new connection before they fail.
        backoff: Wait before the second try to reconnect; doubles from try to try. The first waits for Time2Wait, or as
            the second does if the connections before did not last.
        backoff_limit: The longest wait between two tries.
        retry_refused: Wait before the next try after the target has refused for good, as one that is just starting may
            do; None takes it at its word (11.13.5).
    """

    target: str
    portal: Portal
    initiator: str
    isid: bytes = dataclasses.field(default_factory=lambda: random_isid(os.urandom(3)))
    chap: Chap | None = None
    chap_algorithms: tuple[int, ...] = DEFAULT_ORDER
    offer: Offer = OFFER
    require_digests: bool = False
    portal_group_tag: int | None = None
    ping_interval: float = 0.3
    suspect_after: float = 0.6
    lost_after: float = 5.0
    login_timeout: float = 10.0
    task_timeout: float = 60.0
    management_timeout: float = 5.0
    replacement_timeout: float = 120.0
    backoff: float = 0.5
    backoff_limit: float = 4.0
    retry_refused: float | None = None

    def login(self) -> LoginConfig:
        """The configuration of one login; the random numbers in it are fresh."""
        return LoginConfig(
            initiator=self.initiator,
            target=self.target,
            isid=self.isid,
            chap=self.chap,
            chap_algorithms=self.chap_algorithms,
            offer=self.offer,
            require_digests=self.require_digests,
            portal_group_tag=self.portal_group_tag,
            entropy=CHALLENGES.draw(self.chap),
            issued_challenges=CHALLENGES.issued,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended: SCSI status, sense data, the bytes that arrived, and the residual (see `Task`)."""

    status: int
    sense: bytes
    data: bytearray
    residual: int
