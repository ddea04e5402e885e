"""CHAP, the authentication of iSCSI (RFC 1994; RFC 7143, 9.2.1 and 12.1.3), one-way and mutual, for either side.

Secrets never leave these classes except as a hash, and no `repr` and no error text holds one.

The default order is SHA3-256, MD5, SHA-256. A target picks the first that it supports, so the strongest comes first.
MD5, which every target must know, stands before SHA-256 on purpose: a widely used target (tgt) takes number 7 for
SHA-1, and every login would fail there. Where a target is known to do better, `LoginConfig.chap_algorithms` says
`(8, 7, 5)`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from initiator.errors import BadInputError
from initiator.protocol import text
from initiator.protocol.errors import AuthError, LocalProtocolError, RemoteProtocolError
from initiator.protocol.text import Pair

MD5, SHA1, SHA256, SHA3_256 = 5, 6, 7, 8
DEFAULT_ORDER = (SHA3_256, MD5, SHA256)
MAX_BINARY = 1024
"""Greatest length of a challenge or a response (12.1.3)."""
MIN_SECRET = 12
"""Bytes of a secret that may be used without IPsec: 96 bits (9.2.1)."""
ENTROPY_BYTES = 33
"""What one side needs to challenge the other: an identifier and 32 bytes."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One hash that CHAP can use (IANA's PPP authentication algorithms)."""

    number: int
    name: str
    length: int
    make: Callable[[bytes], Any]


# MD5 and SHA-1 are no longer fit for signatures, and some systems lock them away; CHAP still names them.
ALGORITHMS: Mapping[int, Algorithm] = {
    MD5: Algorithm(MD5, "MD5", 16, partial(hashlib.md5, usedforsecurity=False)),
    SHA1: Algorithm(SHA1, "SHA-1", 20, partial(hashlib.sha1, usedforsecurity=False)),
    SHA256: Algorithm(SHA256, "SHA-256", 32, hashlib.sha256),
    SHA3_256: Algorithm(SHA3_256, "SHA3-256", 32, hashlib.sha3_256),
}


@dataclass(frozen=True, slots=True)
class Chap:
    """Who we are to a target, and who the target has to be if `target_secret` is given (mutual CHAP).

    Raises:
        BadInputError: no name, a secret of less than 96 bits without `allow_short`, or one secret for both directions.
    """

    user: str
    secret: str | bytes = field(repr=False)
    target_user: str | None = None
    target_secret: str | bytes | None = field(default=None, repr=False)
    allow_short: bool = False
    """Set by a person who protects the way to the target otherwise (IPsec, WireGuard, an isolated network)."""

    def __post_init__(self) -> None:
        for name in (self.user, self.target_user or "-"):
            if not name or "\0" in name or len(name.encode()) > text.MAX_VALUE:
                raise BadInputError("a CHAP name has 1 to 255 bytes", code="chap-name")
        for secret in (self.secret, self.target_secret):
            if secret is not None and len(as_bytes(secret)) < (1 if self.allow_short else MIN_SECRET):
                raise BadInputError(
                    f"a CHAP secret must have at least {MIN_SECRET} bytes (96 bits; RFC 7143, 9.2.1)",
                    code="chap-secret-short",
                    fix="use a random secret of 16 bytes on both sides, or allow short secrets on a protected network",
                )
        if self.target_secret is not None and as_bytes(self.target_secret) == as_bytes(self.secret):
            raise BadInputError(
                "the two directions of mutual CHAP must have different secrets (RFC 7143, 9.2.1)",
                code="chap-secret-same",
                fix="give the target a secret of its own",
            )

    @property
    def mutual(self) -> bool:
        """True if the target has to prove who it is."""
        return self.target_secret is not None


def as_bytes(secret: str | bytes) -> bytes:
    """A secret as the bytes that are hashed."""
    return secret.encode() if isinstance(secret, str) else secret


def new_secret(entropy: bytes) -> str:
    """A secret of 128 random bits in 32 hexadecimal digits (9.2.1), from 16 fresh random bytes."""
    if len(entropy) < 16:
        raise LocalProtocolError("a new CHAP secret needs 16 random bytes")
    return entropy[:16].hex()


