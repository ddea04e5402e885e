"""The machines of the login and of the discovery under fuzz: a peer that says anything at all."""

from __future__ import annotations

import contextlib
import dataclasses

from initiator.errors import MooringError
from initiator.model import Portal
from initiator.practice.config import ChapConfig, TargetConfig
from initiator.practice.login import LoginTarget, Status
from initiator.protocol import text
from initiator.protocol.chap import Chap
from initiator.protocol.keys import Offer, Params
from initiator.protocol.login import LoginConfig, LoginMachine, LoginResult
from initiator.protocol.pdu import LoginRequest, LoginResponse, Pdu, TextResponse, decode
from initiator.protocol.sendtargets import SendTargets
from tests.fuzz.cut import Cut

_INITIATOR, _TARGET = "iqn.2026-11.io.mooring.test:me", "iqn.2026-11.io.mooring.test:you"
_ISID = b"\x80\0\0\1\0\0"
_SECRET, _OTHER_SECRET = "a secret of length", "another secret too"
_ENTROPY = bytes(range(17)) * 2
_MOST_STEPS = 200

_CONFIGS = tuple(
    LoginConfig(
        _INITIATOR,
        target,
        _ISID,
        chap=chap,
        require_auth=required,
        require_digests=digests,
        offer=Offer(task_reporting=("RFC3720", "ResponseFence")) if digests else Offer(),
        entropy=_ENTROPY,
    )
    for target, chap, required, digests in (
        (_TARGET, None, False, False),
        (_TARGET, None, False, True),
        (_TARGET, Chap("me", _SECRET), True, False),
        (_TARGET, Chap("me", _SECRET), False, False),
        (_TARGET, Chap("me", _SECRET, "you", _OTHER_SECRET), True, False),
        (None, None, False, False),
    )
)


def login(data: bytes) -> None:
    """Answers that are mostly in form, so that the fuzzer gets past the first check, with any text in them."""
    cut = Cut(data)
    machine = LoginMachine(_CONFIGS[cut.byte() % len(_CONFIGS)])
    machine.start()
    stat_sn = 0
    with contextlib.suppress(MooringError):
        for _ in range(_MOST_STEPS):
            requests = machine.to_send()
            assert len(requests) == 1, "one request is outstanding at a time"
            if not cut:
                return
            machine.receive(_answer(requests[0], cut, stat_sn))
            stat_sn += 1
            if machine.done:
                assert machine.result.params.max_xmit_data_segment_length >= 512
                return
        raise RuntimeError("a login without an end")


def _answer(request: LoginRequest, cut: Cut, stat_sn: int) -> Pdu:
    flags = cut.byte()
    if flags & 0x40:
        return decode(cut.take(48).ljust(48, b"\0"), b"", cut.some())
    answer = LoginResponse(
        transit=bool(flags & 1) or (request.transit and not flags & 2),
        continued=bool(flags & 4),
        csg=request.csg,
        nsg=request.nsg if not flags & 8 else flags >> 4 & 3,
        isid=request.isid,
        tsih=1,
        initiator_task_tag=request.initiator_task_tag,
        stat_sn=stat_sn,
        exp_cmd_sn=1,
        max_cmd_sn=32,
        status_class=cut.byte() & 3 if flags & 0x80 else 0,
        data=_text_for(request, cut) if flags & 0x20 else cut.some(),
    )
    return dataclasses.replace(answer, transit=answer.transit and not answer.continued)


def _text_for(request: LoginRequest, cut: Cut) -> bytes:
    """The request's own keys with other values: the nearest to what a target would say."""
    with contextlib.suppress(MooringError):
        pairs = [pair for pair in text.decode(request.data) if not pair[0].endswith(("Name", "Type"))]
        said = [
            (key, cut.some().decode("latin-1").replace("\0", "")) if cut.byte() & 1 else (key, value.split(",")[0])
            for key, value in pairs
        ]
        return text.encode(said)
    return b""


_RESULT = LoginResult(Params(), tsih=1, isid=_ISID, cid=0, cmd_sn=1, exp_stat_sn=0, exp_cmd_sn=1, max_cmd_sn=32)


def discovery(data: bytes) -> None:
    """The answer to SendTargets, in pieces."""
    cut = Cut(data)
    machine = SendTargets(_RESULT, Portal("127.0.0.1", 3260, 1))
    stat_sn = 0
    with contextlib.suppress(MooringError):
        while cut and not machine.closed:
            for _ in machine.to_send():
                pass
            flags = cut.byte()
            if flags & 0x40:
                machine.receive(decode(cut.take(48).ljust(48, b"\0"), b"", cut.some()))
            else:
                answer = TextResponse(
                    final=bool(flags & 1),
                    continued=bool(flags & 2),
                    initiator_task_tag=1,
                    target_transfer_tag=7 if not flags & 1 else 0xFFFFFFFF,
                    stat_sn=stat_sn,
                    exp_cmd_sn=1,
                    max_cmd_sn=32,
                    data=cut.take(cut.byte() * (16 if flags & 8 else 1)),
                )
                machine.receive(answer)
                stat_sn += 1
            if machine.done and not machine.closed:
                machine.logout()
    for found in machine.targets:
        assert found.name
        assert found.portals


class _World:
    """What the target's half of a login asks for."""

    def refuses(self) -> Status | None:
        return None

    def target(self, name: str) -> TargetConfig | None:
        if name == _TARGET:
            return TargetConfig(_TARGET, {0: "data"}, chap=ChapConfig("me", _SECRET))
        return TargetConfig(name, {0: "data"}) if name.startswith("iqn") else None

    def new_tsih(self) -> int:
        return 1

    def session_cid(self, initiator: str, isid: bytes, target: str, tsih: int) -> int | None:
        return 0 if tsih == 5 else None


def practice_login(data: bytes) -> None:
    """The practice target's half: an initiator that says anything at all."""
    cut = Cut(data)
    machine = LoginTarget(_World(), 1, lambda count: _ENTROPY[:count])
    for _ in range(_MOST_STEPS):
        if not cut:
            return
        flags = cut.byte()
        if flags & 0x40:
            try:
                request = decode(cut.take(48).ljust(48, b"\0"), b"", cut.some())
            except MooringError:
                return
        else:
            request = LoginRequest(
                transit=bool(flags & 1),
                continued=bool(flags & 2),
                csg=flags >> 2 & 3,
                nsg=flags >> 4 & 3 if flags & 1 else 0,
                isid=_ISID,
                initiator_task_tag=0,
                cmd_sn=1,
                data=cut.some(),
            )
        if machine.receive(request) is None or machine.failed is not None or machine.outcome is not None:
            return
    raise RuntimeError("a login without an end")
