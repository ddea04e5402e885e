"""CHAP (RFC 1994; RFC 7143, 9.2.1 and 12.1.3)."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.protocol.chap import (
    ALGORITHMS,
    DEFAULT_ORDER,
    ENTROPY_BYTES,
    Chap,
    ChapInitiator,
    ChapTarget,
    new_secret,
    response,
)
from initiator.protocol.errors import AuthError, LocalProtocolError, RemoteProtocolError
from initiator.protocol.text import Pair

SECRET = "correct horse battery"
OTHER = "staple of another kind"
CHAP = Chap("me", SECRET)
MUTUAL = Chap("me", SECRET, "box", OTHER)
HERE = bytes(range(33))
THERE = bytes(range(100, 133))
CHALLENGE = [("CHAP_A", "5"), ("CHAP_I", "7"), ("CHAP_C", "0x0102")]


def exchange(initiator: ChapInitiator, target: ChapTarget) -> list[Pair]:
    """A whole exchange; returns the target's last words."""
    return target.check(initiator.respond(target.challenge(initiator.offer())))


@pytest.mark.check(76)
def test_md5_and_the_others_against_their_definition() -> None:
    """The hash over identifier, secret and challenge, of the right length."""
    whole = b"\x07" + SECRET.encode() + b"\x01\x02"
    expected = {
        5: hashlib.md5(whole).digest(),
        6: hashlib.sha1(whole).digest(),
        7: hashlib.sha256(whole).digest(),
        8: hashlib.sha3_256(whole).digest(),
    }
    for number, proof in expected.items():
        assert response(number, 7, SECRET, b"\x01\x02") == proof
        assert len(proof) == ALGORITHMS[number].length


@pytest.mark.check(76)
@pytest.mark.parametrize("algorithm", [5, 6, 7, 8])
def test_one_way(algorithm: int) -> None:
    initiator = ChapInitiator(CHAP, (algorithm, *(number for number in (5,) if number != algorithm)))
    target = ChapTarget({"me": SECRET}.get, THERE, algorithms=(algorithm,))
    assert exchange(initiator, target) == []
    assert initiator.complete
    assert initiator.algorithm == algorithm


@pytest.mark.check(72)
def test_default_order_works_with_a_target_that_takes_7_for_sha1() -> None:
    """5 is always in the list, and before 7."""
    assert ChapInitiator(CHAP).offer() == [("CHAP_A", "8,5,7")]
    assert 5 in DEFAULT_ORDER
    initiator = ChapInitiator(CHAP)
    exchange(initiator, ChapTarget({"me": SECRET}.get, THERE, algorithms=(5, 7)))
    assert initiator.algorithm == 5


@pytest.mark.check(72)
@pytest.mark.parametrize("order", [(7,), (5, 5), (5, 9), ()])
def test_orders_that_cannot_be_offered(order: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError):
        ChapInitiator(CHAP, order)


@pytest.mark.parametrize(
    ("user", "secret"), [("me", "wrong secret 12345"), ("you", SECRET), ("me", SECRET + "\n"), ("me", SECRET.upper())]
)
def test_target_does_not_believe(user: str, secret: str) -> None:
    with pytest.raises(AuthError):
        exchange(ChapInitiator(Chap(user, secret)), ChapTarget({"me": SECRET}.get, THERE))


@pytest.mark.check(72, 73, 74, 75)
@pytest.mark.parametrize(
    "pairs",
    [
        [],
        CHALLENGE[1:],
        CHALLENGE[:2],
        [CHALLENGE[0], CHALLENGE[2]],
        [*CHALLENGE, CHALLENGE[0]],
        [*CHALLENGE, ("CHAP_N", "box")],
        [*CHALLENGE, ("CHAP_R", "0x00")],
        [("CHAP_A", "6"), *CHALLENGE[1:]],
        [("CHAP_A", "MD5"), *CHALLENGE[1:]],
        [("CHAP_A", "5,7"), *CHALLENGE[1:]],
        [("CHAP_A", "Reject"), *CHALLENGE[1:]],
        [CHALLENGE[0], ("CHAP_I", "256"), CHALLENGE[2]],
        [CHALLENGE[0], ("CHAP_I", "-1"), CHALLENGE[2]],
        [CHALLENGE[0], ("CHAP_I", "one"), CHALLENGE[2]],
        [*CHALLENGE[:2], ("CHAP_C", "")],
        [*CHALLENGE[:2], ("CHAP_C", "0x")],
        [*CHALLENGE[:2], ("CHAP_C", "0102")],
        [*CHALLENGE[:2], ("CHAP_C", "0xzz")],
        [*CHALLENGE[:2], ("CHAP_C", "0x" + "ab" * 1025)],
        [*CHALLENGE[:2], ("CHAP_C", "0b" + base64.b64encode(bytes(1025)).decode())],
    ],
)
def test_challenges_that_break_the_step(pairs: list[Pair]) -> None:
    """Exactly these keys, each once, each of its kind."""
    initiator = ChapInitiator(CHAP)
    with pytest.raises(RemoteProtocolError):
        initiator.respond(pairs)
    assert not initiator.complete


