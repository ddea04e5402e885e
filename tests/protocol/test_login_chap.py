"""Authentication inside a login (RFC 7143, 6.3.2, 12.1)."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.protocol import text
from initiator.protocol.chap import ChapTarget
from initiator.protocol.errors import (
    AuthError,
    IscsiError,
    LoginError,
    NegotiationError,
    RemoteProtocolError,
)
from initiator.protocol.login import LoginConfig, LoginMachine
from initiator.protocol.pdu import (
    LoginRequest,
)
from initiator.protocol.text import Pair
from tests.protocol.talk import MUTUAL, SECRET, WITH_CHAP, begin, reply, step, to_operational


def chap_to_proof(config: LoginConfig, target: ChapTarget) -> tuple[LoginMachine, LoginRequest]:
    """Brings a login with CHAP to the request that carries our proof."""
    machine, request = begin(config)
    assert dict(text.decode(request.data))["AuthMethod"] == "CHAP"
    request = step(machine, reply(request, [("AuthMethod", "CHAP"), ("TargetPortalGroupTag", "1")]))
    assert (request.csg, request.transit) == (0, False)
    request = step(machine, reply(request, target.challenge(text.decode(request.data))))
    assert (request.transit, request.nsg) == (True, 1)
    return machine, request


def target_of_chap() -> ChapTarget:
    return ChapTarget({"me": SECRET}.get, bytes(range(50, 83)), ("box", "another one altogether"))


@pytest.mark.check(77, 80)
@pytest.mark.parametrize("config", [WITH_CHAP, MUTUAL])
@pytest.mark.parametrize("in_two_steps", [True, False])
def test_login_with_chap(config: LoginConfig, in_two_steps: bool) -> None:
    target = target_of_chap()
    machine, request = chap_to_proof(config, target)
    last = target.check(text.decode(request.data))
    if in_two_steps:
        request = step(machine, reply(request, last, transit=False))
        assert (request.transit, request.data) == (True, b"")
        last = []
    request = step(machine, reply(request, last))
    machine.receive(reply(request))
    assert machine.result.chap_algorithm == 8


@pytest.mark.check(85)
def test_method_that_was_not_offered() -> None:
    machine, request = begin()
    with pytest.raises(AuthError) as caught:
        machine.receive(reply(request, [("AuthMethod", "CHAP")], transit=False))
    assert caught.value.code == "authentication-required"
    for method, kind in (
        ("None", AuthError),
        ("Reject", AuthError),
        ("SRP", NegotiationError),
        ("CHAP,None", IscsiError),
    ):
        machine, request = begin(WITH_CHAP)
        with pytest.raises(kind):
            machine.receive(reply(request, [("AuthMethod", method)]))


def test_authentication_that_may_be_left_out() -> None:
    config = dataclasses.replace(WITH_CHAP, require_auth=False)
    machine, request = begin(config)
    assert dict(text.decode(request.data))["AuthMethod"] == "CHAP,None"
    request = step(machine, reply(request, [("AuthMethod", "None")]))
    assert request.transit
    request = step(machine, reply(request))
    machine.receive(reply(request))
    assert machine.result.chap_algorithm is None


@pytest.mark.check(80)
@pytest.mark.parametrize("transit", [True, False])
@pytest.mark.parametrize("pairs", [[], [("CHAP_N", "box")], [("CHAP_R", "0x00")]])
def test_target_that_does_not_prove_itself(transit: bool, pairs: list[Pair]) -> None:
    """No request follows, so nothing of the full feature phase either."""
    machine, request = chap_to_proof(MUTUAL, target_of_chap())
    with pytest.raises((AuthError, RemoteProtocolError)):
        machine.receive(reply(request, pairs, transit=transit))
    assert machine.to_send() == []
    assert not machine.done


@pytest.mark.check(73)
def test_keys_of_chap_out_of_place() -> None:
    """Before they were asked for, or when nothing is left to say."""
    machine, request = begin(WITH_CHAP)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("AuthMethod", "CHAP"), ("CHAP_A", "5")]))
    machine, request = begin(WITH_CHAP)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x01")]))
    machine, request = chap_to_proof(WITH_CHAP, target_of_chap())
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("CHAP_N", "box"), ("CHAP_R", "0x00")]))
    machine, request = to_operational()
    assert step(machine, reply(request, [("CHAP_A", "5")], transit=False)).data == b"CHAP_A=NotUnderstood\0"


@pytest.mark.parametrize(("detail", "kind"), [(0, AuthError), (1, AuthError), (2, LoginError)])
def test_refused_proof(detail: int, kind: type[LoginError]) -> None:
    """A target may answer a wrong proof with 0x0200, as tgt does for algorithm 7; the way out is named."""
    config = dataclasses.replace(WITH_CHAP, chap_algorithms=(7, 5))
    machine, request = chap_to_proof(config, target_of_chap())
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=detail))
    assert type(caught.value) is kind
    assert ("algorithm 7" in caught.value.fix) is (kind is AuthError)
    assert SECRET not in str(caught.value)


def test_target_that_wants_authentication_says_so() -> None:
    machine, request = begin()
    with pytest.raises(AuthError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=1))
    assert caught.value.code == "authentication-required"


@pytest.mark.check(86)
def test_no_secret_in_the_repr_of_a_configuration() -> None:
    assert SECRET not in repr(MUTUAL)
    assert repr(MUTUAL.entropy) not in repr(MUTUAL)
