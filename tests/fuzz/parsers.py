"""Parsers under fuzz: each must give a value or one of its documented errors, whatever the bytes."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable
from typing import Any

from initiator import names
from initiator.engine import rpc
from initiator.errors import MooringError
from initiator.host import (
    contents,
    hostfiles,
    kmsg,
    lldp,
    mounts,
    multipath,
    multipathconfig,
    nodes,
    sessionstats,
    tcp,
)
from initiator.protocol import address, isns, isns_nodes, keys, text
from initiator.protocol.digest import crc32c, wire
from initiator.protocol.errors import DigestError
from initiator.protocol.pdu import DataIn, Framer, Pdu, frame_length, padded
from initiator.scsi import alua, commands, designators, inquiry, parameters, reservations, sense
from tests.fuzz.cut import Cut

_MOST_DATA = 1024


def pdu(data: bytes) -> None:
    """A stream in pieces. What was understood must survive being written and read again."""
    cut = Cut(data)
    flags = cut.byte()
    header, body = bool(flags & 1), bool(flags & 2)
    stream = cut.rest()
    if header or body:
        stream = with_digests(stream, header, body)
    framer = Framer(header, body, _MOST_DATA)
    step = (1, 7, 48, 4096)[flags >> 2 & 3]
    found: list[Pdu] = []
    with contextlib.suppress(MooringError):
        for at in range(0, len(stream), step):
            found += framer.feed(stream[at : at + step])
        framer.end()
    again = Framer(header, body, _MOST_DATA)
    for one in found:
        assert list(again.feed(one.encode(header, body))) == [one], one


def with_digests(stream: bytes, header: bool, body: bool) -> bytes:
    """The stream with the right digests put in where its lengths say; else nothing gets past the first header."""
    out = bytearray()
    at = 0
    while at + 48 <= len(stream):
        ahs, length = frame_length(stream[at : at + 48])
        head = stream[at : at + 48 + ahs]
        payload = stream[at + 48 + ahs :][: padded(length)]
        out += head
        out += wire(crc32c(head)) if header else b""
        out += payload
        out += wire(crc32c(payload)) if body and length else b""
        at += len(head) + len(payload)
    return bytes(out + stream[at:])


def broken_digest(data: bytes) -> None:
    """A stream with right digests in which one bit is wrong: it must not pass as if nothing had happened."""
    cut = Cut(data)
    position, bit = cut.word(), cut.byte() & 7
    body = cut.take(_MOST_DATA)
    whole = bytearray(DataIn(initiator_task_tag=1, data=body or b"x").encode(True, True))
    whole[position % len(whole)] ^= 1 << bit
    framer = Framer(True, True, _MOST_DATA)
    try:
        found = list(framer.feed(whole))
    except (DigestError, MooringError):
        return
    assert found == [], "a flipped bit went unnoticed"


_VALUES: tuple[Callable[[str, str], object], ...] = (text.number, text.boolean, text.number_range, text.listing)


def key_text(data: bytes) -> None:
    """A text of keys, and each value in every notation that there is."""
    try:
        pairs = text.decode(data)
    except MooringError:
        return
    assert text.decode(text.encode(pairs)) == pairs
    for key, value in pairs[:32]:
        for read in _VALUES:
            with contextlib.suppress(MooringError):
                read(key, value)
        with contextlib.suppress(MooringError):
            assert len(text.binary(key, value, 1024)) <= 1024
        if key in keys.KEYS:
            with contextlib.suppress(MooringError):
                keys.parse(keys.KEYS[key], value)
        with contextlib.suppress(MooringError):
            address.parse(value)


_SCSI: tuple[Callable[[bytes], object], ...] = (
    alua.parse_port_groups,
    alua.port_groups_need,
    commands.parse_cdb,
    commands.parse_unmap,
    commands.parse_report_luns,
    commands.report_luns_needs,
    designators.parse_designators,
    inquiry.parse_standard,
    inquiry.page_needs,
    lambda data: inquiry.parse_page(data, 0x83),
    inquiry.parse_supported_pages,
    inquiry.parse_serial,
    inquiry.parse_block_limits,
    inquiry.parse_provisioning,
    parameters.parse_capacity10,
    parameters.parse_capacity16,
    parameters.parse_mode,
    lambda data: parameters.parse_mode(data, ten=True),
    reservations.parse_keys,
    reservations.parse_reservation,
    reservations.parse_full_status,
    reservations.parse_capabilities,
    reservations.parse_reserve_in,
    lambda data: reservations.parse_reserve_out(data[:10], data[10:]),
    sense.parse_sense,
    lambda data: sense.explain(2, data),
    commands.decode_lun,
)


def scsi(data: bytes) -> None:
    """One of the SCSI answers, chosen by the first byte; what has a text for people must give it."""
    cut = Cut(data)
    read = _SCSI[cut.byte() % len(_SCSI)]
    try:
        found = read(cut.rest())
    except MooringError:
        return
    repr(found)
    if isinstance(found, sense.Sense):
        found.explain()
    if read is designators.parse_designators:
        assert isinstance(found, tuple)
        assert designators.parse_designators(designators.build_designators(found)) == found
        designators.unit_names(found), designators.wwid(found), designators.port_group(found)


_TEXTS: tuple[Callable[[str], Any], ...] = (
    nodes.parse_settings,
    mounts.parse_mountinfo,
    lambda given: list(hostfiles.parse_fstab(given)),
    multipath.parse_maps,
    multipath.parse_paths,
    lambda given: multipath.parse_raw_maps(given, ()),
    multipath.parse_dm_status,
    multipathconfig.parse_defaults,
    lldp.parse_neighbours,
    sessionstats.parse_stats,
    contents.parse,
)


def host(data: bytes) -> None:
    """Files and answers of the host that others fill with names of their own, read as the readers read them."""
    cut = Cut(data)
    kind = cut.byte()
    raw = cut.rest()
    with contextlib.suppress(MooringError, ValueError):
        # ValueError: these readers are called by ones that report a file that cannot be read as a problem.
        if kind % 13 == 11:
            tcp.parse_tcp_info(raw)
        elif kind % 13 == 12:
            kmsg.parse(raw, 0.0)
        else:
            _TEXTS[kind % 13](raw.decode("utf-8", "surrogateescape"))


_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Signs that act on what is beside them (UAX #9)."""


