"""What both sides said in a login, line by line for people, without what proves a secret."""

from __future__ import annotations

from initiator.names import clean
from initiator.protocol.blank import HIDDEN_KEYS, Blanker
from initiator.protocol.errors import IscsiError
from initiator.protocol.login_config import LoginResult
from initiator.protocol.pdu import BHS_BYTES, LoginRequest, LoginResponse, Pdu

_STAGES = {0: "security", 1: "operational", 3: "full feature phase"}
_LONGEST = 300
MOST_LINES = 200
"""A login has 64 exchanges at most, and what comes of it."""


class Dialogue:
    """One login as it happens.

    Attributes:
        lines: `-> …` was sent, `<- …` came, the last line says what came of it.
    """

    def __init__(self, where: str) -> None:
        """Begin a login; `where` is the portal."""
        self.lines = [f"login at {where}"]
        self._blank = {True: Blanker(), False: Blanker()}

    def sent(self, pdu: LoginRequest) -> None:
        """We said something."""
        self._add("->", _stage(pdu.csg, pdu.nsg, transit=pdu.transit, continued=pdu.continued), pdu, outgoing=True)

    def received(self, pdu: Pdu) -> None:
        """The target said something."""
        if not isinstance(pdu, LoginResponse):
            self._append(f"<- {type(pdu).__name__}")
            return
        status = f"status 0x{pdu.status_class:02x}{pdu.status_detail:02x}" if pdu.status_class else ""
        stage = _stage(pdu.csg, pdu.nsg, transit=pdu.transit, continued=pdu.continued)
        self._add("<-", status or stage, pdu, outgoing=False)

    def agreed(self, result: LoginResult) -> None:
        """The login succeeded."""
        text = ", ".join(f"{name}={value}" for name, value in result.params.as_text().items())
        self._append(f"agreed: {text}")
        for note in result.notes:
            self._append(f"note: {note}")

    def failed(self, error: IscsiError) -> None:
        """The login failed."""
        self._append(f"failed: {error}")

    def _add(self, arrow: str, words: str, pdu: Pdu, *, outgoing: bool) -> None:
        # A target's data segment need not be text; what cannot be decoded is shown as what it is.
        raw = self._blank[outgoing](pdu.encode())[BHS_BYTES : BHS_BYTES + len(pdu.data)]
        pairs = [_shown(part.decode("utf-8", "replace")) for part in raw.split(b"\0") if part]
        self._append(f"{arrow} {words}{': ' if pairs else ''}{', '.join(pairs)}")

    def _append(self, line: str) -> None:
        if len(self.lines) < MOST_LINES:
            self.lines.append(clean(line))


def _shown(pair: str) -> str:
    key, _, _ = pair.partition("=")
    return f"{key}=(hidden)" if key in HIDDEN_KEYS else clean(pair, _LONGEST)


def _stage(csg: int, nsg: int, *, transit: bool, continued: bool) -> str:
    here = _STAGES.get(csg, f"stage {csg}")
    if continued:
        return f"{here}, to be continued"
    return f"{here}, on to {_STAGES.get(nsg, f'stage {nsg}')}" if transit else here