def response(algorithm: int, identifier: int, secret: str | bytes, challenge: bytes) -> bytes:
    """What proves the knowledge of `secret`: the hash over identifier, secret and challenge (RFC 1994, 4.1)."""
    digest: bytes = ALGORITHMS[algorithm].make(bytes([identifier]) + as_bytes(secret) + challenge).digest()
    return digest


def check_order(algorithms: Sequence[int]) -> None:
    """Checks an order of algorithms to offer.

    Raises:
        BadInputError: an unknown number, a repetition, or no 5, which always has to be offered (12.1.3).
    """
    if len(set(algorithms)) != len(algorithms) or not set(algorithms) <= set(ALGORITHMS) or MD5 not in algorithms:
        raise BadInputError("CHAP algorithms are 5, 6, 7 and 8 in any order; 5 must be among them", code="chap-order")


def _take(pairs: Iterable[Pair], wanted: tuple[str, ...], step: str) -> dict[str, str]:
    """Exactly the keys of one step, each once (9.2)."""
    found = list(pairs)
    names = [name for name, _ in found]
    if sorted(names) != sorted(wanted):
        sent = ", ".join(text.shorten(name) for name in names) or "nothing"
        raise RemoteProtocolError(f"{step} needs {', '.join(wanted)}, but the peer sends {sent} (RFC 7143, 12.1.3)")
    return dict(found)


