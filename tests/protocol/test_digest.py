"""CRC32C: the vectors of RFC 7143 appendix A.4, and two implementations against each other."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol import digest, digest_slow

VECTORS = [
    (bytes(32), "aa36918a"),
    (b"\xff" * 32, "43aba862"),
    (bytes(range(32)), "4e79dd46"),
    (bytes(reversed(range(32))), "5cdb3f11"),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000140000000000040000000014000000182800000000000000" + "02000000" + "00000000"
        ),
        "563a96d9",
    ),
]
RESIDUE = 0x1C2D19ED


@pytest.mark.check(142)
@pytest.mark.parametrize(("data", "wire"), VECTORS)
def test_vectors_of_the_rfc(data: bytes, wire: str) -> None:
    """The bytes of the digest as they go over the wire."""
    assert digest.wire(digest.crc32c(data)).hex() == wire
    assert digest.wire(digest_slow.crc32c(data)).hex() == wire


@given(st.binary(max_size=300), st.integers(0, 300))
@settings(max_examples=50)
def test_carried_on_and_both_ways(data: bytes, cut: int) -> None:
    whole = digest.crc32c(data)
    assert whole == digest_slow.crc32c(data)
    assert whole == digest.crc32c(memoryview(data)[cut:], digest.crc32c(bytearray(data[:cut])))
    assert whole == digest_slow.crc32c(memoryview(data)[cut:], digest_slow.crc32c(data[:cut]))


@pytest.mark.check(142)
@given(st.binary(min_size=1, max_size=100))
@settings(max_examples=30)
def test_residue_of_a_message_with_its_digest(data: bytes) -> None:
    """13.1: data and digest together always leave the same remainder."""
    left = digest.crc32c(data + digest.wire(digest.crc32c(data))) ^ 0xFFFFFFFF
    assert int(f"{left:032b}"[::-1], 2) == RESIDUE


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "crc32c":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    yield
    monkeypatch.undo()
    importlib.reload(digest)


def test_without_the_fast_package(without_package: None) -> None:
    importlib.reload(digest)
    assert digest.HARDWARE is False
    assert digest.crc32c is digest_slow.crc32c
    assert digest.wire(digest.crc32c(bytes(32))).hex() == "aa36918a"