@pytest.mark.check(74, 75)
@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        ("0x1", b"\x01"),
        ("0xABCDE", b"\x0a\xbc\xde"),
        ("0X" + "aB" * 1024, b"\xab" * 1024),
        ("0b" + base64.b64encode(b"challenge").decode(), b"challenge"),
        ("0B" + base64.b64encode(bytes(1024)).decode(), bytes(1024)),
    ],
)
@pytest.mark.parametrize("identifier", ["0", "255", "0xff"])
def test_challenges_in_every_notation(value: str, challenge: bytes, identifier: str) -> None:
    reply = dict(ChapInitiator(CHAP).respond([CHALLENGE[0], ("CHAP_I", identifier), ("CHAP_C", value)]))
    assert reply == {"CHAP_N": "me", "CHAP_R": "0x" + response(5, int(identifier, 0), SECRET, challenge).hex()}


@pytest.mark.check(77)
def test_mutual() -> None:
    """Our challenge is the fresh random bytes, and longer than any hash."""
    initiator = ChapInitiator(MUTUAL, entropy=HERE)
    last = exchange(initiator, ChapTarget({"me": SECRET}.get, THERE, ("box", OTHER)))
    before = initiator.complete
    initiator.verify(last)
    assert (before, initiator.complete) == (False, True)
    reply = dict(ChapInitiator(MUTUAL, entropy=HERE).respond(CHALLENGE))
    assert (reply["CHAP_I"], reply["CHAP_C"]) == ("0", "0x" + HERE[1:].hex())
    assert max(one.length for one in ALGORITHMS.values()) <= ENTROPY_BYTES - 1


@pytest.mark.check(77)
def test_mutual_needs_fresh_random_bytes() -> None:
    for entropy in (b"", HERE[:-1]):
        with pytest.raises(LocalProtocolError):
            ChapInitiator(MUTUAL, entropy=entropy)
    with pytest.raises(LocalProtocolError):
        ChapTarget({"me": SECRET}.get, b"")


def proof(secret: str, challenge: bytes = HERE[1:], identifier: int = HERE[0], algorithm: int = 5) -> str:
    return "0x" + response(algorithm, identifier, secret, challenge).hex()


@pytest.mark.check(79, 81, 82)
@pytest.mark.parametrize(
    "pairs",
    [
        [("CHAP_N", "box"), ("CHAP_R", proof(SECRET))],
        [("CHAP_N", "box"), ("CHAP_R", proof("quite another secret"))],
        [("CHAP_N", "box"), ("CHAP_R", proof(OTHER)[:-2])],
        [("CHAP_N", "box"), ("CHAP_R", proof(OTHER) + "00")],
        [("CHAP_N", "box"), ("CHAP_R", proof(OTHER, algorithm=7))],
        [("CHAP_N", "box"), ("CHAP_R", proof(OTHER, challenge=b"\x01\x02"))],
        [("CHAP_N", "bux"), ("CHAP_R", proof(OTHER))],
        [("CHAP_N", "BOX"), ("CHAP_R", proof(OTHER))],
    ],
)
def test_target_that_cannot_prove_itself(pairs: list[Pair]) -> None:
    initiator = ChapInitiator(MUTUAL, entropy=HERE)
    initiator.respond(CHALLENGE)
    with pytest.raises(AuthError):
        initiator.verify(pairs)
    assert not initiator.complete


@pytest.mark.check(80, 81)
@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("CHAP_N", "box")],
        [("CHAP_R", proof(OTHER))],
        [("CHAP_N", "box"), ("CHAP_R", "none")],
        [("CHAP_N", "box"), ("CHAP_R", proof(OTHER)), ("CHAP_R", proof(OTHER))],
    ],
)
def test_proofs_that_break_the_step(pairs: list[Pair]) -> None:
    initiator = ChapInitiator(MUTUAL, entropy=HERE)
    initiator.respond(CHALLENGE)
    with pytest.raises(RemoteProtocolError):
        initiator.verify(pairs)


@pytest.mark.check(82)
def test_any_name_will_do_where_none_is_expected() -> None:
    """Up to 255 bytes of UTF-8."""
    initiator = ChapInitiator(Chap("me", SECRET, target_secret=OTHER), entropy=HERE)
    initiator.respond(CHALLENGE)
    initiator.verify([("CHAP_N", "é" * 127), ("CHAP_R", proof(OTHER))])
    assert initiator.complete


