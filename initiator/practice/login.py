"""The target's half of a login (RFC 7143, 6.3, 11.12, 11.13), as a pure state machine: requests in, responses out."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Protocol

from initiator.practice.config import TargetConfig
from initiator.practice.numbers import WINDOW
from initiator.protocol import pdu, text
from initiator.protocol.chap import ALGORITHMS, ENTROPY_BYTES, ChapTarget
from initiator.protocol.errors import AuthError, RemoteProtocolError
from initiator.protocol.keys import LOGIN_SEGMENT, Offer, Params, Side
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.text import Pair

MAX_EXCHANGES = 64
OFFER = Offer(max_recv_data_segment_length=262144, max_burst_length=1 << 20, first_burst_length=262144)
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3


class Status(enum.IntEnum):
    """Status-Class and Status-Detail as one number (11.13.5)."""

    SUCCESS = 0x0000
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILED = 0x0201
    NOT_FOUND = 0x0203
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    SESSION_TYPE_NOT_SUPPORTED = 0x0209
    NO_SUCH_SESSION = 0x020A
    INVALID_DURING_LOGIN = 0x020B
    SERVICE_UNAVAILABLE = 0x0301
    OUT_OF_RESOURCES = 0x0302


class Refusal(Exception):  # noqa: N818 - says what happened
    """The login ends here with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A login that succeeded.

    Attributes:
        target: The target's name; None for a Discovery session.
        tsih: Of the new session, or of the one whose connection is reinstated.
        reinstates: True if a connection of an existing session was reinstated (6.3.4).
        cmd_sn: The CmdSN that is expected next.
        stat_sn: The StatSN to send next.
    """

    initiator: str
    target: str | None
    isid: bytes
    tsih: int
    cid: int
    params: Params
    reinstates: bool
    cmd_sn: int
    stat_sn: int


class World(Protocol):
    """What a login has to know of the rest of the target."""

    def refuses(self) -> Status | None:
        """Why nobody may log in now, if so."""

    def target(self, name: str) -> TargetConfig | None:
        """The target of that name at this portal."""

    def new_tsih(self) -> int:
        """A session handle that is free."""

    def session_cid(self, initiator: str, isid: bytes, target: str, tsih: int) -> int | None:
        """The CID of the one connection of a session, None where there is no such session."""


class LoginTarget:
    """One login.

    Args:
        world: The rest of the target.
        group: The portal group tag.
        entropy: Gives that many fresh random bytes.

    Attributes:
        outcome: Set when the login has succeeded.
        failed: The status with which it was refused.
    """

    def __init__(self, world: World, group: int, entropy: Callable[[int], bytes]) -> None:
        self.outcome: Outcome | None = None
        self.failed: Status | None = None
        self.initiator = ""
        self._world = world
        self._group = group
        self._entropy = entropy
        self._first: pdu.LoginRequest | None = None
        self._stage = SECURITY
        self._stat_sn = int.from_bytes(entropy(4), "big")
        self._text = bytearray()
        self._reply = b""
        self._after_reply: tuple[bool, int] = (False, 0)
        self._exchanges = 0
        self._negotiation = Negotiation(OFFER, side=Side.TARGET)
        self._target: TargetConfig | None = None
        self._discovery = False
        self._chap: ChapTarget | None = None
        self._challenged = False
        self._authenticated = False
        self._reinstates = False

    def receive(self, request: pdu.Pdu) -> pdu.LoginResponse | None:
        """Take one PDU and give the answer; None when the connection has to be closed without one."""
        if not isinstance(request, pdu.LoginRequest):
            if self._first is None:
                return None
            return self._refuse(self._first, Status.INVALID_DURING_LOGIN)
        try:
            return self._step(request)
        except Refusal as refusal:
            return self._refuse(request, refusal.status)
        except AuthError:
            return self._refuse(request, Status.AUTHENTICATION_FAILED)
        except RemoteProtocolError:
            return self._refuse(request, Status.INITIATOR_ERROR)

    def _step(self, request: pdu.LoginRequest) -> pdu.LoginResponse:
        self._check(request)
        if self._reply:  # the initiator fetches the rest of a long answer (6.2, C bit)
            return self._send(request, self._after_reply)
        self._text += request.data
        if len(self._text) > text.MAX_TEXT:
            raise Refusal(Status.INITIATOR_ERROR)
        if request.continued:
            return self._response(request)
        pairs = text.decode(bytes(self._text))
        self._text.clear()
        answers: list[Pair] = []
        if self._target is None and not self._discovery:
            answers += self._identify(request, pairs)
        done = True
        if request.csg == SECURITY:
            more, done = self._secure(pairs)
            answers += more
        else:
            answers += self._operate(pairs)
        transit = request.transit and done
        self._reply = text.encode(answers)
        return self._send(request, (transit, request.nsg if transit else 0))

    # --- checks ---------------------------------------------------------------------------------------------------

    def _check(self, request: pdu.LoginRequest) -> None:
        """What every request of a login must keep to (11.12)."""
        first = self._first
        if first is None:
            self._first = first = request
            self._stage = request.csg
            if request.version_min > 0:
                raise Refusal(Status.UNSUPPORTED_VERSION)
            if (refusal := self._world.refuses()) is not None:
                raise Refusal(refusal)
        self._exchanges += 1
        same = ("version_min", "version_max", "isid", "tsih", "cid", "initiator_task_tag")
        wrong = any(getattr(request, name) != getattr(first, name) for name in same)
        wrong |= self._exchanges > MAX_EXCHANGES or request.csg != self._stage
        wrong |= request.csg not in (SECURITY, OPERATIONAL) or (request.transit and request.continued)
        wrong |= request.transit and (request.nsg <= request.csg or request.nsg == 2)
        wrong |= bool(self._reply) and bool(request.data)
        if wrong:
            raise Refusal(Status.INITIATOR_ERROR)

    def _identify(self, request: pdu.LoginRequest, pairs: list[Pair]) -> list[Pair]:
        """Who calls, and whom (6.3.1)."""
        said = dict(pairs)
        self.initiator = said.get("InitiatorName", "")
        kind = said.get("SessionType", "Normal")
        if not self.initiator or (kind == "Normal" and "TargetName" not in said):
            raise Refusal(Status.MISSING_PARAMETER)
        if kind not in ("Normal", "Discovery"):
            raise Refusal(Status.SESSION_TYPE_NOT_SUPPORTED)
        self._discovery = kind == "Discovery"
        self._negotiation = Negotiation(OFFER, side=Side.TARGET, discovery=self._discovery)
        answers = [("TargetPortalGroupTag", str(self._group))]
        if not self._discovery:
            self._target = self._world.target(said["TargetName"])
            if self._target is None:
                raise Refusal(Status.NOT_FOUND)
            if self._target.alias:
                answers.insert(0, ("TargetAlias", self._target.alias))
        self._find_session(request)
        chap = self._target.chap if self._target else None
        self._authenticated = chap is None
        if chap is not None:
            user, secret = chap.user, chap.secret
            own = (chap.target_user, chap.target_secret) if chap.target_user else None
            known = tuple(ALGORITHMS)
            self._chap = ChapTarget(
                lambda name: secret if name == user else None, self._entropy(ENTROPY_BYTES), own, known
            )
        return answers

    def _find_session(self, request: pdu.LoginRequest) -> None:
        if request.tsih == 0:
            return
        name = self._target.name if self._target else ""
        cid = self._world.session_cid(self.initiator, request.isid, name, request.tsih)
        if cid is None:
            raise Refusal(Status.NO_SUCH_SESSION)
        if cid != request.cid:
            raise Refusal(Status.TOO_MANY_CONNECTIONS)
        self._reinstates = True

    # --- stages ---------------------------------------------------------------------------------------------------

    def _secure(self, pairs: list[Pair]) -> tuple[list[Pair], bool]:
        """The security stage: answers, and whether it may end (6.3.2)."""
        auth = [pair for pair in pairs if _is_auth(pair)]
        answers = self._negotiation.receive([pair for pair in pairs if not _is_auth(pair)], security=True)
        said = dict(auth)
        if len(said) != len(auth):
            raise Refusal(Status.INITIATOR_ERROR)
        if "AuthMethod" in said:
            offered = text.listing("AuthMethod", said.pop("AuthMethod"))
            method = "None" if self._chap is None else "CHAP"
            if method not in offered or self._challenged or said:
                raise Refusal(Status.AUTHENTICATION_FAILED)
            return [*answers, ("AuthMethod", method)], self._authenticated
        if said and (self._chap is None or self._authenticated):
            raise Refusal(Status.INITIATOR_ERROR)
        if self._chap is not None and said:
            rest = list(said.items())
            if self._challenged:
                answers += self._chap.check(rest)
                self._authenticated = True
            else:
                answers += self._chap.challenge(rest)
                self._challenged = True
        return answers, self._authenticated

    def _operate(self, pairs: list[Pair]) -> list[Pair]:
        if not self._authenticated:
            raise Refusal(Status.AUTHENTICATION_FAILED)
        return [*self._negotiation.receive(pairs), *self._negotiation.propose()]

    # --- answers --------------------------------------------------------------------------------------------------

    def _send(self, request: pdu.LoginRequest, then: tuple[bool, int]) -> pdu.LoginResponse:
        """The next piece of the answer; the transition comes with the last one."""
        piece, self._reply = self._reply[:LOGIN_SEGMENT], self._reply[LOGIN_SEGMENT:]
        self._after_reply = then
        if self._reply:
            return self._response(request, piece, continued=True)
        transit, stage = then
        # An initiator that fetched the rest may have withdrawn its wish to go on (11.13.6).
        transit = transit and request.transit
        if transit:
            self._stage = stage
        if transit and stage == FULL_FEATURE:
            return self._end(request, piece)
        return self._response(request, piece, transit=transit, nsg=stage if transit else 0)

    def _end(self, request: pdu.LoginRequest, piece: bytes) -> pdu.LoginResponse:
        params = self._negotiation.params()
        tsih = request.tsih if self._reinstates else self._world.new_tsih()
        answer = self._response(request, piece, transit=True, nsg=FULL_FEATURE, tsih=tsih)
        self.outcome = Outcome(
            initiator=self.initiator,
            target=self._target.name if self._target else None,
            isid=request.isid,
            tsih=tsih,
            cid=request.cid,
            params=params,
            reinstates=self._reinstates,
            cmd_sn=request.cmd_sn,
            stat_sn=self._stat_sn,
        )
        return answer

    def _refuse(self, request: pdu.LoginRequest, status: Status) -> pdu.LoginResponse:
        self.failed = status
        return dataclasses.replace(self._response(request), status_class=status >> 8, status_detail=status & 0xFF)

    def _response(
        self,
        request: pdu.LoginRequest,
        data: bytes = b"",
        *,
        transit: bool = False,
        nsg: int = 0,
        continued: bool = False,
        tsih: int | None = None,
    ) -> pdu.LoginResponse:
        stat_sn, self._stat_sn = self._stat_sn, (self._stat_sn + 1) & 0xFFFFFFFF
        return pdu.LoginResponse(
            transit=transit,
            continued=continued,
            csg=request.csg,
            nsg=nsg,
            isid=request.isid,
            tsih=request.tsih if tsih is None else tsih,
            initiator_task_tag=request.initiator_task_tag,
            stat_sn=stat_sn,
            exp_cmd_sn=request.cmd_sn,
            max_cmd_sn=(request.cmd_sn + WINDOW - 1) & 0xFFFFFFFF,
            data=data,
        )


def _is_auth(pair: Pair) -> bool:
    return pair[0] == "AuthMethod" or pair[0].startswith("CHAP_")
