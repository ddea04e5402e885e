"""The PDU codec and the de-framer (RFC 7143, 11)."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol import pdu, wire
from initiator.protocol.digest import crc32c
from initiator.protocol.errors import ConnectionLost, DigestError, LocalProtocolError, RemoteProtocolError

KINDS: list[type[pdu.Pdu]] = [
    pdu.NopOut,
    pdu.ScsiCommand,
    pdu.TaskManagement,
    pdu.LoginRequest,
    pdu.TextRequest,
    pdu.DataOut,
    pdu.LogoutRequest,
    pdu.SnackRequest,
    pdu.NopIn,
    pdu.ScsiResponse,
    pdu.TaskManagementResponse,
    pdu.LoginResponse,
    pdu.TextResponse,
    pdu.DataIn,
    pdu.LogoutResponse,
    pdu.R2T,
    pdu.AsyncMessage,
    pdu.Reject,
]
BYTES_OF = {"lun": 8, "isid": 6, "cdb": 16}
WIDTHS = {"B": 8, "H": 16, "I": 32}


def integer_widths(kind: type[pdu.Pdu]) -> dict[str, int]:
    """Bits of each number in a header, read from the format of its layout."""
    codes: list[str] = []
    count = ""
    for letter in kind.LAYOUT.code.format[3:]:
        if letter.isdigit():
            count += letter
            continue
        if letter == "s":
            codes.append("s")
        elif letter != "x":
            codes += [letter] * int(count or 1)
        count = ""
    return {name: WIDTHS[code] for name, code in zip(kind.LAYOUT.fields, codes, strict=True) if code != "s"}


@st.composite
def any_pdu(draw: st.DrawFn) -> pdu.Pdu:
    kind = draw(st.sampled_from(KINDS))
    widths = integer_widths(kind)
    values: dict[str, Any] = {"data": draw(st.binary(max_size=70))}
    for item in dataclasses.fields(kind):
        name = item.name
        if name in BYTES_OF:
            size = BYTES_OF[name]
            values[name] = draw(st.binary(min_size=size, max_size=size))
        elif name in kind.LAYOUT.flags:
            mask = kind.LAYOUT.flags[name].mask
            top = mask // (mask & -mask)
            values[name] = draw(st.booleans()) if top == 1 else draw(st.integers(0, top))
        elif name in widths:
            values[name] = draw(st.integers(0, 2 ** widths[name] - 1))
        elif name == "immediate":
            values[name] = draw(st.booleans())
        elif name == "bidirectional_read_length":
            values[name] = draw(st.none() | st.integers(0, 2**32 - 1))
    if kind is pdu.ScsiCommand and draw(st.booleans()):
        values["cdb"] = draw(st.binary(min_size=16, max_size=64))
    return kind(**values)


@pytest.mark.check(9)
@given(st.lists(any_pdu(), max_size=4), st.booleans(), st.booleans(), st.integers(1, 200))
@settings(max_examples=120)
def test_what_is_sent_arrives(sent: list[pdu.Pdu], header: bool, data: bool, step: int) -> None:
    """Whatever TCP makes of it, the same PDUs come out."""
    raw = b"".join(one.encode(header, data) for one in sent)
    framer = pdu.Framer(header, data)
    found = [one for at in range(0, len(raw), step) for one in framer.feed(raw[at : at + step])]
    assert found == sent
    assert framer.pending == 0
    framer.end()


@pytest.mark.check(2, 3)
@given(any_pdu())
@settings(max_examples=120)
def test_lengths_and_pad(one: pdu.Pdu) -> None:
    """Lengths without pad, pad bytes zero, whole words."""
    raw = one.encode()
    ahs, length = pdu.frame_length(raw)
    assert length == len(one.data)
    assert len(raw) == 48 + ahs + pdu.padded(length)
    assert raw[48 + ahs :].rstrip(b"\0") == one.data.rstrip(b"\0")
    assert raw[4] * 4 == ahs == len(one.extra_headers())
    assert raw[0] & pdu.OPCODE_MASK == one.OPCODE


@pytest.mark.check(1)
def test_reserved_bits_are_zero_when_sent_and_ignored_when_received() -> None:
    """A header with every bit set decodes, and what is encoded from it has the reserved bits cleared."""
    for kind in KINDS:
        full = bytearray(b"\xff" * 48)
        full[0] = kind.OPCODE | 0xC0
        full[4:8] = bytes(4)
        decoded = pdu.decode(bytes(full), b"", b"")
        assert isinstance(decoded, kind)
        raw = decoded.encode()
        assert raw[0] & 0x80 == 0
        shape = kind.LAYOUT
        assert raw[1] == shape.fixed | sum(bits.mask for bits in shape.flags.values())
        assert pdu.decode(raw[:48], b"", b"") == decoded


def test_login_request_byte_by_byte() -> None:
    """11.12: each field at its place."""
    request = pdu.LoginRequest(
        transit=True,
        csg=1,
        nsg=3,
        isid=bytes.fromhex("800102030405"),
        tsih=0x1122,
        initiator_task_tag=0xA1A2A3A4,
        cid=0x3344,
        cmd_sn=0x01020304,
        exp_stat_sn=0x05060708,
        data=b"A=b\0\0",
    )
    assert request.encode().hex() == (
        "43870000"
        + "00000005"
        + "800102030405"
        + "1122"
        + "a1a2a3a4"
        + "33440000"
        + "01020304"
        + "05060708"
        + "00" * 16
        + "413d620000"
        + "000000"
    )


def test_fast_path_formats_agree_with_the_codec() -> None:
    data_in = pdu.DataIn(
        initiator_task_tag=1,
        target_transfer_tag=2,
        stat_sn=3,
        exp_cmd_sn=4,
        max_cmd_sn=5,
        data_sn=6,
        buffer_offset=7,
        residual_count=8,
        lun=(9).to_bytes(8, "big"),
        status=2,
        status_present=True,
        final=True,
    )
    values = pdu.BHS.unpack(data_in.encode())
    assert values == (0x25, 0x81, 0, 2, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8)
    command = pdu.ScsiCommand(read=True, initiator_task_tag=1, expected_data_transfer_length=2, cmd_sn=3, exp_stat_sn=4)
    assert pdu.SCSI_COMMAND.unpack(command.encode()) == (1, 0xC1, 0, bytes(8), 1, 2, 3, 4, bytes(16))
    out = pdu.DataOut(initiator_task_tag=1, target_transfer_tag=2, exp_stat_sn=3, data_sn=4, buffer_offset=5)
    assert pdu.DATA_OUT.unpack(out.encode()) == (5, 0, 0, bytes(8), 1, 2, 3, 4, 5)


@pytest.mark.check(86)
def test_repr_hides_the_data() -> None:
    """A trace of PDUs shows no authentication."""
    assert "CHAP_R" not in repr(pdu.LoginRequest(data=b"CHAP_R=0x00\0"))


@pytest.mark.check(5)
@pytest.mark.parametrize("opcode", [0x07, 0x1C, 0x27, 0x3B, 0x3E])
def test_unassigned_opcodes(opcode: int) -> None:
    raw = bytes([opcode]) + bytes(47)
    with pytest.raises(RemoteProtocolError):
        pdu.decode(raw, b"", b"")
    with pytest.raises(RemoteProtocolError):
        list(pdu.Framer().feed(raw))


@pytest.mark.check(5)
def test_opcodes_of_the_wrong_side() -> None:
    with pytest.raises(RemoteProtocolError):
        list(pdu.Framer(expect=pdu.TARGET_OPS).feed(pdu.NopOut().encode()))
    with pytest.raises(RemoteProtocolError):
        list(pdu.Framer(expect=pdu.INITIATOR_OPS).feed(pdu.NopIn().encode()))
    assert pdu.INITIATOR_OPS.isdisjoint(pdu.TARGET_OPS)
    assert len(pdu.INITIATOR_OPS | pdu.TARGET_OPS) == len(KINDS)


@pytest.mark.check(4)
def test_announced_length_is_refused_before_the_payload_comes() -> None:
    head = pdu.NopIn(data=bytes(9000)).encode()[:48]
    assert list(pdu.Framer(max_data=9000).feed(head)) == []
    with pytest.raises(RemoteProtocolError) as caught:
        list(pdu.Framer(max_data=8999).feed(head))
    assert caught.value.code == "segment-too-long"


@pytest.mark.check(3)
def test_unknown_extra_headers_are_skipped() -> None:
    ahs = wire.join_ahs(63, b"\0strange") + wire.join_ahs(2, b"\0" + (77).to_bytes(4, "big"))
    command = pdu.ScsiCommand(data=b"abc", write=True)
    raw = bytearray(command.encode())
    raw[4] = len(ahs) // 4
    raw[48:48] = ahs
    (found,) = pdu.Framer().feed(bytes(raw))
    assert found == dataclasses.replace(command, bidirectional_read_length=77)
    nop = bytearray(pdu.NopIn().encode())
    nop[4] = len(ahs) // 4
    assert list(pdu.Framer().feed(bytes(nop) + ahs)) == [pdu.NopIn()]


@given(st.binary(max_size=60))
def test_broken_extra_headers_do_no_harm(ahs: bytes) -> None:
    found = list(wire.split_ahs(ahs))
    assert sum(len(specific) for _, specific in found) <= len(ahs)
    assert pdu.decode(pdu.ScsiCommand().encode()[:48], ahs, b"").initiator_task_tag == pdu.NO_TAG


def test_extended_cdb() -> None:
    """11.2.2.3: AHSLength counts the reserved byte; the rest follows byte 15."""
    command = pdu.ScsiCommand(cdb=bytes(range(32)))
    raw = command.encode()
    assert raw[32:48] == bytes(range(16))
    assert raw[48:52] == bytes([0, 17, 1, 0])
    assert raw[52:68] == bytes(range(16, 32))
    assert raw[4] == 5


@pytest.mark.check(142, 143)
def test_digest_on_the_wire() -> None:
    """Over header and extra headers, over data with pad; none for an empty segment."""
    command = pdu.ScsiCommand(cdb=bytes(20), data=b"hello", write=True)
    raw = command.encode(True, True)
    head = 48 + len(command.extra_headers())
    assert raw[head : head + 4] == crc32c(raw[:head]).to_bytes(4, "little")
    assert raw[-4:] == crc32c(b"hello\0\0\0").to_bytes(4, "little")
    assert len(pdu.NopOut().encode(True, True)) == 52


@pytest.mark.check(142)
def test_pad_is_checked_as_it_arrived() -> None:
    """The digest covers the pad as received, and it need not be zero."""
    body = b"hello" + b"\x01\x02\x03"
    raw = pdu.NopIn(data=b"hello").encode()[:48] + body + crc32c(body).to_bytes(4, "little")
    (found,) = pdu.Framer(data_digest=True).feed(raw)
    assert found.data == b"hello"


@pytest.mark.check(144)
@pytest.mark.parametrize("position", [0, 5, 47, 48, 51])
def test_header_digest_error(position: int) -> None:
    """Found before any field of the header is used."""
    raw = bytearray(pdu.NopIn(data=b"hello").encode(True, True))
    raw[position] ^= 0x10
    with pytest.raises(DigestError) as caught:
        list(pdu.Framer(True, True).feed(bytes(raw[:52])))
    assert caught.value.header


@pytest.mark.check(146)
def test_data_digest_error_leaves_the_next_pdu_readable() -> None:
    """The PDU is dropped as a whole, the stream stays in step."""
    bad = bytearray(pdu.NopIn(data=b"hello").encode(True, True))
    bad[53] ^= 1
    framer = pdu.Framer(True, True)
    with pytest.raises(DigestError) as caught:
        list(framer.feed(bytes(bad) + pdu.NopIn(stat_sn=7).encode(True, True)))
    assert not caught.value.header
    assert caught.value.bhs == bytes(bad[:48])
    assert list(framer.feed(b"")) == [pdu.NopIn(stat_sn=7)]


@pytest.mark.check(143)
def test_digests_may_be_switched_on_between_two_pdus() -> None:
    """The last login response has none, the next PDU has one, and both may come in one piece."""
    framer = pdu.Framer()
    seen = []
    for one in framer.feed(pdu.LoginResponse(data=b"a").encode() + pdu.NopIn(data=b"b").encode(True, True)):
        framer.header_digest = framer.data_digest = True
        seen.append(one.data)
    assert seen == [b"a", b"b"]


@pytest.mark.check(10, 147)
@pytest.mark.parametrize("cut", [1, 47, 48, 51, 52, 55, 60, 63])
def test_end_inside_a_pdu(cut: int) -> None:
    """In the header, the digest, the data, the pad, the data's digest; nothing comes out."""
    raw = pdu.NopIn(data=b"hello").encode(True, True)
    framer = pdu.Framer(True, True)
    assert list(framer.feed(raw[:cut])) == []
    assert framer.pending == cut
    with pytest.raises(ConnectionLost) as caught:
        framer.end()
    assert caught.value.code == "closed-mid-pdu"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: something\r\nConnection: close\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "TLS"),
    ],
)
def test_strangers_are_named(answer: bytes, words: str) -> None:
    framer = pdu.Framer(expect=pdu.TARGET_OPS)

    def take_all() -> None:
        assert list(framer.feed(answer)) == []
        framer.end()

    with pytest.raises(RemoteProtocolError) as caught:
        take_all()
    assert caught.value.code == "not-iscsi"
    assert words in str(caught.value)
    assert caught.value.fix


@given(st.binary(max_size=400), st.booleans(), st.booleans())
@settings(max_examples=150)
def test_garbage_gives_a_named_error_or_waits(garbage: bytes, header: bool, data: bool) -> None:
    framer = pdu.Framer(header, data, expect=pdu.TARGET_OPS)
    found: list[pdu.Pdu] = []
    with contextlib.suppress(RemoteProtocolError):
        found.extend(framer.feed(garbage))
    assert all(one.OPCODE in pdu.TARGET_OPS for one in found)
    assert framer.pending <= len(garbage)


def test_fields_that_do_not_fit_are_not_sent() -> None:
    for bad in (
        pdu.NopOut(cmd_sn=2**32),
        pdu.LoginRequest(isid=b"short"),
        pdu.DataOut(buffer_offset=-1),
        pdu.ScsiCommand(cdb=bytes(16 + 2000)),
    ):
        with pytest.raises(LocalProtocolError):
            bad.encode()
