"""A few seconds of the soak, so that it still works on the day somebody wants an hour of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import Plan, soak
from tests.soak.work import BLOCK, Book, Tally, verify_file
from tests.tgtd import needs_tgtd


@pytest.mark.parametrize("peer", ["practice", pytest.param("tgtd", marks=[pytest.mark.root, needs_tgtd])])
@pytest.mark.timeout(150)
async def test_a_short_soak_ends_clean(own_folders: Path, peer: str) -> None:
    report = await soak(Plan(peer, 4.0, workers=4, blocks=512, pause_s=0.02, trouble_s=0.8), own_folders)
    assert report.clean, report.text()
    assert sum(report.faults.values()) >= 3
    assert report.failures
    assert report.tally.writes
    assert report.tally.reads


def test_a_wrong_block_is_found_and_an_older_one_named(tmp_path: Path) -> None:
    book, file = Book(4, seed=1), tmp_path / "disk"
    file.write_bytes(b"".join(book.content(block, 0) for block in range(4)))
    tally = Tally()
    verify_file(book, file, tally)
    assert tally.wrong_blocks == 0
    book.generations[1:4] = [2, 3, 1]
    rotten = bytearray(book.content(3, 1))
    rotten[BLOCK // 2] ^= 1
    file.write_bytes(bytes(BLOCK) + book.content(1, 1) + book.content(2, 3) + rotten)
    verify_file(book, file, tally)
    assert tally.wrong_blocks == 2
    assert "block 1 holds generation 1 where 2 was written" in tally.notes[0]
    assert "block 3 holds no generation of it" in tally.notes[1]