class ChapInitiator:
    """The initiator's half of one CHAP exchange.

    Args:
        chap: Names and secrets.
        algorithms: What to offer, best first.
        entropy: `ENTROPY_BYTES` fresh random bytes; needed for mutual CHAP only.
        issued: Challenges that this initiator has sent on other connections: none of them may come back (9.2.1).

    Attributes:
        algorithm: The number that the target has chosen, once it has.
        complete: True when both sides have proved what they had to.
    """

    def __init__(
        self,
        chap: Chap,
        algorithms: Sequence[int] = DEFAULT_ORDER,
        entropy: bytes = b"",
        issued: Set[bytes] = frozenset(),
    ) -> None:
        check_order(algorithms)
        if chap.mutual and len(entropy) < ENTROPY_BYTES:
            raise LocalProtocolError(f"mutual CHAP needs {ENTROPY_BYTES} fresh random bytes for each login")
        self.algorithm: int | None = None
        self.complete = False
        self._chap = chap
        self._algorithms = tuple(algorithms)
        self._identifier, self._challenge = (entropy[0], entropy[1:]) if entropy else (0, b"")
        self._issued = issued

    def offer(self) -> list[Pair]:
        """The first step: which algorithms we know."""
        return [("CHAP_A", ",".join(map(str, self._algorithms)))]

    def respond(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The second step: answers the target's challenge, and challenges the target if it has to prove itself.

        Raises:
            RemoteProtocolError: keys or values that the step does not have.
            AuthError: the target sends a challenge of ours back.
        """
        found = _take(pairs, ("CHAP_A", "CHAP_I", "CHAP_C"), "the challenge")
        algorithm = text.number("CHAP_A", found["CHAP_A"])
        if algorithm not in self._algorithms:
            raise RemoteProtocolError(f"the target chose CHAP algorithm {algorithm}, which was not offered (12.1.3)")
        identifier = text.number("CHAP_I", found["CHAP_I"], 0, 255)
        challenge = text.binary("CHAP_C", found["CHAP_C"], MAX_BINARY)
        if challenge in self._issued or challenge == self._challenge:
            raise AuthError("the target sends one of our own CHAP challenges back (RFC 7143, 9.2.1)")
        self.algorithm = algorithm
        proof = response(algorithm, identifier, self._chap.secret, challenge)
        reply = [("CHAP_N", self._chap.user), ("CHAP_R", text.hexadecimal(proof))]
        if self._chap.mutual:
            reply += [("CHAP_I", str(self._identifier)), ("CHAP_C", text.hexadecimal(self._challenge))]
        else:
            self.complete = True
        return reply

    def verify(self, pairs: Iterable[Pair]) -> None:
        """The last step of mutual CHAP: checks the target's proof.

        Raises:
            RemoteProtocolError: keys or values that the step does not have.
            AuthError: the target is not who it has to be.
        """
        found = _take(pairs, ("CHAP_N", "CHAP_R"), "the target's proof")
        if self._chap.target_user is not None and found["CHAP_N"] != self._chap.target_user:
            raise AuthError(f"the target calls itself {text.shorten(found['CHAP_N'])}, which is not the name expected")
        proof = text.binary("CHAP_R", found["CHAP_R"], MAX_BINARY)
        algorithm, target_secret = self.algorithm, self._chap.target_secret
        if algorithm is None or target_secret is None:
            raise LocalProtocolError("the target's proof was checked before a challenge was sent")
        own = response(algorithm, self._identifier, self._chap.secret, self._challenge)
        if hmac.compare_digest(proof, own):
            raise AuthError("the target proves itself with our own secret (RFC 7143, 9.2.1)")
        if not hmac.compare_digest(proof, response(algorithm, self._identifier, target_secret, self._challenge)):
            raise AuthError(
                "the target could not prove who it is: its CHAP response is wrong",
                code="target-authentication",
                fix="check the target's secret on both sides; if it is right, this may not be your target",
            )
        self.complete = True


class ChapTarget:
    """The target's half of one CHAP exchange.

    Args:
        account: Gives the secret of an initiator's CHAP name, or None for a stranger.
        entropy: `ENTROPY_BYTES` fresh random bytes.
        own: The target's name and secret for initiators that want it to prove itself.
        algorithms: What this target supports.
    """

    def __init__(
        self,
        account: Callable[[str], str | bytes | None],
        entropy: bytes,
        own: tuple[str, str | bytes] | None = None,
        algorithms: Sequence[int] = (MD5, SHA256, SHA3_256),
    ) -> None:
        if len(entropy) < ENTROPY_BYTES:
            raise LocalProtocolError(f"CHAP needs {ENTROPY_BYTES} fresh random bytes for each login")
        self._account = account
        self._own = own
        self._supported = tuple(algorithms)
        self._identifier, self._challenge = entropy[0], entropy[1:]
        self._algorithm: int | None = None

    def challenge(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Answers `CHAP_A`: the first algorithm that both know, and a challenge.

        Raises:
            RemoteProtocolError: keys or values that the step does not have.
            AuthError: no algorithm in common.
        """
        found = _take(pairs, ("CHAP_A",), "the offer")
        offered = [text.number("CHAP_A", item) for item in text.listing("CHAP_A", found["CHAP_A"])]
        self._algorithm = next((number for number in offered if number in self._supported), None)
        if self._algorithm is None:
            raise AuthError("no CHAP algorithm in common")
        return [
            ("CHAP_A", str(self._algorithm)),
            ("CHAP_I", str(self._identifier)),
            ("CHAP_C", text.hexadecimal(self._challenge)),
        ]

    def check(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Checks the initiator's proof, and answers its challenge if it sent one.

        Raises:
            RemoteProtocolError: keys or values that the step does not have.
            AuthError: the proof is wrong, or the initiator sends our challenge back.
        """
        pairs = list(pairs)
        wants_proof = len(pairs) > 2
        wanted = ("CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C") if wants_proof else ("CHAP_N", "CHAP_R")
        found = _take(pairs, wanted, "the initiator's proof")
        if self._algorithm is None:
            raise RemoteProtocolError("a proof came before the challenge (RFC 7143, 12.1.3)")
        secret = self._account(found["CHAP_N"])
        proof = text.binary("CHAP_R", found["CHAP_R"], MAX_BINARY)
        # A stranger costs the same hash as a friend, so that names cannot be told apart by time.
        right = response(self._algorithm, self._identifier, secret or b"\0" * MIN_SECRET, self._challenge)
        if not hmac.compare_digest(proof, right) or secret is None:
            raise AuthError("the initiator's CHAP response is wrong")
        if not wants_proof:
            return []
        if self._own is None:
            raise AuthError("the initiator wants a proof, but this target has no secret of its own")
        identifier = text.number("CHAP_I", found["CHAP_I"], 0, 255)
        theirs = text.binary("CHAP_C", found["CHAP_C"], MAX_BINARY)
        if theirs == self._challenge:
            raise AuthError("the initiator sends our own challenge back (RFC 7143, 9.2.1)")
        own_proof = response(self._algorithm, identifier, self._own[1], theirs)
        return [("CHAP_N", self._own[0]), ("CHAP_R", text.hexadecimal(own_proof))]