@pytest.mark.check(78)
def test_reflected_challenge() -> None:
    """Our own challenge of this or another connection comes back."""
    for initiator in (
        ChapInitiator(MUTUAL, entropy=HERE),
        ChapInitiator(CHAP, issued={HERE[1:]}),
    ):
        with pytest.raises(AuthError):
            initiator.respond([*CHALLENGE[:2], ("CHAP_C", "0x" + HERE[1:].hex())])
    with pytest.raises(AuthError):
        exchange(
            ChapInitiator(MUTUAL, entropy=bytes([9]) + THERE[1:], issued=frozenset()),
            ChapTarget({"me": SECRET}.get, THERE, ("box", OTHER)),
        )


@pytest.mark.check(83)
@pytest.mark.parametrize("secret", ["", "short", "elevenbytes", "é" * 5])
def test_short_secrets(secret: str) -> None:
    """Refused unless a person says that the way is protected."""
    with pytest.raises(BadInputError) as caught:
        Chap("me", secret)
    assert caught.value.fix
    with pytest.raises(BadInputError):
        Chap("me", SECRET, "box", secret)
    if secret:
        assert Chap("me", secret, allow_short=True).secret == secret


@pytest.mark.check(84)
def test_same_secret_in_both_directions() -> None:
    with pytest.raises(BadInputError):
        Chap("me", SECRET, "box", SECRET.encode())


@pytest.mark.check(82)
@pytest.mark.parametrize("name", ["", "a\0b", "é" * 128])
def test_names_that_cannot_be_used(name: str) -> None:
    with pytest.raises(BadInputError):
        Chap(name, SECRET)


@pytest.mark.check(83)
def test_long_and_binary_secrets_and_new_ones() -> None:
    """More than 128 bits are fine, and a new secret is random through and through."""
    long = bytes(range(1, 200))
    exchange(ChapInitiator(Chap("me", long)), ChapTarget({"me": long}.get, THERE))
    assert new_secret(bytes(range(16))) == bytes(range(16)).hex()
    assert len(Chap("me", new_secret(bytes(16))).secret) == 32
    with pytest.raises(LocalProtocolError):
        new_secret(bytes(15))


@pytest.mark.check(86)
def test_no_secret_in_a_repr_or_an_error() -> None:
    assert SECRET not in repr(MUTUAL)
    assert OTHER not in repr(MUTUAL)
    assert "box" in repr(MUTUAL)
    initiator = ChapInitiator(MUTUAL, entropy=HERE)
    initiator.respond(CHALLENGE)
    with pytest.raises(AuthError) as caught:
        initiator.verify([("CHAP_N", "box"), ("CHAP_R", proof(SECRET))])
    assert SECRET not in str(caught.value) + caught.value.fix
    with pytest.raises(BadInputError) as refused:
        Chap("me", "hunter2")
    assert "hunter2" not in str(refused.value) + refused.value.fix


pairs_of_anything = st.lists(
    st.tuples(st.sampled_from(["CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"]), st.text(max_size=20)), max_size=5
)


@pytest.mark.check(81)
@given(pairs_of_anything, st.booleans())
@settings(max_examples=150)
def test_nothing_but_the_right_proof_gets_in(pairs: list[Pair], second: bool) -> None:
    initiator = ChapInitiator(MUTUAL, entropy=HERE)
    target = ChapTarget({"me": SECRET}.get, THERE)
    step = initiator.respond
    if second:
        initiator.respond(CHALLENGE)
        target.challenge(initiator.offer())
        with pytest.raises((AuthError, RemoteProtocolError)):
            initiator.verify(pairs)
        with pytest.raises((AuthError, RemoteProtocolError)):
            target.check(pairs)
    elif sorted(key for key, _ in pairs) != ["CHAP_A", "CHAP_C", "CHAP_I"]:
        with pytest.raises(RemoteProtocolError):
            step(pairs)
    assert not initiator.complete


@pytest.mark.parametrize("offer", [[], [("CHAP_A", "6")], [("CHAP_A", "x")], [("CHAP_A", "5"), ("CHAP_I", "1")]])
def test_target_refuses_offers_it_cannot_use(offer: list[Pair]) -> None:
    with pytest.raises((AuthError, RemoteProtocolError)):
        ChapTarget({"me": SECRET}.get, THERE).challenge(offer)


def test_target_checks_before_it_is_asked_or_without_a_secret_of_its_own() -> None:
    target = ChapTarget({"me": SECRET}.get, THERE)
    with pytest.raises(RemoteProtocolError):
        target.check([("CHAP_N", "me"), ("CHAP_R", "0x00")])
    with pytest.raises(AuthError):
        exchange(ChapInitiator(MUTUAL, entropy=HERE), target)
