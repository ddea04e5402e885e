"""Texts, refusals and redirects in a login (RFC 7143, 6.1, 6.2, 11.13.5)."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.protocol import text
from initiator.protocol.chap import Chap
from initiator.protocol.errors import (
    AuthError,
    LoginError,
    RedirectError,
    RemoteProtocolError,
)
from tests.protocol.talk import CONFIG, SECRET, begin, reply, step, to_operational


@pytest.mark.check(41)
@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_text_in_pieces_from_the_target(cut: int) -> None:
    """Each piece with C=1 gets an empty request without T; joined even in the middle of a character."""
    machine, request = begin()
    raw = text.encode([("AuthMethod", "None"), ("TargetAlias", "Büro für Öl")])
    pieces = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    for piece in pieces[:-1]:
        request = step(machine, reply(request, continued=True, transit=False, data=piece))
        assert (request.transit, request.nsg, request.data, request.csg) == (False, 0, b"", 0)
    request = step(machine, reply(request, data=pieces[-1], transit=False))
    assert request.transit
    machine.receive(reply(step(machine, reply(request))))
    assert machine.result.params.target_alias == "Büro für Öl"


@pytest.mark.check(43)
def test_more_text_than_anyone_needs() -> None:
    """64 KiB are accepted, not more."""
    machine, request = begin()
    piece = b"X" * 8192
    with pytest.raises(RemoteProtocolError):  # noqa: PT012 - the piece at which it ends does not matter
        for _ in range(9):
            request = step(machine, reply(request, continued=True, transit=False, data=piece))
    machine, request = begin()
    long = [(f"X-{number}", "v" * 200) for number in range(200)]
    raw = text.encode([("AuthMethod", "None"), *long])
    for at in range(0, len(raw) - 8192, 8192):
        request = step(machine, reply(request, continued=True, transit=False, data=raw[at : at + 8192]))
    request = step(machine, reply(request, data=raw[at + 8192 :], transit=False))
    assert request.data.startswith(b"X-0=NotUnderstood\0")
    assert request.data.count(b"=NotUnderstood\0") == 200


@pytest.mark.check(42)
def test_our_text_in_pieces() -> None:
    """More than 8192 bytes go with C=1 and T=0; the target answers each piece with nothing."""
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    many = [(f"X-{number}", "v") for number in range(600)]
    raw = text.encode([("AuthMethod", "CHAP"), *many])
    first = step(machine, reply(request, data=raw))
    pieces = [first]
    while pieces[-1].continued:
        assert not pieces[-1].transit
        assert len(pieces[-1].data) == 8192
        pieces.append(step(machine, reply(pieces[-1])))
    joined = text.decode(b"".join(piece.data for piece in pieces))
    assert joined == [(key, "NotUnderstood") for key, _ in many] + [("CHAP_A", "8,5,7")]
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    first = step(machine, reply(request, data=raw))
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(first, [("CHAP_A", "5")]))


@pytest.mark.check(44)
@pytest.mark.parametrize(
    "data", [b"AuthMethod=None", b"=x\0", b"AuthMethod\0", b"K" * 64 + b"=\0", b"A=" + b"v" * 256 + b"\0"]
)
def test_malformed_text(data: bytes) -> None:
    machine, request = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, data=data))


@pytest.mark.check(34, 35)
@pytest.mark.parametrize(
    ("status", "detail", "kind", "retry"),
    [
        (2, 0, LoginError, False),
        (2, 1, AuthError, False),
        (2, 2, LoginError, False),
        (2, 3, LoginError, False),
        (2, 11, LoginError, False),
        (2, 99, LoginError, False),
        (3, 0, LoginError, True),
        (3, 1, LoginError, True),
        (3, 2, LoginError, True),
        (3, 99, LoginError, True),
        (9, 9, LoginError, False),
    ],
)
def test_refusals(status: int, detail: int, kind: type[LoginError], retry: bool) -> None:
    """Numbers of such a response mean nothing, and unknown details go by their class."""
    machine, request = to_operational()
    refusal = reply(request, transit=False, status_class=status, status_detail=detail, stat_sn=4711, csg=0)
    with pytest.raises(LoginError) as caught:
        machine.receive(refusal)
    assert type(caught.value) is kind
    assert (caught.value.status_class, caught.value.status_detail) == (status, detail)
    assert caught.value.retry is retry
    assert f"0x{status:02x}{detail:02x}" in str(caught.value)


def test_refusal_names_the_target_without_its_tricks() -> None:
    machine, request = begin(dataclasses.replace(CONFIG, target="iqn.\x1b[31m[bold]"))
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=3))
    assert str(caught.value).isprintable()


@pytest.mark.check(36, 37, 39)
@pytest.mark.parametrize(
    ("where", "portal"),
    [
        ("10.0.0.9", "10.0.0.9:3260"),
        ("[2001:db8::9]:3261", "[2001:db8::9]:3261"),
        ("San-2.example:860", "san-2.example:860"),
    ],
)
@pytest.mark.parametrize("detail", [1, 2])
def test_redirects(where: str, portal: str, detail: int) -> None:
    """Also before any authentication."""
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    moved = reply(request, [("TargetAddress", where)], status_class=1, status_detail=detail)
    with pytest.raises(RedirectError) as caught:
        machine.receive(moved)
    assert str(caught.value.portal) == portal
    assert caught.value.permanent is (detail == 2)
    assert not caught.value.retry


@pytest.mark.check(38)
@pytest.mark.parametrize("data", [b"", b"TargetAddress=?\0", b"TargetAddress=10.0.0.9", b"TargetName=x\0", b"\xff\0"])
def test_redirects_to_nowhere(data: bytes) -> None:
    machine, request = begin()
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=1, status_detail=1, data=data))
    assert not isinstance(caught.value, RedirectError)
    assert caught.value.code == "redirect-useless"
