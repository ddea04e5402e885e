"""A target's half of a login for the tests of the state machine: honest answers, changed where a test wants it."""

from __future__ import annotations

import dataclasses
from typing import Any

from initiator.protocol import text
from initiator.protocol.chap import Chap
from initiator.protocol.keys import Offer
from initiator.protocol.login import LoginConfig, LoginMachine, random_isid
from initiator.protocol.pdu import (
    LoginRequest,
    LoginResponse,
    Pdu,
)
from initiator.protocol.text import Pair

SECRET = "correct horse battery"
CONFIG = LoginConfig(
    initiator="iqn.2026-11.io.mooring:here",
    target="iqn.2026-11.example:there",
    isid=random_isid(b"abc", 7),
    cid=3,
    offer=Offer(header_digest=("CRC32C", "None"), data_digest=("CRC32C", "None")),
    cmd_sn=0xFFFFFFFF,
)
WITH_CHAP = dataclasses.replace(CONFIG, chap=Chap("me", SECRET))
MUTUAL = dataclasses.replace(CONFIG, chap=Chap("me", SECRET, "box", "another one altogether"), entropy=bytes(range(33)))


def begin(config: LoginConfig = CONFIG) -> tuple[LoginMachine, LoginRequest]:
    """A started machine and its first request."""
    machine = LoginMachine(config)
    machine.start()
    (request,) = machine.to_send()
    return machine, request


def reply(request: LoginRequest, pairs: list[Pair] | None = None, **changes: Any) -> LoginResponse:
    """An honest response, except for the changes. StatSN follows the request's ExpStatSN."""
    final = request.transit and request.nsg == 3
    honest = LoginResponse(
        transit=request.transit,
        csg=request.csg,
        nsg=request.nsg,
        isid=request.isid,
        tsih=5 if final else request.tsih,
        initiator_task_tag=request.initiator_task_tag,
        stat_sn=request.exp_stat_sn,
        exp_cmd_sn=request.cmd_sn,
        max_cmd_sn=(request.cmd_sn + 31) & 0xFFFFFFFF,
        data=text.encode(pairs or []),
    )
    return dataclasses.replace(honest, **changes)


def step(machine: LoginMachine, response: Pdu) -> LoginRequest:
    """Feeds a response and takes the one request that follows."""
    machine.receive(response)
    (request,) = machine.to_send()
    return request


def to_operational(config: LoginConfig = CONFIG) -> tuple[LoginMachine, LoginRequest]:
    """A machine that has sent its operational keys."""
    machine, request = begin(config)
    return machine, step(machine, reply(request, [("AuthMethod", "None"), ("TargetPortalGroupTag", "1")]))
