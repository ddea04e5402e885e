"""What proves a secret does not get into a trace or a log, wherever TCP and the C bit cut it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from initiator.protocol import text
from initiator.protocol.blank import Blanker
from initiator.protocol.dialogue import Dialogue
from initiator.protocol.errors import AuthError
from initiator.protocol.pdu import LoginRequest, LoginResponse, NopOut, ScsiCommand

PROOF = "0x" + "5ec2e7" * 20
PAIRS = [("CHAP_N", "harry"), ("CHAP_R", PROOF), ("CHAP_I", "7"), ("CHAP_C", PROOF), ("X-CHAP_R", "")]


def login(pairs: list[tuple[str, str]], size: int = 8192) -> bytes:
    """A login's text in PDUs of at most `size` bytes of it, joined by C bits."""
    raw = text.encode(pairs)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    return b"".join(
        LoginRequest(isid=bytes(6), continued=piece is not pieces[-1], data=piece).encode() for piece in pieces
    )


@given(st.integers(1, 400), st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_a_proof_is_blanked_however_it_is_cut(size: int, cuts: list[int]) -> None:
    stream = login(PAIRS, size)
    blank, kept, at = Blanker(), b"", 0
    for cut in [*cuts, len(stream)]:
        kept += blank(memoryview(stream)[at : at + cut])
        at += cut
    assert kept == Blanker()(stream)
    assert len(kept) == len(stream)
    expected = [(key, value if key in ("CHAP_N", "X-CHAP_R") else "X" * len(value)) for key, value in PAIRS]
    assert kept == login(expected, size)


def test_what_comes_after_the_login_is_left_as_it_is() -> None:
    command = ScsiCommand(lun=bytes(8), initiator_task_tag=1, cdb=bytes(16), data=b"CHAP_R=" + b"0" * 41, write=True)
    after = command.encode() + NopOut(data=b"\0CHAP_C=0x1\0").encode()
    assert Blanker()(login(PAIRS) + after).endswith(after)


def test_a_login_is_told_line_by_line_without_its_proofs() -> None:
    told = Dialogue("192.0.2.1:3260")
    told.sent(LoginRequest(isid=bytes(6), csg=0, nsg=1, transit=True, data=text.encode(PAIRS)))
    told.received(LoginResponse(csg=0, nsg=1, transit=True, data=text.encode([("AuthMethod", "None\x1b[2J")])))
    told.sent(LoginRequest(isid=bytes(6), csg=1, nsg=0, continued=True, data=b"Max"))
    told.received(LoginResponse(csg=1, status_class=2, status_detail=1))
    told.received(NopOut())
    told.failed(AuthError("no"))
    assert told.lines == [
        "login at 192.0.2.1:3260",
        "-> security, on to operational: CHAP_N=harry, CHAP_R=(hidden), CHAP_I=(hidden), CHAP_C=(hidden), X-CHAP_R=",
        "<- security, on to operational: AuthMethod=None[2J",
        "-> operational, to be continued: Max",
        "<- status 0x0201",
        "<- NopOut",
        "failed: no",
    ]
