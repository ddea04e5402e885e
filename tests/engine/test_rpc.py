"""What the engine's processes say to each other, without sockets where possible."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.engine import rpc
from initiator.errors import RefusedError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


@settings(max_examples=60)
@given(messages=st.lists(MESSAGES, max_size=5), cuts=st.lists(st.integers(1, 40), max_size=20))
def test_messages_survive_any_cutting(messages: list[dict[str, Any]], cuts: list[int]) -> None:
    stream = b"".join(rpc.encode(message) for message in messages)
    lines, found = rpc.Lines(), []
    for cut in [*cuts, len(stream) or 1]:
        found += list(lines.feed(stream[:cut]))
        stream = stream[cut:]
    while stream:
        found += list(lines.feed(stream[:1000]))
        stream = stream[1000:]
    assert found == messages


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN'])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(rpc.FormatError):
        list(rpc.Lines().feed(line + b"\n"))


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    lines = rpc.Lines(limit=1000)
    assert list(lines.feed(b"x" * 1000)) == []
    with pytest.raises(rpc.FormatError, match="longer than 1000"):
        list(lines.feed(b"x"))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(rpc.FormatError, match="longer than"):
        rpc.encode({"text": "x" * rpc.MAX_LINE})


def test_numbers_that_json_does_not_have_are_not_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        rpc.encode({"value": float("nan")})


def test_an_error_keeps_its_code_and_its_way_out() -> None:
    answer = rpc.failure(7, RefusedError("a disk is attached", code="attached", fix="mooring remove data"))
    with pytest.raises(rpc.EngineError, match="a disk is attached") as caught:
        rpc.unwrap(json.loads(rpc.encode(answer)))
    assert (caught.value.code, caught.value.fix) == ("attached", "mooring remove data")
    assert answer["id"] == 7


def test_an_answer_has_to_be_one() -> None:
    assert rpc.unwrap(rpc.result(1, None)) is None
    with pytest.raises(rpc.FormatError):
        rpc.unwrap({"id": 1})


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert rpc.peer(one) == (os.getpid(), os.geteuid())
        assert rpc.trusted(one)