def outside_names(data: bytes) -> None:
    """Names, portals and sizes; what is cleaned stays clean, and what was parsed can be written and parsed again."""
    given = data.decode("utf-8", "surrogateescape")
    tidy = names.clean(given)
    assert names.clean(tidy) == tidy
    tidy.encode()  # a lone surrogate would not reach the screen
    assert not any(
        unicodedata.category(sign) in _CONTROLS or unicodedata.bidirectional(sign) in _TURNS for sign in tidy
    )
    with contextlib.suppress(MooringError):
        name = names.parse_name(given, tolerant=True)
        assert names.parse_name(str(name), tolerant=True) == name
    with contextlib.suppress(MooringError):
        portal = names.parse_portal(given)
        again = names.parse_portal(str(portal))
        assert (again.host, again.port) == (portal.host, portal.port)
    with contextlib.suppress(MooringError):
        names.parse_size(given)


def lines(data: bytes) -> None:
    """What comes over the sockets between the processes."""
    reader = rpc.Lines(4096)
    cut = Cut(data)
    step = 1 + cut.byte()
    rest = cut.rest()
    with contextlib.suppress(rpc.FormatError):
        for at in range(0, len(rest), step):
            list(reader.feed(rest[at : at + step]))


_ANSWERS: tuple[Callable[[isns.Answer], object], ...] = (
    isns_nodes.parse_next,
    isns_nodes.parse_registered,
    isns_nodes.parse_entity,
    lambda answer: isns_nodes.parse_nodes(answer.operating).targets,
)


def name_server(data: bytes) -> None:
    """What an iSNS server sends: PDUs in pieces, or one payload under every reading that there is."""
    cut = Cut(data)
    flags = cut.byte()
    if flags & 1:
        reader, step, stream = isns.Reader(), (1, 7, 64, 4096)[flags >> 1 & 3], cut.rest()
        messages: list[isns.Message] = []
        with contextlib.suppress(MooringError):
            for at in range(0, len(stream), step):
                messages += reader.feed(stream[at : at + step])
    else:
        messages = [isns.Message(cut.byte() | (flags & 2) << 14, 1, cut.rest())]
    for message in messages:
        with contextlib.suppress(MooringError):
            back = isns.Reader().feed(message.encode())
            assert back == [message]
        with contextlib.suppress(MooringError):
            isns_nodes.parse_notice(message)
        with contextlib.suppress(MooringError):
            reply = isns_nodes.answer_to(message)
            assert reply is None or reply.is_answer
        with contextlib.suppress(MooringError):
            given = isns.decode_attributes(message.payload)
            assert isns.decode_attributes(isns.encode_attributes(given)) == given
        with contextlib.suppress(MooringError):
            function = isns.Function(message.function & 0x7FFF) if message.function & 0x7FFF in _FUNCTIONS else None
            answer = isns.parse_answer(message, function or isns.Function.QUERY, "a question")
            for read in _ANSWERS:
                with contextlib.suppress(MooringError):
                    read(answer)


_FUNCTIONS = frozenset(isns.Function)
